//! Why there is no TLS connection, in words that tell an operator what to do, and as one of few causes for metrics.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, OtherError};

use crate::telemetry::TlsFailure;

/// Of an endpoint that was shown none.
pub const CERTIFICATE_WANTED: &str = "the endpoint wants a client certificate (mode MUTUAL)";

/// Why a handshake failed, or none was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub cause: TlsFailure,
    pub reason: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Failure {}

impl Failure {
    pub fn new(cause: TlsFailure, reason: impl Into<String>) -> Self {
        Self {
            cause,
            reason: reason.into(),
        }
    }

    /// Of one about the client's certificate: there was none.
    pub fn wants_certificate(&self) -> bool {
        self.reason == CERTIFICATE_WANTED
    }

    /// What the verifier says of it to rustls, which hands it back as the handshake's error.
    pub(super) fn into_rustls(self) -> Error {
        let other = || CertificateError::Other(OtherError(Arc::new(self.clone())));
        Error::InvalidCertificate(match self.cause {
            // The endpoint is told with the alert that says it.
            TlsFailure::Expired => CertificateError::Expired,
            TlsFailure::Revoked => CertificateError::Revoked,
            TlsFailure::UnknownAuthority => CertificateError::UnknownIssuer,
            _ => other(),
        })
    }

    /// Of a handshake that ended in an error of the connection or of TLS.
    pub fn of_handshake(error: &io::Error) -> Self {
        match tls_error(error) {
            Some(error) => Self::of_tls(error),
            None => Self::new(
                TlsFailure::Closed,
                format!("the endpoint ended the connection in the TLS handshake: {error}"),
            ),
        }
    }

    /// Of a connection whose handshake was over for us: in TLS 1.3 an endpoint that refuses the client's certificate says so
    /// later. `None`: the connection broke for another reason.
    pub fn of_connection(error: &io::Error) -> Option<Self> {
        match tls_error(error)? {
            Error::AlertReceived(alert) => client_certificate(*alert),
            _ => None,
        }
    }

    /// Of what the verifier or rustls itself says.
    pub(super) fn of_tls(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::of_certificate(error),
            Error::AlertReceived(alert) => client_certificate(*alert).unwrap_or_else(|| Self::of_alert(*alert)),
            Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
                Self::new(TlsFailure::NotTls, "the endpoint does not speak TLS")
            }
            error => Self::new(TlsFailure::Protocol, format!("the TLS handshake failed: {error}")),
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired => Self::new(TlsFailure::Expired, "the endpoint's certificate has expired"),
            CertificateError::Revoked => Self::new(TlsFailure::Revoked, "the endpoint's certificate was revoked"),
            CertificateError::UnknownIssuer => Self::new(
                TlsFailure::UnknownAuthority,
                "the endpoint's certificate is signed by no authority that is trusted here (caCertificates)",
            ),
            CertificateError::Other(OtherError(other)) => match other.downcast_ref::<Self>() {
                Some(failure) => failure.clone(),
                None => Self::new(
                    TlsFailure::Certificate,
                    format!("the endpoint's certificate is refused: {other}"),
                ),
            },
            error => Self::new(
                TlsFailure::Certificate,
                format!("the endpoint's certificate is refused: {error}"),
            ),
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::NoApplicationProtocol => Self::new(
                TlsFailure::Protocol,
                "the endpoint speaks none of the application protocols that it was offered (ALPN)",
            ),
            AlertDescription::UnrecognisedName => Self::new(
                TlsFailure::Protocol,
                "the endpoint does not know the server name that it was asked for (sni)",
            ),
            alert => Self::new(
                TlsFailure::Protocol,
                format!("the endpoint ended the TLS handshake with the alert {alert:?}"),
            ),
        }
    }
}

fn client_certificate(alert: AlertDescription) -> Option<Failure> {
    let reason = match alert {
        AlertDescription::CertificateRequired => CERTIFICATE_WANTED.to_owned(),
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => {
            format!("the endpoint refused the client certificate with the alert {alert:?}")
        }
        _ => return None,
    };
    Some(Failure::new(TlsFailure::ClientCertificate, reason))
}

/// What rustls says, behind the face of an I/O error.
fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}
