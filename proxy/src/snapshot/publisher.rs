//! Turns updates into snapshots, on the control thread. Only what changed is compiled: a host when it was told anew, and
//! every host that reaches a service whose endpoints changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tsunagi_proto::model::{self, ClusterKey, Discovery, EndpointSet, Source};
use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

use super::compile::{Cluster, Compiler, Host};
use super::naming::{Naming, is_alias};
use super::reader::{Shared, Snapshot};
use super::resolved::{NamedEndpoints, SeenName};
use super::{Inbound, Update};
use crate::dns::Book;
use crate::telemetry::Telemetry;
use crate::upstream::{Place, Registry};

/// Names that stand for a host, as those that a wildcard covers: they come from clients, so only so many are kept. It is
/// less than a proxy may subscribe to: services have room beside them.
const MOST_ALIASES: usize = 2_000;

pub struct Publisher {
    compiler: Compiler,
    shared: Arc<Shared>,
    naming: Naming,
    told: Told,
    endpoints: HashMap<String, Arc<EndpointSet>>,
    clusters: HashMap<ClusterKey, Arc<Cluster>>,
    workload: Option<Arc<model::Workload>>,
    inbound: Option<Arc<Inbound>>,
    /// Whom the rules are compiled for.
    source: Source,
    named: NamedEndpoints,
    /// Where this proxy certainly is; empty: where the workload is told to be.
    locality: String,
}

impl Publisher {
    pub fn new(registry: Arc<Registry>, telemetry: Telemetry, shared: Arc<Shared>) -> Self {
        Self {
            compiler: Compiler {
                registry,
                telemetry,
                epoch: Instant::now(),
                place: Place::default(),
            },
            naming: Naming::new(&shared.namespace, DEFAULT_CLUSTER_DOMAIN),
            shared,
            told: Told::default(),
            endpoints: HashMap::new(),
            clusters: HashMap::new(),
            workload: None,
            inbound: None,
            source: Source::default(),
            named: NamedEndpoints::new(Book::new()),
            locality: String::new(),
        }
    }

    /// Rules are compiled for this workload: what is only for others is left out.
    pub fn for_source(mut self, source: Source) -> Self {
        self.compiler.place.labels.clone_from(&source.labels);
        self.source = source;
        self
    }

    /// Where the names of endpoints are looked up.
    pub fn with_book(mut self, book: Arc<Book>) -> Self {
        self.named = NamedEndpoints::new(book);
        self
    }

    /// Endpoints are balanced for a proxy at this locality, whatever is told of it. Empty: nothing is known here.
    pub fn at_locality(mut self, locality: String) -> Self {
        self.compiler.place.locality.clone_from(&locality);
        self.locality = locality;
        self
    }

    /// What a workload is told of its own ports goes there.
    pub fn with_inbound(mut self, inbound: Arc<Inbound>) -> Self {
        self.inbound = Some(inbound);
        self
    }

    pub fn registry(&self) -> &Registry {
        &self.compiler.registry
    }

    /// Applies one response whole: when this returns, every new request meets it.
    pub fn apply(&mut self, update: Update) {
        let mut moved: HashSet<String> = update.endpoints.iter().map(|(fqdn, _)| fqdn.clone()).collect();
        if let Some(workload) = &update.workload {
            moved.extend(self.move_to(workload));
        }
        for (fqdn, set) in update.endpoints {
            self.named.take(&fqdn, set.as_deref());
            match set {
                Some(set) => self.endpoints.insert(fqdn, set),
                None => self.endpoints.remove(&fqdn),
            };
        }
        let mut stale: HashSet<String> = update.hosts.iter().map(|(fqdn, _)| fqdn.clone()).collect();
        let mut unused = Vec::new();
        for (fqdn, host) in update.hosts {
            unused.extend(self.told.forget(&fqdn));
            match host {
                Some(host) => self.told.insert(fqdn, host.for_source(&self.source)),
                None => self.naming.set(&fqdn, None),
            }
        }
        stale.extend(self.reaching(&moved));
        self.compile(&stale, &moved);
        self.retire(unused);
        if let Some(workload) = update.workload {
            if let Some(inbound) = &self.inbound {
                inbound.apply(&workload);
            }
            if workload.cluster_domain != self.naming.domain() {
                self.naming = self.naming.in_domain(&workload.cluster_domain);
            }
            self.workload = Some(workload);
        }
        self.publish(update.version);
    }

    /// DNS says something else of these names: the same as other endpoints of the services that have them.
    pub fn resolved(&mut self, names: &[Arc<str>]) {
        let moved = self.named.services_of(names);
        let stale: HashSet<String> = self.reaching(&moved).collect();
        if !stale.is_empty() {
            self.compile(&stale, &moved);
            self.publish(String::new());
        }
    }

    /// Hosts that reach a service whose endpoints are others now.
    fn reaching(&self, moved: &HashSet<String>) -> impl Iterator<Item = String> {
        moved.iter().flat_map(|fqdn| self.told.that_reach(fqdn)).cloned()
    }

    /// Services to whose endpoints this proxy is nearer or farther now.
    fn move_to(&mut self, workload: &model::Workload) -> Vec<String> {
        let told = [&self.locality, &workload.locality]
            .into_iter()
            .find(|of| !of.is_empty());
        let place = Place {
            locality: told.cloned().unwrap_or_default(),
            labels: self.source.labels.clone(),
            node_name: workload.node_name.clone(),
            peers: workload.peers.clone(),
        };
        if place == self.compiler.place {
            return Vec::new();
        }
        self.compiler.place = place;
        let concerned = self.clusters.values().filter(|cluster| cluster.told.locality.is_some());
        concerned.map(|cluster| cluster.told.key.host.clone()).collect()
    }

    /// What DNS says of the endpoints that are told by name: the first `most`, and how many more there are.
    pub fn seen_names(&self, most: usize) -> (Vec<SeenName>, usize) {
        if self.named.is_empty() {
            return (Vec::new(), 0);
        }
        let told = self.clusters.values().map(|cluster| &cluster.told);
        let in_turns = told.filter(|told| told.discovery == Discovery::DnsRoundRobin);
        self.named
            .seen(&in_turns.map(|told| told.key.host.as_str()).collect(), most)
    }

    /// Names that nobody has called for `seconds`; the caller gives up their subscription.
    pub fn idle_hosts(&self, seconds: u64) -> Vec<String> {
        let idle = |host: &Arc<Host>| host.idle_seconds() >= seconds;
        let hosts = self.naming.hosts().iter();
        let idle = hosts.filter(|(_, host)| host.as_ref().is_some_and(idle));
        idle.map(|(fqdn, _)| fqdn.to_string()).collect()
    }

    /// Names that stand for a host and are more than are kept, those that were not used for the longest time; the caller
    /// gives up their subscription. Room is made for some more at once.
    pub fn surplus_aliases(&self) -> Vec<String> {
        let hosts = self.naming.hosts().iter();
        let aliases = hosts.filter_map(|(name, host)| Some((name, host.as_ref()?)));
        let mut aliases: Vec<_> = aliases.filter(|(_, host)| is_alias(host)).collect();
        if aliases.len() <= MOST_ALIASES {
            return Vec::new();
        }
        let surplus = aliases.len() - MOST_ALIASES + MOST_ALIASES / 10;
        aliases.sort_by_key(|(name, host)| (std::cmp::Reverse(host.idle_seconds()), *name));
        let names = aliases.into_iter().take(surplus);
        names.map(|(name, _)| name.to_string()).collect()
    }

    /// Forgets names that are no longer subscribed to: asked for again, they are fetched again.
    pub fn forget(&mut self, names: &[String]) {
        let mut unused = Vec::new();
        for name in names {
            self.naming.remove(name);
            unused.extend(self.told.forget(name));
        }
        self.retire(unused);
        self.publish(String::new());
    }

    fn compile(&mut self, stale: &HashSet<String>, moved: &HashSet<String>) {
        let mut done = HashSet::new();
        for told in stale.iter().filter_map(|fqdn| self.told.get(fqdn)) {
            for cluster in told.clusters.iter().filter(|cluster| done.insert(&cluster.key)) {
                let current = self.clusters.get(&cluster.key);
                if !moved.contains(&cluster.key.host) && current.is_some_and(|current| *current.told == *cluster) {
                    continue;
                }
                let endpoints = self.endpoints.get(&cluster.key.host).map(|set| &**set);
                let compiled = self.compiler.cluster(cluster, endpoints, &self.named.book);
                self.clusters.insert(cluster.key.clone(), compiled);
            }
        }
        for fqdn in stale {
            if let Some(told) = self.told.get(fqdn) {
                let previous = self.naming.hosts().get(fqdn).and_then(|host| host.as_deref());
                let reachable = told.clusters.iter().filter_map(|cluster| {
                    self.clusters
                        .get(&cluster.key)
                        .map(|compiled| (cluster.key.clone(), Arc::clone(compiled)))
                });
                let host = self.compiler.host(told, &reachable.collect(), previous);
                self.naming.set(fqdn, Some(host));
            }
        }
    }

    /// Those of them that no host reaches any more.
    fn retire(&mut self, unused: Vec<ClusterKey>) {
        for key in unused.iter().filter(|key| !self.told.uses(key)) {
            if let Some(cluster) = self.clusters.remove(key) {
                cluster.learned.retire();
            }
        }
    }

    fn publish(&mut self, version: String) {
        let previous = self.shared.current();
        let version = if version.is_empty() {
            previous.version.clone()
        } else {
            version
        };
        self.shared.publish(Snapshot {
            names: self.naming.means().clone(),
            hosts: self.naming.hosts().clone(),
            workload: self.workload.clone(),
            version,
        });
    }
}

/// The hosts as they were told, by FQDN, and what they reach.
#[derive(Default)]
struct Told {
    hosts: HashMap<String, Arc<model::Host>>,
    /// FQDN of a service -> hosts that reach it.
    reached: HashMap<String, HashSet<String>>,
    /// How many hosts reach a cluster.
    uses: HashMap<ClusterKey, usize>,
}

impl Told {
    fn get(&self, fqdn: &str) -> Option<&Arc<model::Host>> {
        self.hosts.get(fqdn)
    }

    /// One that is not there.
    fn insert(&mut self, fqdn: String, host: Arc<model::Host>) {
        for cluster in &host.clusters {
            *self.uses.entry(cluster.key.clone()).or_default() += 1;
            let reached = self.reached.entry(cluster.key.host.clone()).or_default();
            if !reached.contains(&fqdn) {
                reached.insert(fqdn.clone());
            }
        }
        self.hosts.insert(fqdn, host);
    }

    /// Clusters that nothing may use any more.
    fn forget(&mut self, fqdn: &str) -> Vec<ClusterKey> {
        let Some(host) = self.hosts.remove(fqdn) else {
            return Vec::new();
        };
        for cluster in &host.clusters {
            if let Some(uses) = self.uses.get_mut(&cluster.key) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&cluster.key);
                }
            }
            if let Some(reached) = self.reached.get_mut(&cluster.key.host) {
                reached.remove(fqdn);
                if reached.is_empty() {
                    self.reached.remove(&cluster.key.host);
                }
            }
        }
        host.clusters.iter().map(|cluster| cluster.key.clone()).collect()
    }

    fn uses(&self, key: &ClusterKey) -> bool {
        self.uses.contains_key(key)
    }

    fn that_reach(&self, fqdn: &str) -> impl Iterator<Item = &String> {
        self.reached.get(fqdn).into_iter().flatten()
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
