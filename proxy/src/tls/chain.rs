//! Does a certificate lead to an authority that is believed, and does no list of revoked certificates speak against it (RFC
//! 5280)?

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExpirationPolicy, KeyUsage, RevocationOptionsBuilder};
use x509_parser::prelude::X509Certificate;

use super::material::Trust;
use super::verifier::not_yet;
use super::{Failure, revoked};
use crate::telemetry::TlsFailure;

type Algorithms = &'static [&'static dyn rustls::pki_types::SignatureVerificationAlgorithm];
type Lists<'a> = [&'a webpki::CertRevocationList<'static>];

/// What an endpoint has shown.
pub(super) struct Chain<'a> {
    pub leaf: &'a EndEntityCert<'a>,
    pub intermediates: &'a [CertificateDer<'a>],
    pub algorithms: Algorithms,
    pub now: UnixTime,
}

impl Chain<'_> {
    pub fn verify(&self, trust: &Trust) -> Result<(), Failure> {
        self.with_current_lists(trust).map_err(|refused| match refused {
            Refused::Future => revoked::of_the_future(),
            Refused::Chain(error) => of_chain(&error),
        })
    }

    /// Of a leaf that was itself given as trusted: it needs no authority, but where it has one here that revokes it, it is
    /// believed no more.
    pub fn verify_given(&self, trust: &Trust, parsed: &X509Certificate<'_>) -> Result<(), Failure> {
        use webpki::Error as Reason;
        if trust.revoked.is_empty() {
            return Ok(());
        }
        match self.with_current_lists(trust) {
            Ok(()) => Ok(()),
            Err(Refused::Future) => Err(revoked::of_the_future()),
            Err(Refused::Chain(error)) => match &error {
                // Nobody lists what nobody else has signed.
                Reason::UnknownRevocationStatus if parsed.issuer() == parsed.subject() => Ok(()),
                Reason::CertRevoked
                | Reason::CrlExpired { .. }
                | Reason::UnknownRevocationStatus
                | Reason::InvalidCrlSignatureForPublicKey
                | Reason::IssuerNotCrlSigner => Err(of_chain(&error)),
                _ => trust.revoked.spares(parsed, self.now),
            },
        }
    }

    fn with_current_lists(&self, trust: &Trust) -> Result<(), Refused> {
        use webpki::Error as Reason;
        let (all, current) = (trust.revoked.all(), trust.revoked.current(self.now));
        if all.len() == current.len() {
            return self.with_lists(trust, &all).map_err(Refused::Chain);
        }
        let outcome = match &current[..] {
            // Where there is no list, nothing would be asked.
            [] => Err(Reason::UnknownRevocationStatus),
            lists => self.with_lists(trust, lists),
        };
        match outcome {
            // Had one of the future been its authority's?
            Err(Reason::UnknownRevocationStatus) => Err(match self.with_lists(trust, &all) {
                Ok(()) | Err(Reason::CertRevoked | Reason::CrlExpired { .. }) => Refused::Future,
                Err(error) => Refused::Chain(error),
            }),
            outcome => outcome.map_err(Refused::Chain),
        }
    }

    fn with_lists(&self, trust: &Trust, lists: &Lists<'_>) -> Result<(), webpki::Error> {
        // Without a list nothing is asked.
        let revocation = RevocationOptionsBuilder::new(lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let usage = KeyUsage::server_auth();
        let (roots, now) = (&trust.roots.roots, self.now);
        self.leaf
            .verify_for_usage(self.algorithms, roots, self.intermediates, now, usage, revocation, None)
            .map(|_| ())
    }
}

enum Refused {
    /// The list that would say it does not count yet.
    Future,
    Chain(webpki::Error),
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
        Reason::CrlExpired { .. } => revoked::expired(),
        error => certificate(format!("the endpoint's certificate is refused: {error}")),
    }
}
