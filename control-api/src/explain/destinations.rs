//! Where requests go: the cluster of a destination as a proxy finds it, its endpoints, and what requests get where there
//! is no cluster or nobody in it.

use std::sync::Arc;

use tsunagi_proto::decide;
use tsunagi_proto::model::{
    self, Cluster, ClusterKey, Discovery, Health, Host, Protocol, Source, WeightedDestination, keep_one_an_address,
};

use super::answer::{Destination, Endpoint, Reply};
use super::{policies, traffic_policy};
use crate::snapshot::World;

/// The host that is asked for, as the client is told of it, and its port.
pub(super) struct Place<'a> {
    pub world: &'a World,
    pub told: &'a Host,
    pub port: u16,
    /// The client.
    pub source: &'a Source,
}

impl Place<'_> {
    /// What the port is declared to speak.
    pub(super) fn protocol(&self) -> Protocol {
        let port = self.told.ports.iter().find(|port| port.number == self.port);
        port.map_or(Protocol::Detect, |port| port.protocol)
    }

    /// Is it a port of TLS with rules for the client? Then what none of them is for does not go to the service.
    pub(super) fn has_rules_of_tls(&self) -> bool {
        let routes = self.told.routes.clone().map(|routes| routes.for_source(self.source));
        self.protocol() == Protocol::Tls && routes.is_some_and(|routes| decide::concern_port(&routes.tls, self.port))
    }

    /// The port's own cluster.
    pub(super) fn own(&self) -> Vec<Destination> {
        let key = ClusterKey {
            host: self.told.fqdn.clone(),
            port: self.port,
            subset: String::new(),
        };
        vec![self.destination(&key, 1, 1)]
    }

    pub(super) fn of(&self, destinations: &[WeightedDestination], total_weight: u64) -> Vec<Destination> {
        let destination = |to: &WeightedDestination| {
            let key = ClusterKey {
                host: to.host.clone(),
                port: to.port.unwrap_or_else(|| self.implied_port(to)),
                subset: to.subset.clone(),
            };
            self.destination(&key, to.weight, total_weight)
        };
        destinations.iter().map(destination).collect()
    }

    /// Of a destination without a port: the host's sole port, else the one that the client asks for.
    fn implied_port(&self, to: &WeightedDestination) -> u16 {
        let mut ports = self.told.clusters.iter().map(|cluster| &cluster.key);
        let mut ports = ports
            .by_ref()
            .filter(|key| key.host == to.host && key.subset == to.subset)
            .map(|key| key.port);
        match (ports.next(), ports.next()) {
            (Some(sole), None) => sole,
            _ => self.port,
        }
    }

    fn destination(&self, key: &ClusterKey, weight: u32, total_weight: u64) -> Destination {
        let cluster = self.told.clusters.iter().find(|cluster| cluster.key == *key);
        let endpoints = cluster.map(|cluster| self.endpoints(cluster)).unwrap_or_default();
        let destination_rules = self.destination_rules(&key.host);
        let reply = match cluster {
            None => Some(Reply::new(503, "NC", self.missing(key, &destination_rules))),
            Some(cluster) if !serves(cluster, &endpoints) => Some(Reply::new(503, "UH", "no healthy upstream")),
            Some(_) => None,
        };
        #[allow(clippy::cast_precision_loss, reason = "a share that people read")]
        let share = f64::from(weight) * 100.0 / total_weight.max(1) as f64;
        Destination {
            host: key.host.clone(),
            port: Some(key.port),
            subset: key.subset.clone(),
            weight,
            share: (share * 100.0).round() / 100.0,
            cluster: cluster.map(|cluster| cluster.key.to_string()).unwrap_or_default(),
            labels: cluster.into_iter().flat_map(|cluster| cluster.labels.clone()).collect(),
            endpoints,
            destination_rules,
            traffic_policy: cluster.map(traffic_policy::of_cluster),
            reply,
        }
    }

    fn destination_rules(&self, host: &str) -> Vec<String> {
        let Source { namespace, labels } = self.source;
        let rules = self.world.destination_rules(host, namespace, labels);
        rules
            .iter()
            .map(|key| format!("{}/{}", key.namespace, key.name))
            .collect()
    }

    fn endpoints(&self, cluster: &Cluster) -> Vec<Endpoint> {
        let told = self
            .world
            .endpoints(&cluster.key.host)
            .and_then(|told| told.endpoints());
        let all = told.iter().flat_map(|set| set.iter());
        let own = all.filter(|endpoint| endpoint.has_labels(&cluster.labels));
        let mut own: Vec<Arc<model::Endpoint>> = own.cloned().collect();
        keep_one_an_address(&mut own, cluster.key.port);
        let endpoint = |endpoint: &Arc<model::Endpoint>| {
            Some(Endpoint {
                address: place(endpoint, cluster.key.port)?,
                resolved: Vec::new(),
                state: state(endpoint).to_owned(),
                weight: endpoint.weight,
                locality: endpoint.locality.clone(),
                seen_by: Vec::new(),
            })
        };
        own.iter().filter_map(endpoint).collect()
    }

    /// Why there is no such cluster.
    fn missing(&self, ClusterKey { host, port, subset }: &ClusterKey, rules: &[String]) -> String {
        let known: Vec<&ClusterKey> = self.told.clusters.iter().map(|cluster| &cluster.key).collect();
        let of_host = known.iter().any(|key| key.host == *host);
        if !of_host && self.world.endpoints(host).is_none() {
            return format!("no service is called {host}");
        }
        if !subset.is_empty() && !known.iter().any(|key| key.host == *host && key.subset == *subset) {
            let rules = if rules.is_empty() {
                String::new()
            } else {
                format!(" ({})", rules.join(", "))
            };
            return format!("no DestinationRule in force for this client{rules} defines subset {subset} of {host}");
        }
        format!("{host} has no port {port}")
    }
}

/// What DNS says of a name, each proxy asks for itself.
fn place(endpoint: &model::Endpoint, port: u16) -> Option<String> {
    let address = endpoint.socket_address(port)?;
    Some(match &endpoint.hostname {
        None => address.to_string(),
        Some(name) => format!("{name}:{}", address.port()),
    })
}

/// As it is told, or, of a name, what nobody knows but those who resolve it.
fn state(endpoint: &tsunagi_proto::model::Endpoint) -> &'static str {
    match (&endpoint.hostname, endpoint.health) {
        (Some(_), Health::Healthy) => "UNKNOWN",
        (_, health) => policies::state(health),
    }
}

/// Draining endpoints serve where there is no healthy one, unhealthy ones in a panic.
fn serves(cluster: &Cluster, endpoints: &[Endpoint]) -> bool {
    if cluster.discovery == Discovery::OriginalDestination {
        return true;
    }
    let outlier = cluster.outlier_detection.as_ref();
    let panics = outlier.is_some_and(|outlier| outlier.min_health_percent > 0);
    endpoints
        .iter()
        .any(|endpoint| panics || endpoint.state != policies::state(Health::Unhealthy))
}
