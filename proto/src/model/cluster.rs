//! A cluster: one (host, port, subset) with the traffic policy in force for it.

use std::fmt;

use super::{
    ConnectionPool, Invalid, LoadBalancer, LocalityBalancing, OutlierDetection, Protocol, ProxyProtocol, RetryBudget,
    Source, UpstreamTls, Warmup,
};
use crate::wire::mesh;

/// Shown as Istio shows it: `outbound|80|v1|user-service.default.svc.cluster.local`, and `inbound|8080||` for the
/// application beside the proxy, which has no host; `InboundPassthroughCluster` (port 0) are the ports of it that no service
/// leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterKey {
    pub host: String,
    pub port: u16,
    pub subset: String,
}

impl fmt::Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() && self.port == 0 {
            return f.write_str("InboundPassthroughCluster");
        }
        let direction = if self.host.is_empty() { "inbound" } else { "outbound" };
        write!(f, "{direction}|{}|{}|{}", self.port, self.subset, self.host)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    pub key: ClusterKey,
    /// An endpoint belongs to the cluster when it has all of these. Sorted by key.
    pub labels: Vec<(String, String)>,
    pub protocol: Protocol,
    pub connection_pool: ConnectionPool,
    pub load_balancer: LoadBalancer,
    pub outlier_detection: Option<OutlierDetection>,
    /// `None`: localities do not matter.
    pub locality: Option<LocalityBalancing>,
    /// `None`: a new endpoint gets its whole share at once.
    pub warmup: Option<Warmup>,
    /// `None`: `connection_pool.max_retries`, else the default budget.
    pub retry_budget: Option<RetryBudget>,
    /// `None`: plaintext.
    pub tls: Option<UpstreamTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub discovery: Discovery,
    /// The clients that it is for have all of these. Sorted by key.
    pub client_labels: Vec<(String, String)>,
    /// For these clients there is no such cluster.
    pub missing: bool,
    /// Where discovery is `OriginalDestination`: in place of the port that the client connected to.
    pub destination_port: Option<u16>,
}

/// Where the endpoints of a cluster are known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discovery {
    /// Each has an address.
    #[default]
    Static,
    /// Each has a name, and every address of that name is an endpoint.
    Dns,
    /// As `Dns`, but the name is one endpoint: each new connection goes to the next of its addresses.
    DnsRoundRobin,
    /// There are none: a connection goes where the client connected to.
    OriginalDestination,
}

impl Cluster {
    /// A cluster with nothing said of it: what the tests and the proxy's own clusters begin with.
    pub fn new(key: ClusterKey, protocol: Protocol) -> Self {
        Self {
            key,
            labels: Vec::new(),
            protocol,
            connection_pool: ConnectionPool::default(),
            load_balancer: LoadBalancer::default(),
            outlier_detection: None,
            locality: None,
            warmup: None,
            retry_budget: None,
            tls: None,
            proxy_protocol: None,
            discovery: Discovery::default(),
            client_labels: Vec::new(),
            missing: false,
            destination_port: None,
        }
    }

    /// Is it for this client?
    pub fn is_for(&self, source: &Source) -> bool {
        let has = |(key, value): &(String, String)| source.labels.get(key) == Some(value);
        self.client_labels.iter().all(has)
    }

    /// Do requests to different hosts need connections of their own, because TLS asks for each host?
    pub fn asks_for_hosts_of_requests(&self) -> bool {
        let tls = self.tls.as_ref();
        tls.is_some_and(|tls| tls.server_name_of(&self.key.host).is_none())
    }
}

fn labels(wire: Vec<mesh::Label>) -> Vec<(String, String)> {
    wire.into_iter().map(|label| (label.key, label.value)).collect()
}

/// A block that may be absent.
fn block<W, T>(field: &str, wire: Option<W>) -> Result<Option<T>, Invalid>
where
    T: TryFrom<W, Error = Invalid>,
{
    wire.map(T::try_from).transpose().map_err(|error| error.within(field))
}

impl TryFrom<mesh::Cluster> for Cluster {
    type Error = Invalid;

    fn try_from(wire: mesh::Cluster) -> Result<Self, Invalid> {
        let protocol = Protocol::from(wire.protocol());
        let load_balancer = LoadBalancer::new(wire.load_balancer(), wire.consistent_hash.clone())?;
        let proxy_protocol = ProxyProtocol::new(wire.proxy_protocol());
        let discovery = match wire.discovery() {
            mesh::Discovery::Static => Discovery::Static,
            mesh::Discovery::Dns => Discovery::Dns,
            mesh::Discovery::DnsRoundRobin => Discovery::DnsRoundRobin,
            mesh::Discovery::OriginalDestination => Discovery::OriginalDestination,
        };
        if wire.host.is_empty() {
            return Err(Invalid::new("host", "must not be empty"));
        }
        Ok(Self {
            key: ClusterKey {
                host: wire.host,
                port: super::host::port("port", wire.port)?,
                subset: wire.subset,
            },
            labels: labels(wire.labels),
            protocol,
            connection_pool: block("connection_pool", wire.connection_pool)?.unwrap_or_default(),
            load_balancer,
            outlier_detection: block("outlier_detection", wire.outlier_detection)?,
            locality: block("locality", wire.locality)?,
            warmup: block("warmup", wire.warmup)?,
            retry_budget: block("retry_budget", wire.retry_budget)?,
            tls: block("tls", wire.tls)?,
            proxy_protocol,
            discovery,
            client_labels: labels(wire.client_labels),
            missing: wire.missing,
            destination_port: super::host::optional_port("destination_port", wire.destination_port)?,
        })
    }
}
