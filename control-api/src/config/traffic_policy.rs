//! A DestinationRule's traffic policy: how a host, a subset or a port is called, block by block (each block has a room
//! of its own). Checked as Istio checks it (validation.go: validateTrafficPolicy, validatePortTrafficPolicies).
//! Called by `destination_rule`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use tsunagi_proto::model::{ProxyProtocol, RetryBudget};

use super::read::{Field, Fields, Places};
use super::{
    About, ClientTls, ConnectionPool, LoadBalancer, OutlierDetection, client_tls, connection_pool, load_balancer,
    locality, outlier_detection,
};

/// Blocks that are absent here are inherited by a subset, whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrafficPolicy {
    pub connection_pool: Option<ConnectionPool>,
    pub load_balancer: Option<LoadBalancer>,
    pub outlier_detection: Option<OutlierDetection>,
    pub tls: Option<ClientTls>,
    /// `proxyProtocol.version`.
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

pub(super) const POLICY: Fields = Fields {
    supported: &[
        "connectionPool",
        "loadBalancer",
        "outlierDetection",
        "tls",
        "portLevelSettings",
        "proxyProtocol",
        "retryBudget",
    ],
    later: &["tunnel"],
};
const PORT_POLICY: Fields = Fields {
    supported: &["port", "connectionPool", "loadBalancer", "outlierDetection", "tls"],
    later: &[],
};
const PORT: Fields = Fields {
    supported: &["number"],
    later: &[],
};
const PROXY_PROTOCOL: Fields = Fields {
    supported: &["version"],
    later: &[],
};
const RETRY_BUDGET: Fields = Fields {
    supported: &["percent", "minRetryConcurrency", "budgetInterval"],
    later: &[],
};
/// Where a field belongs that stands beside the blocks.
const BLOCKS: [(&str, &Fields); 4] = [
    ("connectionPool", &connection_pool::POOL),
    ("loadBalancer", &load_balancer::BALANCER),
    ("outlierDetection", &outlier_detection::OUTLIER),
    ("tls", &client_tls::TLS),
];

/// The same, all the way down.
pub(super) const PLACES: Places = &[
    ("trafficPolicy", &POLICY),
    ("trafficPolicy.connectionPool", &connection_pool::POOL),
    ("trafficPolicy.connectionPool.tcp", &connection_pool::TCP),
    (
        "trafficPolicy.connectionPool.tcp.tcpKeepalive",
        &connection_pool::KEEPALIVE,
    ),
    ("trafficPolicy.connectionPool.http", &connection_pool::HTTP),
    ("trafficPolicy.loadBalancer", &load_balancer::BALANCER),
    ("trafficPolicy.loadBalancer.consistentHash", &load_balancer::HASH),
    ("trafficPolicy.loadBalancer.localityLbSetting", &locality::LOCALITY),
    ("trafficPolicy.loadBalancer.warmup", &load_balancer::WARMUP),
    ("trafficPolicy.outlierDetection", &outlier_detection::OUTLIER),
    ("trafficPolicy.tls", &client_tls::TLS),
    ("trafficPolicy.proxyProtocol", &PROXY_PROTOCOL),
    ("trafficPolicy.retryBudget", &RETRY_BUDGET),
];

/// Istio's, and the API's, greatest number of them.
const MOST_PORTS: usize = 4096;
/// Istio's defaults of `retryBudget`; a concurrency of 0 means its default, too.
const BUDGET_PERCENT: f64 = 20.0;
const BUDGET_CONCURRENCY: u32 = 3;

pub(super) fn read(field: &Field<'_>) -> TrafficPolicy {
    if !field.is_message_around(&POLICY, &BLOCKS) {
        return TrafficPolicy::default();
    }
    if field.says_nothing() {
        field.refuse("must have at least one field");
    }
    let PortPolicy {
        connection_pool,
        load_balancer,
        outlier_detection,
        tls,
    } = blocks(field);
    TrafficPolicy {
        connection_pool,
        load_balancer,
        outlier_detection,
        tls,
        proxy_protocol: field.get("proxyProtocol").and_then(|block| proxy_protocol(&block)),
        retry_budget: field.get("retryBudget").map(|block| retry_budget(&block)),
        port_level: field
            .get("portLevelSettings")
            .map(|list| port_level(&list))
            .unwrap_or_default(),
    }
}

/// What a port has of its own, or all ports have.
fn blocks(field: &Field<'_>) -> PortPolicy {
    PortPolicy {
        connection_pool: field.get("connectionPool").map(|block| connection_pool::read(&block)),
        load_balancer: field.get("loadBalancer").map(|block| load_balancer::read(&block)),
        outlier_detection: field
            .get("outlierDetection")
            .map(|block| outlier_detection::read(&block)),
        tls: field.get("tls").map(|block| client_tls::read(&block)),
    }
}

fn port_level(list: &Field<'_>) -> BTreeMap<u16, PortPolicy> {
    let items = list.items();
    if items.len() > MOST_PORTS {
        list.refuse(format!("{} ports, more than {MOST_PORTS}", items.len()));
        return BTreeMap::new();
    }
    let mut ports = BTreeMap::new();
    for item in &items {
        if !item.is_message_around(&PORT_POLICY, &BLOCKS) {
            continue;
        }
        let policy = blocks(item);
        if policy == PortPolicy::default() && PORT_POLICY.supported[1..].iter().all(|name| item.get(name).is_none()) {
            item.refuse("must have at least one field beside `port`");
        }
        let number = item.required("port").and_then(|port| port_number(&port));
        let Some(number) = number else { continue };
        // As in Istio.
        match ports.entry(number) {
            Entry::Vacant(first) => drop(first.insert(policy)),
            Entry::Occupied(_) => {
                let what = format!("{number} is there already: the first is in force, this one is not");
                item.remark_at("port", About::PortTwice, what);
            }
        }
    }
    ports
}

fn port_number(port: &Field<'_>) -> Option<u16> {
    if !port.is_message(&PORT) {
        return None;
    }
    port.required("number")?.port()
}

fn proxy_protocol(block: &Field<'_>) -> Option<ProxyProtocol> {
    if !block.is_message(&PROXY_PROTOCOL) {
        return None;
    }
    let Some(version) = block.get("version") else {
        return Some(ProxyProtocol::V1);
    };
    match version.one_of(&["V1", "V2"])? {
        "V2" => Some(ProxyProtocol::V2),
        _ => Some(ProxyProtocol::V1),
    }
}

fn retry_budget(block: &Field<'_>) -> RetryBudget {
    let readable = block.is_message(&RETRY_BUDGET);
    let get = |name| block.get(name).filter(|_| readable);
    RetryBudget {
        percent: get("percent")
            .and_then(|field| field.decimal(0.0, 100.0))
            .unwrap_or(BUDGET_PERCENT),
        min_retry_concurrency: get("minRetryConcurrency")
            .and_then(|field| field.unsigned())
            .filter(|count| *count > 0)
            .unwrap_or(BUDGET_CONCURRENCY),
        interval: get("budgetInterval").and_then(|field| field.duration()),
    }
}
