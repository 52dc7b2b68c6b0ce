//! The world at one revision of the store: made from the previous one by rebuilding what changed documents touch.
//! Called by ingest before it stores, and read by every session.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::shards::Shards;

use super::addresses::AddressEntry;
use super::catalog::{Catalog, Touched, fqdns};
use super::departures::{Departures, Passage, Place};
use super::endpoints::EndpointsEntry;
use super::host::{HostEntry, Told};
use super::overruled::{self, Overruled};
use super::policy::Policies;
use super::remarked::Remarked;
use super::service::Service;
use super::shared_names::SharedName;
use super::sidecars::HiddenSidecar;
use super::unseen::UnseenSubset;
use super::unused_workloads::UnusedWorkload;
use super::whereabouts::Surroundings;
use super::{
    Encoded, Node, addresses, endpoints, host, places, route_warnings, sidecars, unused_workloads, wildcards, workload,
};
use crate::bootstrap::DEFAULT_ROOT_NAMESPACE;
use crate::config::{Document, DocumentSet, Key, Kind, Problem, Spec};

/// Everything that proxies may be told at one revision. A copy is cheap.
#[derive(Clone, Debug)]
pub struct World {
    revision: u64,
    documents: DocumentSet,
    catalog: Catalog,
    hosts: Shards<Arc<HostEntry>>,
    endpoints: Shards<Arc<EndpointsEntry>>,
    /// What is to say of VirtualServices as such, by key.
    rules: Shards<Arc<[String]>>,
    /// WorkloadEntries that no service selects, or not all of their ports, by key.
    idle: Shards<Arc<[UnusedWorkload]>>,
    /// What documents say of themselves that does nothing, by key.
    remarks: Shards<Arc<[String]>>,
    /// By virtual address.
    addresses: Shards<Arc<AddressEntry>>,
    /// Those that others hide, by namespace.
    sidecars: Shards<Arc<[HiddenSidecar]>>,
    departures: Departures,
    /// Where the machines of a cluster are, by name.
    machines: Shards<Arc<str>>,
    /// DestinationRules that balance by zone: without any nobody needs to know where callers are.
    zone_aware_rules: usize,
    /// What of them has warnings or problems.
    remarked: Remarked,
    /// Namespace -> the revision that last changed something of which its proxies are told in their Workload.
    workloads: Shards<u64>,
    /// The same for all namespaces.
    all_workloads: u64,
    changed: Arc<[String]>,
}

impl Default for World {
    fn default() -> Self {
        World::empty(DEFAULT_ROOT_NAMESPACE)
    }
}

impl World {
    /// Without documents, at revision 0.
    pub fn empty(root_namespace: &str) -> World {
        World {
            revision: 0,
            documents: DocumentSet::default(),
            catalog: Catalog::new(root_namespace),
            hosts: Shards::default(),
            endpoints: Shards::default(),
            rules: Shards::default(),
            idle: Shards::default(),
            remarks: Shards::default(),
            addresses: Shards::default(),
            sidecars: Shards::default(),
            departures: Departures::default(),
            machines: Shards::default(),
            zone_aware_rules: 0,
            remarked: Remarked::default(),
            workloads: Shards::default(),
            all_workloads: 0,
            changed: Arc::default(),
        }
    }

    /// The world of these documents.
    pub fn build(documents: impl Iterator<Item = Arc<Document>>, revision: u64, previous: Option<&World>) -> World {
        World::of(&documents.collect(), revision, previous)
    }

    /// As `build`, in the time that it takes to make what is another than in `previous`, of whose documents these are a
    /// changed copy.
    pub fn of(documents: &DocumentSet, revision: u64, previous: Option<&World>) -> World {
        let mut world = previous.cloned().unwrap_or_default();
        world.revision = revision;
        let difference = documents.since(&world.documents);
        world.documents = documents.clone();
        for document in &difference.removed {
            world.catalog.remove(document);
        }
        for document in &difference.added {
            world.catalog.add(document);
        }
        world.note_remarks(&difference.removed, &difference.added);
        world.note_places(&difference.removed, &difference.added);
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
        world.catalog.spread(&mut touched);
        let replaced = difference.removed.iter().map(|document| &document.key);
        let is_there = |place: &Place| {
            let owner = world.document(&place.owner);
            owner.is_some_and(|owner| places::endpoints(owner).contains(&(place.name.as_str(), place.address)))
        };
        let mut departures = world.departures.clone();
        departures.prune(replaced, is_there);
        world.departures = departures;
        world.rebuild(&touched);
        world
    }

    fn note_remarks(&mut self, removed: &[Arc<Document>], added: &[Arc<Document>]) {
        for document in removed.iter().filter(|document| !document.remarks.is_empty()) {
            self.remarks.remove(&document.key.to_string());
        }
        for document in added.iter().filter(|document| !document.remarks.is_empty()) {
            let key = document.key.to_string();
            let remarks = document
                .remarks
                .iter()
                .map(|it| format!("{key}: {}: {}", it.field, it.what));
            self.remarks.insert(&key, remarks.collect());
        }
    }

    /// Machines move, and with them the proxies there; zones begin or cease to matter.
    fn note_places(&mut self, removed: &[Arc<Document>], added: &[Arc<Document>]) {
        let (machines, zones) = (self.machines.clone(), self.zone_aware_rules > 0);
        let mut is_other = false;
        for document in removed {
            match &document.spec {
                Spec::Node(_) => self.machines.remove(&document.key.name),
                Spec::DestinationRule(rule) if rule.is_zone_aware() => self.zone_aware_rules -= 1,
                _ => {}
            }
        }
        for document in added {
            match &document.spec {
                Spec::Node(machine) => {
                    let before = machines.get(&document.key.name).map(|locality| &**locality);
                    is_other |= before != Some(machine.locality.as_str());
                    self.machines
                        .insert(&document.key.name, machine.locality.as_str().into());
                }
                Spec::DestinationRule(rule) if rule.is_zone_aware() => self.zone_aware_rules += 1,
                _ => {}
            }
        }
        if is_other || zones != (self.zone_aware_rules > 0) {
            self.all_workloads = self.revision;
        }
    }

    /// The same documents at a new revision, with the endpoints of proxies that leave or are back told accordingly.
    /// `None`: that makes no difference.
    pub fn passed(&self, passages: &[Passage], revision: u64) -> Option<World> {
        let mut world = self.clone();
        world.revision = revision;
        let owners = world.departures.pass(&world.catalog, passages, revision);
        if owners.is_empty() {
            return None;
        }
        let mut touched = Touched::default();
        for document in owners.iter().filter_map(|key| world.document(key)) {
            let services = world.catalog.services_with(document);
            touched
                .endpoints
                .extend(services.iter().flat_map(|service| fqdns(service)));
        }
        world.rebuild(&touched);
        Some(world)
    }

    /// The revision since which the endpoints of this proxy are told as leaving; `None`: they are not, or there is none.
    pub fn leaving_since(&self, namespace: &str, node_id: &str) -> Option<u64> {
        self.departures.since(namespace, node_id)
    }

    /// Would something change if this proxy returned?
    pub fn waits_for(&self, node: &Node) -> bool {
        self.departures.wait_for(node)
    }

    fn document(&self, key: &Key) -> Option<&Arc<Document>> {
        self.documents.get(key)
    }

    fn rebuild(&mut self, touched: &Touched) {
        let mut changed = Vec::new();
        for fqdn in &touched.hosts {
            let previous = self.hosts.get(fqdn).cloned();
            let next = host::build(&self.catalog, fqdn, previous.as_deref()).map(Arc::new);
            let told = |entry: Option<&HostEntry>| match entry {
                Some(entry) => (entry.everyone.clone(), entry.special.clone()),
                None => (None, BTreeMap::new()),
            };
            if told(previous.as_deref()) != told(next.as_deref()) {
                changed.push(names::host(fqdn));
            }
            let remarks = next
                .as_ref()
                .map(|next| (!next.warnings.is_empty(), !next.problems.is_empty()));
            self.remarked.hosts.note(fqdn, remarks.unwrap_or_default());
            match next {
                Some(next) => self.hosts.insert(fqdn, next),
                None => self.hosts.remove(fqdn),
            }
        }
        for fqdn in &touched.endpoints {
            let previous = self.endpoints.get(fqdn).cloned();
            let next = endpoints::build(&self.catalog, &self.departures, fqdn, previous.as_ref());
            let version =
                |entry: &Option<Arc<EndpointsEntry>>| entry.as_ref().map(|entry| entry.encoded.version.clone());
            if version(&previous) != version(&next) {
                changed.push(names::endpoints(fqdn));
            }
            let remarks = next
                .as_ref()
                .map(|next| (!next.warnings.is_empty(), !next.problems.is_empty()));
            self.remarked.endpoints.note(fqdn, remarks.unwrap_or_default());
            match next {
                Some(next) => self.endpoints.insert(fqdn, next),
                None => self.endpoints.remove(fqdn),
            }
        }
        for key in &touched.rules {
            let document = self.document(key);
            let remarks = document.map(|document| route_warnings::of_document(&self.catalog, document));
            match remarks.filter(|remarks| !remarks.is_empty()) {
                Some(remarks) => self.rules.insert(&key.to_string(), remarks.into()),
                None => self.rules.remove(&key.to_string()),
            }
        }
        for key in &touched.workloads {
            let document = self.document(key);
            let unused = document.map(|document| unused_workloads::of(&self.catalog, document));
            match unused.filter(|unused| !unused.is_empty()) {
                Some(unused) => self.idle.insert(&key.to_string(), unused.into()),
                None => self.idle.remove(&key.to_string()),
            }
        }
        for address in &touched.addresses {
            let next = addresses::build(&self.catalog, address).map(Arc::new);
            let version = |entry: Option<&Arc<AddressEntry>>| entry.map(|entry| entry.alias.version.clone());
            if version(self.addresses.get(address)) != version(next.as_ref()) {
                changed.push(names::host(address));
            }
            let remarks = next.as_ref().map(|next| (!next.warnings.is_empty(), false));
            self.remarked.addresses.note(address, remarks.unwrap_or_default());
            match next {
                Some(next) => self.addresses.insert(address, next),
                None => self.addresses.remove(address),
            }
        }
        // What its addresses lead to may be another, which sessions look up.
        changed.extend(touched.ranges.iter().map(|range| names::host(&range.to_string())));
        self.rebuild_workloads(touched);
        self.changed = changed.into();
    }

    /// Workloads themselves are made when their proxies ask.
    fn rebuild_workloads(&mut self, touched: &Touched) {
        for namespace in &touched.sidecars {
            let hidden = sidecars::hidden(&self.catalog, namespace);
            if hidden.is_empty() {
                self.sidecars.remove(namespace);
            } else {
                self.sidecars.insert(namespace, hidden.into());
            }
            if **namespace == *self.catalog.root_namespace() {
                self.all_workloads = self.revision;
            }
        }
        for namespace in &touched.namespaces {
            self.workloads.insert(namespace, self.revision);
        }
        if touched.all_namespaces {
            self.all_workloads = self.revision;
        }
    }

    /// Of the store.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What the world was made of.
    pub fn documents(&self) -> &DocumentSet {
        &self.documents
    }

    /// What a proxy would refuse; must be empty for the documents to be stored.
    pub fn problems(&self) -> Vec<Problem> {
        let hosts = self
            .remarked
            .hosts
            .problems
            .iter()
            .filter_map(|fqdn| self.hosts.get(fqdn));
        let endpoints = self.remarked.endpoints.problems.iter();
        let endpoints = endpoints.filter_map(|fqdn| self.endpoints.get(fqdn));
        let mut problems: Vec<Problem> = hosts
            .flat_map(|entry| &entry.problems)
            .chain(endpoints.flat_map(|entry| &entry.problems))
            .cloned()
            .collect();
        problems.sort();
        problems.dedup();
        problems
    }

    /// What is valid but will not do what its author meant.
    pub fn warnings(&self) -> Vec<String> {
        let Remarked { hosts, endpoints, .. } = &self.remarked;
        let of_hosts = hosts.warnings.iter().filter_map(|(fqdn, ())| self.hosts.get(fqdn));
        let of_endpoints = endpoints
            .warnings
            .iter()
            .filter_map(|(fqdn, ())| self.endpoints.get(fqdn));
        let mut warnings: Vec<String> = of_hosts
            .flat_map(|entry| &entry.warnings)
            .chain(of_endpoints.flat_map(|entry| &entry.warnings))
            .cloned()
            .chain(self.shared_names().iter().map(ToString::to_string))
            .chain(self.rules.iter().flat_map(|(_, remarks)| remarks.to_vec()))
            .chain(self.remarks.iter().flat_map(|(_, remarks)| remarks.to_vec()))
            .chain(self.unused_workloads().map(ToString::to_string))
            .chain(self.hidden_sidecars().map(ToString::to_string))
            .collect();
        warnings.sort();
        warnings.dedup();
        warnings
    }

    pub fn unused_workloads(&self) -> impl Iterator<Item = &UnusedWorkload> {
        self.idle.iter().flat_map(|(_, unused)| unused.iter())
    }

    pub fn hidden_sidecars(&self) -> impl Iterator<Item = &HiddenSidecar> {
        self.sidecars.iter().flat_map(|(_, hidden)| hidden.iter())
    }

    /// Addresses and words that several services have.
    pub fn shared_names(&self) -> Vec<SharedName> {
        let remarked = self.remarked.addresses.warnings.iter();
        let addresses = remarked.filter_map(|(name, ())| self.addresses.get(name));
        let mut shared: Vec<SharedName> = addresses.flat_map(|entry| entry.warnings.iter().cloned()).collect();
        shared.sort();
        shared
    }

    /// Destinations whose subset some clients lack though a DestinationRule defines it: of all that `warnings` says, what
    /// can be said with its reason.
    pub fn unseen_subsets(&self) -> Vec<UnseenSubset> {
        let remarked = self.remarked.hosts.warnings.iter();
        let hosts = remarked.filter_map(|(fqdn, ())| self.hosts.get(fqdn));
        let mut unseen: Vec<UnseenSubset> = hosts.flat_map(|entry| entry.unseen.iter().cloned()).collect();
        unseen.sort();
        unseen.dedup();
        unseen
    }

    /// VirtualServices that are not in force for clients who see them.
    pub fn overruled(&self) -> Vec<Overruled> {
        let mut overruled = overruled::find(&self.catalog);
        overruled.sort();
        overruled
    }

    /// What clients of a namespace are told of a host, of the virtual address of one, or of a name that only a wildcard
    /// covers; `None`: there is no such host.
    pub fn host(&self, fqdn: &str, client_namespace: &str) -> Option<Arc<Encoded>> {
        let told = self.told(fqdn, client_namespace).map(|told| &told.encoded);
        let alias = || self.addresses.get(fqdn).map(|entry| &entry.alias);
        if let Some(encoded) = told.or_else(alias) {
            return Some(Arc::clone(encoded));
        }
        let of = match fqdn.parse::<IpAddr>() {
            Ok(address) => addresses::in_range(&self.catalog, address)?,
            Err(_) => self.wildcard_over(fqdn, client_namespace)?,
        };
        Some(Arc::new(addresses::alias(fqdn, of)))
    }

    fn told(&self, fqdn: &str, client_namespace: &str) -> Option<&Told> {
        self.hosts.get(fqdn).and_then(|entry| entry.told(client_namespace))
    }

    /// The longest that there is for these clients. Names come from whoever likes to ask: nothing is kept of them here.
    fn wildcard_over(&self, fqdn: &str, client_namespace: &str) -> Option<String> {
        let mut over = self.catalog.wildcards_over(fqdn);
        over.find(|wildcard| self.told(wildcard, client_namespace).is_some())
            .filter(|_| wildcards::may_be_covered(fqdn))
    }

    /// `None`: there is no such host.
    pub fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        self.endpoints.get(fqdn).map(|entry| Arc::clone(&entry.encoded))
    }

    /// FQDNs of every host that exists and that requests to this one can reach, itself included, sorted: their endpoints
    /// go along with it. Empty: there is no such host, or it is an address or a name that a wildcard covers.
    pub fn reaches(&self, fqdn: &str, client_namespace: &str) -> Arc<[String]> {
        self.told(fqdn, client_namespace)
            .map(|told| Arc::clone(&told.reaches))
            .unwrap_or_default()
    }

    /// FQDNs of the hosts whose resources a document has a part in, sorted.
    pub fn concerns(&self, document: &Document) -> Vec<String> {
        self.catalog.concerns(document).into_iter().collect()
    }

    /// The DestinationRules in force for calls of a host, by a client of the namespace with these labels: the first gives
    /// the rest its clients. Empty: there is none, or no such host.
    pub fn destination_rules(&self, fqdn: &str, client: &str, labels: &BTreeMap<String, String>) -> Vec<Key> {
        let Some(service) = Service::find(&self.catalog, fqdn) else {
            return Vec::new();
        };
        let policies = Policies::find(&self.catalog, fqdn, &service.namespace, Some(client));
        let documents = &policies.of_client(labels).documents;
        documents.iter().map(|document| document.key.clone()).collect()
    }

    /// What concerns one proxy alone.
    pub fn workload(&self, node: &Node) -> Arc<Encoded> {
        let surroundings = Surroundings {
            catalog: &self.catalog,
            machines: &self.machines,
            endpoints: (self.zone_aware_rules > 0).then_some(&self.endpoints),
        };
        Arc::new(workload::build(&surroundings, node))
    }

    /// The last revision that may have changed what proxies of the namespace are told of themselves.
    pub fn workload_revision(&self, namespace: &str) -> u64 {
        let own = self.workloads.get(namespace).copied().unwrap_or_default();
        own.max(self.all_workloads)
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
