//! Which rule a request meets, and which destination it draws.

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue};
use tsunagi_benches::told::{self, HOST};
use tsunagi_proto::decide::{RequestHead, choose_destination, decide, decide_by_scan};
use tsunagi_proto::model::RouteTable;
use tsunagi_proto::wire::mesh::{HttpMatch, NamedMatch, StringMatch, string_match};

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

/// What tells the rules of a table apart.
#[derive(Clone, Copy, Debug)]
enum Shape {
    ExactPath,
    Prefix,
    PrefixInAnyCase,
    Header,
    PrefixOfHeader,
    NameOfHeader,
    /// A prefix, and after it all else that a match can ask for.
    All,
}

const SHAPES: [(usize, Shape); 14] = {
    use Shape::{All, ExactPath, Header, NameOfHeader, Prefix, PrefixInAnyCase, PrefixOfHeader};
    [
        (10, ExactPath),
        (10, Prefix),
        (10, PrefixInAnyCase),
        (10, Header),
        (10, PrefixOfHeader),
        (10, NameOfHeader),
        (10, All),
        (10_000, ExactPath),
        (10_000, Prefix),
        (10_000, PrefixInAnyCase),
        (10_000, Header),
        (10_000, PrefixOfHeader),
        (10_000, NameOfHeader),
        (10_000, All),
    ]
};

impl Shape {
    fn item(self, number: usize) -> HttpMatch {
        let path = format!("/api/v1/service-{number:05}");
        let header = |name: String, value| {
            let headers = vec![NamedMatch { name, value }];
            HttpMatch {
                headers,
                ..HttpMatch::default()
            }
        };
        let tenant = |value| header("x-tenant".to_owned(), value);
        match self {
            Self::ExactPath => HttpMatch {
                uri: told::exact(&path),
                ..HttpMatch::default()
            },
            Self::Prefix => HttpMatch {
                uri: prefix(&path),
                ..HttpMatch::default()
            },
            Self::PrefixInAnyCase => HttpMatch {
                uri: prefix(&path),
                ignore_uri_case: true,
                ..HttpMatch::default()
            },
            Self::Header => tenant(told::exact(&format!("tenant-{number:05}"))),
            Self::PrefixOfHeader => tenant(prefix(&format!("tenant-{number:05}"))),
            Self::NameOfHeader => header(format!("x-{number:05}"), told::exact("1")),
            Self::All => HttpMatch {
                uri: prefix(&path),
                scheme: told::exact("http"),
                method: told::exact("GET"),
                authority: prefix("user-service"),
                port: 80,
                query_params: vec![NamedMatch {
                    name: "page".to_owned(),
                    value: told::exact("7"),
                }],
                ..tenant(None)
            },
        }
    }

    fn table(self, rules: usize) -> RouteTable {
        let mut wire = told::many_rules(HOST, rules, false);
        for (number, rule) in wire.http.iter_mut().enumerate() {
            rule.matches = vec![self.item(number)];
        }
        RouteTable::try_from(wire).expect("valid rules")
    }
}

fn prefix(text: &str) -> Option<StringMatch> {
    Some(StringMatch {
        kind: Some(string_match::Kind::Prefix(text.to_owned())),
    })
}

/// Less than 1 us of ten rules, less than 3 us of ten thousand: the last one is met.
#[divan::bench(args = SHAPES)]
fn decide_whatever_tells_rules_apart(bencher: Bencher<'_, '_>, (rules, shape): (usize, Shape)) {
    let table = shape.table(rules);
    let mut headers = HeaderMap::new();
    let of_browser = [
        ("user-agent", "bench"),
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("cookie", "a=b; c=d"),
    ];
    for (name, value) in of_browser {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let mut add = |name: String, value: String| {
        let name = HeaderName::try_from(name).expect("a header name");
        headers.insert(name, HeaderValue::try_from(value).expect("a header value"));
    };
    add("x-tenant".to_owned(), format!("tenant-{:05}", rules - 1));
    add(format!("x-{:05}", rules - 1), "1".to_owned());
    let path = format!("/api/v1/service-{:05}", rules - 1);
    let head = RequestHead {
        query: Some("sort=up&page=7"),
        ..head(&path, &headers)
    };
    assert_eq!(decide(&table, &head), Some(rules - 1));
    bencher.bench(|| decide(black_box(&table), black_box(&head)));
}

/// Where an engine that backtracks takes exponential time: four times the path, four times the time.
#[divan::bench(args = [("(a*)*b", 1_000), ("(a*)*b", 4_000), ("(.*)(.*)(.*)x", 1_000), ("(.*)(.*)(.*)x", 4_000),
    ("(?:a{0,20}){0,20}[0-9]", 1_000), ("(?:a{0,20}){0,20}[0-9]", 4_000)])]
fn decide_by_a_hostile_regex(bencher: Bencher<'_, '_>, (pattern, bytes): (&'static str, usize)) {
    let mut wire = told::many_rules(HOST, 1, false);
    wire.http[0].matches = vec![HttpMatch {
        uri: Some(StringMatch {
            kind: Some(string_match::Kind::Regex(pattern.to_owned())),
        }),
        ..HttpMatch::default()
    }];
    let table = RouteTable::try_from(wire).expect("a valid rule");
    let (path, headers) = ("a".repeat(bytes), HeaderMap::new());
    let head = head(&path, &headers);
    assert_eq!(decide(&table, &head), None);
    bencher.bench(|| decide(black_box(&table), black_box(&head)));
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
