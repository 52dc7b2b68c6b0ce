//! What a session asks of the world. A trait, so that the protocol is tested without documents; the product has one
//! implementation. Called by `session` and `server`.

use std::sync::Arc;

use crate::snapshot::{Encoded, World};

/// What a session asks of the world.
pub trait Resources {
    fn revision(&self) -> u64;
    fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>>;
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>>;
    /// Every host that its rules can reach, itself included.
    fn reaches(&self, fqdn: &str, client_namespace: &str) -> Arc<[String]>;
    fn workload(&self, namespace: &str, node_id: &str) -> Arc<Encoded>;
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
}
