//! DestinationRule: defaults, precedence, and what is refused on which line and at which field.

use super::*;

fn destination_rule(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata:\n  name: user\nspec:\n  host: user\n{spec}"
    )
}

fn policy(spec: &str) -> TrafficPolicy {
    let Spec::DestinationRule(rule) = one(&destination_rule(spec)).spec else {
        panic!()
    };
    rule.policy.unwrap()
}

#[test]
fn istios_defaults_are_filled_into_outlier_detection() {
    let outlier = |fields: &str| {
        policy(&format!("  trafficPolicy: {{outlierDetection: {{{fields}}}}}\n"))
            .outlier_detection
            .unwrap()
    };
    let default = outlier("");
    assert_eq!((default.consecutive_5xx, default.consecutive_gateway_errors), (5, 0));
    assert_eq!(
        (default.interval.as_secs(), default.base_ejection_time.as_secs()),
        (10, 30)
    );
    assert_eq!((default.max_ejection_percent, default.min_health_percent), (10, 0));
    assert_eq!(outlier("consecutive5xxErrors: 0").consecutive_5xx, 0);
    assert_eq!(outlier("consecutiveErrors: 7").consecutive_5xx, 7);
    assert_eq!(outlier("consecutiveErrors: 0").consecutive_5xx, 5);
    assert_eq!(
        outlier("consecutiveErrors: 7, consecutive5xxErrors: 3").consecutive_5xx,
        3
    );
    let gateway = outlier("consecutiveGatewayErrors: 2");
    assert_eq!((gateway.consecutive_5xx, gateway.consecutive_gateway_errors), (5, 2));
    assert_eq!(outlier("maxEjectionPercent: 0").max_ejection_percent, 10);
    assert_eq!(
        outlier("splitExternalLocalOriginErrors: true").consecutive_local_origin_failures,
        5
    );
}

#[test]
fn http_idle_timeout_wins_over_tcps_but_for_tcp_connections() {
    let pool = |fields: &str| {
        policy(&format!("  trafficPolicy: {{connectionPool: {{{fields}}}}}\n"))
            .connection_pool
            .unwrap()
    };
    assert_eq!(
        pool("tcp: {idleTimeout: 1s}").idle_timeout,
        Some(Duration::from_secs(1))
    );
    assert_eq!(
        pool("tcp: {idleTimeout: 1s}, http: {idleTimeout: 2s}").idle_timeout,
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        pool("tcp: {idleTimeout: 1s}, http: {idleTimeout: 2s}").tcp_idle_timeout,
        Some(Duration::from_secs(1))
    );
    assert_eq!(pool("http: {idleTimeout: 2s}").tcp_idle_timeout, None);
    assert_eq!(pool("tcp: {maxConnections: 0}").max_connections, 0);
}

#[test]
fn load_balancers_have_istios_names() {
    for (name, balancer) in [
        ("LEAST_REQUEST", Algorithm::LeastRequest),
        ("LEAST_CONN", Algorithm::LeastRequest),
        ("UNSPECIFIED", Algorithm::LeastRequest),
        ("ROUND_ROBIN", Algorithm::RoundRobin),
        ("RANDOM", Algorithm::Random),
    ] {
        let read = policy(&format!("  trafficPolicy: {{loadBalancer: {{simple: {name}}}}}\n"));
        assert_eq!(read.load_balancer.unwrap().algorithm, balancer);
    }
}

#[test]
fn a_destination_rule_is_refused_where_it_is_wrong() {
    let cases = [
        (
            "  trafficPolicy:\n    connectionPool:\n      tcp:\n        maxConnections: -1\n",
            10,
            "spec.trafficPolicy.connectionPool.tcp.maxConnections",
            "out of range: 0 to 2147483647",
        ),
        (
            "  trafficPolicy:\n    connectionPool:\n      tcp: {connectTimeout: 5}\n",
            9,
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
            "has no unit",
        ),
        (
            "  trafficPolicy:\n    loadBalancer:\n      simple: RING_HASH\n",
            9,
            "spec.trafficPolicy.loadBalancer.simple",
            "write `consistentHash` with `ringHash`",
        ),
        (
            "  trafficPolicy:\n    loadBalancer:\n      simple: MAGLEV\n",
            9,
            "spec.trafficPolicy.loadBalancer.simple",
            "write `consistentHash` with `maglev`",
        ),
        (
            "  trafficPolicy:\n    connectionPool: {maxConnections: 5}\n",
            8,
            "spec.trafficPolicy.connectionPool.maxConnections",
            "unknown field here, it belongs under `tcp`",
        ),
        (
            "  trafficPolicy:\n    loadBalancer:\n      consistentHash: {}\n",
            9,
            "spec.trafficPolicy.loadBalancer.consistentHash",
            "must have one of httpHeaderName, httpCookie",
        ),
        (
            "  trafficPolicy:\n    loadBalancer:\n      simple: BEST\n",
            9,
            "spec.trafficPolicy.loadBalancer.simple",
            "LEAST_REQUEST",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      maxEjectionPercent: 101\n",
            9,
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
            "0 to 100",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      interval: soon\n",
            9,
            "spec.trafficPolicy.outlierDetection.interval",
            "not a duration",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      interval: 0s\n",
            9,
            "spec.trafficPolicy.outlierDetection.interval",
            "at least 1ms",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      baseEjectionTime: '0'\n",
            9,
            "spec.trafficPolicy.outlierDetection.baseEjectionTime",
            "at least 1ms",
        ),
        (
            "  trafficPolicy:\n    connectionPool:\n      tcp: {connectTimeout: 0s}\n",
            9,
            "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
            "at least 1ms",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      consecutiveLocalOriginFailures: 3\n",
            9,
            "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
            "splitExternalLocalOriginErrors",
        ),
        (
            "  trafficPolicy:\n    outlierDetection:\n      consecutive5xxError: 3\n",
            9,
            "spec.trafficPolicy.outlierDetection.consecutive5xxError",
            "did you mean `consecutive5xxErrors`?",
        ),
        (
            "  subsets:\n  - labels: {a: b}\n",
            8,
            "spec.subsets[0].name",
            "is required",
        ),
        (
            "  subsets:\n  - name: v 1\n",
            8,
            "spec.subsets[0].name",
            "not a subset name",
        ),
        (
            "  subsets:\n  - name: v1\n  - name: v1\n",
            9,
            "spec.subsets[1].name",
            "twice",
        ),
        (
            "  subsets:\n  - name: v1\n    labels:\n      version: 1\n",
            10,
            "spec.subsets[0].labels.version",
            "write \"1\" in quotes",
        ),
    ];
    for (spec, line, field, reason) in cases {
        assert_refused(&destination_rule(spec), line, field, reason);
    }
    assert_refused(
        &destination_rule("").replace("host: user", "host: '*-a.local'"),
        6,
        "spec.host",
        "a wildcard for a part of a label",
    );
}

#[test]
fn an_annotation_asks_for_envoys_rules_of_outlier_detection_in_every_block() {
    let outliers = "{outlierDetection: {}}";
    let rule = destination_rule(&format!(
        "  trafficPolicy:\n    outlierDetection: {{}}\n    portLevelSettings:\n    - port: {{number: 80}}\n      \
         outlierDetection: {{}}\n  subsets:\n  - name: v1\n    trafficPolicy: {outliers}\n"
    ));
    let annotated = |value: &str| {
        let annotations = format!("  name: user\n  annotations: {{tsunagi.io/outlier-detection: {value}}}\n");
        rule.replacen("  name: user\n", &annotations, 1)
    };
    let read = |text: &str| {
        let Spec::DestinationRule(rule) = one(text).spec else {
            panic!()
        };
        let policy = rule.policy.unwrap();
        let subset = rule.subsets[0].policy.clone().unwrap();
        let port = policy.port_level[&80].outlier_detection.clone();
        [policy.outlier_detection, port, subset.outlier_detection].map(|block| block.unwrap().as_envoy)
    };
    assert_eq!(read(&annotated("envoy")), [true; 3]);
    assert_eq!(read(&rule), [false; 3]);
    let problems = refused(&annotated("istio"));
    assert!(
        problems[0].contains("metadata.annotations[tsunagi.io/outlier-detection]") && problems[0].contains("envoy"),
        "{problems:?}"
    );
}
