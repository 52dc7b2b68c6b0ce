//! Single steps of a request, in nanoseconds: what a feature costs each request.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method};
use tsunagi_proto::decide::{RequestHead, choose_destination, decide, decide_by_scan};
use tsunagi_proto::model::{self, EndpointSet, RouteTable, endpoints_checksum};
use tsunagi_proto::wire::mesh;
use tsunagi_proxy::telemetry::{Direction, Flags, Telemetry};
use tsunagi_proxy::upstream::{Registry, choose};

fn main() {
    divan::main();
}

const HOST: &str = "user-service.default.svc.cluster.local";

fn destination(subset: &str, weight: u32) -> mesh::WeightedDestination {
    let host = HOST.to_owned();
    mesh::WeightedDestination {
        host,
        subset: subset.to_owned(),
        weight,
        ..mesh::WeightedDestination::default()
    }
}

/// A header route, then 90/10.
fn table() -> RouteTable {
    let exact = mesh::StringMatch {
        kind: Some(mesh::string_match::Kind::Exact("v2".to_owned())),
    };
    let header = mesh::NamedMatch {
        name: "version".to_owned(),
        value: Some(exact),
    };
    let to_v2 = mesh::HttpRule {
        matches: vec![mesh::HttpMatch {
            headers: vec![header],
            ..mesh::HttpMatch::default()
        }],
        route: vec![destination("v2", 100)],
        ..mesh::HttpRule::default()
    };
    let split = mesh::HttpRule {
        route: vec![destination("v1", 90), destination("v2", 10)],
        ..mesh::HttpRule::default()
    };
    let table = mesh::RouteTable {
        namespace: "default".to_owned(),
        name: "user-service".to_owned(),
        http: vec![to_v2, split],
    };
    RouteTable::try_from(table).expect("valid rules")
}

#[divan::bench]
fn decide_by_header_then_split(bencher: Bencher<'_, '_>) {
    let table = table();
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let head = RequestHead {
        method: "GET",
        path: "/",
        query: None,
        authority: "user-service",
        headers: &headers,
        port: 80,
    };
    bencher.bench(|| decide(black_box(&table), black_box(&head)));
}

/// A rule for each path, or for each tenant of one path.
fn large_wire_table(rules: usize, by_tenant: bool) -> mesh::RouteTable {
    let exact = mesh::string_match::Kind::Exact;
    let text = |kind| Some(mesh::StringMatch { kind: Some(kind) });
    let rule = |number: usize| {
        let (uri, headers) = if by_tenant {
            let tenant = mesh::NamedMatch {
                name: "x-tenant".to_owned(),
                value: text(exact(format!("tenant-{number:05}"))),
            };
            ("/".to_owned(), vec![tenant])
        } else {
            (format!("/api/v1/service-{number:05}/"), Vec::new())
        };
        mesh::HttpRule {
            matches: vec![mesh::HttpMatch {
                uri: text(mesh::string_match::Kind::Prefix(uri)),
                headers,
                ..mesh::HttpMatch::default()
            }],
            route: vec![destination("v1", 100)],
            ..mesh::HttpRule::default()
        }
    };
    mesh::RouteTable {
        namespace: "default".to_owned(),
        name: "user-service".to_owned(),
        http: (0..rules).map(rule).collect(),
    }
}

/// The rules of a table, and which of them the request meets.
const LARGE: [(usize, Hit); 11] = [
    (1, Hit::Last),
    (2, Hit::Last),
    (8, Hit::Last),
    (10, Hit::First),
    (10, Hit::Last),
    (10, Hit::None),
    (100, Hit::Last),
    (1_000, Hit::Last),
    (10_000, Hit::First),
    (10_000, Hit::Last),
    (10_000, Hit::None),
];

#[derive(Clone, Copy, Debug)]
enum Hit {
    First,
    Last,
    None,
}

/// Runs `judge` on a request that meets the rule.
fn bench_decision(
    bencher: Bencher<'_, '_>,
    by_tenant: bool,
    (rules, hit): (usize, Hit),
    judge: fn(&RouteTable, &RequestHead<'_, HeaderMap>) -> Option<usize>,
) {
    let wire = large_wire_table(rules, by_tenant);
    let table = RouteTable::try_from(wire).expect("valid rules");
    let (met, expected) = match hit {
        Hit::First => (0, Some(0)),
        Hit::Last => (rules - 1, Some(rules - 1)),
        Hit::None => (rules, None),
    };
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    let tenant = HeaderValue::from_str(&format!("tenant-{met:05}"));
    headers.insert("x-tenant", tenant.expect("a header value"));
    let head = RequestHead {
        method: "GET",
        path: &format!("/api/v1/service-{met:05}/items/7"),
        query: None,
        authority: "user-service",
        headers: &headers,
        port: 80,
    };
    assert_eq!(judge(&table, &head), expected);
    bencher.bench(|| judge(black_box(&table), black_box(&head)));
}

#[divan::bench(args = LARGE)]
fn decide_by_path(bencher: Bencher<'_, '_>, case: (usize, Hit)) {
    bench_decision(bencher, false, case, decide);
}

#[divan::bench(args = LARGE)]
fn decide_by_tenant(bencher: Bencher<'_, '_>, case: (usize, Hit)) {
    bench_decision(bencher, true, case, decide);
}

/// Every request another rule, in no order: what one finds, the next does not find in the caches.
#[divan::bench(args = [1, 10, 100, 10_000])]
fn decide_by_path_of_any_rule(bencher: Bencher<'_, '_>, rules: usize) {
    let table = RouteTable::try_from(large_wire_table(rules, false)).expect("valid rules");
    let paths: Vec<_> = (0..10_000)
        .map(|number| format!("/api/v1/service-{:05}/items/7", number * 7_919 % rules))
        .collect();
    let headers = HeaderMap::new();
    let mut paths = paths.iter().cycle();
    bencher.bench_local(move || {
        let head = RequestHead {
            method: "GET",
            path: paths.next().map_or("", String::as_str),
            query: None,
            authority: "user-service",
            headers: &headers,
            port: 80,
        };
        decide(black_box(&table), black_box(&head))
    });
}

/// What the index is measured against.
#[divan::bench(args = LARGE)]
fn decide_by_path_rule_by_rule(bencher: Bencher<'_, '_>, case: (usize, Hit)) {
    bench_decision(bencher, false, case, decide_by_scan);
}

/// Its index included.
#[divan::bench(args = [10, 10_000], sample_count = 20)]
fn check_a_route_table(bencher: Bencher<'_, '_>, rules: usize) {
    bencher
        .with_inputs(|| large_wire_table(rules, false))
        .bench_values(|wire| RouteTable::try_from(wire).expect("valid rules"));
}

#[divan::bench]
fn draw_a_weighted_destination(bencher: Bencher<'_, '_>) {
    let table = table();
    let random = std::cell::Cell::new(1_u64);
    bencher.bench_local(|| {
        random.set(random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        choose_destination(black_box(&table.rules[1]), random.get())
    });
}

fn endpoints(count: u32) -> EndpointSet {
    let endpoint = |index: u32| mesh::Endpoint {
        id: format!("endpoint-{index:04}"),
        address: "127.0.0.1".to_owned(),
        ports: vec![mesh::EndpointPort {
            service_port: 80,
            port: 20_000 + index,
        }],
        ..mesh::Endpoint::default()
    };
    let upserts: Vec<_> = (0..count).map(endpoint).collect();
    let checksum = endpoints_checksum(&upserts);
    EndpointSet::whole(mesh::Endpoints {
        fqdn: HOST.to_owned(),
        upserts,
        checksum,
        ..mesh::Endpoints::default()
    })
    .expect("valid endpoints")
}

#[divan::bench(args = [2, 10, 1000])]
fn choose_an_endpoint_by_least_request(bencher: Bencher<'_, '_>, count: u32) {
    let policy = mesh::Cluster {
        host: HOST.to_owned(),
        port: 80,
        ..mesh::Cluster::default()
    };
    let policy = Arc::new(model::Cluster::try_from(policy).expect("a valid policy"));
    let registry = Registry::new(Telemetry::new("bench"), 1);
    let cluster = registry.cluster(&policy);
    let told: Vec<_> = endpoints(count).iter().cloned().collect();
    let members = cluster.reconcile(Arc::clone(&policy), &told);
    let mut random = 1_u64;
    let mut draw = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        random
    };
    bencher.bench_local(|| choose(&cluster, &policy, &members, &[], &mut draw).is_some());
}

#[divan::bench]
fn record_a_request(bencher: Bencher<'_, '_>) {
    let telemetry = Telemetry::new("bench");
    let series = telemetry.request_series(Direction::Outbound, "user-service.default/1", HOST, "v1");
    let elapsed = Duration::from_millis(3);
    bencher.bench(|| series.record(black_box(&Method::GET), black_box(200), Flags::default(), elapsed));
}
