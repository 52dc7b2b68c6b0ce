//! Hosts as the request path wants them: rules by index, destinations resolved to clusters, series at hand. Nothing is
//! looked up by name for a request once its host is found.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tsunagi_proto::model::{self, ClusterKey, Discovery, EndpointSet, Protocol};

use super::connections::{ConnectionDestination, ConnectionRoutes};
use super::resolved::Expanded;
use crate::dns::Book;
use crate::telemetry::{Direction, MirrorSeries, PrefixSeries, RequestSeries, TcpSeries, Telemetry};
use crate::upstream::{self, Members, Place, Registry};

/// The route label of a request that meets no VirtualService.
const PLAIN_ROUTE: &str = "default";

#[derive(Debug)]
pub struct Host {
    pub told: Arc<model::Host>,
    /// Sorted by number; only those that speak HTTP have rules.
    pub ports: Vec<Port>,
    /// Seconds since `epoch` of the last request, for giving up hosts that nobody calls.
    used: AtomicU64,
    epoch: Instant,
    /// Requests that no rule matched.
    pub unrouted: Arc<RequestSeries>,
}

#[derive(Debug)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
    /// A rule of the VirtualService concerns this port; else the VirtualService does not.
    pub routed: bool,
    /// Parallel to the rules of `told.routes`.
    pub rules: Vec<Rule>,
    /// The port's own cluster, for hosts without a VirtualService and for plain TCP.
    pub plain: Rule,
    /// Of connections that are passed on as they are, to the port's own cluster.
    pub tcp: Arc<TcpSeries>,
    /// The other places where such connections go.
    pub connections: ConnectionRoutes,
}

impl Port {
    /// The port's own cluster, where it has one.
    pub fn own_cluster(&self) -> Option<&Cluster> {
        self.plain.destinations.first()?.cluster.as_deref()
    }
}

#[derive(Debug)]
pub struct Rule {
    /// Parallel to the rule's destinations; empty for a rule that the proxy answers by itself.
    pub destinations: Vec<Destination>,
    /// Parallel to the rule's mirrors.
    pub mirrors: Vec<MirrorTarget>,
    /// Of requests that the proxy answers by itself, by a rule without destinations: one without a cluster.
    pub answered: Option<Destination>,
    /// Parallel to the rule's matches; empty if none has a `statPrefix`.
    pub prefixed: Vec<Option<Arc<PrefixSeries>>>,
    /// Has a match a name, for the access log?
    pub names_matches: bool,
}

impl Rule {
    /// Of requests that meet no VirtualService.
    pub fn plain(destination: Destination) -> Self {
        Self {
            destinations: vec![destination],
            mirrors: Vec::new(),
            answered: None,
            prefixed: Vec::new(),
            names_matches: false,
        }
    }
}

#[derive(Debug)]
pub struct MirrorTarget {
    /// `None`: no such host or subset.
    pub cluster: Option<Arc<Cluster>>,
    pub series: Arc<MirrorSeries>,
}

#[derive(Debug)]
pub struct Destination {
    /// `None`: no such host or subset, 503 `NC`.
    pub cluster: Option<Arc<Cluster>>,
    pub series: Arc<RequestSeries>,
}

/// A cluster as told, joined with what was learned about it.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub told: Arc<model::Cluster>,
    pub members: Arc<Members>,
    pub learned: Arc<upstream::Cluster>,
}

impl Host {
    pub(super) fn new(told: Arc<model::Host>, ports: Vec<Port>, unrouted: Arc<RequestSeries>, epoch: Instant) -> Self {
        Self {
            told,
            ports,
            used: AtomicU64::new(epoch.elapsed().as_secs()),
            epoch,
            unrouted,
        }
    }

    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// What a name without a port means: the first port that speaks HTTP.
    pub fn first_http_port(&self) -> Option<&Port> {
        self.ports.iter().find(|port| port.protocol.is_http())
    }

    /// What the name that a TLS client asks for means: the first port that speaks TLS, or may.
    pub fn first_tls_port(&self) -> Option<&Port> {
        let first = |protocol| self.ports.iter().find(|port| port.protocol == protocol);
        first(Protocol::Tls).or_else(|| first(Protocol::Detect))
    }

    pub fn touch(&self) {
        let now = self.epoch.elapsed().as_secs();
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// It stands in the place of this one, and was called when that was.
    pub(super) fn continue_use_of(&self, previous: &Self) {
        self.used
            .store(previous.used.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// As if it had been called at the epoch for the last time.
    #[cfg(test)]
    pub(super) fn forget_use(&self) {
        self.used.store(0, Ordering::Relaxed);
    }

    pub fn idle_seconds(&self) -> u64 {
        self.epoch
            .elapsed()
            .as_secs()
            .saturating_sub(self.used.load(Ordering::Relaxed))
    }
}

/// Everything that compiling needs; lives on the control thread.
pub(super) struct Compiler {
    pub registry: Arc<Registry>,
    pub telemetry: Telemetry,
    pub epoch: Instant,
    /// Where this proxy is.
    pub place: Place,
}

impl Compiler {
    pub fn cluster(&self, told: &model::Cluster, endpoints: Option<&EndpointSet>, book: &Book) -> Arc<Cluster> {
        let told = Arc::new(told.clone());
        let learned = self.registry.cluster(&told);
        if told.discovery == Discovery::OriginalDestination {
            learned.reconcile_destinations(&told);
            learned.serve_waiting();
            let members = Arc::default();
            return Arc::new(Cluster { told, members, learned });
        }
        let members = endpoints
            .into_iter()
            .flat_map(EndpointSet::iter)
            .filter(|endpoint| endpoint.has_labels(&told.labels))
            .cloned();
        let expanded = Expanded::of(members, &told, book);
        let members = learned.reconcile_from(&self.place, Arc::clone(&told), &expanded.endpoints);
        expanded.settle(&learned);
        learned.serve_waiting();
        Arc::new(Cluster { told, members, learned })
    }

    pub fn host(
        &self,
        told: &Arc<model::Host>,
        clusters: &HashMap<ClusterKey, Arc<Cluster>>,
        previous: Option<&Host>,
    ) -> Arc<Host> {
        let context = Resolve {
            compiler: self,
            told,
            clusters,
        };
        let ports = told.ports.iter().map(|port| context.port(port)).collect();
        // Names that stand for a host come from clients: no series is made of them.
        let destination = told.alias_of.as_ref().unwrap_or(&told.fqdn);
        let unrouted = self.telemetry.request_series(Direction::Outbound, "", destination, "");
        let host = Host::new(Arc::clone(told), ports, unrouted, self.epoch);
        if let Some(previous) = previous {
            host.continue_use_of(previous);
        }
        Arc::new(host)
    }
}

struct Resolve<'a> {
    compiler: &'a Compiler,
    told: &'a Arc<model::Host>,
    clusters: &'a HashMap<ClusterKey, Arc<Cluster>>,
}

impl Resolve<'_> {
    fn port(&self, port: &model::Port) -> Port {
        let rules = self.told.routes.as_ref().map_or(&[][..], |routes| &routes.rules);
        let key = ClusterKey {
            host: self.told.fqdn.clone(),
            port: port.number,
            subset: String::new(),
        };
        Port {
            number: port.number,
            protocol: port.protocol,
            routed: rules.iter().any(|rule| rule.concerns(port.number)),
            rules: rules.iter().map(|rule| self.rule(rule, port.number)).collect(),
            plain: Rule::plain(self.destination(PLAIN_ROUTE, &self.told.fqdn, "", Some(key))),
            tcp: self
                .compiler
                .telemetry
                .tcp_series(Direction::Outbound, &self.told.fqdn, ""),
            connections: self.connections(port),
        }
    }

    fn connections(&self, port: &model::Port) -> ConnectionRoutes {
        ConnectionRoutes::new(self.told.routes.as_ref(), port, &|label, wanted| {
            let key = self.resolve(&wanted.host, wanted.port, &wanted.subset, port.number);
            let telemetry = &self.compiler.telemetry;
            ConnectionDestination {
                route: label.into(),
                cluster: key.and_then(|key| self.clusters.get(&key).cloned()),
                series: telemetry.tcp_series(Direction::Outbound, &wanted.host, &wanted.subset),
            }
        })
    }

    fn rule(&self, rule: &model::HttpRule, port: u16) -> Rule {
        let destination = |wanted: &model::WeightedDestination| {
            let key = self.resolve(&wanted.host, wanted.port, &wanted.subset, port);
            self.destination(&rule.label, &wanted.host, &wanted.subset, key)
        };
        let mirror = |wanted: &model::Mirror| {
            let key = self.resolve(&wanted.host, wanted.port, &wanted.subset, port);
            MirrorTarget {
                cluster: key.and_then(|key| self.clusters.get(&key).cloned()),
                series: self.compiler.telemetry.mirror_series(&wanted.host, &wanted.subset),
            }
        };
        let prefixed = |item: &model::HttpMatch| {
            let prefix = item.stat_prefix.as_ref()?;
            Some(self.compiler.telemetry.prefix_series(prefix))
        };
        let counted = rule.matches.iter().any(|item| item.stat_prefix.is_some());
        let route = rule.route();
        Rule {
            destinations: route.map_or_else(Vec::new, |route| route.destinations.iter().map(destination).collect()),
            mirrors: route.map_or_else(Vec::new, |route| route.mirrors.iter().map(mirror).collect()),
            answered: route
                .is_none()
                .then(|| self.destination(&rule.label, &self.told.fqdn, "", None)),
            names_matches: rule.matches.iter().any(|item| !item.name.is_empty()),
            prefixed: if counted {
                rule.matches.iter().map(prefixed).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// A destination without a port means the host's sole port, else the port that the client asked for.
    fn resolve(&self, host: &str, port: Option<u16>, subset: &str, asked: u16) -> Option<ClusterKey> {
        let key = |port| ClusterKey {
            host: host.to_owned(),
            port,
            subset: subset.to_owned(),
        };
        if let Some(port) = port {
            return Some(key(port));
        }
        let mut ports = self
            .clusters
            .keys()
            .filter(|k| k.host == host && k.subset == subset)
            .map(|k| k.port);
        let first = ports.next()?;
        Some(key(if ports.next().is_none() { first } else { asked }))
    }

    fn destination(&self, route: &str, host: &str, subset: &str, key: Option<ClusterKey>) -> Destination {
        Destination {
            cluster: key.and_then(|key| self.clusters.get(&key).cloned()),
            series: self
                .compiler
                .telemetry
                .request_series(Direction::Outbound, route, host, subset),
        }
    }
}
