//! Turns updates into snapshots, on the control thread. Only what changed is compiled: a host when it was told anew, and
//! every host that reaches a service whose endpoints changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use tsunagi_proto::model::{self, ClusterKey, EndpointSet, Source};

use super::compile::{Cluster, Compiler, Host};
use super::reader::{Shared, Snapshot, is_alias};
use super::resolved::NamedEndpoints;
use super::{Inbound, Update};
use crate::dns::Book;
use crate::telemetry::Telemetry;
use crate::upstream::Registry;

/// Names that stand for a host, as those that a wildcard covers: they come from clients, so only so many are kept. It is
/// less than a proxy may subscribe to: services have room beside them.
const MOST_ALIASES: usize = 2_000;

pub struct Publisher {
    compiler: Compiler,
    shared: Arc<Shared>,
    hosts: HashMap<String, Option<Arc<Host>>>,
    told: HashMap<String, Arc<model::Host>>,
    endpoints: HashMap<String, Arc<EndpointSet>>,
    clusters: HashMap<ClusterKey, Arc<Cluster>>,
    workload: Option<Arc<model::Workload>>,
    inbound: Option<Arc<Inbound>>,
    /// Whom the rules are compiled for.
    source: Source,
    named: NamedEndpoints,
}

impl Publisher {
    pub fn new(registry: Arc<Registry>, telemetry: Telemetry, shared: Arc<Shared>) -> Self {
        Self {
            compiler: Compiler {
                registry,
                telemetry,
                epoch: Instant::now(),
            },
            shared,
            hosts: HashMap::new(),
            told: HashMap::new(),
            endpoints: HashMap::new(),
            clusters: HashMap::new(),
            workload: None,
            inbound: None,
            source: Source::default(),
            named: NamedEndpoints::new(Book::new()),
        }
    }

    /// Rules are compiled for this workload: what is only for others is left out.
    pub fn for_source(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    /// Where the names of endpoints are looked up.
    pub fn with_book(mut self, book: Arc<Book>) -> Self {
        self.named = NamedEndpoints::new(book);
        self
    }

    /// What a workload is told of its own ports goes there.
    pub fn with_inbound(mut self, inbound: Arc<Inbound>) -> Self {
        self.inbound = Some(inbound);
        self
    }

    /// Applies one response whole: when this returns, every new request meets it.
    pub fn apply(&mut self, update: Update) {
        let moved: HashSet<String> = update.endpoints.iter().map(|(fqdn, _)| fqdn.clone()).collect();
        for (fqdn, set) in update.endpoints {
            self.named.take(&fqdn, set.as_deref());
            match set {
                Some(set) => self.endpoints.insert(fqdn, set),
                None => self.endpoints.remove(&fqdn),
            };
        }
        let mut stale: HashSet<String> = update.hosts.iter().map(|(fqdn, _)| fqdn.clone()).collect();
        for (fqdn, host) in update.hosts {
            match host {
                Some(host) => {
                    self.told.insert(fqdn, host.for_source(&self.source));
                }
                None => {
                    self.told.remove(&fqdn);
                    self.hosts.insert(fqdn, None);
                }
            }
        }
        stale.extend(self.reaching(&moved));
        self.compile(&stale, &moved);
        if let Some(workload) = update.workload {
            if let Some(inbound) = &self.inbound {
                inbound.apply(&workload);
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
        let hosts = self.told.values().filter(|host| reaches(host, moved));
        hosts.map(|host| host.fqdn.clone())
    }

    /// Names that nobody has called for `seconds`; the caller gives up their subscription.
    pub fn idle_hosts(&self, seconds: u64) -> Vec<String> {
        let idle = |host: &Arc<Host>| host.idle_seconds() >= seconds;
        self.hosts
            .iter()
            .filter(|(_, host)| host.as_ref().is_some_and(idle))
            .map(|(fqdn, _)| fqdn.clone())
            .collect()
    }

    /// Names that stand for a host and are more than are kept, those that were not used for the longest time; the caller
    /// gives up their subscription. Room is made for some more at once.
    pub fn surplus_aliases(&self) -> Vec<String> {
        let aliases = self
            .hosts
            .iter()
            .filter_map(|(name, host)| Some((name, host.as_ref()?)));
        let mut aliases: Vec<_> = aliases.filter(|(_, host)| is_alias(host)).collect();
        if aliases.len() <= MOST_ALIASES {
            return Vec::new();
        }
        let surplus = aliases.len() - MOST_ALIASES + MOST_ALIASES / 10;
        aliases.sort_by_key(|(name, host)| (std::cmp::Reverse(host.idle_seconds()), *name));
        let names = aliases.into_iter().take(surplus);
        names.map(|(name, _)| name.clone()).collect()
    }

    /// Forgets names that are no longer subscribed to: asked for again, they are fetched again.
    pub fn forget(&mut self, names: &[String]) {
        for name in names {
            self.hosts.remove(name);
            self.told.remove(name);
        }
        self.drop_unused_clusters();
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
                let previous = self.hosts.get(fqdn).and_then(|host| host.as_deref());
                let reachable = told.clusters.iter().filter_map(|cluster| {
                    self.clusters
                        .get(&cluster.key)
                        .map(|compiled| (cluster.key.clone(), Arc::clone(compiled)))
                });
                let host = self.compiler.host(told, &reachable.collect(), previous);
                self.hosts.insert(fqdn.clone(), Some(host));
            }
        }
        self.drop_unused_clusters();
    }

    fn drop_unused_clusters(&mut self) {
        let used: HashSet<&ClusterKey> = self
            .told
            .values()
            .flat_map(|host| host.clusters.iter().map(|cluster| &cluster.key))
            .collect();
        self.clusters.retain(|key, cluster| {
            let keep = used.contains(key);
            if !keep {
                cluster.learned.retire();
            }
            keep
        });
    }

    fn publish(&mut self, version: String) {
        let previous = self.shared.current();
        let version = if version.is_empty() {
            previous.version.clone()
        } else {
            version
        };
        self.shared.publish(Snapshot::new(
            self.hosts.clone(),
            self.workload.clone(),
            &self.shared.namespace,
            version,
        ));
    }
}

fn reaches(host: &model::Host, moved: &HashSet<String>) -> bool {
    !moved.is_empty() && host.clusters.iter().any(|cluster| moved.contains(&cluster.key.host))
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
