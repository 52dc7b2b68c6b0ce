//! Certificates, keys and revocations as TLS uses them, of the bytes of files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Failure;
use super::files::{Contents, Paths, Trusted};
use super::revoked::Revoked;
use crate::telemetry::TlsFailure;

#[derive(Debug)]
pub(super) struct Material {
    pub identity: Option<Arc<CertifiedKey>>,
    /// `None`: anybody is believed.
    pub trust: Option<Arc<Trust>>,
    /// When the client's certificate ends.
    pub expires: Option<SystemTime>,
}

/// Whom to believe.
#[derive(Debug)]
pub(super) struct Trust {
    pub roots: RootCertStore,
    /// Those that were given, not the system's: an endpoint may have one of them itself.
    pub given: Vec<CertificateDer<'static>>,
    pub revoked: Revoked,
}

impl Material {
    pub fn new(paths: &Paths, contents: &Contents) -> Result<Self, Failure> {
        let identity = identity(paths, contents)?;
        let expires = identity.as_ref().and_then(|key| end_of(key.cert.first()?));
        let trust = trust(paths, contents)?;
        Ok(Self {
            identity,
            trust,
            expires,
        })
    }
}

fn broken(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::new(TlsFailure::Files, format!("{}: {why}", path.display()))
}

fn missing(wanted: &[PathBuf], what: &str) -> Failure {
    let paths: Vec<String> = wanted.iter().map(|path| path.display().to_string()).collect();
    Failure::new(
        TlsFailure::Files,
        format!("{what} is not there: {}", paths.join(" or ")),
    )
}

/// The client's certificate with its key.
fn identity(paths: &Paths, contents: &Contents) -> Result<Option<Arc<CertifiedKey>>, Failure> {
    if paths.certificate.is_empty() {
        return Ok(None);
    }
    let certificate = contents.certificate.as_ref();
    let (certificate_path, certificate) =
        certificate.ok_or_else(|| missing(&paths.certificate, "the client certificate"))?;
    let key = contents.key.as_ref();
    let (key_path, key) = key.ok_or_else(|| missing(&paths.key, "the client certificate's key"))?;
    let chain = certificates(certificate_path, certificate)?;
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| broken(key_path, format!("no private key: {error}")))?;
    let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| {
        broken(
            key_path,
            format!("not the key of {}: {error}", certificate_path.display()),
        )
    })?;
    Ok(Some(Arc::new(certified)))
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| broken(path, format!("not PEM: {error}")))?;
    if found.is_empty() {
        return Err(broken(path, "there is no certificate in it"));
    }
    Ok(found)
}

/// `None`: anybody is believed.
fn trust(paths: &Paths, contents: &Contents) -> Result<Option<Arc<Trust>>, Failure> {
    let revoked = match &contents.revoked {
        Some((path, pem)) => revocations(path, pem)?,
        None if paths.needs_revoked => return Err(missing(&paths.revoked, "the list of revoked certificates")),
        None => Revoked::default(),
    };
    let trust = match &paths.trust {
        Trusted::Anybody => return Ok(None),
        Trusted::System if revoked.is_empty() => of_the_system()?,
        Trusted::System => Arc::new(Trust {
            roots: of_the_system()?.roots.clone(),
            given: Vec::new(),
            revoked,
        }),
        Trusted::Authorities(wanted) => {
            let found = contents.authorities.as_ref();
            let (path, pem) = found.ok_or_else(|| missing(wanted, "the file of trusted authorities"))?;
            Arc::new(given(path, pem, revoked)?)
        }
    };
    Ok(Some(trust))
}

fn given(path: &Path, pem: &[u8], revoked: Revoked) -> Result<Trust, Failure> {
    let given = certificates(path, pem)?;
    let mut roots = RootCertStore::empty();
    for certificate in &given {
        roots
            .add(certificate.clone())
            .map_err(|error| broken(path, format!("an authority cannot be used: {error}")))?;
    }
    Ok(Trust { roots, given, revoked })
}

fn revocations(path: &Path, pem: &[u8]) -> Result<Revoked, Failure> {
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| broken(path, format!("not PEM: {error}")))?;
    if lists.is_empty() {
        return Err(broken(path, "there is no list of revoked certificates in it"));
    }
    Revoked::new(&lists).map_err(|error| broken(path, error))
}

/// Read once: they change with the system.
fn of_the_system() -> Result<Arc<Trust>, Failure> {
    static SYSTEM: OnceLock<Arc<Trust>> = OnceLock::new();
    if let Some(system) = SYSTEM.get() {
        return Ok(Arc::clone(system));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found
            .errors
            .first()
            .map_or_else(String::new, |error| format!(": {error}"));
        // Asked again with the next look: a volume may be mounted late.
        return Err(Failure::new(
            TlsFailure::Files,
            format!("the system has no trusted authorities (caCertificates is not set){why}"),
        ));
    }
    let system = Arc::new(Trust {
        roots,
        given: Vec::new(),
        revoked: Revoked::default(),
    });
    Ok(Arc::clone(SYSTEM.get_or_init(|| system)))
}

fn end_of(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}
