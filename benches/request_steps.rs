//! Single steps of a request, in nanoseconds: what a feature costs each request.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue, Method};
use tsunagi_proto::decide::{RequestHead, choose_destination, decide};
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
