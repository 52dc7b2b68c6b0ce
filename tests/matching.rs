//! Each kind of match, through the wire: which rule got the request shows in a response header that the rule sets.

use http::header::{HeaderName, HeaderValue};
use tsunagi_tests::{Connection, Sample, SidecarOptions, Upstream, Version, Workload, request, service};

/// Rules in order: name and matches (YAML flow).
const RULES: &[(&str, &str)] = &[
    ("exact", "{uri: {exact: /exact}}"),
    ("prefix", "{uri: {prefix: /pre}}"),
    ("regex", "{uri: {regex: '/re/[0-9]+'}}"),
    ("any-case", "{uri: {exact: /CASE}, ignoreUriCase: true}"),
    ("method", "{method: {exact: DELETE}}"),
    ("authority", "{authority: {prefix: alias}}"),
    ("header-exact", "{headers: {x-kind: {exact: a}}}"),
    ("header-prefix", "{headers: {x-kind: {prefix: b-}}}"),
    ("header-regex", "{headers: {x-kind: {regex: 'c[0-9]'}}}"),
    ("header-joined", "{headers: {x-many: {exact: '1,2'}}}"),
    ("header-present", "{headers: {x-there: {}}}"),
    ("query-exact", "{queryParams: {v: {exact: '1'}}}"),
    ("query-prefix", "{queryParams: {v: {prefix: p}}}"),
    ("query-regex", "{queryParams: {v: {regex: 'r.'}}}"),
    (
        "two-of-one",
        "{uri: {prefix: /both}, headers: {x-also: {exact: 'yes'}}}",
    ),
    ("either", "{uri: {exact: /either}}, {uri: {exact: /or}}"),
    (
        "without-value",
        "{uri: {exact: /without-value}, withoutHeaders: {x-debug: {exact: 'on'}}}",
    ),
    (
        "without-any",
        "{uri: {exact: /without-any}, withoutHeaders: {x-debug: {}}}",
    ),
    ("port", "{uri: {exact: /port}, port: 80}"),
    ("hidden", "{uri: {exact: /exact}}"),
];

fn rules() -> String {
    let mut yaml = String::from(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo, alias.example.com]
  http:
",
    );
    for (name, matches) in RULES {
        yaml.push_str(&format!(
            "  - name: {name}
    match: [{matches}]
    headers: {{response: {{set: {{x-rule: {name}}}}}}}
    route: [{{destination: {{host: echo}}}}]
"
        ));
    }
    yaml
}

/// Host, method, target, headers -> the rule's name, or nothing.
type Case = (
    &'static str,
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const CASES: &[Case] = &[
    ("echo", "GET", "/exact", &[], "exact"),
    ("echo", "GET", "/exact?q=1", &[], "exact"),
    ("echo", "GET", "/exact/", &[], ""),
    ("echo", "GET", "/EXACT", &[], ""),
    ("echo", "GET", "/prefix", &[], "prefix"),
    ("echo", "GET", "/pre", &[], "prefix"),
    ("echo", "GET", "/Pre", &[], ""),
    ("echo", "GET", "/re/12", &[], "regex"),
    ("echo", "GET", "/re/12/x", &[], ""),
    ("echo", "GET", "/a/re/12", &[], ""),
    ("echo", "GET", "/cAsE", &[], "any-case"),
    ("echo", "DELETE", "/", &[], "method"),
    ("echo", "DELETE", "/exact", &[], "exact"),
    ("alias.example.com", "GET", "/", &[], "authority"),
    ("echo", "GET", "/", &[("x-kind", "a")], "header-exact"),
    ("echo", "GET", "/", &[("x-kind", "aa")], ""),
    ("echo", "GET", "/", &[("x-kind", "b-1")], "header-prefix"),
    ("echo", "GET", "/", &[("x-kind", "c1")], "header-regex"),
    ("echo", "GET", "/", &[("x-kind", "xc1")], ""),
    ("echo", "GET", "/", &[("x-many", "1"), ("x-many", "2")], "header-joined"),
    ("echo", "GET", "/", &[("x-many", "1")], ""),
    ("echo", "GET", "/", &[("x-there", "")], "header-present"),
    ("echo", "GET", "/?v=1", &[], "query-exact"),
    ("echo", "GET", "/?v=1&v=2", &[], "query-exact"),
    ("echo", "GET", "/?v=2&v=1", &[], ""),
    ("echo", "GET", "/?v=pq", &[], "query-prefix"),
    ("echo", "GET", "/?v=rx", &[], "query-regex"),
    ("echo", "GET", "/?v=rxx", &[], ""),
    ("echo", "GET", "/both", &[("x-also", "yes")], "two-of-one"),
    ("echo", "GET", "/both", &[("x-also", "no")], ""),
    ("echo", "GET", "/either", &[], "either"),
    ("echo", "GET", "/or", &[], "either"),
    ("echo", "GET", "/without-value", &[], "without-value"),
    ("echo", "GET", "/without-value", &[("x-debug", "off")], "without-value"),
    ("echo", "GET", "/without-value", &[("x-debug", "on")], ""),
    ("echo", "GET", "/without-any", &[], "without-any"),
    ("echo", "GET", "/without-any", &[("x-debug", "off")], ""),
    ("echo", "GET", "/port", &[], "port"),
    ("echo", "GET", "/nothing", &[], ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_match_decides_over_http1_and_http2() {
    let upstream = Upstream::start("v1").await;
    let address = upstream.address;
    let alias = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: alias
spec:
  hosts: [alias.example.com]
  ports:
  - {{number: 80, name: http, protocol: HTTP}}
  resolution: STATIC
  endpoints:
  - address: 127.0.0.1
    ports: {{http: {}}}
",
        address.port()
    );
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
