//! DestinationRules: whom they are for, which subsets are used and exist, what a policy really says.

use std::collections::BTreeMap;

use super::mesh::{covers_host, ports};
use super::{Check, Findings, Severity};
use crate::config::{DestinationRule, Document, Protocol, Spec, Subset, TrafficPolicy};

const NOT_FOUND: Check = ("IST0101", Severity::Error);
const NO_WORKLOAD: Check = ("IST0127", Severity::Warning);
const UNUSED: Check = ("TSU-SUBSET-UNUSED", Severity::Info);
const HIDDEN: Check = ("TSU-RULE-HIDDEN", Severity::Warning);
const LOST: Check = ("TSU-POLICY-REPLACED", Severity::Warning);
const OUTLIER: Check = ("TSU-OUTLIER", Severity::Info);
const POOL: Check = ("TSU-POOL", Severity::Info);

/// Two for one host: of one namespace they are merged, of two never.
pub(super) fn conflicts(findings: &mut Findings<'_>) {
    let mut by_host: BTreeMap<&str, Vec<(&Document, &DestinationRule)>> = BTreeMap::new();
    for (document, rule) in findings.mesh.destination_rules.iter().copied() {
        by_host.entry(&rule.host).or_default().push((document, rule));
    }
    for (host, rules) in by_host {
        for (number, (document, rule)) in rules.iter().enumerate().skip(1) {
            for (first, other) in &rules[..number] {
                if first.key.namespace == document.key.namespace {
                    merged(findings, document, rule, first, other);
                } else {
                    other_namespace(findings, host, document, rule, first, other);
                }
            }
        }
    }
}

fn merged(
    findings: &mut Findings<'_>,
    document: &Document,
    rule: &DestinationRule,
    first: &Document,
    other: &DestinationRule,
) {
    if rule.policy.is_some() && other.policy.is_some() {
        let what = format!(
            "{} is for the same host and older: its trafficPolicy is in force, this one is not",
            first.key
        );
        findings.add(
            HIDDEN,
            document,
            "spec.trafficPolicy",
            what,
            "one DestinationRule for the host",
        );
    }
    for (index, subset) in rule.subsets.iter().enumerate() {
        if other.subsets.iter().any(|it| it.name == subset.name) {
            let what = format!(
                "{} defines the subset {} as well and is older: this one is dropped",
                first.key, subset.name
            );
            findings.add(
                HIDDEN,
                document,
                format!("spec.subsets[{index}]"),
                what,
                "another name, or one DestinationRule",
            );
        }
    }
}

/// For clients of its own namespace, a rule hides the one of the service's namespace, subsets and all.
fn other_namespace(
    findings: &mut Findings<'_>,
    host: &str,
    document: &Document,
    rule: &DestinationRule,
    first: &Document,
    other: &DestinationRule,
) {
    let Some(service) = findings.mesh.service(host) else {
        return;
    };
    let home = service.key.namespace.as_str();
    let pair = match (document.key.namespace == home, first.key.namespace == home) {
        (true, false) => Some(((first, other), (document, rule))),
        (false, true) => Some(((document, rule), (first, other))),
        _ => None,
    };
    let Some(((client, own), (owner, hidden))) = pair else {
        return;
    };
    let lost: Vec<&str> = hidden
        .subsets
        .iter()
        .map(|subset| subset.name.as_str())
        .filter(|name| own.subsets.iter().all(|it| it.name != *name))
        .collect();
    if !lost.is_empty() {
        let what = format!(
            "for clients of namespace {} this hides {}: its subsets {} do not exist for them",
            client.key.namespace,
            owner.key,
            lost.join(", ")
        );
        findings.add(HIDDEN, client, "spec.host", what, "those subsets here, too");
    }
}

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    host(findings, document, rule);
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        workloads(findings, document, rule, subset, &field);
        usage(findings, document, rule, subset, &field);
        if let (Some(own), Some(top)) = (&subset.policy, &rule.policy) {
            replaced(findings, document, &field, own, top);
        }
        if let Some(policy) = &subset.policy {
            self::policy(findings, document, rule, &format!("{field}.trafficPolicy"), policy);
        }
    }
    if let Some(policy) = &rule.policy {
        self::policy(findings, document, rule, "spec.trafficPolicy", policy);
    }
}

fn host(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    let mesh = findings.mesh;
    let known = if rule.host.starts_with('*') {
        mesh.services().any(|(fqdn, _)| covers_host(&rule.host, fqdn))
    } else {
        mesh.service(&rule.host).is_some()
    };
    if known || !mesh.knows_services() {
        return;
    }
    let what = format!("no service has the host {}: nothing follows this rule", rule.host);
    let instead = match mesh.like(&rule.host) {
        Some(like) => format!("did you mean {like}?"),
        None => "a short name means a service of the rule's own namespace, one with a dot is a whole name: write name.namespace.svc.cluster.local for another".to_owned(),
    };
    findings.add(NOT_FOUND, document, "spec.host", what, instead);
}

fn workloads(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, subset: &Subset, field: &str) {
    let mesh = findings.mesh;
    let Some(service) = mesh.service(&rule.host).filter(|_| mesh.knows_workloads()) else {
        return;
    };
    let mut labels = subset.labels.clone();
    if let Spec::Service(service) = &service.spec {
        labels.extend(service.selector.clone());
    }
    if !labels.is_empty() && !mesh.has_workload(Some(&service.key.namespace), &labels) {
        let shown: Vec<String> = subset
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let what = format!(
            "no endpoint of {} has {}: requests to the subset get 503 UH",
            rule.host,
            shown.join(",")
        );
        findings.add(
            NO_WORKLOAD,
            document,
            format!("{field}.labels"),
            what,
            "labels that its pods have",
        );
    }
}

/// A subset's policy acts only on requests that a route sends to the subset.
fn usage(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, subset: &Subset, field: &str) {
    let names = |host: &str, name: &str| covers_host(&rule.host, host) && name == subset.name;
    let used = findings.mesh.virtual_services.iter().any(|(_, it)| {
        let connections = it.tls.iter().chain(&it.tcp).flat_map(|rule| &rule.route);
        let requests = it.http.iter().flat_map(|rule| &rule.route);
        let mirrors = it.http.iter().flat_map(|rule| &rule.mirrors);
        requests.chain(connections).any(|to| names(&to.host, &to.subset))
            || mirrors.into_iter().any(|to| names(&to.host, &to.subset))
    });
    if used {
        return;
    }
    let mut what = format!("no route sends anything to the subset {}", subset.name);
    if subset.policy.is_some() {
        what.push_str(": its trafficPolicy never acts");
    }
    findings.add(UNUSED, document, field, what, "a route that names it");
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
            findings.add(
                LOST,
                document,
                format!("{field}.trafficPolicy.connectionPool"),
                what,
                "these fields here as well",
            );
        }
    }
    if own.outlier_detection.is_some() && top.outlier_detection.is_some() {
        let what = "replaces the whole block of spec.trafficPolicy: what it does not say has its default";
        let check = (LOST.0, Severity::Info);
        findings.add(
            check,
            document,
            format!("{field}.trafficPolicy.outlierDetection"),
            what,
            "",
        );
    }
}

fn policy(
    findings: &mut Findings<'_>,
    document: &Document,
    rule: &DestinationRule,
    field: &str,
    policy: &TrafficPolicy,
) {
    if let Some(outlier) = &policy.outlier_detection {
        let field = format!("{field}.outlierDetection");
        if outlier.consecutive_5xx == 0
            && outlier.consecutive_gateway_errors == 0
            && outlier.consecutive_local_origin_failures == 0
        {
            let what = "ejects nothing: every count is off";
            findings.add(
                (OUTLIER.0, Severity::Warning),
                document,
                &*field,
                what,
                "consecutive5xxErrors: 5",
            );
        }
        if outlier.consecutive_gateway_errors > 0 && outlier.consecutive_5xx == 5 {
            let what =
                "consecutiveGatewayErrors does not turn consecutive5xxErrors off: 5 errors of any kind eject as well";
            findings.add(
                OUTLIER,
                document,
                format!("{field}.consecutiveGatewayErrors"),
                what,
                "consecutive5xxErrors: 0, if only gateway errors are meant",
            );
        }
        if outlier.max_ejection_percent == 100 && outlier.min_health_percent == 0 {
            let what = "every endpoint but the last may be ejected at once";
            findings.add(
                OUTLIER,
                document,
                format!("{field}.maxEjectionPercent"),
                what,
                "less, if the rest cannot bear the load",
            );
        }
    }
    let Some(pool) = &policy.connection_pool else { return };
    let field = format!("{field}.connectionPool");
    if pool.max_requests_per_connection == 1 {
        let what = "1 makes a new connection for every request";
        findings.add(
            POOL,
            document,
            format!("{field}.http.maxRequestsPerConnection"),
            what,
            "no value, to keep connections",
        );
    }
    if pool.max_pending_requests == 1 {
        let what = "of requests that wait for a connection all but one are answered 503 UO, in any burst";
        findings.add(
            POOL,
            document,
            format!("{field}.http.http1MaxPendingRequests"),
            what,
            "about as many as come at once",
        );
    }
    let http1 = findings.mesh.service(&rule.host).is_some_and(|service| {
        let mut ports = ports(service).iter();
        ports.len() > 0 && ports.all(|port| port.protocol == Protocol::Http1)
    });
    if pool.max_requests > 0 && pool.max_connections == 0 && http1 {
        let what = "limits requests in flight, on HTTP/1 too; connections stay unlimited";
        findings.add(
            POOL,
            document,
            format!("{field}.http.http2MaxRequests"),
            what,
            "tcp.maxConnections, to limit connections",
        );
    }
}
