//! Is the endpoint who it should be? Its certificate leads to an authority that is believed, is valid now, is not revoked,
//! and has one of the wanted names (RFC 5280; RFC 9525).
//!
//! Wanted names are `subjectAltNames` as Istio compares them: a DNS name, which a wildcard of the certificate may cover, an
//! address, a URI such as a SPIFFE id, or an e-mail address, each exactly. A certificate that was itself given as trusted
//! needs no authority behind it.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use webpki::{EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Failure;
use super::material::Trust;
use crate::telemetry::TlsFailure;

/// Of a certificate's names, so many are shown.
const MOST_SHOWN: usize = 5;

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
        let certificate = EndEntityCert::try_from(leaf).map_err(|error| malformed(&error))?;
        if trust.given.iter().any(|given| given == leaf) {
            is_valid_now(&parsed, now)?;
        } else {
            self.verify_chain(trust, &certificate, intermediates, now)?;
        }
        self.verify_name(&certificate, &parsed, server_name)
    }

    fn verify_chain(
        &self,
        trust: &Trust,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Failure> {
        let lists: Vec<_> = trust.revoked.iter().collect();
        // Without a list nothing is asked.
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        certificate
            .verify_for_usage(
                self.algorithms.all,
                &trust.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                revocation,
                None,
            )
            .map(|_| ())
            .map_err(|error| of_chain(&error))
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
        let reason = format!(
            "the endpoint's certificate is for {}, not for {wanted}",
            shown(&present)
        );
        Err(Failure::new(TlsFailure::WrongName, reason))
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

fn not_yet() -> Failure {
    Failure::new(TlsFailure::Certificate, "the endpoint's certificate is not valid yet")
}

fn of_chain(error: &webpki::Error) -> Failure {
    use webpki::Error as Reason;
    let certificate = |reason: String| Failure::new(TlsFailure::Certificate, reason);
    match error {
        Reason::CertExpired { .. } => Failure::new(TlsFailure::Expired, "expired"),
        Reason::CertNotValidYet { .. } => not_yet(),
        Reason::CertRevoked => Failure::new(TlsFailure::Revoked, "revoked"),
        Reason::UnknownIssuer => Failure::new(TlsFailure::UnknownAuthority, "unknown"),
        Reason::UnknownRevocationStatus => certificate(
            "no list of revoked certificates is by the authority of the endpoint's certificate (caCrl)".to_owned(),
        ),
        Reason::CrlExpired { .. } => certificate(
            "the list of revoked certificates of its authority has expired (caCrl): nobody can say that the endpoint's is not revoked".to_owned(),
        ),
        error => certificate(format!("the endpoint's certificate is refused: {error}")),
    }
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
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
