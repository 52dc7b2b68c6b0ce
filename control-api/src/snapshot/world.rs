//! The world at one revision of the store: made from the previous one by rebuilding what changed documents touch.
//! Called by ingest before it stores, and read by every session.

use std::sync::Arc;

use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN};
use tsunagi_proto::wire::mesh::{Workload, resource};

use super::catalog::{Catalog, Touched};
use super::endpoints::EndpointsEntry;
use super::host::HostEntry;
use super::shards::Shards;
use super::{Encoded, diff, endpoints, host};
use crate::config::{Document, Kind, Problem};

/// Everything that proxies may be told at one revision. A copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct World {
    revision: u64,
    /// Sorted by key.
    documents: Arc<[Arc<Document>]>,
    catalog: Catalog,
    hosts: Shards<Arc<HostEntry>>,
    endpoints: Shards<Arc<EndpointsEntry>>,
    /// What is to say of WorkloadEntries that no service selects, by key.
    idle: Shards<Arc<str>>,
    changed: Arc<[String]>,
}

impl World {
    /// The world of these documents. Fast where they come sorted by key and are mostly those of `previous`, whose
    /// encodings are taken over where nothing changed.
    pub fn build(documents: impl Iterator<Item = Arc<Document>>, revision: u64, previous: Option<&World>) -> World {
        let mut world = previous.cloned().unwrap_or_default();
        world.revision = revision;
        let documents = diff::sorted(documents.collect(), &world.documents);
        let difference = diff::between(&world.documents, &documents);
        world.documents = documents.into();
        for document in &difference.removed {
            world.catalog.remove(document);
        }
        for document in &difference.added {
            world.catalog.add(document);
        }
        let mut touched = Touched::default();
        // In the first world every service that selects a workload is new itself.
        let workloads_count = previous.is_some_and(|previous| !previous.documents.is_empty());
        for document in difference.removed.iter().chain(&difference.added) {
            if document.key.kind == Kind::WorkloadEntry && !workloads_count {
                touched.workloads.insert(document.key.clone());
                continue;
            }
            world.catalog.touch(document, &mut touched);
        }
        world.rebuild(&touched);
        world
    }

    fn rebuild(&mut self, touched: &Touched) {
        let mut changed = Vec::new();
        for fqdn in &touched.hosts {
            let previous = self.hosts.get(fqdn).cloned();
            let next = host::build(&self.catalog, fqdn, previous.as_deref()).map(Arc::new);
            let told = |entry: &Option<Arc<HostEntry>>| {
                entry
                    .as_ref()
                    .map(|entry| (entry.everyone.clone(), entry.special.clone()))
            };
            if told(&previous).unwrap_or_default() != told(&next).unwrap_or_default() {
                changed.push(names::host(fqdn));
            }
            match next {
                Some(next) => self.hosts.insert(fqdn, next),
                None => self.hosts.remove(fqdn),
            }
        }
        for fqdn in &touched.endpoints {
            let previous = self.endpoints.get(fqdn).cloned();
            let next = endpoints::build(&self.catalog, fqdn, previous.as_ref());
            let version =
                |entry: &Option<Arc<EndpointsEntry>>| entry.as_ref().map(|entry| entry.encoded.version.clone());
            if version(&previous) != version(&next) {
                changed.push(names::endpoints(fqdn));
            }
            match next {
                Some(next) => self.endpoints.insert(fqdn, next),
                None => self.endpoints.remove(fqdn),
            }
        }
        for key in &touched.workloads {
            let index = self.documents.binary_search_by(|document| document.key.cmp(key));
            let document = index.ok().and_then(|index| self.documents.get(index));
            match document.and_then(|document| endpoints::idle(&self.catalog, document)) {
                Some(warning) => self.idle.insert(&key.to_string(), warning.into()),
                None => self.idle.remove(&key.to_string()),
            }
        }
        self.changed = changed.into();
    }

    /// Of the store.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What the world was made of, sorted by key.
    pub fn documents(&self) -> &[Arc<Document>] {
        &self.documents
    }

    /// What a proxy would refuse; must be empty for the documents to be stored.
    pub fn problems(&self) -> Vec<Problem> {
        let of_hosts = self.hosts.iter().flat_map(|(_, entry)| &entry.problems);
        let mut problems: Vec<Problem> = of_hosts
            .chain(self.endpoints.iter().flat_map(|(_, entry)| &entry.problems))
            .cloned()
            .collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// What is valid but will not do what its author meant.
    pub fn warnings(&self) -> Vec<String> {
        let of_hosts = self.hosts.iter().flat_map(|(_, entry)| &entry.warnings);
        let mut warnings: Vec<String> = of_hosts
            .chain(self.endpoints.iter().flat_map(|(_, entry)| &entry.warnings))
            .cloned()
            .chain(self.idle.iter().map(|(_, warning)| warning.to_string()))
            .collect();
        warnings.sort();
        warnings.dedup();
        warnings
    }

    /// What clients of a namespace are told of a host; `None`: there is no such host.
    pub fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>> {
        self.hosts.get(fqdn)?.told(client_namespace).cloned()
    }

    /// `None`: there is no such host.
    pub fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        self.endpoints.get(fqdn).map(|entry| Arc::clone(&entry.encoded))
    }

    /// FQDNs of every host that exists and that requests to this one can reach, itself included, sorted: their endpoints
    /// go along with it. Empty: there is no such host.
    pub fn reaches(&self, fqdn: &str, _client_namespace: &str) -> Arc<[String]> {
        self.hosts
            .get(fqdn)
            .map(|entry| Arc::clone(&entry.reaches))
            .unwrap_or_default()
    }

    /// FQDNs of the hosts whose resources a document has a part in, sorted.
    pub fn concerns(&self, document: &Document) -> Vec<String> {
        self.catalog.concerns(document).into_iter().collect()
    }

    /// What concerns one proxy alone.
    pub fn workload(&self, namespace: &str, node_id: &str) -> Arc<Encoded> {
        let workload = Workload {
            namespace: namespace.to_owned(),
            node_id: node_id.to_owned(),
            cluster_domain: DEFAULT_CLUSTER_DOMAIN.to_owned(),
            ..Workload::default()
        };
        Arc::new(Encoded::whole(
            names::workload(namespace, node_id),
            resource::Kind::Workload(workload),
        ))
    }

    /// Names of the resources that differ from the previous world's, for any client; removed ones included.
    pub fn changed(&self) -> Arc<[String]> {
        Arc::clone(&self.changed)
    }

    /// FQDNs of all hosts, sorted.
    pub fn host_names(&self) -> Vec<String> {
        let told = self.hosts.iter().filter(|(_, entry)| entry.everyone.is_some());
        let mut names: Vec<String> = told.map(|(fqdn, _)| fqdn.to_string()).collect();
        names.sort();
        names
    }
}
