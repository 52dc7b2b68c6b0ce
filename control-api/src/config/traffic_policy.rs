//! A DestinationRule's traffic policy: limits, balancing and outlier detection, with Istio's defaults filled in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::read::{Field, Fields};
use super::scalar::shown;

/// Blocks that are absent here are inherited by a subset, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    pub connection_pool: Option<ConnectionPool>,
    pub load_balancer: Option<LoadBalancer>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTls>,
    pub proxy_protocol: Option<ProxyProtocol>,
    pub retry_budget: Option<RetryBudget>,
    /// `portLevelSettings` by port: of such a port only these blocks count, and those above are not inherited.
    pub port_level: BTreeMap<u16, PortPolicy>,
}

/// What is said for one port. A block that is absent has its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortPolicy {
    pub connection_pool: Option<ConnectionPool>,
    pub load_balancer: Option<LoadBalancer>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTls>,
}

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
    /// `http.idleTimeout`, else `tcp.idleTimeout`.
    pub idle_timeout: Option<Duration>,
    /// `tcp.idleTimeout`.
    pub tcp_idle_timeout: Option<Duration>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancer {
    pub algorithm: Algorithm,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub enum Algorithm {
    #[default]
    LeastRequest,
    RoundRobin,
    Random,
}

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientTls {}

/// `proxyProtocol.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// `retryBudget`, with Istio's defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests in flight, 0 to 100. Default 20.
    pub percent: f64,
    /// Default 3.
    pub min_retry_concurrency: u32,
    /// `budgetInterval`: new requests of this time count, too. Default none.
    pub interval: Option<Duration>,
}

/// `outlierDetection`, with Istio's defaults filled in. A count of 0 is off.
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierDetection {
    /// `consecutive5xxErrors`, else the old `consecutiveErrors`. Default 5.
    pub consecutive_5xx: u32,
    /// `consecutiveGatewayErrors`. Default off.
    pub consecutive_gateway_errors: u32,
    /// `splitExternalLocalOriginErrors`. Default false.
    pub split_local_origin_errors: bool,
    /// `consecutiveLocalOriginFailures`. Default 5, off unless split.
    pub consecutive_local_origin_failures: u32,
    /// Default 10 s.
    pub interval: Duration,
    /// Default 30 s.
    pub base_ejection_time: Duration,
    /// 1 to 100. Default 10.
    pub max_ejection_percent: u32,
    /// 0 to 100. Default 0: health is never ignored.
    pub min_health_percent: u32,
}

pub(super) const POLICY: Fields = Fields {
    supported: &["connectionPool", "loadBalancer", "outlierDetection"],
    later: &["tls", "portLevelSettings", "tunnel", "proxyProtocol", "retryBudget"],
};
const POOL: Fields = Fields {
    supported: &["tcp", "http"],
    later: &[],
};
const TCP: Fields = Fields {
    supported: &["maxConnections", "connectTimeout", "idleTimeout"],
    later: &["tcpKeepalive", "maxConnectionDuration"],
};
const HTTP: Fields = Fields {
    supported: &[
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "idleTimeout",
    ],
    later: &["h2UpgradePolicy", "useClientProtocol", "maxConcurrentStreams"],
};
const BALANCER: Fields = Fields {
    supported: &["simple"],
    later: &["consistentHash", "localityLbSetting", "warmupDurationSecs", "warmup"],
};
const OUTLIER: Fields = Fields {
    supported: &[
        "consecutiveErrors",
        "consecutive5xxErrors",
        "consecutiveGatewayErrors",
        "splitExternalLocalOriginErrors",
        "consecutiveLocalOriginFailures",
        "interval",
        "baseEjectionTime",
        "maxEjectionPercent",
        "minHealthPercent",
    ],
    later: &["outlierDetectionHttpErrorCodes"],
};

/// Istio's, and Envoy's, number of consecutive errors.
const CONSECUTIVE_ERRORS: u32 = 5;
const INTERVAL: Duration = Duration::from_secs(10);
const BASE_EJECTION_TIME: Duration = Duration::from_secs(30);
const MAX_EJECTION_PERCENT: u32 = 10;

pub(super) fn read(field: &Field<'_>) -> TrafficPolicy {
    let inner = [
        ("connectionPool", &POOL),
        ("loadBalancer", &BALANCER),
        ("outlierDetection", &OUTLIER),
    ];
    if !field.is_message_around(&POLICY, &inner) {
        return TrafficPolicy::default();
    }
    TrafficPolicy {
        connection_pool: field.get("connectionPool").map(|block| connection_pool(&block)),
        load_balancer: field.get("loadBalancer").map(|block| load_balancer(&block)),
        outlier_detection: field.get("outlierDetection").map(|block| outlier_detection(&block)),
        ..TrafficPolicy::default()
    }
}

fn count(block: &Field<'_>, name: &str) -> Option<u32> {
    block.get(name).and_then(|field| field.count())
}

fn time(block: &Field<'_>, name: &str) -> Option<Duration> {
    block.get(name).and_then(|field| field.positive_duration())
}

/// In Istio zero keeps idle connections for good.
fn idle_time(block: &Field<'_>) -> Option<Duration> {
    let field = block.get("idleTimeout")?;
    let time = field.duration();
    if time.is_none() && field.is_zero_duration() {
        field.not_supported_yet("0s, which keeps idle connections for good");
    }
    time
}

/// Of a DestinationRule, and `inboundConnectionPool` of a Sidecar.
pub(super) fn connection_pool(block: &Field<'_>) -> ConnectionPool {
    let mut pool = ConnectionPool::default();
    if !block.is_message_around(&POOL, &[("tcp", &TCP), ("http", &HTTP)]) {
        return pool;
    }
    if let Some(tcp) = block.get("tcp").filter(|tcp| tcp.is_message(&TCP)) {
        pool.max_connections = count(&tcp, "maxConnections").unwrap_or_default();
        pool.connect_timeout = time(&tcp, "connectTimeout");
        pool.tcp_idle_timeout = idle_time(&tcp);
        pool.idle_timeout = pool.tcp_idle_timeout;
    }
    if let Some(http) = block.get("http").filter(|http| http.is_message(&HTTP)) {
        pool.max_pending_requests = count(&http, "http1MaxPendingRequests").unwrap_or_default();
        pool.max_requests = count(&http, "http2MaxRequests").unwrap_or_default();
        pool.max_requests_per_connection = count(&http, "maxRequestsPerConnection").unwrap_or_default();
        pool.max_retries = count(&http, "maxRetries").unwrap_or_default();
        pool.idle_timeout = idle_time(&http).or(pool.idle_timeout);
    }
    pool
}

fn load_balancer(block: &Field<'_>) -> LoadBalancer {
    LoadBalancer {
        algorithm: algorithm(block),
    }
}

fn algorithm(block: &Field<'_>) -> Algorithm {
    let simple = if block.is_message(&BALANCER) {
        block.get("simple")
    } else {
        None
    };
    let Some(field) = simple else {
        return Algorithm::LeastRequest;
    };
    match field.text() {
        Some("ROUND_ROBIN") => return Algorithm::RoundRobin,
        Some("RANDOM") => return Algorithm::Random,
        None | Some("LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED") => {}
        Some(later @ ("PASSTHROUGH" | "RING_HASH" | "MAGLEV")) => field.not_supported_yet(later),
        Some(other) => {
            field.refuse(format!(
                "{} is neither LEAST_REQUEST, ROUND_ROBIN nor RANDOM",
                shown(other)
            ));
        }
    }
    Algorithm::LeastRequest
}

fn outlier_detection(block: &Field<'_>) -> OutlierDetection {
    let readable = block.is_message(&OUTLIER);
    let count = |name| count(block, name).filter(|_| readable);
    let time = |name| time(block, name).filter(|_| readable);
    let percent = |name| {
        let field = block.get(name).filter(|_| readable)?;
        field.number(0, 100).and_then(|percent| u32::try_from(percent).ok())
    };
    let split = block
        .get("splitExternalLocalOriginErrors")
        .and_then(|field| field.flag())
        .unwrap_or(false);
    let local = count("consecutiveLocalOriginFailures").filter(|count| *count > 0);
    if local.is_some() && !split {
        block.refuse_at(
            "consecutiveLocalOriginFailures",
            "has no effect unless splitExternalLocalOriginErrors is true",
        );
    }
    OutlierDetection {
        // Zero in the old field is not set; in the new one it is off.
        consecutive_5xx: count("consecutive5xxErrors")
            .or(count("consecutiveErrors").filter(|count| *count > 0))
            .unwrap_or(CONSECUTIVE_ERRORS),
        consecutive_gateway_errors: count("consecutiveGatewayErrors").unwrap_or(0),
        split_local_origin_errors: split,
        consecutive_local_origin_failures: if split { local.unwrap_or(CONSECUTIVE_ERRORS) } else { 0 },
        interval: time("interval").unwrap_or(INTERVAL),
        base_ejection_time: time("baseEjectionTime").unwrap_or(BASE_EJECTION_TIME),
        max_ejection_percent: percent("maxEjectionPercent")
            .filter(|p| *p > 0)
            .unwrap_or(MAX_EJECTION_PERCENT),
        min_health_percent: percent("minHealthPercent").unwrap_or(0),
    }
}
