//! `connectionPool`: the limits of a host's connections and requests, and how connections to it are kept. Checked as Istio
//! checks it (validation.go: validateConnectionPool). Read for a DestinationRule and for `inboundConnectionPool` of a
//! Sidecar.

use std::time::Duration;

use tsunagi_proto::model::{H2UpgradePolicy, Http2Keepalive, TcpKeepalive};

use super::read::{Field, Fields};

/// `connectionPool`. Zero and `None`: not set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConnectionPool {
    /// `tcp.maxConnections`.
    pub max_connections: u32,
    /// `http.http1MaxPendingRequests`.
    pub max_pending_requests: u32,
    /// `http.http2MaxRequests`.
    pub max_requests: u32,
    /// `http.maxRetries`.
    pub max_retries: u32,
    /// `http.maxRequestsPerConnection`.
    pub max_requests_per_connection: u32,
    /// `tcp.connectTimeout`.
    pub connect_timeout: Option<Duration>,
    /// `http.idleTimeout`, else `tcp.idleTimeout`. Zero: for good.
    pub idle_timeout: Option<Duration>,
    /// `tcp.idleTimeout`. Zero: for good.
    pub tcp_idle_timeout: Option<Duration>,
    /// `tcp.maxConnectionDuration`.
    pub max_connection_duration: Option<Duration>,
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `http.h2UpgradePolicy`.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// `http.useClientProtocol`.
    pub use_client_protocol: bool,
    /// `http.maxConcurrentStreams`.
    pub max_concurrent_streams: u32,
    /// `http.http2KeepAlive`.
    pub http2_keepalive: Option<Http2Keepalive>,
}

pub(super) const POOL: Fields = Fields {
    supported: &["tcp", "http"],
    later: &[],
};
pub(super) const TCP: Fields = Fields {
    supported: &[
        "maxConnections",
        "connectTimeout",
        "idleTimeout",
        "maxConnectionDuration",
        "tcpKeepalive",
    ],
    later: &[],
};
pub(super) const KEEPALIVE: Fields = Fields {
    supported: &["probes", "time", "interval"],
    later: &[],
};
pub(super) const HTTP: Fields = Fields {
    supported: &[
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "idleTimeout",
        "h2UpgradePolicy",
        "useClientProtocol",
        "maxConcurrentStreams",
        "http2KeepAlive",
    ],
    later: &[],
};
const HTTP2_KEEPALIVE: Fields = Fields {
    supported: &["interval", "timeout"],
    later: &[],
};

/// What Linux takes for a socket (`MAX_TCP_KEEPCNT`, `MAX_TCP_KEEPIDLE`): with more no connection would be made.
const MOST_PROBES: i64 = 127;
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(32_767);

pub(super) fn read(block: &Field<'_>) -> ConnectionPool {
    let mut pool = ConnectionPool::default();
    if !block.is_message_around(&POOL, &[("tcp", &TCP), ("http", &HTTP)]) {
        return pool;
    }
    if block.says_nothing() {
        block.refuse("must have at least one of tcp and http");
    }
    if let Some(tcp) = block.get("tcp") {
        read_tcp(&tcp, &mut pool);
    }
    if let Some(http) = block.get("http") {
        read_http(&http, &mut pool);
    }
    pool
}

fn read_tcp(tcp: &Field<'_>, pool: &mut ConnectionPool) {
    if !tcp.is_message_around(&TCP, &[("tcpKeepalive", &KEEPALIVE)]) {
        return;
    }
    pool.max_connections = count(tcp, "maxConnections");
    pool.connect_timeout = time(tcp, "connectTimeout");
    pool.tcp_idle_timeout = idle_time(tcp);
    pool.idle_timeout = pool.tcp_idle_timeout;
    pool.max_connection_duration = time(tcp, "maxConnectionDuration");
    pool.tcp_keepalive = tcp.get("tcpKeepalive").map(|block| tcp_keepalive(&block));
}

fn read_http(http: &Field<'_>, pool: &mut ConnectionPool) {
    if !http.is_message_around(&HTTP, &[("http2KeepAlive", &HTTP2_KEEPALIVE)]) {
        return;
    }
    pool.max_pending_requests = count(http, "http1MaxPendingRequests");
    pool.max_requests = count(http, "http2MaxRequests");
    pool.max_requests_per_connection = count(http, "maxRequestsPerConnection");
    pool.max_retries = count(http, "maxRetries");
    pool.idle_timeout = idle_time(http).or(pool.idle_timeout);
    pool.max_concurrent_streams = count(http, "maxConcurrentStreams");
    pool.http2_keepalive = http.get("http2KeepAlive").and_then(|block| http2_keepalive(&block));
    pool.use_client_protocol = http
        .get("useClientProtocol")
        .and_then(|field| field.flag())
        .unwrap_or(false);
    let policy = http
        .get("h2UpgradePolicy")
        .and_then(|field| field.one_of(&["DEFAULT", "DO_NOT_UPGRADE", "UPGRADE"]));
    pool.h2_upgrade_policy = match policy {
        Some("DO_NOT_UPGRADE") => H2UpgradePolicy::DoNotUpgrade,
        Some("UPGRADE") => H2UpgradePolicy::Upgrade,
        _ => H2UpgradePolicy::Default,
    };
    if pool.use_client_protocol && pool.h2_upgrade_policy == H2UpgradePolicy::Upgrade {
        http.refuse_at("useClientProtocol", "contradicts `h2UpgradePolicy: UPGRADE`");
    }
}

fn count(block: &Field<'_>, name: &str) -> u32 {
    block.get(name).and_then(|field| field.count()).unwrap_or_default()
}

fn time(block: &Field<'_>, name: &str) -> Option<Duration> {
    block.get(name).and_then(|field| field.positive_duration())
}

/// Zero keeps idle connections for good.
fn idle_time(block: &Field<'_>) -> Option<Duration> {
    let field = block.get("idleTimeout")?;
    if field.is_zero_duration() {
        return Some(Duration::ZERO);
    }
    field.duration()
}

fn tcp_keepalive(block: &Field<'_>) -> TcpKeepalive {
    if !block.is_message(&KEEPALIVE) {
        return TcpKeepalive::default();
    }
    let probes = block.get("probes").and_then(|field| field.number(0, MOST_PROBES));
    let time = |name| {
        let field = block.get(name)?;
        let time = field.positive_duration()?;
        if time > LONGEST_KEEPALIVE {
            field.refuse(format!("must not be longer than {} s", LONGEST_KEEPALIVE.as_secs()));
        }
        Some(time)
    };
    TcpKeepalive {
        probes: probes
            .and_then(|probes| u32::try_from(probes).ok())
            .filter(|probes| *probes > 0),
        time: time("time"),
        interval: time("interval"),
    }
}

fn http2_keepalive(block: &Field<'_>) -> Option<Http2Keepalive> {
    if !block.is_message(&HTTP2_KEEPALIVE) {
        return None;
    }
    let time = |name| block.required(name).and_then(|field| field.positive_duration());
    let (interval, timeout) = (time("interval"), time("timeout"));
    Some(Http2Keepalive {
        interval: interval?,
        timeout: timeout?,
    })
}
