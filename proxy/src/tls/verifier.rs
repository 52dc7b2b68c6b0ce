//! Is the endpoint who it should be? Its certificate leads to an authority that is believed, is valid now, is not revoked,
//! and has one of the wanted names (RFC 5280; RFC 9525).
//!
//! Wanted names are `subjectAltNames` as Istio compares them: a DNS name, which a wildcard of the certificate may cover, an
//! address, a URI such as a SPIFFE id, or an e-mail address, each exactly. A certificate that was itself given as trusted
//! needs no authority behind it, and may be of X.509 version 1, which has no place for names. Where nobody is verified nothing
//! is asked of the certificate, so that appliances with keys and certificates of long ago are reached.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use webpki::{EndEntityCert, RawPublicKeyEntity};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};
use x509_parser::public_key::PublicKey;

use super::Failure;
use super::chain::Chain;
use super::material::Trust;
use crate::telemetry::TlsFailure;

/// Of a certificate's names, so many are shown.
const MOST_SHOWN: usize = 5;

/// Signatures with shorter RSA keys are not believed.
const LEAST_RSA_BITS: usize = 2048;

#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: whoever it is, it is believed (`insecureSkipVerify`).
    pub trust: Option<Arc<Trust>>,
    /// Empty: the server name.
    pub names: Vec<String>,
    pub algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn verify(
        &self,
        trust: &Trust,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Failure> {
        let malformed = |why: &dyn std::fmt::Debug| {
            Failure::new(
                TlsFailure::Certificate,
                format!("the endpoint's certificate is malformed: {why:?}"),
            )
        };
        let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| malformed(&error))?;
        is_long_enough(&parsed)?;
        let given = trust.given.iter().any(|given| given == leaf);
        if !has_extensions(&parsed) {
            return self.verify_old(trust, &parsed, given, now);
        }
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| malformed(&error))?;
        let chain = Chain {
            leaf: &certificate,
            intermediates,
            algorithms: self.algorithms.all,
            now,
        };
        if given {
            is_valid_now(&parsed, now)?;
            chain.verify_given(trust, &parsed)?;
        } else {
            chain.verify(trust)?;
        }
        self.verify_name(&certificate, &parsed, server_name)
    }

    /// One that can have no names: being given is enough, where no names are wanted.
    fn verify_old(
        &self,
        trust: &Trust,
        parsed: &X509Certificate<'_>,
        given: bool,
        now: UnixTime,
    ) -> Result<(), Failure> {
        if !given {
            let reason = format!(
                "the endpoint's certificate is of X.509 version {}: issue it anew with extensions (version 3), or put it into caCertificates itself",
                parsed.version().0.saturating_add(1)
            );
            return Err(Failure::new(TlsFailure::Certificate, reason));
        }
        is_valid_now(parsed, now)?;
        trust.revoked.spares(parsed, now)?;
        if self.names.is_empty() {
            return Ok(());
        }
        Err(wrong_name(&[], &shown(&self.names)))
    }

    fn verify_name(
        &self,
        certificate: &EndEntityCert<'_>,
        parsed: &X509Certificate<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<(), Failure> {
        let is_for = |name: &ServerName<'_>| certificate.verify_is_valid_for_subject_name(name).is_ok();
        let present = names_of(parsed);
        let has = |wanted: &String| {
            present.iter().any(|name| name == wanted)
                || ServerName::try_from(wanted.as_str()).is_ok_and(|name| is_for(&name))
        };
        let found = if self.names.is_empty() {
            is_for(server_name)
        } else {
            self.names.iter().any(has)
        };
        if found {
            return Ok(());
        }
        let wanted = if self.names.is_empty() {
            server_name.to_str().into_owned()
        } else {
            shown(&self.names)
        };
        Err(wrong_name(&present, &wanted))
    }
}

fn wrong_name(present: &[String], wanted: &str) -> Failure {
    let reason = format!("the endpoint's certificate is for {}, not for {wanted}", shown(present));
    Failure::new(TlsFailure::WrongName, reason)
}

fn has_extensions(certificate: &X509Certificate<'_>) -> bool {
    certificate.version() == X509Version::V3
}

fn is_long_enough(certificate: &X509Certificate<'_>) -> Result<(), Failure> {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < LEAST_RSA_BITS => {
            let reason = format!(
                "the endpoint's certificate has an RSA key of {} bits, of which {LEAST_RSA_BITS} are wanted at least",
                key.key_size()
            );
            Err(Failure::new(TlsFailure::Certificate, reason))
        }
        _ => Ok(()),
    }
}

fn is_valid_now(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Failure> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now > validity.not_after.timestamp() {
        return Err(Failure::new(
            TlsFailure::Expired,
            "the endpoint's certificate has expired",
        ));
    }
    if now < validity.not_before.timestamp() {
        return Err(not_yet());
    }
    Ok(())
}

pub(super) fn not_yet() -> Failure {
    Failure::new(TlsFailure::Certificate, "the endpoint's certificate is not valid yet")
}

/// As they stand in the certificate.
fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::URI(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(bytes).to_string());
    }
    let bytes = <[u8; 16]>::try_from(bytes).ok()?;
    Some(std::net::Ipv6Addr::from(bytes).to_string())
}

fn shown(names: &[String]) -> String {
    let first: Vec<String> = names
        .iter()
        .take(MOST_SHOWN)
        .map(|name| name.escape_debug().collect())
        .collect();
    match names.len() {
        0 => "nobody".to_owned(),
        count if count > MOST_SHOWN => format!("{} and {} more", first.join(", "), count - MOST_SHOWN),
        _ => first.join(", "),
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(trust) = &self.trust {
            self.verify(trust, end_entity, intermediates, server_name, now)
                .map_err(Failure::into_rustls)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.key_of(certificate)? {
            Key::Any => Ok(HandshakeSignatureValid::assertion()),
            Key::Raw(key) => verify_tls12_signature_with_raw_key(message, &key, signature, &self.algorithms),
            Key::OfCertificate => verify_tls12_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        match self.key_of(certificate)? {
            Key::Any => Ok(HandshakeSignatureValid::assertion()),
            Key::Raw(key) => verify_tls13_signature_with_raw_key(message, &key, signature, &self.algorithms),
            Key::OfCertificate => verify_tls13_signature(message, certificate, signature, &self.algorithms),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// With which key the endpoint has to have signed the handshake.
enum Key {
    /// Nobody is verified: whoever is in between could have signed with its own.
    Any,
    /// Of a certificate that rustls does not read.
    Raw(SubjectPublicKeyInfoDer<'static>),
    OfCertificate,
}

impl Verifier {
    fn key_of(&self, certificate: &CertificateDer<'_>) -> Result<Key, Error> {
        if self.trust.is_none() {
            return Ok(Key::Any);
        }
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
        if has_extensions(&parsed) {
            return Ok(Key::OfCertificate);
        }
        Ok(Key::Raw(SubjectPublicKeyInfoDer::from(
            parsed.public_key().raw.to_vec(),
        )))
    }
}

/// As rustls has it for certificates: a scheme of TLS 1.2 leaves open of which curve the key is.
fn verify_tls12_signature_with_raw_key(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signature: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<HandshakeSignatureValid, Error> {
    let key = RawPublicKeyEntity::try_from(key).map_err(|_| CertificateError::BadEncoding)?;
    let of_scheme = algorithms
        .mapping
        .iter()
        .filter(|(scheme, _)| *scheme == signature.scheme);
    let mut possible = of_scheme.flat_map(|(_, algorithms)| algorithms.iter());
    let signed = possible.any(|algorithm| key.verify_signature(*algorithm, message, signature.signature()).is_ok());
    if !signed {
        return Err(CertificateError::BadSignature.into());
    }
    Ok(HandshakeSignatureValid::assertion())
}
