//! What a message advises: whoever does as it says has what they meant. And what is taken with a remark.

use super::traffic_policies::{assert_each_refused, policy};
use super::*;

fn rule(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: user{metadata}}}\nspec: {{host: user, {spec}}}\n"
    )
}

fn service_entry(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: user}}\nspec: {{hosts: [user.mesh], {spec}}}\n"
    )
}

const PORTS: &str = "ports: [{number: 80, name: http}]";

#[test]
fn a_number_is_quoted_as_it_is_written() {
    for written in ["1.10", "0x10", "1e3", "True", "1.0"] {
        let text = rule("", &format!("subsets: [{{name: a, labels: {{version: {written}}}}}]"));
        let advice = format!("must be text: write \"{written}\" in quotes");
        assert_refused(&text, 4, "spec.subsets[0].labels.version", &advice);
        let quoted = text.replace(&format!("version: {written}"), &format!("version: \"{written}\""));
        let Spec::DestinationRule(read) = one(&quoted).spec else {
            panic!("{quoted}")
        };
        assert_eq!(read.subsets[0].labels["version"], written);
    }
    let aliased = rule(
        "",
        "subsets: [{name: a, labels: {v: &n 1.10}}, {name: b, labels: {v: *n}}]",
    );
    let problems = refused(&aliased);
    assert!(
        problems.len() == 2 && problems.iter().all(|it| it.contains("\"1.10\"")),
        "{problems:?}"
    );
    // Of what comes from nobody's file it is not known.
    let object = serde_json::json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "user"},
        "spec": {"host": "user", "subsets": [{"name": "a", "labels": {"version": 1.10}}]}
    });
    let problem = from_stored(&object).unwrap_err();
    assert_eq!(problem.reason, "must be text: write it in quotes");
}

#[test]
fn a_number_for_a_word_is_told_the_words() {
    assert_each_refused(&[
        (
            "tls: {mode: 1}",
            "tls.mode",
            "is the number 1, must be one of DISABLE, SIMPLE, MUTUAL",
        ),
        (
            "loadBalancer: {simple: 4}",
            "loadBalancer.simple",
            "must be one of LEAST_REQUEST, ROUND_ROBIN, RANDOM, PASSTHROUGH",
        ),
        (
            "proxyProtocol: {version: 1}",
            "proxyProtocol.version",
            "must be one of V1, V2",
        ),
        (
            "connectionPool: {http: {h2UpgradePolicy: 1}}",
            "connectionPool.http.h2UpgradePolicy",
            "must be one of DEFAULT, DO_NOT_UPGRADE, UPGRADE",
        ),
    ]);
    for (field, words) in [
        ("resolution", "one of NONE, STATIC, DNS, DNS_ROUND_ROBIN"),
        ("location", "one of MESH_EXTERNAL, MESH_INTERNAL"),
    ] {
        let text = service_entry(&format!("{field}: 1, {PORTS}"));
        assert_refused(&text, 4, &format!("spec.{field}"), words);
    }
}

#[test]
fn a_word_that_is_nearly_right_is_recognised() {
    assert_each_refused(&[
        ("tls: {mode: Mutual}", "tls.mode", ", did you mean `MUTUAL`?"),
        (
            "proxyProtocol: {version: v2}",
            "proxyProtocol.version",
            ", did you mean `V2`?",
        ),
        (
            "loadBalancer: {simple: RoundRobin}",
            "loadBalancer.simple",
            ", did you mean `ROUND_ROBIN`?",
        ),
        (
            "tls: {mode: ISTIO_MUTUAL}",
            "tls.mode",
            "leave `tls` out, sidecars speak plaintext to each other for now",
        ),
    ]);
    let text = service_entry(&format!("resolution: static, {PORTS}"));
    assert_refused(&text, 4, "spec.resolution", ", did you mean `STATIC`?");
}

#[test]
fn a_field_that_another_block_knows_says_where_it_belongs() {
    let pool = "trafficPolicy.connectionPool";
    assert_each_refused(&[
        (
            "maxConnections: 3",
            "maxConnections",
            &format!("unknown field here, it belongs under `{pool}.tcp`"),
        ),
        (
            "connectionPool: {http: {maxConnections: 3}}",
            "connectionPool.http.maxConnections",
            &format!("unknown field here, it belongs under `{pool}.tcp`"),
        ),
        (
            "connectionPool: {tcp: {consecutive5xxErrors: 3}}",
            "connectionPool.tcp.consecutive5xxErrors",
            "unknown field here, it belongs under `trafficPolicy.outlierDetection`",
        ),
        (
            "loadBalancer: {min_retry_concurrency: 3}",
            "loadBalancer.min_retry_concurrency",
            "unknown field here, it belongs under `trafficPolicy.retryBudget`",
        ),
        // In too many blocks to say.
        ("tls: {interval: 3s}", "tls.interval", "unknown field"),
    ]);
    let spec = rule("", "idleTimeout: 3s");
    let places = format!("it belongs under `{pool}.tcp` or `{pool}.http`");
    assert_refused(&spec, 4, "spec.idleTimeout", &places);
    let selector = rule("", "workloadSelector: {labels: {a: b}}");
    let advice = "unknown field, in this kind it is `matchLabels`";
    assert_refused(&selector, 4, "spec.workloadSelector.labels", advice);
    let selector = service_entry(&format!(
        "resolution: STATIC, {PORTS}, workloadSelector: {{matchLabels: {{a: b}}}}"
    ));
    let advice = "unknown field, in this kind it is `labels`";
    assert_refused(&selector, 4, "spec.workloadSelector.matchLabels", advice);
    let locality = service_entry(&format!("{PORTS}, locality: eu"));
    assert_refused(&locality, 4, "spec.locality", "it belongs under `endpoints[]`");
}

#[test]
fn an_address_that_ends_in_colons_needs_no_quotes() {
    for list in [
        " [2001:db8::, '::1']",
        "\n  - 2001:db8::\n  - '::1'",
        " ['2001:db8::', \"::1\"]",
    ] {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: user}}\nspec:\n  hosts: [user.mesh]\n  {PORTS}\n  addresses:{list}\n"
        );
        let Spec::ServiceEntry(entry) = one(&text).spec else {
            panic!("{text}")
        };
        let shown: Vec<String> = entry.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["::1", "2001:db8::"]);
    }
    let text = rule("", "workloadSelector: {matchLabels: {a: }}");
    assert_refused(
        &text,
        4,
        "spec.workloadSelector.matchLabels.a",
        "is empty, must be text",
    );
}

#[test]
fn zero_is_not_set_where_it_is_not_in_istio_either() {
    let text = service_entry("ports: [{number: 80, name: http, targetPort: 0}]");
    let Spec::ServiceEntry(entry) = one(&text).spec else {
        panic!("{text}")
    };
    assert_eq!(entry.ports[0].target, TargetPort::Number(80));
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: user}\nspec: {ports: [{port: 80, targetPort: 0}]}\n";
    let Spec::Service(service) = one(text).spec else {
        panic!("{text}")
    };
    assert_eq!(service.ports[0].target, TargetPort::Number(80));
    let hash = "consistentHash: {useSourceIp: true, minimumRingSize: 0, maglev: {tableSize: 5}}";
    policy(&format!("loadBalancer: {{{hash}}}"));
    let zones = policy("loadBalancer: {zoneAwareLbSetting: {minClusterSize: 0}}");
    let setting = zones.load_balancer.and_then(|balancer| balancer.locality);
    assert!(
        matches!(
            setting,
            Some(LocalitySetting::ZoneAware {
                min_cluster_size: 1,
                ..
            })
        ),
        "{setting:?}"
    );
    assert_each_refused(&[(
        "loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 9, maglev: {tableSize: 5}}}",
        "loadBalancer.consistentHash.minimumRingSize",
        "set either `maglev` or `minimumRingSize`, not both",
    )]);
}

/// `field: what` of each.
fn remarks(text: &str) -> Vec<String> {
    let remarks = one(text).remarks;
    remarks.iter().map(|it| format!("{}: {}", it.field, it.what)).collect()
}

#[test]
fn what_is_taken_without_effect_is_remarked_on() {
    let with = |balancer: &str| rule("", &format!("trafficPolicy: {{loadBalancer: {{{balancer}}}}}"));
    let at = |name: &str| {
        [format!(
            "spec.trafficPolicy.loadBalancer.{name}: has no effect: only LEAST_REQUEST and ROUND_ROBIN warm endpoints up"
        )]
    };
    for algorithm in [
        "simple: RANDOM",
        "simple: PASSTHROUGH",
        "consistentHash: {useSourceIp: true}",
    ] {
        let warm = format!("{algorithm}, warmup: {{duration: 5s}}");
        assert_eq!(remarks(&with(&warm)), at("warmup"));
        let old = format!("{algorithm}, warmupDurationSecs: 5s");
        assert_eq!(remarks(&with(&old)), at("warmupDurationSecs"));
    }
    for algorithm in ["", "simple: ROUND_ROBIN, ", "simple: LEAST_REQUEST, "] {
        let warm = format!("{algorithm}warmup: {{duration: 5s}}");
        assert_eq!(remarks(&with(&warm)), [""; 0]);
    }
}

#[test]
fn an_annotation_of_ours_that_nobody_reads_is_remarked_on() {
    let with = |annotation: &str| rule(&format!(", annotations: {{{annotation}}}"), "");
    assert_eq!(
        remarks(&with("tsunagi.io/outlier-detecton: envoy, other.io/x: y")),
        [
            "metadata.annotations[tsunagi.io/outlier-detecton]: no annotation that is known, it has no effect, did you mean `tsunagi.io/outlier-detection`?"
        ]
    );
    assert_eq!(remarks(&with("tsunagi.io/outlier-detection: envoy")), [""; 0]);
    let text = with("tsunagi.io/outlier-detection: envoy").replace("DestinationRule", "ServiceEntry");
    let text = text.replace("host: user, ", &format!("hosts: [a.b], {PORTS}"));
    assert_eq!(
        remarks(&text),
        [
            "metadata.annotations[tsunagi.io/outlier-detection]: is read of a DestinationRule only: it has no effect here"
        ]
    );
}

#[test]
fn of_two_policies_of_a_port_the_first_counts_and_the_second_is_remarked_on() {
    let of = |most: u32| format!("{{port: {{number: 80}}, connectionPool: {{tcp: {{maxConnections: {most}}}}}}}");
    let text = rule(
        "",
        &format!("trafficPolicy: {{portLevelSettings: [{}, {}]}}", of(1), of(2)),
    );
    assert_eq!(
        remarks(&text),
        ["spec.trafficPolicy.portLevelSettings[1].port: 80 is there already: the first is in force, this one is not"]
    );
    let first = rule("", &format!("trafficPolicy: {{portLevelSettings: [{}]}}", of(1)));
    assert!(one(&text).spec == one(&first).spec);
}

#[test]
fn connections_that_nothing_but_an_address_tells_apart_are_remarked_on_where_there_is_none() {
    let told = |connections: &str| {
        format!(
            "spec.ports: {connections} are known by their address, and there are no `addresses`: redirected ones go where they head, untouched, whatever DestinationRules say"
        )
    };
    let tcp = told("connections of a TCP port");
    let detected = told("connections of a port without a protocol that turn out to be neither HTTP nor TLS");
    let entry = |rest: &str, ports: &str| service_entry(&format!("{rest}, ports: [{ports}]"));
    let (database, some) = ("{number: 5432, name: db, protocol: TCP}", "{number: 99, name: x}");
    let both = format!("{database}, {some}");
    assert_eq!(remarks(&entry("resolution: STATIC", &both)), [tcp, detected.clone()]);
    // That has its port at every address.
    assert_eq!(remarks(&entry("resolution: NONE", database)), [""; 0]);
    assert_eq!(remarks(&entry("resolution: NONE", some)), [detected]);
    assert_eq!(
        remarks(&entry("resolution: STATIC, addresses: [10.0.0.1]", &both)),
        [""; 0]
    );
    let named = "{number: 80, name: http}, {number: 443, name: x, protocol: TLS}";
    assert_eq!(remarks(&entry("resolution: STATIC", named)), [""; 0]);
}

fn spec(kind: &str, spec: &str) -> String {
    let version = if kind == "Service" {
        "v1"
    } else {
        "networking.istio.io/v1"
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: user}}\nspec: {{{spec}}}\n")
}

#[test]
fn the_commonest_slips_are_told_what_was_meant() {
    let of_rule = "unknown field here, it belongs to a DestinationRule";
    let of_request = "unknown field here, it belongs to a VirtualService, under `http[]`";
    let labels = "unknown field here, it belongs under `labels`";
    let beside = "unknown field here, it belongs beside `trafficPolicy`";
    let to = "route: [{destination: {host: user}}]";
    for (kind, text, field, advice) in [
        (
            "DestinationRule",
            "host: user, subsets: [{name: a, version: v1}]",
            "subsets[0].version",
            labels,
        ),
        (
            "DestinationRule",
            "host: user, trafficPolicy: {subsets: [{name: a}]}",
            "trafficPolicy.subsets",
            beside,
        ),
        (
            "DestinationRule",
            "host: user, trafficPolicy: {host: user}",
            "trafficPolicy.host",
            beside,
        ),
        (
            "DestinationRule",
            "host: user, trafficPolicy: {labels: {a: b}}",
            "trafficPolicy.labels",
            "it belongs under `subsets[]`",
        ),
        (
            "DestinationRule",
            "host: user, trafficPolicy: {connectionPool: {http: {timeout: 3s}}}",
            "trafficPolicy.connectionPool.http.timeout",
            of_request,
        ),
        (
            "VirtualService",
            "hosts: [user], http: [{route: [{destination: {host: user, weight: 3}}]}]",
            "http[0].route[0].destination.weight",
            "it belongs beside `destination`",
        ),
        (
            "VirtualService",
            &format!("hosts: [user], http: [{{{to}, retry: {{}}}}]"),
            "http[0].retry",
            "`retries`",
        ),
        (
            "VirtualService",
            &format!("hosts: [user], http: [{{{to}, retries: {{attempts: 2, timeout: 3s}}}}]"),
            "http[0].retries.timeout",
            "did you mean `perTryTimeout`?",
        ),
        (
            "VirtualService",
            &format!("hosts: [user], http: [{{{to}, match: [{{path: {{exact: /}}}}]}}]"),
            "http[0].match[0].path",
            "did you mean `uri`?",
        ),
        (
            "VirtualService",
            &format!("hosts: [user], http: [{{{to}, trafficPolicy: {{}}}}]"),
            "http[0].trafficPolicy",
            of_rule,
        ),
        (
            "VirtualService",
            &format!("hosts: [user], subsets: [], http: [{{{to}}}]"),
            "subsets",
            of_rule,
        ),
        (
            "ServiceEntry",
            "hosts: [a.b], ports: [{port: 80, number: 81, name: http}]",
            "ports[0].port",
            "did you mean `number`?",
        ),
        (
            "ServiceEntry",
            &format!("hosts: [a.b], {PORTS}, resolution: STATIC, endpoints: [{{address: 10.0.0.1, version: v1}}]"),
            "endpoints[0].version",
            labels,
        ),
        ("WorkloadEntry", "address: 10.0.0.1, version: v1", "version", labels),
        (
            "Service",
            "ports: [{number: 80, port: 80}]",
            "ports[0].number",
            "did you mean `port`?",
        ),
    ] {
        assert_refused(&spec(kind, text), 4, &format!("spec.{field}"), advice);
    }
}

#[test]
fn what_is_wrong_is_told_once() {
    let problems = refused(&rule("", "exportTo: '.'"));
    assert_eq!(problems.len(), 1, "{problems:?}");
}

#[test]
fn a_whole_number_of_istios_may_have_a_point() {
    let with = |count: &str| format!("connectionPool: {{http: {{maxRetries: {count}}}}}");
    for (written, count) in [("1.0", 1), ("1e2", 100), ("0.0", 0)] {
        assert_eq!(
            policy(&with(written)).connection_pool.map(|pool| pool.max_retries),
            Some(count)
        );
    }
    let field = "connectionPool.http.maxRetries";
    assert_each_refused(&[
        (&with("1.5"), field, "must be a whole number"),
        (&with("1e300"), field, "is out of range"),
        (&with("-1.0"), field, "is out of range"),
        (
            "loadBalancer: {simple: LEASTCONN}",
            "loadBalancer.simple",
            "did you mean `LEAST_CONN`",
        ),
    ]);
    // As Kubernetes has it.
    assert_refused(
        &spec("Service", "ports: [{port: 80.0}]"),
        4,
        "spec.ports[0].port",
        "whole number",
    );
}
