//! What a session asks of the world. A trait, so that the protocol is tested without documents; the product has one
//! implementation. Called by `session` and `server`.

use std::sync::Arc;

use crate::snapshot::{Encoded, Node, World};

/// What a session asks of the world.
pub trait Resources {
    fn revision(&self) -> u64;
    fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>>;
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>>;
    /// Every host that its rules can reach, itself included. What a proxy can make use of is another only when the
    /// host's version is.
    fn reaches(&self, fqdn: &str, client_namespace: &str) -> Arc<[String]>;
    fn workload(&self, node: &Node) -> Arc<Encoded>;

    /// The last revision that may have changed the workload of a proxy of this namespace.
    fn workload_revision(&self, _namespace: &str) -> u64 {
        self.revision()
    }

    /// Names of all hosts and endpoints that differ from those of the world of that revision, for any client; `None`
    /// where that is not known, and everything has to be compared.
    fn changed_since(&self, _revision: u64) -> Option<Arc<[String]>> {
        None
    }
}

impl Resources for World {
    fn revision(&self) -> u64 {
        World::revision(self)
    }

    fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>> {
        World::host(self, fqdn, client_namespace)
    }

    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        World::endpoints(self, fqdn)
    }

    fn reaches(&self, fqdn: &str, client_namespace: &str) -> Arc<[String]> {
        World::reaches(self, fqdn, client_namespace)
    }

    fn workload(&self, node: &Node) -> Arc<Encoded> {
        World::workload(self, node)
    }

    fn workload_revision(&self, namespace: &str) -> u64 {
        World::workload_revision(self, namespace)
    }

    fn changed_since(&self, revision: u64) -> Option<Arc<[String]>> {
        // A world is made from the one of the revision before.
        (self.revision().checked_sub(1) == Some(revision)).then(|| self.changed())
    }
}
