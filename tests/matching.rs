//! Each kind of match, through the wire: which rule got the request shows in a response header that the rule sets.

use http::header::{HeaderName, HeaderValue};
use tsunagi_tests::{Connection, Sample, SidecarOptions, Upstream, Version, Workload, request, service};

#[path = "matching/corpus.rs"]
mod corpus;

use corpus::{CASES, rules};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_match_decides_over_http1_and_http2() {
    let upstream = Upstream::start("v1").await;
    let address = upstream.address;
    let alias = corpus::alias(address);
    let sample = Sample::of(
        "http",
        vec![upstream],
        &["v1"],
        &format!("{alias}---\n{}", rules()),
        &SidecarOptions::default(),
    )
    .await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(sample.sidecar.outbound, version).await;
        for (host, method, target, headers, rule) in CASES {
            let mut sent = request(method, host, target);
            for (name, value) in *headers {
                sent.headers_mut()
                    .append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let reply = connection.send(sent).await;
            let case = format!("{version:?} {method} {host}{target} {headers:?}");
            assert_eq!(
                reply.header("x-rule").unwrap_or_default(),
                *rule,
                "{case}: {} {}",
                reply.status,
                reply.text()
            );
            if rule.is_empty() {
                assert_eq!((reply.status, reply.flags()), (404, "NR"), "{case}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_need_not_sum_up_to_a_hundred_and_a_destination_of_weight_zero_gets_nothing() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - route:
    - {destination: {host: echo}, weight: 3}
    - {destination: {host: other}, weight: 1}
    - {destination: {host: nowhere}, weight: 0}
";
    let sample = Sample::start(rules).await;
    let other = Upstream::start("other").await;
    let workload = Workload {
        version: "v1",
        address: other.address,
    };
    sample.control.apply(&service("other", "http", &[workload])).await;
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..2000 {
        assert_eq!(connection.get("echo", "/").await.status, 200);
    }
    let (low, high) = tsunagi_tests::binomial_bounds(2000, 0.25, 1e-6);
    assert!(
        (low..=high).contains(&other.requests()),
        "{} of 2000, not in {low}..={high}",
        other.requests()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_name_in_a_rule_means_the_rules_own_namespace() {
    let shop = Upstream::start("shop").await;
    let sample = Sample::start("").await;
    let workload = Workload {
        version: "v1",
        address: shop.address,
    };
    let rule = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: front
spec:
  hosts: [front]
  http:
  - route: [{destination: {host: echo}}]
";
    let documents = [
        service("front", "http", &[]),
        service("echo", "http", &[workload]),
        rule.to_owned(),
    ]
    .join("---\n");
    let applied = sample
        .control
        .cli_with_input(&["apply", "-f", "-", "-n", "shop"], &documents)
        .await;
    assert_eq!(applied.code, 0, "{}", applied.stderr);
    assert_eq!(sample.sidecar.get("front.shop", "/").await.text(), "shop");
    assert_eq!(sample.get("/").await.text(), "v1");
}
