//! What a decision costs at most: in a large table the matches that are looked at are counted, whatever tells the rules
//! apart; for longer paths, values, queries and more headers the time is compared, which may grow as they do and no faster,
//! whatever the regexes.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::decide::{RequestHead, decide};
use crate::model::RouteTable;
use crate::wire::mesh::{self, string_match::Kind};

const RULES: usize = 10_000;
/// Every rule of a large table asks for it, after what tells the rules apart.
const PROBE: &str = "x-probe";

fn text(kind: Kind) -> Option<mesh::StringMatch> {
    Some(mesh::StringMatch { kind: Some(kind) })
}

fn exact(value: impl Into<String>) -> Option<mesh::StringMatch> {
    text(Kind::Exact(value.into()))
}

fn prefix(value: impl Into<String>) -> Option<mesh::StringMatch> {
    text(Kind::Prefix(value.into()))
}

fn regex(value: impl Into<String>) -> Option<mesh::StringMatch> {
    text(Kind::Regex(value.into()))
}

fn named(name: impl Into<String>, value: Option<mesh::StringMatch>) -> mesh::NamedMatch {
    let name = name.into();
    mesh::NamedMatch { name, value }
}

fn table(matches: impl Iterator<Item = mesh::HttpMatch>) -> RouteTable {
    let rule = |item| mesh::HttpRule {
        matches: vec![item],
        route: vec![mesh::WeightedDestination {
            host: "h".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let wire = mesh::RouteTable {
        http: matches.map(rule).collect(),
        ..Default::default()
    };
    wire.try_into().expect("a valid table")
}

fn head<'a, F: Fields>(path: &'a str, query: Option<&'a str>, headers: &'a F) -> RequestHead<'a, F> {
    RequestHead {
        method: "GET",
        scheme: "http",
        path,
        query,
        authority: "h.test:80",
        headers,
        port: 80,
    }
}

/// Counts what is asked of it: by the index, and by every match that is looked at.
struct Probed {
    headers: HeaderMap,
    asked: Cell<usize>,
}

impl Fields for Probed {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.asked.set(self.asked.get() + 1);
        Fields::values(&self.headers, name)
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        Fields::names(&self.headers)
    }
}

/// What tells the rule of this number from all others.
type Shape = fn(usize) -> mesh::HttpMatch;

fn shapes() -> [(&'static str, Shape); 11] {
    [
        ("exact path", |number| mesh::HttpMatch {
            uri: exact(format!("/users/{number:05}")),
            ..Default::default()
        }),
        ("exact path in any case", |number| mesh::HttpMatch {
            uri: exact(format!("/USERS/{number:05}")),
            ignore_uri_case: true,
            ..Default::default()
        }),
        ("prefix", |number| mesh::HttpMatch {
            uri: prefix(format!("/users/{number:05}")),
            ..Default::default()
        }),
        ("prefix in any case", |number| mesh::HttpMatch {
            uri: prefix(format!("/Users/{number:05}")),
            ignore_uri_case: true,
            ..Default::default()
        }),
        ("start of a regex", |number| mesh::HttpMatch {
            uri: regex(format!("/users/{number:05}(/.*)?")),
            ..Default::default()
        }),
        ("header", |number| mesh::HttpMatch {
            headers: vec![named("tenant", exact(format!("t-{number:05}")))],
            ..Default::default()
        }),
        ("header's prefix", |number| mesh::HttpMatch {
            uri: prefix("/"),
            headers: vec![named("tenant", prefix(format!("t-{number:05}")))],
            ..Default::default()
        }),
        ("header's regex", |number| mesh::HttpMatch {
            uri: prefix("/users"),
            headers: vec![named("tenant", regex(format!("t-{number:05}[a-z]*")))],
            ..Default::default()
        }),
        ("name of a header", |number| mesh::HttpMatch {
            headers: vec![named(format!("x-{number:05}"), exact("1"))],
            ..Default::default()
        }),
        ("presence of a header", |number| mesh::HttpMatch {
            uri: prefix("/"),
            headers: vec![named(format!("x-{number:05}"), None)],
            ..Default::default()
        }),
        ("path, then all the rest", |number| mesh::HttpMatch {
            uri: prefix(format!("/users/{number:05}")),
            scheme: exact("http"),
            method: exact("GET"),
            authority: prefix("h.test"),
            port: 80,
            query_params: vec![named("q", regex("[0-9]+"))],
            without_headers: vec![named("x-not", None)],
            ..Default::default()
        }),
    ]
}

#[test]
fn of_ten_thousand_rules_a_request_meets_a_handful_whatever_tells_them_apart() {
    for (shape, item) in shapes() {
        let probed = |number| {
            let mut item = item(number);
            item.headers.push(named(PROBE, exact("yes")));
            item
        };
        // To compile ten thousand regexes takes seconds.
        let rules = if shape.contains("regex") { RULES / 10 } else { RULES };
        let table = table((0..rules).map(probed));
        for (number, probe, expected) in [
            (0, "yes", Some(0)),
            (rules / 2, "yes", Some(rules / 2)),
            (rules - 1, "yes", Some(rules - 1)),
            (rules - 1, "no", None),
            (rules, "yes", None),
        ] {
            let mut headers = HeaderMap::new();
            let mut add = |name: String, value: String| {
                let name = HeaderName::try_from(name).expect("a header name");
                headers.append(name, HeaderValue::try_from(value).expect("a header value"));
            };
            add("tenant".into(), format!("t-{number:05}"));
            add(format!("x-{number:05}"), "1".into());
            add(PROBE.into(), probe.into());
            let asked = Cell::new(0);
            let headers = Probed { headers, asked };
            let path = format!("/users/{number:05}");
            assert_eq!(
                decide(&table, &head(&path, Some("a=b&q=7"), &headers)),
                expected,
                "{shape}"
            );
            assert!(headers.asked.get() <= 8, "{shape}: {} times", headers.asked.get());
        }
    }
}

/// The least that one decision took of some.
fn cost(decide_once: &mut dyn FnMut()) -> Duration {
    let mut times = 1_u32;
    let mut fastest = Duration::MAX;
    for _ in 0..9 {
        let start = Instant::now();
        for _ in 0..times {
            decide_once();
        }
        let took = start.elapsed();
        fastest = fastest.min(took / times);
        // Until the clock tells them apart.
        if took < Duration::from_micros(200) {
            times *= 4;
        }
    }
    fastest
}

const SHORT: usize = 4 << 10;
const LONG: usize = 4 * SHORT;
/// Four times as much may cost four times as much, and the caches; quadratic would be sixteen times.
const AT_MOST: u32 = 10;
/// Others use the machine, too.
const TRIES: usize = 6;

/// What it took of each length, if it grew faster every time.
fn excess(case: impl Fn(usize) -> Box<dyn FnMut()>) -> Option<Vec<(Duration, Duration)>> {
    let mut costs = Vec::new();
    for _ in 0..TRIES {
        let (short, long) = (cost(&mut *case(SHORT)), cost(&mut *case(LONG)));
        if long <= (short + Duration::from_nanos(200)) * AT_MOST {
            return None;
        }
        costs.push((short, long));
    }
    Some(costs)
}

fn grows_linearly(what: &str, case: impl Fn(usize) -> Box<dyn FnMut()>) {
    if let Some(costs) = excess(case) {
        assert!(costs.is_empty(), "{what}: {SHORT} and {LONG} bytes took {costs:?}");
    }
}

#[test]
fn what_takes_quadratic_time_is_found() {
    let quadratic = |bytes: usize| -> Box<dyn FnMut()> {
        let steps = bytes / 64;
        Box::new(move || {
            for step in 0..steps * steps {
                black_box(step);
            }
        })
    };
    assert!(excess(quadratic).is_some());
}

/// Where an engine that backtracks takes exponential or at least quadratic time.
const HOSTILE: [(&str, &str); 12] = [
    ("(a*)*b", "a"),
    ("(a+)+$", "a!"),
    ("(a|aa)+b", "a"),
    ("(a|a)*c", "a"),
    ("(.*)(.*)(.*)x", "y"),
    (".*.*.*=.*", "="),
    ("(x+x+)+y", "x"),
    ("([a-z]+)*[0-9]", "k"),
    ("(?i)(k|s|ks)+z", "Ks"),
    ("(?:a{0,20}){0,20}b", "a"),
    ("[a-z]{0,900}!", "q"),
    (r"(\w+\s?)+!", "word "),
];

fn decision(table: RouteTable, path: String, query: Option<String>, headers: HeaderMap) -> Box<dyn FnMut()> {
    Box::new(move || {
        let head = head(&path, query.as_deref(), &headers);
        black_box(decide(black_box(&table), black_box(&head)));
    })
}

fn of_length(piece: &str, bytes: usize) -> String {
    piece.repeat(bytes / piece.len())
}

#[test]
fn a_hostile_regex_takes_time_that_grows_as_the_path_does() {
    for (pattern, piece) in HOSTILE {
        grows_linearly(pattern, |bytes| {
            let item = mesh::HttpMatch {
                uri: regex(pattern),
                ..Default::default()
            };
            decision(
                table([item].into_iter()),
                of_length(piece, bytes),
                None,
                HeaderMap::new(),
            )
        });
    }
}

#[test]
fn a_hostile_regex_takes_time_that_grows_as_a_headers_value_does_repeated_or_not() {
    for (pattern, piece) in HOSTILE {
        for parts in [1, 64] {
            grows_linearly(pattern, |bytes| {
                let item = mesh::HttpMatch {
                    headers: vec![named("a", regex(pattern))],
                    without_headers: vec![named("b", regex(pattern))],
                    ..Default::default()
                };
                let mut headers = HeaderMap::new();
                for _ in 0..parts {
                    let value = HeaderValue::try_from(of_length(piece, bytes / parts)).expect("a header value");
                    headers.append("a", value.clone());
                    headers.append("b", value);
                }
                decision(table([item].into_iter()), "/".into(), None, headers)
            });
        }
    }
}

/// Every rule's text starts as the request's does.
fn nested(rules: usize, item: impl Fn(String) -> mesh::HttpMatch) -> RouteTable {
    table((0..rules).map(|number| item(format!("/{}b", "a/".repeat(number)))))
}

#[test]
fn a_large_table_takes_time_that_grows_as_the_path_does() {
    grows_linearly("prefixes of prefixes", |bytes| {
        let table = nested(400, |text| mesh::HttpMatch {
            uri: prefix(text),
            ..Default::default()
        });
        decision(table, format!("/{}", of_length("a/", bytes)), None, HeaderMap::new())
    });
    grows_linearly("paths in any case", |bytes| {
        let table = nested(400, |text| mesh::HttpMatch {
            uri: exact(text),
            ignore_uri_case: true,
            ..Default::default()
        });
        decision(table, format!("/{}", of_length("A/", bytes)), None, HeaderMap::new())
    });
}

#[test]
fn a_query_takes_time_that_grows_as_it_does() {
    for piece in ["a=b&", "&&&&", "=&=&", "====", "aaaa", "q&qq"] {
        grows_linearly(piece, |bytes| {
            let item = |number: usize| mesh::HttpMatch {
                query_params: vec![named(format!("q{number}"), exact("1")), named("r", regex("(a*)*b"))],
                ..Default::default()
            };
            let query = Some(of_length(piece, bytes));
            decision(table((0..12).map(item)), "/".into(), query, HeaderMap::new())
        });
    }
}

#[test]
fn headers_take_time_that_grows_as_their_number_does() {
    grows_linearly("headers", |count| {
        let item = |number: usize| mesh::HttpMatch {
            headers: vec![named(format!("x-{number}"), exact("2"))],
            ..Default::default()
        };
        let mut headers = HeaderMap::new();
        for number in 0..count / 4 {
            let name = HeaderName::try_from(format!("x-{number}")).expect("a header name");
            headers.append(name, HeaderValue::from_static("1"));
        }
        decision(table((0..12).map(item)), "/".into(), None, headers)
    });
}
