//! The blocks of a traffic policy, `loadBalancer` and `tls` excepted, and whom a rule is for: what the fields are read as,
//! with Istio's defaults, and what is refused at which field.

use tsunagi_proto::model::{H2UpgradePolicy, Http2Keepalive, ProxyProtocol, RetryBudget, TcpKeepalive};

use super::*;

/// With this in its `spec`, in flow style.
fn rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: user}}\nspec: {{host: user, {spec}}}\n"
    )
}

fn read(spec: &str) -> DestinationRule {
    match one(&rule(spec)).spec {
        Spec::DestinationRule(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

pub(super) fn policy(blocks: &str) -> TrafficPolicy {
    read(&format!("trafficPolicy: {{{blocks}}}")).policy.unwrap()
}

fn pool(fields: &str) -> ConnectionPool {
    policy(&format!("connectionPool: {{{fields}}}"))
        .connection_pool
        .unwrap()
}

/// Blocks of a `trafficPolicy`, the field below it, the reason.
#[track_caller]
pub(super) fn assert_each_refused(cases: &[(&str, &str, &str)]) {
    for (blocks, field, reason) in cases {
        let text = rule(&format!("trafficPolicy: {{{blocks}}}"));
        let field = format!("spec.trafficPolicy{}{field}", if field.is_empty() { "" } else { "." });
        assert_refused(&text, 4, &field, reason);
    }
}

pub(super) fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

#[test]
fn every_field_of_a_connection_pool_is_read() {
    let read = pool(
        "tcp: {maxConnections: 1, connectTimeout: 2s, idleTimeout: 3s, maxConnectionDuration: 4s, tcpKeepalive: {probes: 5, time: 6s, interval: 7s}}, \
         http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRequestsPerConnection: 10, maxRetries: 11, idleTimeout: 12s, h2UpgradePolicy: DO_NOT_UPGRADE, useClientProtocol: true, maxConcurrentStreams: 13, http2KeepAlive: {interval: 14s, timeout: 15s}}",
    );
    let expected = ConnectionPool {
        max_connections: 1,
        connect_timeout: seconds(2),
        tcp_idle_timeout: seconds(3),
        max_connection_duration: seconds(4),
        tcp_keepalive: Some(TcpKeepalive {
            probes: Some(5),
            time: seconds(6),
            interval: seconds(7),
        }),
        max_pending_requests: 8,
        max_requests: 9,
        max_requests_per_connection: 10,
        max_retries: 11,
        idle_timeout: seconds(12),
        h2_upgrade_policy: H2UpgradePolicy::DoNotUpgrade,
        use_client_protocol: true,
        max_concurrent_streams: 13,
        http2_keepalive: Some(Http2Keepalive {
            interval: Duration::from_secs(14),
            timeout: Duration::from_secs(15),
        }),
    };
    assert_eq!(read, expected);
    assert_eq!(
        pool("tcp: {tcpKeepalive: {}}").tcp_keepalive,
        Some(TcpKeepalive::default())
    );
    let written_otherwise = pool("http: {h2_upgrade_policy: UPGRADE, http2_keep_alive: {interval: 1s, timeout: 2s}}");
    assert_eq!(written_otherwise.h2_upgrade_policy, H2UpgradePolicy::Upgrade);
    assert!(written_otherwise.http2_keepalive.is_some());
}

#[test]
fn an_idle_timeout_of_zero_is_for_good() {
    let tcp = pool("tcp: {idleTimeout: 0s}");
    assert_eq!(
        (tcp.idle_timeout, tcp.tcp_idle_timeout),
        (Some(Duration::ZERO), Some(Duration::ZERO))
    );
    let http = pool("tcp: {idleTimeout: 1s}, http: {idleTimeout: 0ms}");
    assert_eq!(
        (http.idle_timeout, http.tcp_idle_timeout),
        (Some(Duration::ZERO), seconds(1))
    );
}

#[test]
fn a_connection_pool_is_refused_where_it_is_wrong() {
    assert_each_refused(&[
        ("connectionPool: {}", "connectionPool", "at least one of tcp and http"),
        (
            "connectionPool: {tcp: {maxConnectionDuration: 0s}}",
            "connectionPool.tcp.maxConnectionDuration",
            "at least 1ms",
        ),
        (
            "connectionPool: {tcp: {maxConnectionDuration: 500ns}}",
            "connectionPool.tcp.maxConnectionDuration",
            "whole milliseconds",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {probes: 128}}}",
            "connectionPool.tcp.tcpKeepalive.probes",
            "0 to 127",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {time: 0s}}}",
            "connectionPool.tcp.tcpKeepalive.time",
            "at least 1ms",
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {interval: 32768s}}}",
            "connectionPool.tcp.tcpKeepalive.interval",
            "longer than 32767 s",
        ),
        (
            "connectionPool: {tcp: {probes: 1}}",
            "connectionPool.tcp.probes",
            "belongs under `tcpKeepalive`",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: MAYBE}}",
            "connectionPool.http.h2UpgradePolicy",
            "none of DEFAULT, DO_NOT_UPGRADE, UPGRADE",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}",
            "connectionPool.http.useClientProtocol",
            "contradicts",
        ),
        (
            "connectionPool: {http: {useClientProtocol: 1}}",
            "connectionPool.http.useClientProtocol",
            "true or false",
        ),
        (
            "connectionPool: {http: {maxConcurrentStreams: -1}}",
            "connectionPool.http.maxConcurrentStreams",
            "out of range",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 1s}}}",
            "connectionPool.http.http2KeepAlive.timeout",
            "is required",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {timeout: 1s}}}",
            "connectionPool.http.http2KeepAlive.interval",
            "is required",
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 0s, timeout: 1s}}}",
            "connectionPool.http.http2KeepAlive.interval",
            "at least 1ms",
        ),
    ]);
}

#[test]
fn error_codes_of_outlier_detection_are_sorted_and_in_range() {
    let outlier =
        policy("outlierDetection: {outlierDetectionHttpErrorCodes: [503, 429, 503], consecutive5xxErrors: 4294967295}");
    let outlier = outlier.outlier_detection.unwrap();
    assert_eq!(
        (outlier.error_statuses, outlier.consecutive_5xx),
        (vec![429, 503], u32::MAX)
    );
    assert_each_refused(&[
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [99]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[0]",
            "100 to 599",
        ),
        (
            "outlierDetection: {outlierDetectionHttpErrorCodes: [500, 600]}",
            "outlierDetection.outlierDetectionHttpErrorCodes[1]",
            "100 to 599",
        ),
        (
            "outlierDetection: {consecutive5xxErrors: 4294967296}",
            "outlierDetection.consecutive5xxErrors",
            "out of range",
        ),
        (
            "outlierDetection: {minHealthPercent: -1}",
            "outlierDetection.minHealthPercent",
            "0 to 100",
        ),
    ]);
}

#[test]
fn proxy_protocol_and_retry_budget_have_istios_defaults() {
    let version = |fields: &str| policy(&format!("proxyProtocol: {{{fields}}}")).proxy_protocol.unwrap();
    assert_eq!(version(""), ProxyProtocol::V1);
    assert_eq!(version("version: V2"), ProxyProtocol::V2);
    let budget = |fields: &str| policy(&format!("retryBudget: {{{fields}}}")).retry_budget.unwrap();
    let default = RetryBudget {
        percent: 20.0,
        min_retry_concurrency: 3,
        interval: None,
    };
    assert_eq!(budget(""), default);
    assert_eq!(budget("minRetryConcurrency: 0, budgetInterval: 0ms"), default);
    let set = RetryBudget {
        percent: 0.5,
        min_retry_concurrency: 1,
        interval: seconds(10),
    };
    assert_eq!(budget("percent: 0.5, minRetryConcurrency: 1, budgetInterval: 10s"), set);
    assert_each_refused(&[
        (
            "proxyProtocol: {version: V3}",
            "proxyProtocol.version",
            "none of V1, V2",
        ),
        ("retryBudget: {percent: 100.1}", "retryBudget.percent", "0 to 100"),
        (
            "retryBudget: {minRetryConcurrency: -1}",
            "retryBudget.minRetryConcurrency",
            "out of range",
        ),
        (
            "retryBudget: {budgetInterval: 5}",
            "retryBudget.budgetInterval",
            "has no unit",
        ),
        (
            "tunnel: {targetHost: a, targetPort: 1}",
            "tunnel",
            "known but not supported yet",
        ),
        ("", "", "must have at least one field"),
    ]);
}

#[test]
fn a_port_has_blocks_of_its_own() {
    let read = policy(
        "portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE}}, {port: {number: 443}, loadBalancer: {simple: RANDOM}}], outlierDetection: {}",
    );
    let ports: Vec<u16> = read.port_level.keys().copied().collect();
    assert_eq!(ports, [80, 443]);
    assert_eq!(read.port_level[&80].tls.as_ref().unwrap().mode, TlsMode::Simple);
    assert_eq!(read.port_level[&80].outlier_detection, None);
    let random = read.port_level[&443].load_balancer.as_ref().unwrap();
    assert_eq!(random.algorithm, Algorithm::Random);
    let list = |items: &str| format!("portLevelSettings: [{items}]");
    let at = |field: &str| format!("portLevelSettings{field}");
    assert_each_refused(&[
        (&list("{tls: {mode: DISABLE}}"), &at("[0].port"), "is required"),
        (
            &list("{port: {}, tls: {mode: DISABLE}}"),
            &at("[0].port.number"),
            "is required",
        ),
        (
            &list("{port: {number: 0}, tls: {mode: DISABLE}}"),
            &at("[0].port.number"),
            "1 to 65535",
        ),
        (
            &list("{port: {name: http}, tls: {mode: DISABLE}}").replace("name: http", "number: 1, name: http"),
            &at("[0].port.name"),
            "unknown field",
        ),
        (
            &list("{port: {number: 80}}"),
            &at("[0]"),
            "at least one field beside `port`",
        ),
        (
            &list("{port: {number: 80}, tls: {mode: ISTIO_MUTUAL}}"),
            &at("[0].tls.mode"),
            "not supported yet",
        ),
        (
            &list("{port: {number: 80}, tls: {}, proxyProtocol: {}}"),
            &at("[0].proxyProtocol"),
            "unknown field",
        ),
        (
            &list("{port: {number: 80}, tls: {}, simple: RANDOM}"),
            &at("[0].simple"),
            "belongs under `loadBalancer`",
        ),
    ]);
    let many: Vec<String> = (1..=4097)
        .map(|port| format!("{{port: {{number: {port}}}, tls: {{}}}}"))
        .collect();
    assert_each_refused(&[(&list(&many.join(", ")), &at(""), "more than 4096")]);
}

#[test]
fn a_rule_says_whom_it_is_for() {
    let exports = |spec: &str| read(spec).exports;
    let only = |names: &[&str]| ExportTo::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(exports("exportTo: ['*']"), ExportTo::Everyone);
    assert_eq!(exports("exportTo: []"), ExportTo::Everyone);
    assert_eq!(exports("exportTo: [., other]"), only(&["default", "other"]));
    let selecting = read("workloadSelector: {matchLabels: {app: ratings}}");
    assert_eq!(selecting.exports, only(&["default"]));
    assert_eq!(
        selecting.workload_selector,
        [("app".to_owned(), "ratings".to_owned())].into()
    );
    assert_eq!(
        exports("workloadSelector: {matchLabels: {a: b}}, exportTo: [default]"),
        only(&["default"])
    );
    for (spec, field, reason) in [
        ("exportTo: ['~']", "spec.exportTo[0]", "has no effect"),
        ("exportTo: ['*', a]", "spec.exportTo[0]", "contradicts"),
        ("exportTo: [., default]", "spec.exportTo[1]", "twice"),
        ("exportTo: [A]", "spec.exportTo[0]", "name of a namespace"),
        (
            "workloadSelector: {}, exportTo: ['*']",
            "spec.exportTo",
            "only `.` may be here",
        ),
        (
            "workloadSelector: {}, exportTo: [., a]",
            "spec.exportTo",
            "only `.` may be here",
        ),
        (
            "workloadSelector: {labels: {a: b}}",
            "spec.workloadSelector.labels",
            "unknown field",
        ),
        (
            "workloadSelector: {matchLabels: {'': b}}",
            "spec.workloadSelector.matchLabels[]",
            "not a label key",
        ),
        (
            "workloadSelector: {matchLabels: {a: '*'}}",
            "spec.workloadSelector.matchLabels.a",
            "not a label value",
        ),
    ] {
        assert_refused(&rule(spec), 4, field, reason);
    }
}

#[test]
fn a_host_may_be_a_wildcard() {
    for (written, resolved) in [
        ("'*.Foo.com'", "*.foo.com"),
        ("'*'", "*"),
        ("10.0.0.1", "10.0.0.1"),
        ("a.b.", "a.b"),
        ("user", "user.default.svc.cluster.local"),
    ] {
        let text = rule("").replace("host: user", &format!("host: {written}"));
        let Spec::DestinationRule(read) = one(&text).spec else {
            panic!("{text}")
        };
        assert_eq!(read.host, resolved);
    }
}

#[test]
fn one_rule_does_not_make_a_proxy_huge() {
    let names: Vec<String> = (0..5).map(|number| format!("{{name: v{number}}}")).collect();
    let ring = "loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388608}}}";
    let with = |subsets: &[String]| rule(&format!("trafficPolicy: {{{ring}}}, subsets: [{}]", subsets.join(", ")));
    parsed(&with(&names[..3]));
    assert_refused(&with(&names), 4, "spec.trafficPolicy", "more than 33554432");
    let names: Vec<String> = (0..2_000).map(|number| format!("{{name: v{number}}}")).collect();
    let long = format!(
        "tls: {{mode: SIMPLE, subjectAltNames: [{}]}}",
        vec!["a".repeat(1_000); 40].join(", ")
    );
    let text = rule(&format!("trafficPolicy: {{{long}}}, subsets: [{}]", names.join(", ")));
    assert_refused(&text, 4, "spec.subsets", "more than 32 MiB");
}
