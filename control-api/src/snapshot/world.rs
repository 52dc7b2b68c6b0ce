//! The world at one revision of the store.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Document, Problem};

/// One resource as it travels: the same bytes for every proxy that may see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Resource name, `host/<fqdn>`.
    pub name: String,
    pub version: String,
    /// An encoded `Resource`.
    pub bytes: Bytes,
    /// Endpoints only: the change since the previous world that differs.
    pub change: Option<EncodedChange>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChange {
    pub base_version: String,
    pub bytes: Bytes,
}

#[derive(Clone, Debug, Default)]
pub struct World {
    revision: u64,
}

impl World {
    pub fn build(_documents: impl Iterator<Item = Arc<Document>>, revision: u64, _previous: Option<&World>) -> World {
        World { revision }
    }
    pub fn revision(&self) -> u64 {
        self.revision
    }
    pub fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }
    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
    pub fn host(&self, _fqdn: &str, _client_namespace: &str) -> Option<Arc<Encoded>> {
        None
    }
    pub fn endpoints(&self, _fqdn: &str) -> Option<Arc<Encoded>> {
        None
    }
    pub fn reaches(&self, _fqdn: &str, _client_namespace: &str) -> Arc<[String]> {
        Arc::new([])
    }
    pub fn workload(&self, _namespace: &str, _node_id: &str) -> Arc<Encoded> {
        Arc::new(Encoded { name: String::new(), version: String::new(), bytes: Bytes::new(), change: None })
    }
    /// Names of the resources that differ from the previous world's, removed ones included.
    pub fn changed(&self) -> Arc<[String]> {
        Arc::new([])
    }
}
