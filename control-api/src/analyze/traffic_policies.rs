//! What a policy of a DestinationRule really says: of the host, of a subset, of a port of either. What is lost because a
//! block or a port stands in the place of others, and settings that cannot act or act otherwise than they read.

use std::collections::BTreeMap;

use serde_json::Value;
use tsunagi_proto::model::H2UpgradePolicy;

use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity, client_tls, failover};
use crate::config::{
    Algorithm, ConnectionPool, DestinationRule, Document, LoadBalancer, LocalitySetting, PortPolicy, Protocol,
    ServicePort, TlsMode, TrafficPolicy,
};
use crate::snapshot::at_port;

const LOST: Check = ("TSU-POLICY-REPLACED", Severity::Warning);
const PORT: Check = ("TSU-PORT", Severity::Warning);
pub(super) const OUTLIER: Check = ("TSU-OUTLIER", Severity::Info);
const POOL: Check = ("TSU-POOL", Severity::Info);
const INERT: Check = ("TSU-LOCALITY-INERT", Severity::Warning);
const WARMUP: Check = ("TSU-WARMUP", Severity::Warning);
const HASH: Check = ("TSU-HASH", Severity::Info);

type Labels = BTreeMap<String, String>;

/// What is written in one place, and what is in force by it.
pub(super) struct Place<'a> {
    /// `spec.trafficPolicy.portLevelSettings[0]`.
    pub field: String,
    pub own: PortPolicy,
    /// At each of its ports; not empty.
    pub in_force: Vec<TrafficPolicy>,
    /// Of the service; none: they are not known.
    pub ports: Vec<&'a ServicePort>,
    /// The one port that it is for; none: all but those that are apart.
    only: Option<u16>,
    apart: Vec<u16>,
    /// That its endpoints have.
    pub labels: &'a Labels,
}

impl Place<'_> {
    pub fn is_of_port(&self, port: u16) -> bool {
        match self.only {
            Some(only) => only == port,
            None => !self.apart.contains(&port),
        }
    }

    /// Wherever it is in force.
    fn everywhere(&self, holds: impl Fn(&TrafficPolicy) -> bool) -> bool {
        self.in_force.iter().all(holds)
    }
}

/// A policy where it is written.
struct Written<'a> {
    /// The host's, of a subset.
    above: Option<&'a TrafficPolicy>,
    own: &'a TrafficPolicy,
    /// The subset's.
    labels: &'a Labels,
}

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    let top = rule.policy.as_ref();
    if let Some(own) = top {
        let (above, labels) = (None, &Labels::new());
        let written = Written { above, own, labels };
        whole(findings, document, rule, "spec.trafficPolicy", &written);
    }
    for (index, subset) in rule.subsets.iter().enumerate() {
        let Some(own) = &subset.policy else { continue };
        let field = format!("spec.subsets[{index}].trafficPolicy");
        if let Some(top) = top {
            replaced(findings, document, &field, own, top);
        }
        let written = Written {
            above: top,
            own,
            labels: &subset.labels,
        };
        whole(findings, document, rule, &field, &written);
    }
}

/// One policy with those of its ports.
fn whole(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, field: &str, written: &Written<'_>) {
    let Written { above, own, labels } = *written;
    let service = findings.mesh.service(&rule.host);
    let known = service.map(|service| service.ports()).unwrap_or_default();
    let at = |port| match above {
        Some(above) => at_port(Some(above), Some(own), port),
        None => at_port(Some(own), None, port),
    };
    // Of ports that are not known, or have all settings of their own, there is none in particular.
    let in_force = |ports: &[&ServicePort], otherwise: u16| match ports {
        [] => vec![at(otherwise)],
        ports => ports.iter().map(|port| at(port.number)).collect(),
    };
    let beside: Vec<&ServicePort> = known
        .iter()
        .copied()
        .filter(|port| !own.port_level.contains_key(&port.number))
        .collect();
    let mut places = vec![Place {
        field: field.to_owned(),
        own: PortPolicy {
            connection_pool: own.connection_pool.clone(),
            load_balancer: own.load_balancer.clone(),
            outlier_detection: own.outlier_detection.clone(),
            tls: own.tls.clone(),
        },
        in_force: in_force(&beside, 0),
        ports: beside,
        only: None,
        apart: own.port_level.keys().copied().collect(),
        labels,
    }];
    for (number, policy) in &own.port_level {
        let field = format!("{field}.portLevelSettings{}", index_of(document, field, *number));
        let ports: Vec<&ServicePort> = known.iter().copied().filter(|port| port.number == *number).collect();
        if ports.is_empty() && !known.is_empty() {
            let numbers: Vec<String> = known.iter().map(|port| port.number.to_string()).collect();
            let what = format!("{} has no port {number}: nothing follows this", rule.host);
            let instead = format!("the port of the service, not of its pods: {}", listed(&numbers));
            findings.add(PORT, document, format!("{field}.port"), what, instead);
        }
        of_port(findings, document, &field, *number, policy, own);
        places.push(Place {
            field,
            own: policy.clone(),
            in_force: in_force(&ports, *number),
            ports,
            only: Some(*number),
            apart: Vec::new(),
            labels,
        });
    }
    for place in &places {
        balancing(findings, document, rule, place);
        outliers(findings, document, rule, place);
        pools(findings, document, place);
        client_tls::check(findings, document, rule, place);
    }
}

/// `[2]`, where the settings of the port are written.
fn index_of(document: &Document, field: &str, port: u16) -> String {
    let pointer = format!("/{}/portLevelSettings", field.replace(['.', '['], "/").replace(']', ""));
    let list = document.object.pointer(&pointer).and_then(Value::as_array);
    let mut list = list.into_iter().flatten();
    let index = list.position(|item| item["port"]["number"] == u64::from(port));
    index.map(|index| format!("[{index}]")).unwrap_or_default()
}

/// Settings of a port stand in the place of all that is said beside them.
fn of_port(
    findings: &mut Findings<'_>,
    document: &Document,
    field: &str,
    number: u16,
    own: &PortPolicy,
    beside: &TrafficPolicy,
) {
    let blocks = [
        (
            "connectionPool",
            own.connection_pool.is_some(),
            beside.connection_pool.is_some(),
        ),
        (
            "loadBalancer",
            own.load_balancer.is_some(),
            beside.load_balancer.is_some(),
        ),
        (
            "outlierDetection",
            own.outlier_detection.is_some(),
            beside.outlier_detection.is_some(),
        ),
        ("tls", own.tls.is_some(), beside.tls.is_some()),
        ("proxyProtocol", false, beside.proxy_protocol.is_some()),
        ("retryBudget", false, beside.retry_budget.is_some()),
    ];
    let lost = blocks.iter().filter(|(_, own, beside)| *beside && !own);
    let lost: Vec<&str> = lost.map(|(name, ..)| *name).collect();
    if !lost.is_empty() {
        let what = format!(
            "at port {number} nothing that is said beside it counts: {} is lost there",
            lost.join(", ")
        );
        let instead = "what is to be kept, here as well (proxyProtocol and retryBudget cannot be)";
        findings.add(LOST, document, field, what, instead);
    }
}

/// A block of a subset stands in the place of the whole block above it: what it does not say is not inherited.
fn replaced(findings: &mut Findings<'_>, document: &Document, field: &str, own: &TrafficPolicy, top: &TrafficPolicy) {
    if let (Some(own), Some(top)) = (&own.connection_pool, &top.connection_pool) {
        let limits = [
            ("tcp.maxConnections", own.max_connections, top.max_connections),
            (
                "http.http1MaxPendingRequests",
                own.max_pending_requests,
                top.max_pending_requests,
            ),
            ("http.http2MaxRequests", own.max_requests, top.max_requests),
            ("http.maxRetries", own.max_retries, top.max_retries),
            (
                "http.maxRequestsPerConnection",
                own.max_requests_per_connection,
                top.max_requests_per_connection,
            ),
            (
                "http.maxConcurrentStreams",
                own.max_concurrent_streams,
                top.max_concurrent_streams,
            ),
        ];
        let lost: Vec<&str> = limits
            .iter()
            .filter(|(_, own, top)| *own == 0 && *top != 0)
            .map(|(name, ..)| *name)
            .collect();
        if !lost.is_empty() {
            let what = format!(
                "replaces the whole block of spec.trafficPolicy: {} of it is lost for this subset",
                lost.join(", ")
            );
            let field = format!("{field}.connectionPool");
            findings.add(LOST, document, field, what, "these fields here as well");
        }
    }
    if own.outlier_detection.is_some() && top.outlier_detection.is_some() {
        let what = "replaces the whole block of spec.trafficPolicy: what it does not say has its default";
        let check = (LOST.0, Severity::Info);
        findings.add(check, document, format!("{field}.outlierDetection"), what, "");
    }
}

fn balancing(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, place: &Place<'_>) {
    let Some(balancer) = &place.own.load_balancer else {
        return;
    };
    let field = format!("{}.loadBalancer", place.field);
    if matches!(balancer.locality, Some(LocalitySetting::Failover(_)))
        && place.everywhere(|it| it.outlier_detection.is_none())
    {
        let what = "without outlierDetection nobody notices that the endpoints of a locality fail: there is no failover from one that is full of errors";
        let instead = format!("outlierDetection: {{}} in {}", place.field);
        findings.add(INERT, document, format!("{field}.localityLbSetting"), what, instead);
    }
    let name = match &balancer.algorithm {
        Algorithm::ConsistentHash(_) => "consistentHash",
        Algorithm::Random => "RANDOM",
        Algorithm::Passthrough => "PASSTHROUGH",
        Algorithm::LeastRequest | Algorithm::RoundRobin => "",
    };
    if balancer.warmup.is_some() && !name.is_empty() {
        let what = format!("has no effect with {name}: a new endpoint gets its whole share at once");
        let instead = "simple: LEAST_REQUEST or ROUND_ROBIN";
        findings.add(
            WARMUP,
            document,
            format!("{field}.{}", warmup(document, &field)),
            what,
            instead,
        );
    }
    hashing(findings, document, rule, place, balancer);
}

/// As it is written.
fn warmup(document: &Document, field: &str) -> &'static str {
    let pointer = format!("/{}/warmup", field.replace(['.', '['], "/").replace(']', ""));
    match document.object.pointer(&pointer) {
        Some(_) => "warmup",
        None => "warmupDurationSecs",
    }
}

/// Where equal keys do not go to the same endpoint after all.
fn hashing(
    findings: &mut Findings<'_>,
    document: &Document,
    rule: &DestinationRule,
    place: &Place<'_>,
    balancer: &LoadBalancer,
) {
    use tsunagi_proto::model::HashKey;
    let Algorithm::ConsistentHash(hash) = &balancer.algorithm else {
        return;
    };
    let field = format!("{}.loadBalancer.consistentHash", place.field);
    let is_http = |port: &&ServicePort| port.protocol.has_requests();
    if hash.key != HashKey::SourceAddress && !place.ports.is_empty() && !place.ports.iter().any(is_http) {
        let what = "no port of the service speaks HTTP: connections have no such key and go to any endpoint";
        let check = (HASH.0, Severity::Warning);
        findings.add(check, document, &*field, what, "useSourceIp: true");
    }
    let mesh = findings.mesh;
    let rules = mesh.virtual_services.iter().flat_map(|(_, it)| &it.http);
    let (mut split, mut retried) = (false, false);
    for http in rules {
        let alone = http.route.len() == 1;
        let reached = http.route.iter().filter(|to| alone || to.weight > 0);
        if reached.clone().any(|to| covers_host(&rule.host, &to.host)) {
            split |= reached.count() > 1;
            retried |= http.retries.as_ref().is_some_and(|retries| retries.attempts > 0);
        }
    }
    if split {
        let what = "a route splits requests by weight before they are hashed: equal keys go to the same endpoint only within each destination";
        let instead = "a match by the key in the VirtualService, if a user is to stay with a version";
        findings.add(HASH, document, &*field, what, instead);
    }
    if retried {
        let what = "a route here has retries: a request that is sent again goes to another endpoint than its key says";
        findings.add(
            HASH,
            document,
            &*field,
            what,
            "retries: {attempts: 0}, where only that endpoint can answer",
        );
    }
}

fn outliers(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, place: &Place<'_>) {
    let Some(outlier) = &place.own.outlier_detection else {
        return;
    };
    let field = format!("{}.outlierDetection", place.field);
    if outlier.consecutive_5xx == 0
        && outlier.consecutive_gateway_errors == 0
        && outlier.consecutive_local_origin_failures == 0
    {
        let what = "ejects nothing: every count is off";
        let check = (OUTLIER.0, Severity::Warning);
        findings.add(check, document, &*field, what, "consecutive5xxErrors: 5");
    }
    if outlier.consecutive_gateway_errors > 0 && outlier.consecutive_5xx == 5 {
        let what =
            "consecutiveGatewayErrors does not turn consecutive5xxErrors off: 5 errors of any kind eject as well";
        let at = format!("{field}.consecutiveGatewayErrors");
        let instead = "consecutive5xxErrors: 0, if only gateway errors are meant";
        findings.add(OUTLIER, document, at, what, instead);
    }
    if outlier.interval > outlier.base_ejection_time {
        let what = format!(
            "endpoints return only when an interval ends: after {:?}, not after {:?}",
            outlier.interval, outlier.base_ejection_time
        );
        let at = format!("{field}.interval");
        findings.add(OUTLIER, document, at, what, "an interval shorter than baseEjectionTime");
    }
    failover::ejected_share(findings, document, rule, outlier, (place, &field));
}

fn pools(findings: &mut Findings<'_>, document: &Document, place: &Place<'_>) {
    let Some(pool) = &place.own.connection_pool else {
        return;
    };
    let mut add = |(code, severity): Check, name: &str, what: &str, instead: &str| {
        let field = format!("{}.connectionPool.{name}", place.field);
        findings.add((code, severity), document, field, what, instead);
    };
    if pool.max_requests_per_connection == 1 {
        let what = "1 makes a new connection for every request";
        add(
            POOL,
            "http.maxRequestsPerConnection",
            what,
            "no value, to keep connections",
        );
    }
    if pool.max_pending_requests == 1 {
        let what = "of requests that wait for a connection all but one are answered 503 UO, in any burst";
        add(
            POOL,
            "http.http1MaxPendingRequests",
            what,
            "about as many as come at once",
        );
    }
    let all = |wanted: &dyn Fn(Protocol) -> bool| {
        !place.ports.is_empty() && place.ports.iter().all(|port| wanted(port.protocol))
    };
    let http1 = all(&|protocol| protocol == Protocol::Http1);
    if pool.max_requests > 0 && pool.max_connections == 0 && http1 {
        let what = "limits requests in flight, on HTTP/1 too; connections stay unlimited";
        add(
            POOL,
            "http.http2MaxRequests",
            what,
            "tcp.maxConnections, to limit connections",
        );
    }
    let warning = (POOL.0, Severity::Warning);
    if pool.max_retries > 0 && place.everywhere(|it| it.retry_budget.is_some()) {
        let what = "has no effect beside a retryBudget, which decides alone";
        add(warning, "http.maxRetries", what, "one of them");
    }
    let speaks_http2 = pool.use_client_protocol || pool.h2_upgrade_policy == H2UpgradePolicy::Upgrade;
    let is_plain = |policy: &TrafficPolicy| policy.tls.as_ref().is_none_or(|tls| tls.mode == TlsMode::Disable);
    if http1 && !speaks_http2 && place.everywhere(is_plain) {
        let what = "has no effect: HTTP/1.1 is spoken to the endpoints";
        let instead = "h2UpgradePolicy: UPGRADE, or appProtocol http2 or grpc at the port";
        let fields = [
            ("http.maxConcurrentStreams", pool.max_concurrent_streams > 0),
            ("http.http2KeepAlive", pool.http2_keepalive.is_some()),
        ];
        for (name, _) in fields.into_iter().filter(|(_, is_set)| *is_set) {
            add(warning, name, what, instead);
        }
    }
    if pool.use_client_protocol && pool.h2_upgrade_policy != H2UpgradePolicy::Default {
        let what = "has no effect beside useClientProtocol, which decides alone";
        add(warning, "http.h2UpgradePolicy", what, "one of them");
    }
    if all(&|protocol| matches!(protocol, Protocol::Tcp | Protocol::Tls)) && speaks_of_requests(pool) {
        let what = "has no effect: no port of the service speaks HTTP";
        add(
            warning,
            "http",
            what,
            "tcp.maxConnections; appProtocol: http at the port, if it does",
        );
    }
}

fn speaks_of_requests(pool: &ConnectionPool) -> bool {
    let limits = [
        pool.max_pending_requests,
        pool.max_requests,
        pool.max_retries,
        pool.max_requests_per_connection,
        pool.max_concurrent_streams,
    ];
    limits.iter().any(|limit| *limit > 0) || pool.http2_keepalive.is_some()
}
