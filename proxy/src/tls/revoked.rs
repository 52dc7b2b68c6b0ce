//! Lists of revoked certificates (`caCrl`): which of them count at a moment, and what they say of a certificate that was
//! itself given as trusted (RFC 5280, section 5).
//!
//! Of several lists of one authority the newest counts, wherever in the file it stands: whoever appends the next list to the
//! one before it is understood. A list of the future counts for nothing until its time has come.

use rustls::pki_types::{CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use super::Failure;
use crate::telemetry::TlsFailure;

/// The newest first.
#[derive(Debug, Default)]
pub(super) struct Revoked(Vec<List>);

#[derive(Debug)]
struct List {
    list: CertRevocationList<'static>,
    issuer: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
}

impl Revoked {
    pub fn new(lists: &[CertificateRevocationListDer<'_>]) -> Result<Self, String> {
        let lists: Result<Vec<List>, String> = lists.iter().map(|list| List::new(list)).collect();
        let mut lists = lists?;
        lists.sort_by_key(|list| std::cmp::Reverse(list.this_update));
        Ok(Self(lists))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order in which they count, those of the future too.
    pub fn all(&self) -> Vec<&CertRevocationList<'static>> {
        self.0.iter().map(|list| &list.list).collect()
    }

    /// Those that count now.
    pub fn current(&self, now: UnixTime) -> Vec<&CertRevocationList<'static>> {
        self.begun(now).map(|list| &list.list).collect()
    }

    fn begun(&self, now: UnixTime) -> impl Iterator<Item = &List> {
        let now = seconds(now);
        self.0.iter().filter(move |list| list.this_update <= now)
    }

    /// Is it named by a list of its issuer? For one whose authority is not at hand, so that nobody can say whether the list is
    /// really that authority's. Where its issuer has no list there is nothing against it.
    pub fn spares(&self, certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Failure> {
        let of_issuer = |list: &&List| list.issuer == certificate.issuer().as_raw();
        let lists: Vec<&List> = self.begun(now).filter(of_issuer).collect();
        if lists.is_empty() && self.0.iter().any(|list| of_issuer(&list)) {
            return Err(of_the_future());
        }
        for (index, list) in lists.iter().enumerate() {
            let scope = list.list.issuing_distribution_point();
            let has_other_scope = |newer: &&List| newer.list.issuing_distribution_point() != scope;
            if !lists[..index].iter().all(has_other_scope) {
                continue;
            }
            // Lists are read as a whole: no entry of theirs is malformed.
            if !matches!(list.list.find_serial(certificate.raw_serial()), Ok(None)) {
                return Err(Failure::new(
                    TlsFailure::Revoked,
                    "the endpoint's certificate was revoked",
                ));
            }
            if list.next_update.is_some_and(|end| end <= seconds(now)) {
                return Err(expired());
            }
        }
        Ok(())
    }
}

impl List {
    fn new(list: &[u8]) -> Result<Self, String> {
        let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|error| error.to_string())?;
        let owned = OwnedCertRevocationList::from_der(list).map_err(|error| format!("{error:?}"))?;
        Ok(Self {
            list: owned.into(),
            issuer: parsed.issuer().as_raw().to_vec(),
            this_update: parsed.last_update().timestamp(),
            next_update: parsed.next_update().map(|time| time.timestamp()),
        })
    }
}

fn seconds(now: UnixTime) -> i64 {
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

pub(super) fn expired() -> Failure {
    Failure::new(
        TlsFailure::Certificate,
        "the list of revoked certificates of its authority has expired (caCrl): nobody can say that the endpoint's is not revoked",
    )
}

pub(super) fn of_the_future() -> Failure {
    Failure::new(
        TlsFailure::Certificate,
        "the list of revoked certificates of its authority is of the future (caCrl, thisUpdate): it does not count yet, unless this machine's clock is wrong",
    )
}
