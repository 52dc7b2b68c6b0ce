//! The index narrows and never decides otherwise: on random tables and requests made to meet them, it answers what the
//! scan answers.

use std::cell::Cell;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::decide::{RequestHead, Verdict, decide, explain, matched_item, scan};
use crate::model::{HttpMatch, RouteTable, Source, SourceMatch, StringMatch};
use crate::wire::mesh::{self, string_match::Kind};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

const NAMES: [&str; 4] = ["tenant", "x-a", "x-b", "version"];
const METHODS: [&str; 3] = ["GET", "POST", "OPTIONS"];
const SCHEMES: [&str; 2] = ["http", "https"];
const NAMESPACES: [&str; 2] = ["shop", "bank"];
const REGEXES: [&str; 10] = [
    "/a+.*",
    "/a?/b.*",
    "/ab{0,1}.*",
    "/a|/b.*",
    "(?i)/A.*",
    "/A.*",
    "/é*.*",
    r"/a\/.*",
    "[0-9]+",
    ".*",
];

/// Few letters, so that texts share starts; now and then one in upper case or beyond ASCII.
fn text(random: &mut Random, longest: usize) -> String {
    let length = random.below(longest + 1);
    let letters = (0..length).map(|_| random.of(&['a', 'b', '/', 'a', 'b', '/', 'A', 'B', 'é', '1']));
    letters.collect()
}

fn path(random: &mut Random) -> String {
    let rest = text(random, 6);
    format!("/{rest}")
}

fn value(random: &mut Random) -> String {
    match random.below(4) {
        0 => text(random, 2),
        1 => format!("{},{}", random.below(9), random.below(9)),
        _ => random.below(40).to_string(),
    }
}

fn wanted(random: &mut Random, text: String) -> Option<mesh::StringMatch> {
    let kind = match random.below(9) {
        0..4 => Kind::Exact(text),
        4..8 => Kind::Prefix(text),
        _ => Kind::Regex(random.of(&REGEXES).to_owned()),
    };
    Some(mesh::StringMatch { kind: Some(kind) })
}

fn labels(random: &mut Random, one_in: usize) -> Vec<mesh::Label> {
    let count = if random.once_in(one_in) { 1 + random.below(2) } else { 0 };
    let one = |random: &mut Random| mesh::Label {
        key: random.of(&["app", "version"]).to_owned(),
        value: random.below(2).to_string(),
    };
    (0..count).map(|_| one(random)).collect()
}

/// A client; the rules are for some of them only.
fn source(random: &mut Random) -> Source {
    let labels = labels(random, 1);
    Source {
        namespace: random.of(&NAMESPACES).to_owned(),
        labels: labels.into_iter().map(|label| (label.key, label.value)).collect(),
    }
}

fn named(random: &mut Random, one_in: usize) -> Vec<mesh::NamedMatch> {
    let count = if random.once_in(one_in) { 1 + random.below(2) } else { 0 };
    let one = |random: &mut Random| mesh::NamedMatch {
        name: random.of(&NAMES).to_owned(),
        value: (!random.once_in(6))
            .then(|| value(random))
            .and_then(|text| wanted(random, text)),
    };
    (0..count).map(|_| one(random)).collect()
}

/// A table's own habits, so that some differ in their paths, others in their headers, others in nothing.
struct Habits {
    /// Of these, not of all.
    paths: Vec<String>,
    uri_in: usize,
    headers_in: usize,
    rest_in: usize,
}

fn http_match(random: &mut Random, habits: &Habits) -> mesh::HttpMatch {
    let uri = random.once_in(habits.uri_in).then(|| {
        let chosen = random.below(habits.paths.len() + 1);
        habits.paths.get(chosen).cloned().unwrap_or_else(|| path(random))
    });
    let method = random.once_in(habits.rest_in).then(|| random.of(&METHODS).to_owned());
    let authority = random.once_in(habits.rest_in).then(|| value(random));
    let scheme = random.once_in(habits.rest_in).then(|| random.of(&SCHEMES).to_owned());
    mesh::HttpMatch {
        uri: uri.and_then(|text| wanted(random, text)),
        ignore_uri_case: random.once_in(3),
        method: method.and_then(|text| wanted(random, text)),
        authority: authority.and_then(|text| wanted(random, text)),
        headers: named(random, habits.headers_in),
        without_headers: named(random, 8),
        query_params: named(random, 12),
        port: if random.once_in(10) { random.of(&[80, 81]) } else { 0 },
        scheme: scheme.and_then(|text| wanted(random, text)),
        source_labels: labels(random, 8),
        source_namespace: if random.once_in(12) { random.of(&NAMESPACES) } else { "" }.to_owned(),
        ..Default::default()
    }
}

fn random_table(random: &mut Random) -> RouteTable {
    let largest = random.of(&[3, 12, 60, 400]);
    let few_paths = 1 + random.below(4);
    let habits = Habits {
        paths: (0..few_paths).map(|_| path(random)).collect(),
        uri_in: random.of(&[1, 1, 3]),
        headers_in: random.of(&[1, 2, 6]),
        rest_in: random.of(&[2, 5, 20]),
    };
    let rule = |random: &mut Random| mesh::HttpRule {
        matches: (0..if random.once_in(300) { 0 } else { 1 + random.below(3) })
            .map(|_| http_match(random, &habits))
            .collect(),
        route: vec![mesh::WeightedDestination {
            host: "h".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let http = (0..1 + random.below(largest)).map(|_| rule(random)).collect();
    let table = mesh::RouteTable {
        http,
        ..Default::default()
    };
    table.try_into().expect("a valid table")
}

/// What a text of the table's asks for, at times with more behind it or in other letters.
fn asked(random: &mut Random, wanted: &StringMatch) -> String {
    let mut text = match wanted {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => text.clone(),
        StringMatch::Regex(_) => path(random),
    };
    match random.below(6) {
        0 => text.push_str(&value(random)),
        1 => text = text.to_ascii_uppercase(),
        2 => drop(text.pop()),
        _ => {}
    }
    text
}

struct Request {
    method: String,
    scheme: String,
    path: String,
    query: Option<String>,
    authority: String,
    headers: HeaderMap,
    port: u16,
}

/// Made after one of the table's matches, so that it is likely to meet it.
fn request(random: &mut Random, table: &RouteTable) -> Request {
    let rule = &table.rules[random.below(table.rules.len())];
    let none = HttpMatch::default();
    let item = rule
        .matches
        .first()
        .map_or(&none, |_| &rule.matches[random.below(rule.matches.len())]);
    let mut headers = HeaderMap::new();
    let mut add = |name: HeaderName, value: &str| {
        headers.append(name, HeaderValue::from_str(value).expect("a header value"));
    };
    for header in &item.headers {
        let text = header
            .value
            .as_ref()
            .map_or(String::new(), |wanted| asked(random, wanted));
        match text.split_once(',') {
            Some((first, second)) if random.once_in(2) => {
                add(header.name.clone(), first);
                add(header.name.clone(), second);
            }
            _ => add(header.name.clone(), &text),
        }
    }
    if random.once_in(2) {
        add(HeaderName::from_static(random.of(&NAMES)), &value(random));
    }
    let query = item.query_params.iter().map(|wanted| {
        let value = wanted
            .value
            .as_ref()
            .map_or(String::new(), |wanted| asked(random, wanted));
        format!("{}={value}", wanted.name)
    });
    let query = query.collect::<Vec<_>>().join("&");
    let mut text =
        |wanted: &Option<StringMatch>, other: String| wanted.as_ref().map_or(other, |wanted| asked(random, wanted));
    Request {
        method: text(&item.method, "GET".into()),
        scheme: text(&item.scheme, "http".into()),
        path: text(&item.uri, "/a/b".into()),
        query: (!query.is_empty()).then_some(query),
        authority: text(&item.authority, "1".into()),
        headers,
        port: item.port.unwrap_or(80),
    }
}

/// Header fields in the sender's spelling, in the sender's order.
#[derive(Debug)]
struct Spelled(Vec<(String, Vec<u8>)>);

impl Fields for Spelled {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        let own = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_str()));
        own.map(|(_, value)| value.as_slice())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(name, _)| name.as_bytes())
    }
}

fn spelled(headers: &HeaderMap) -> Spelled {
    let fields = headers
        .iter()
        .map(|(name, value)| (name.as_str().to_ascii_uppercase(), value.as_bytes().to_vec()));
    Spelled(fields.collect())
}

#[test]
fn the_index_answers_what_the_scan_answers() {
    let mut random = Random(3);
    let (mut decisions, mut first, mut later, mut none) = (0, 0, 0, 0);
    while decisions < 200_000 {
        let table = random_table(&mut random);
        let index = RuleIndex::over(&table.rules);
        for _ in 0..400 {
            let request = request(&mut random, &table);
            let head = RequestHead {
                method: &request.method,
                scheme: &request.scheme,
                path: &request.path,
                query: request.query.as_deref(),
                authority: &request.authority,
                headers: &request.headers,
                port: request.port,
            };
            let expected = scan::first_match(&table.rules, &head);
            assert_eq!(
                first_match(&table.rules, &index, &head),
                expected,
                "{head:?}\n{:#?}",
                table.rules.iter().map(|rule| &rule.matches).collect::<Vec<_>>()
            );
            if decisions % 16 == 0 {
                let fields = spelled(&request.headers);
                let head = RequestHead {
                    method: head.method,
                    scheme: head.scheme,
                    path: head.path,
                    query: head.query,
                    authority: head.authority,
                    headers: &fields,
                    port: head.port,
                };
                assert_eq!(first_match(&table.rules, &index, &head), expected, "{head:?}");
                assert_eq!(scan::first_match(&table.rules, &head), expected, "{head:?}");
                assert_eq!(decide(&table, &head), expected, "{head:?}");
            }
            decisions += 1;
            match expected {
                Some(0) => first += 1,
                Some(_) => later += 1,
                None => none += 1,
            }
        }
    }
    // Else the requests test less than they seem to.
    assert!(
        first > 5_000 && later > 50_000 && none > 5_000,
        "{first} {later} {none}"
    );
}

/// Some matches are for the clients of a namespace, some for those with a label.
fn divide(random: &mut Random, table: &mut RouteTable) {
    for item in table.rules.iter_mut().flat_map(|rule| &mut rule.matches) {
        let label = |value: &str| [("app".to_owned(), value.to_owned())].into();
        item.source = match random.below(12) {
            0 => SourceMatch {
                namespace: Some(random.of(&["shop", "web"]).to_owned()),
                ..SourceMatch::default()
            },
            1 => SourceMatch {
                labels: label(random.of(&["a", "b"])),
                ..SourceMatch::default()
            },
            _ => SourceMatch::default(),
        };
    }
}

#[test]
fn what_is_explained_is_what_a_proxy_decides() {
    let mut random = Random(7);
    let clients = [("shop", "a"), ("web", "b"), ("web", "c")].map(|(namespace, app)| Source {
        namespace: namespace.to_owned(),
        labels: [("app".to_owned(), app.to_owned())].into(),
    });
    let (mut decisions, mut others, mut none, mut not_concerned) = (0, 0, 0, 0);
    while decisions < 200_000 {
        let mut table = random_table(&mut random);
        divide(&mut random, &mut table);
        // As a proxy of each client holds it.
        let told = clients.clone().map(|client| table.clone().for_source(&client));
        for _ in 0..400 {
            let request = request(&mut random, &table);
            let client = random.below(clients.len());
            let (source, told) = (&clients[client], &told[client]);
            let head = RequestHead {
                method: &request.method,
                scheme: "http",
                path: &request.path,
                query: request.query.as_deref(),
                authority: &request.authority,
                headers: &request.headers,
                port: request.port,
            };
            let explanation = explain(&table, &head, source);
            let decided = decide(told, &head).map(|index| &told.rules[index]);
            let routed = told.rules.iter().any(|rule| rule.concerns(head.port));
            match explanation.verdict {
                Verdict::Rule { index, item } => {
                    let rule = &table.rules[index];
                    assert_eq!(decided.map(|rule| &rule.origin), Some(&rule.origin), "{head:?}");
                    let met = decided.and_then(|rule| matched_item(rule, &head));
                    let said = item.map(|item| &rule.matches[item]);
                    assert_eq!(format!("{met:?}"), format!("{said:?}"));
                }
                Verdict::NoRule => assert!(decided.is_none() && routed, "{head:?}"),
                Verdict::NotConcerned => assert!(decided.is_none() && !routed, "{head:?}"),
            }
            for passed in &explanation.passed_over {
                assert_eq!(passed.reasons.len(), table.rules[passed.index].matches.len());
                let for_others = |reason: &&crate::decide::Mismatch| reason.predicate.starts_with("source");
                others += passed.reasons.iter().filter(for_others).count();
            }
            decisions += 1;
            none += usize::from(explanation.verdict == Verdict::NoRule);
            not_concerned += usize::from(explanation.verdict == Verdict::NotConcerned);
        }
    }
    // Else the requests test less than they seem to.
    assert!(
        others > 100_000 && none > 5_000 && not_concerned > 100,
        "{others} {none} {not_concerned}"
    );
}

/// The first rule that has no matches, or one that is for the client and holds; by the place where it is written.
fn for_client<F: Fields>(table: &RouteTable, source: &Source, head: &RequestHead<'_, F>) -> Option<usize> {
    let holds = |item: &HttpMatch| item.source.admits(source) && match_holds(item, head);
    let mut rules = table.rules.iter();
    let found = rules.find(|rule| rule.matches.is_empty() || rule.matches.iter().any(holds));
    found.map(|rule| rule.origin.index)
}

#[test]
fn a_clients_own_table_answers_what_the_whole_says_of_it() {
    let mut random = Random(11);
    let (mut met, mut otherwise) = (0, 0);
    for _ in 0..200 {
        let table = random_table(&mut random);
        let source = source(&mut random);
        let own = table.clone().for_source(&source);
        for _ in 0..100 {
            let request = request(&mut random, &table);
            let head = RequestHead {
                method: &request.method,
                scheme: &request.scheme,
                path: &request.path,
                query: request.query.as_deref(),
                authority: &request.authority,
                headers: &request.headers,
                port: request.port,
            };
            let written_at = |number: usize| own.rules[number].origin.index;
            let expected = for_client(&table, &source, &head);
            assert_eq!(decide(&own, &head).map(written_at), expected, "{source:?} {head:?}");
            assert_eq!(scan::first_match(&own.rules, &head).map(written_at), expected);
            met += usize::from(expected.is_some());
            otherwise += usize::from(decide(&table, &head) != expected);
        }
    }
    assert!(met > 6_000 && otherwise > 600, "{met} {otherwise}");
}

/// One header, and how often anything was asked of it.
#[derive(Debug)]
struct Counted(&'static str, Cell<usize>);

impl Fields for Counted {
    fn values<'a>(&'a self, _: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.1.set(self.1.get() + 1);
        std::iter::once(self.0.as_bytes())
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once("tenant".as_bytes())
    }
}

#[test]
fn of_ten_thousand_tenants_only_the_requests_own_is_looked_at() {
    let rule = |tenant: usize| mesh::HttpRule {
        matches: vec![mesh::HttpMatch {
            uri: Some(mesh::StringMatch {
                kind: Some(Kind::Prefix("/".into())),
            }),
            headers: vec![mesh::NamedMatch {
                name: "tenant".into(),
                value: Some(mesh::StringMatch {
                    kind: Some(Kind::Exact(format!("t-{tenant}"))),
                }),
            }],
            ..Default::default()
        }],
        route: vec![mesh::WeightedDestination {
            host: "h".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let table: RouteTable = mesh::RouteTable {
        http: (0..10_000).map(rule).collect(),
        ..Default::default()
    }
    .try_into()
    .expect("a valid table");
    let headers = Counted("t-9876", Cell::new(0));
    let head = RequestHead {
        method: "GET",
        scheme: "http",
        path: "/",
        query: None,
        authority: "",
        headers: &headers,
        port: 80,
    };
    assert_eq!(decide(&table, &head), Some(9876));
    // Once by the index, once by the match that it found.
    assert_eq!(headers.1.get(), 2);
}
