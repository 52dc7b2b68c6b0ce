//! Which rule a request meets, and which destination it draws.

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderValue};
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::decide::{RequestHead, choose_destination, decide, decide_by_scan};
use tsunagi_proto::model::RouteTable;

use crate::sequence;

fn table() -> RouteTable {
    RouteTable::try_from(told::split(HOST)).expect("valid rules")
}

fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> RequestHead<'a, HeaderMap> {
    RequestHead {
        method: "GET",
        scheme: "http",
        path,
        query: None,
        authority: "user-service",
        headers,
        port: 80,
    }
}

#[divan::bench]
fn decide_by_header_then_split(bencher: Bencher<'_, '_>) {
    let table = table();
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let head = head("/", &headers);
    bencher.bench(|| decide(black_box(&table), black_box(&head)));
}

/// The rules of a table, and which of them the request meets.
const LARGE: [(usize, Hit); 9] = [
    (1, Hit::Last),
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
    let table = RouteTable::try_from(told::many_rules(HOST, rules, by_tenant)).expect("valid rules");
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
    let path = format!("/api/v1/service-{met:05}/items/7");
    let head = head(&path, &headers);
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
#[divan::bench(args = [1, 10, 100, 10_000], sample_size = 1000)]
fn decide_by_path_of_any_rule(bencher: Bencher<'_, '_>, rules: usize) {
    let table = RouteTable::try_from(told::many_rules(HOST, rules, false)).expect("valid rules");
    let paths: Vec<_> = (0..10_000)
        .map(|number| format!("/api/v1/service-{:05}/items/7", number * 7_919 % rules))
        .collect();
    let headers = HeaderMap::new();
    let mut paths = paths.iter().cycle();
    bencher.bench_local(move || {
        let path = paths.next().map_or("", String::as_str);
        decide(black_box(&table), black_box(&head(path, &headers)))
    });
}

/// What the index is measured against.
#[divan::bench(args = LARGE)]
fn decide_by_path_rule_by_rule(bencher: Bencher<'_, '_>, case: (usize, Hit)) {
    bench_decision(bencher, false, case, decide_by_scan);
}

#[divan::bench]
fn draw_a_weighted_destination(bencher: Bencher<'_, '_>) {
    let (table, mut random) = (table(), sequence());
    let route = table.rules[1].route().expect("a rule with destinations");
    bencher.bench_local(|| choose_destination(black_box(&route.destinations), route.total_weight, random()));
}

/// The random number that the draw and the choice of an endpoint are made of.
#[divan::bench(sample_size = 1000)]
fn make_a_random_number(bencher: Bencher<'_, '_>) {
    // The first makes the thread's generator.
    let _: u64 = rand::random();
    bencher.bench_local(rand::random::<u64>);
}
