//! The limits of a cluster's connections and requests, and how connections to it are kept: DestinationRule
//! `connectionPool`.

use std::time::Duration;

use super::{Invalid, duration};
use crate::wire::mesh;

/// A limit that is not set. Istio raises Envoy's 1024 to the same.
pub const UNLIMITED: u32 = u32::MAX;

/// A time that never comes.
pub const FOREVER: Duration = Duration::MAX;

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
    /// `http.idleTimeout`, else `tcp.idleTimeout`: how long an unused connection is kept. Default 1 h; [`FOREVER`].
    pub idle_timeout: Duration,
    /// `tcp.idleTimeout`: how long a TCP connection is kept while nothing passes. Default 1 h; [`FOREVER`].
    pub tcp_idle_timeout: Duration,
    /// `tcp.maxConnectionDuration`. Default [`FOREVER`].
    pub max_connection_duration: Duration,
    /// `tcp.tcpKeepalive`. `None`: Tsunagi's own.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `http.h2UpgradePolicy`.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// `http.useClientProtocol`; `h2_upgrade_policy` does not count then.
    pub use_client_protocol: bool,
    /// `http.maxConcurrentStreams`: of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// `http.http2KeepAlive`. `None`: no PINGs.
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// `None`: as the system has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Unanswered ones until the connection is over.
    pub probes: Option<u32>,
    /// Nothing has passed for so long until the first.
    pub time: Option<Duration>,
    pub interval: Option<Duration>,
}

/// Is HTTP/2 spoken to an endpoint whose port says HTTP/1.1 or nothing?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum H2UpgradePolicy {
    /// Only where TLS lets both choose.
    #[default]
    Default,
    DoNotUpgrade,
    /// By prior knowledge.
    Upgrade,
}

/// A PING after each interval; without an answer within the timeout the connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2Keepalive {
    pub interval: Duration,
    pub timeout: Duration,
}

fn limit(value: u32) -> u32 {
    if value == 0 { UNLIMITED } else { value }
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
            max_connection_duration: FOREVER,
            tcp_keepalive: None,
            h2_upgrade_policy: H2UpgradePolicy::Default,
            use_client_protocol: false,
            max_concurrent_streams: UNLIMITED,
            http2_keepalive: None,
        }
    }
}

impl TryFrom<mesh::ConnectionPool> for ConnectionPool {
    type Error = Invalid;

    fn try_from(wire: mesh::ConnectionPool) -> Result<Self, Invalid> {
        let default = Self::default();
        let h2_upgrade_policy = match wire.h2_upgrade_policy() {
            mesh::H2UpgradePolicy::Default => H2UpgradePolicy::Default,
            mesh::H2UpgradePolicy::DoNotUpgrade => H2UpgradePolicy::DoNotUpgrade,
            mesh::H2UpgradePolicy::Upgrade => H2UpgradePolicy::Upgrade,
        };
        Ok(Self {
            max_connections: limit(wire.max_connections),
            max_pending_requests: limit(wire.max_pending_requests),
            max_requests: limit(wire.max_requests),
            max_retries: (wire.max_retries != 0).then_some(wire.max_retries),
            max_requests_per_connection: limit(wire.max_requests_per_connection),
            connect_timeout: duration("connect_timeout", wire.connect_timeout)?.unwrap_or(default.connect_timeout),
            idle_timeout: idle("idle_timeout", wire.idle_timeout, default.idle_timeout)?,
            tcp_idle_timeout: idle("tcp_idle_timeout", wire.tcp_idle_timeout, default.tcp_idle_timeout)?,
            max_connection_duration: duration("max_connection_duration", wire.max_connection_duration)?
                .unwrap_or(FOREVER),
            tcp_keepalive: wire
                .tcp_keepalive
                .map(TcpKeepalive::try_from)
                .transpose()
                .map_err(|error| error.within("tcp_keepalive"))?,
            h2_upgrade_policy,
            use_client_protocol: wire.use_client_protocol,
            max_concurrent_streams: limit(wire.max_concurrent_streams),
            http2_keepalive: wire
                .http2_keepalive
                .map(Http2Keepalive::try_from)
                .transpose()
                .map_err(|error| error.within("http2_keepalive"))?,
        })
    }
}

/// Zero is said, and means for good.
fn idle(field: &str, wire: Option<prost_types::Duration>, default: Duration) -> Result<Duration, Invalid> {
    let unset = if wire.is_some() { FOREVER } else { default };
    Ok(duration(field, wire)?.unwrap_or(unset))
}

impl TryFrom<mesh::TcpKeepalive> for TcpKeepalive {
    type Error = Invalid;

    fn try_from(wire: mesh::TcpKeepalive) -> Result<Self, Invalid> {
        Ok(Self {
            probes: (wire.probes != 0).then_some(wire.probes),
            time: duration("time", wire.time)?,
            interval: duration("interval", wire.interval)?,
        })
    }
}

impl TryFrom<mesh::Http2Keepalive> for Http2Keepalive {
    type Error = Invalid;

    fn try_from(wire: mesh::Http2Keepalive) -> Result<Self, Invalid> {
        let required = |field, wire| duration(field, wire)?.ok_or_else(|| Invalid::new(field, "must be set"));
        Ok(Self {
            interval: required("interval", wire.interval)?,
            timeout: required("timeout", wire.timeout)?,
        })
    }
}
