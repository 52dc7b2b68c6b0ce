//! Whatever literal text tells the rules of a table apart, the index files them so that a request meets few.

use super::*;
use crate::model::RouteTable;
use crate::wire::mesh::{self, string_match::Kind};

const RULES: usize = 10_000;

fn text(kind: Kind) -> Option<mesh::StringMatch> {
    Some(mesh::StringMatch { kind: Some(kind) })
}

fn exact(value: String) -> Option<mesh::StringMatch> {
    text(Kind::Exact(value))
}

fn prefix(value: String) -> Option<mesh::StringMatch> {
    text(Kind::Prefix(value))
}

fn header(name: &str, value: String) -> mesh::NamedMatch {
    mesh::NamedMatch {
        name: name.into(),
        value: exact(value),
    }
}

fn table(rules: usize, item: impl Fn(usize) -> mesh::HttpMatch) -> RouteTable {
    let rule = |number| mesh::HttpRule {
        matches: vec![item(number)],
        route: vec![mesh::WeightedDestination {
            host: "h".into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let http = (0..rules).map(rule).collect();
    mesh::RouteTable {
        http,
        ..Default::default()
    }
    .try_into()
    .expect("a valid table")
}

/// The most matches that share a text, and how many no text narrows.
fn crowd(node: &Node) -> (usize, usize) {
    let size = |bucket: &Bucket| match bucket {
        Bucket::Few { start, end } => ((end - start) as usize, 0),
        Bucket::Many(node) => crowd(node),
    };
    let named = node.named.iter().flat_map(|named| &named.looks);
    let looks = node.looks.iter().chain(named);
    let buckets = looks.flat_map(|look| &look.buckets).map(size);
    let (others, _) = size(&node.others);
    buckets.fold((0, others), |(most, others), (size, more)| {
        (most.max(size), others + more)
    })
}

#[test]
fn ten_thousand_rules_are_filed_a_few_to_a_text_whatever_tells_them_apart() {
    type Shape = fn(usize) -> mesh::HttpMatch;
    let shapes: [(&str, Shape); 9] = [
        ("path", |number| mesh::HttpMatch {
            uri: exact(format!("/{number}")),
            ..Default::default()
        }),
        ("prefix in any case", |number| mesh::HttpMatch {
            uri: prefix(format!("/Users/{number}/")),
            ignore_uri_case: true,
            ..Default::default()
        }),
        ("start of a regex", |number| mesh::HttpMatch {
            uri: text(Kind::Regex(format!("/{number}/[a-z]*"))),
            ..Default::default()
        }),
        ("authority", |number| mesh::HttpMatch {
            uri: prefix("/".into()),
            authority: exact(format!("{number}.test")),
            ..Default::default()
        }),
        ("header of one path", |number| mesh::HttpMatch {
            uri: prefix("/".into()),
            headers: vec![header("tenant", number.to_string())],
            ..Default::default()
        }),
        ("path and header", |number| mesh::HttpMatch {
            uri: prefix(format!("/{}/", number / 100)),
            headers: vec![header("tenant", (number % 100).to_string())],
            ..Default::default()
        }),
        ("four headers", |number| {
            let digit = |place: u32| header(&format!("x-{place}"), (number / 10_usize.pow(place) % 10).to_string());
            mesh::HttpMatch {
                headers: (0..4).map(digit).collect(),
                ..Default::default()
            }
        }),
        ("another header for each", |number| mesh::HttpMatch {
            headers: vec![header(&format!("x-{number}"), "1".into())],
            ..Default::default()
        }),
        ("method, seven to a path", |number| mesh::HttpMatch {
            uri: exact(format!("/{}", number / 7)),
            method: exact((number % 7).to_string()),
            ..Default::default()
        }),
    ];
    for (shape, item) in shapes {
        let table = table(RULES, item);
        let (most, others) = crowd(&table.index.as_ref().expect("of a large table").root);
        assert!((1..=FEW).contains(&most), "{shape}: {most} share a text");
        assert_eq!(others, 0, "{shape}");
    }
    let by_port = |number| mesh::HttpMatch {
        port: 1 + number as u32,
        ..Default::default()
    };
    let index = table(RULES, by_port).index;
    assert_eq!(crowd(&index.expect("of a large table").root), (0, RULES));
}

#[test]
fn what_follows_a_rule_for_every_request_is_not_filed() {
    let item = |number: usize| mesh::HttpMatch {
        uri: exact(format!("/{number}")).filter(|_| number != 20),
        ..Default::default()
    };
    let index = table(RULES, item).index.expect("of a large table");
    assert_eq!((index.catch_all, index.entries.len()), (Some(20), 20));
}

#[test]
fn a_small_table_has_no_index() {
    let item = |number: usize| mesh::HttpMatch {
        uri: exact(format!("/{number}")),
        ..Default::default()
    };
    assert!(table(FEW, item).index.is_none());
    assert!(table(FEW + 1, item).index.is_some());
}

#[test]
fn only_what_every_match_starts_with_is_the_start_of_a_regex() {
    for (pattern, start) in [
        ("/users/[0-9]+", "/users/"),
        (r"/users/\d+", "/users/"),
        ("/users", "/users"),
        ("/user+s", "/use"),
        ("/users*", "/user"),
        ("/é?", "/"),
        ("/a{0,2}", "/"),
        ("/a|/b", ""),
        ("/a(b|c)", ""),
        ("(?i)/a", ""),
        ("^/a", ""),
        (r"\+1", ""),
        (".*", ""),
        ("", ""),
    ] {
        let regex = crate::model::full_match(pattern).expect("a valid regex");
        assert_eq!(literal_start(&regex), start, "{pattern}");
    }
}
