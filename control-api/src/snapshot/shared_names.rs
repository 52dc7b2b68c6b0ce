//! Names by which several services are called: an address, or a ServiceEntry's host of one word. Found by `addresses`, told by
//! `world` to whoever applies or analyses documents.

use std::fmt;

use super::catalog::Catalog;
use crate::config::{Document, Key, Kind};

/// Who else has the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// An older service, an address or a port at every address.
    Address,
    /// An older service of another namespace, the word.
    Word,
    /// A Service of the same namespace, the word for a name.
    Service,
}

/// A name that is not only its document's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SharedName {
    pub document: Key,
    /// As in `spec.addresses`.
    pub field: &'static str,
    pub sharing: Sharing,
    pub what: String,
}

impl fmt::Display for SharedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.document, self.field, self.what)
    }
}

/// One service they are, as every name without a dot means the namespace's own.
pub(super) fn with_service(catalog: &Catalog, document: &Document, word: &str, fqdn: &str) -> Option<SharedName> {
    let all = catalog.services(fqdn);
    let service = all.iter().find(|other| other.key.kind == Kind::Service)?;
    let key = &service.key;
    Some(SharedName {
        document: document.key.clone(),
        field: "spec.hosts",
        sharing: Sharing::Service,
        what: format!(
            "{word} is the name of {key}: the endpoints of both get the requests to {fqdn}, where Istio has two services"
        ),
    })
}
