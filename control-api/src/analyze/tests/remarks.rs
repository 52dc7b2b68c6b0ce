//! What documents say that does nothing is told as by `apply`, each once.

use super::*;

/// `code field` of each.
fn codes(text: &str) -> Vec<String> {
    let all = findings_in(text);
    all.iter().map(|it| format!("{} {}", it.code, it.field)).collect()
}

fn entry(metadata: &str, ports: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: e{metadata}}}\nspec: {{hosts: [e.com], resolution: STATIC, ports: [{ports}], endpoints: [{{address: 10.0.0.1}}]}}\n---\n"
    )
}

#[test]
fn annotations_that_nobody_reads_have_the_codes_of_istio() {
    let text = entry(
        ", annotations: {tsunagi.io/outlier-detection: envoy}",
        "{number: 80, name: http}",
    );
    assert_eq!(
        codes(&text),
        ["IST0107 metadata.annotations[tsunagi.io/outlier-detection]"]
    );
    let text = text.replace("/outlier-detection", "/outlier");
    assert_eq!(codes(&text), ["IST0108 metadata.annotations[tsunagi.io/outlier]"]);
}

#[test]
fn a_port_whose_connections_are_not_met_is_told_and_not_that_they_are_detected() {
    assert_eq!(
        codes(&entry("", "{number: 99, name: x, protocol: TCP}")),
        ["IST0134 spec.ports"]
    );
    let detected = findings_in(&entry("", "{number: 99, name: x}"));
    let mut told: Vec<_> = detected.iter().map(|it| (it.code, it.what.as_str())).collect();
    told.sort_unstable();
    assert_eq!(
        told[0],
        (
            "IST0118",
            "port 99 says no protocol: connections are found to be HTTP or TLS for its hosts, or not met"
        )
    );
    assert_eq!((told.len(), told[1].0), (2, "IST0134"));
}

#[test]
fn a_second_policy_of_a_port_is_told_where_it_stands() {
    let of = |most: u32| format!("{{port: {{number: 80}}, connectionPool: {{tcp: {{maxConnections: {most}}}}}}}");
    let text = policy(
        "p",
        &format!(
            "host: shop, trafficPolicy: {{portLevelSettings: [{}, {}]}}",
            of(1),
            of(2)
        ),
    );
    assert_eq!(codes(&text), ["TSU-PORT spec.trafficPolicy.portLevelSettings[1].port"]);
}

#[test]
fn what_another_check_says_already_is_said_once() {
    let text = policy(
        "p",
        "host: shop, trafficPolicy: {loadBalancer: {simple: RANDOM, warmup: {duration: 5s}}}",
    );
    let warmup = "spec.trafficPolicy.loadBalancer.warmup";
    assert_eq!(codes(&text), [format!("TSU-WARMUP {warmup}")]);
}
