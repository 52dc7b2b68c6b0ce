//! A cluster: one (host, port, subset) with the traffic policy in force for it.

use std::fmt;
use std::time::Duration;

use super::{Invalid, Protocol, duration};
use crate::wire::mesh;

/// A limit that is not set. Istio raises Envoy's 1024 to the same.
pub const UNLIMITED: u32 = u32::MAX;

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

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub key: ClusterKey,
    /// An endpoint belongs to the cluster when it has all of these. Sorted by key.
    pub labels: Vec<(String, String)>,
    pub protocol: Protocol,
    pub connection_pool: ConnectionPool,
    pub load_balancer: LoadBalancer,
    pub outlier_detection: Option<OutlierDetection>,
}

/// DestinationRule `connectionPool`. Counts are [`UNLIMITED`] unless set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`: open connections to the cluster, whatever the number of endpoints and workers.
    pub max_connections: u32,
    /// `http.http1MaxPendingRequests`: requests that wait for a connection.
    pub max_pending_requests: u32,
    /// `http.http2MaxRequests`: requests in flight, HTTP/1.1 ones too.
    pub max_requests: u32,
    /// `http.maxRetries`: retries in flight. `None`: the retry budget of 20 % (at least 3) decides.
    pub max_retries: Option<u32>,
    /// `http.maxRequestsPerConnection`; 1 disables keep-alive.
    pub max_requests_per_connection: u32,
    /// `tcp.connectTimeout`. Default 10 s.
    pub connect_timeout: Duration,
    /// `http.idleTimeout`, else `tcp.idleTimeout`: how long an unused connection is kept. Default 1 h.
    pub idle_timeout: Duration,
    /// `tcp.idleTimeout`: how long a TCP connection is kept while nothing passes. Default 1 h.
    pub tcp_idle_timeout: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancer {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
}

/// DestinationRule `outlierDetection`. A threshold of `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    pub consecutive_5xx: Option<u32>,
    pub consecutive_gateway_errors: Option<u32>,
    /// Count connect failures and timeouts on a counter of their own.
    pub split_local_origin_errors: bool,
    pub consecutive_local_origin_failures: Option<u32>,
    /// Between sweeps, which return ejected endpoints. Default 10 s.
    pub interval: Duration,
    /// Times the number of ejections so far. Default 30 s.
    pub base_ejection_time: Duration,
    /// Ceiling of an ejection. Default 300 s, or the base if longer.
    pub max_ejection_time: Duration,
    /// Percent of the endpoints, 0 to 100; at least one endpoint may go, never the last.
    pub max_ejection_percent: u32,
    /// Below this percentage of healthy endpoints health is ignored (panic). 0: never.
    pub min_health_percent: u32,
}

fn limit(value: u32) -> u32 {
    if value == 0 { UNLIMITED } else { value }
}

fn percent(field: &str, value: u32) -> Result<u32, Invalid> {
    if value > 100 {
        Err(Invalid::new(field, format!("{value} is more than 100 percent")))
    } else {
        Ok(value)
    }
}

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            max_connections: UNLIMITED,
            max_pending_requests: UNLIMITED,
            max_requests: UNLIMITED,
            max_retries: None,
            max_requests_per_connection: UNLIMITED,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3600),
            tcp_idle_timeout: Duration::from_secs(3600),
        }
    }
}

impl TryFrom<mesh::ConnectionPool> for ConnectionPool {
    type Error = Invalid;

    fn try_from(wire: mesh::ConnectionPool) -> Result<Self, Invalid> {
        let default = Self::default();
        Ok(Self {
            max_connections: limit(wire.max_connections),
            max_pending_requests: limit(wire.max_pending_requests),
            max_requests: limit(wire.max_requests),
            max_retries: (wire.max_retries != 0).then_some(wire.max_retries),
            max_requests_per_connection: limit(wire.max_requests_per_connection),
            connect_timeout: duration("connect_timeout", wire.connect_timeout)?.unwrap_or(default.connect_timeout),
            idle_timeout: duration("idle_timeout", wire.idle_timeout)?.unwrap_or(default.idle_timeout),
            tcp_idle_timeout: duration("tcp_idle_timeout", wire.tcp_idle_timeout)?.unwrap_or(default.tcp_idle_timeout),
        })
    }
}

impl TryFrom<mesh::OutlierDetection> for OutlierDetection {
    type Error = Invalid;

    fn try_from(wire: mesh::OutlierDetection) -> Result<Self, Invalid> {
        let threshold = |value: u32| (value != 0).then_some(value);
        let base = duration("base_ejection_time", wire.base_ejection_time)?.unwrap_or(Duration::from_secs(30));
        let max_ejection_time = duration("max_ejection_time", wire.max_ejection_time)?;
        if max_ejection_time.is_some_and(|max| max < base) {
            return Err(Invalid::new("max_ejection_time", "shorter than base_ejection_time"));
        }
        Ok(Self {
            consecutive_5xx: threshold(wire.consecutive_5xx),
            consecutive_gateway_errors: threshold(wire.consecutive_gateway_errors),
            split_local_origin_errors: wire.split_local_origin_errors,
            consecutive_local_origin_failures: threshold(wire.consecutive_local_origin_failures),
            interval: duration("interval", wire.interval)?.unwrap_or(Duration::from_secs(10)),
            base_ejection_time: base,
            max_ejection_time: max_ejection_time.unwrap_or(base.max(Duration::from_secs(300))),
            max_ejection_percent: percent("max_ejection_percent", wire.max_ejection_percent)?,
            min_health_percent: percent("min_health_percent", wire.min_health_percent)?,
        })
    }
}

impl TryFrom<mesh::Cluster> for Cluster {
    type Error = Invalid;

    fn try_from(wire: mesh::Cluster) -> Result<Self, Invalid> {
        let protocol = Protocol::from(wire.protocol());
        let load_balancer = match wire.load_balancer() {
            mesh::LoadBalancer::LeastRequest => LoadBalancer::LeastRequest,
            mesh::LoadBalancer::RoundRobin => LoadBalancer::RoundRobin,
            mesh::LoadBalancer::Random => LoadBalancer::Random,
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
            labels: wire.labels.into_iter().map(|label| (label.key, label.value)).collect(),
            protocol,
            connection_pool: wire
                .connection_pool
                .unwrap_or_default()
                .try_into()
                .map_err(|error: Invalid| error.within("connection_pool"))?,
            load_balancer,
            outlier_detection: wire
                .outlier_detection
                .map(OutlierDetection::try_from)
                .transpose()
                .map_err(|error| error.within("outlier_detection"))?,
        })
    }
}
