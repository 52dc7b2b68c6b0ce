//! What a session asks of the world. A trait, so that the protocol is tested without documents; the product has one
//! implementation. Called by `session` and `server`.

use std::sync::Arc;

use crate::snapshot::{Encoded, World};

/// What a session asks of the world.
pub trait Resources {
    fn revision(&self) -> u64;
    fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>>;
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>>;
    /// Every host that its rules can reach, itself included. What a proxy can make use of is another only when the
    /// host's version is.
    fn reaches(&self, fqdn: &str, client_namespace: &str) -> Arc<[String]>;
    fn workload(&self, namespace: &str, node_id: &str) -> Arc<Encoded>;

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

    fn workload(&self, namespace: &str, node_id: &str) -> Arc<Encoded> {
        World::workload(self, namespace, node_id)
    }

    fn changed_since(&self, revision: u64) -> Option<Arc<[String]>> {
        // A world is made from the one of the revision before.
        (self.revision().checked_sub(1) == Some(revision)).then(|| self.changed())
    }
}
