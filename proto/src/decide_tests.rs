//! The traps of VirtualService matching, one by one.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::model::{HttpMatch, Source};
use crate::wire::mesh::{self, string_match::Kind};

/// Every decision of these tests is explained, too, and the explanation says the same.
fn decide<F: Fields>(table: &RouteTable, head: &RequestHead<'_, F>) -> Option<usize> {
    let decided = super::decide(table, head);
    let explained = explain(table, head, &Source::default());
    let rule = match explained.verdict {
        Verdict::Rule { index, .. } => Some(index),
        Verdict::NoRule | Verdict::NotConcerned => None,
    };
    assert_eq!(rule, decided, "{explained:?}");
    assert_eq!(explained.passed_over.len(), decided.unwrap_or(table.rules.len()));
    decided
}

fn text(kind: Kind) -> Option<mesh::StringMatch> {
    Some(mesh::StringMatch { kind: Some(kind) })
}

fn exact(value: &str) -> Option<mesh::StringMatch> {
    text(Kind::Exact(value.into()))
}

fn prefix(value: &str) -> Option<mesh::StringMatch> {
    text(Kind::Prefix(value.into()))
}

fn regex(value: &str) -> Option<mesh::StringMatch> {
    text(Kind::Regex(value.into()))
}

fn named(name: &str, value: Option<mesh::StringMatch>) -> Vec<mesh::NamedMatch> {
    vec![mesh::NamedMatch {
        name: name.into(),
        value,
    }]
}

fn destination(subset: &str, weight: u32) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: "h".into(),
        subset: subset.into(),
        weight,
        ..Default::default()
    }
}

fn table(rules: Vec<Vec<mesh::HttpMatch>>) -> RouteTable {
    let http = rules.into_iter().map(|matches| mesh::HttpRule {
        matches,
        route: vec![destination("v1", 100)],
        ..Default::default()
    });
    mesh::RouteTable {
        http: http.collect(),
        ..Default::default()
    }
    .try_into()
    .unwrap()
}

/// Does a rule with this match alone hold for the request?
fn holds_for(item: mesh::HttpMatch, path: &str, headers: &[(&str, &str)]) -> bool {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    let head = RequestHead {
        method: "GET",
        scheme: "http",
        path,
        query,
        authority: "user:80",
        headers: &map,
        port: 80,
    };
    decide(&table(vec![vec![item]]), &head).is_some()
}

fn uri(value: Option<mesh::StringMatch>) -> mesh::HttpMatch {
    mesh::HttpMatch {
        uri: value,
        ..Default::default()
    }
}

fn header(value: Option<mesh::StringMatch>) -> mesh::HttpMatch {
    mesh::HttpMatch {
        headers: named("x", value),
        ..Default::default()
    }
}

fn without(value: Option<mesh::StringMatch>) -> mesh::HttpMatch {
    mesh::HttpMatch {
        without_headers: named("x", value),
        ..Default::default()
    }
}

fn query(value: Option<mesh::StringMatch>) -> mesh::HttpMatch {
    mesh::HttpMatch {
        query_params: named("q", value),
        ..Default::default()
    }
}

#[test]
fn the_first_rule_that_matches_decides_and_nothing_falls_through() {
    let table = table(vec![vec![uri(prefix("/a"))], vec![uri(prefix("/"))], vec![]]);
    let headers = HeaderMap::new();
    let at = |path| RequestHead {
        method: "GET",
        scheme: "http",
        path,
        query: None,
        authority: "",
        headers: &headers,
        port: 80,
    };
    assert_eq!(decide(&table, &at("/ab")), Some(0));
    assert_eq!(decide(&table, &at("/b")), Some(1));
    assert_eq!(decide(&table, &at("*")), Some(2));
}

#[test]
fn items_of_a_match_are_alternatives_and_their_fields_must_all_hold() {
    let both = mesh::HttpMatch {
        method: exact("GET"),
        ..uri(exact("/a"))
    };
    let neither = mesh::HttpMatch {
        method: exact("POST"),
        ..uri(exact("/a"))
    };
    assert!(holds_for(both.clone(), "/a", &[]));
    assert!(!holds_for(both, "/b", &[]));
    assert!(!holds_for(neither.clone(), "/a", &[]));
    let headers = HeaderMap::new();
    let head = RequestHead {
        method: "GET",
        scheme: "http",
        path: "/a",
        query: None,
        authority: "",
        headers: &headers,
        port: 80,
    };
    assert_eq!(decide(&table(vec![vec![neither, uri(exact("/a"))]]), &head), Some(0));
}

#[test]
fn a_prefix_is_of_the_text_and_the_query_is_no_part_of_the_path() {
    assert!(holds_for(uri(prefix("/foo")), "/foobar", &[]));
    assert!(holds_for(uri(exact("/foo")), "/foo?x=1", &[]));
    assert!(!holds_for(uri(exact("/foo")), "/foo/", &[]));
    assert!(!holds_for(uri(exact("/foo")), "/FOO", &[]));
}

#[test]
fn case_is_ignored_only_where_the_rule_says_so() {
    for (value, path, holds) in [
        (exact("/Foo"), "/fOO", true),
        (prefix("/Foo"), "/FOObar", true),
        (regex("/F[o]+"), "/Foo", true),
        // Istio: "only in the case of exact and prefix".
        (regex("/F[o]+"), "/fooO", false),
    ] {
        assert_eq!(
            holds_for(
                mesh::HttpMatch {
                    ignore_uri_case: true,
                    ..uri(value)
                },
                path,
                &[]
            ),
            holds,
            "{path}"
        );
    }
}

#[test]
fn a_regex_must_match_the_whole_value() {
    assert!(holds_for(uri(regex("/a|/b")), "/b", &[]));
    assert!(!holds_for(uri(regex("/a|/b")), "/bc", &[]));
    assert!(!holds_for(uri(regex("a")), "/a", &[]));
    assert!(mesh_rejects("a)|(?:b"));
    assert!(mesh_rejects("("));
}

fn mesh_rejects(pattern: &str) -> bool {
    HttpMatch::try_from(uri(regex(pattern))).is_err()
}

#[test]
fn character_classes_are_ascii_as_in_re2() {
    for (pattern, yes, no) in [
        (r"\w+\d", "ab1", "é1"),
        (r"[\w-]+", "a-b", "a-é"),
        (r"\S+", "é", "a b"),
        (r"[^\s]\s", "é\t", "é\u{a0}"),
        (r"\\d", r"\d", "1"),
        (r".{3}", "aéb", "aé"),
        (r"a\b.+", "a-b", "ab"),
    ] {
        let regex = crate::model::full_match(pattern).unwrap();
        assert!(regex.is_match(yes.as_bytes()), "{pattern} {yes}");
        assert!(!regex.is_match(no.as_bytes()), "{pattern} {no}");
    }
}

#[test]
fn a_repeated_header_is_joined_with_commas_before_it_is_compared() {
    assert!(holds_for(header(exact("a,b")), "/", &[("x", "a"), ("x", "b")]));
    assert!(!holds_for(header(exact("a")), "/", &[("x", "a"), ("x", "b")]));
}

#[test]
fn a_missing_header_matches_nothing_and_an_empty_one_matches_presence_and_the_empty_text() {
    assert!(!holds_for(header(exact("")), "/", &[]));
    assert!(!holds_for(header(regex(".*")), "/", &[]));
    assert!(!holds_for(header(None), "/", &[]));
    assert!(holds_for(header(exact("")), "/", &[("x", "")]));
    assert!(holds_for(header(None), "/", &[("x", "")]));
}

#[test]
fn without_headers_takes_an_absent_header_for_the_empty_text() {
    assert!(holds_for(without(None), "/", &[]));
    assert!(!holds_for(without(None), "/", &[("x", "1")]));
    assert!(holds_for(without(exact("1")), "/", &[]));
    assert!(holds_for(without(exact("1")), "/", &[("x", "2")]));
    assert!(!holds_for(without(exact("1")), "/", &[("x", "1")]));
    assert!(!holds_for(without(regex(".*")), "/", &[]));
    assert!(!holds_for(without(exact("")), "/", &[]));
}

#[test]
fn only_the_first_value_of_a_query_parameter_counts() {
    assert!(holds_for(query(exact("1")), "/?q=1&q=2", &[]));
    assert!(!holds_for(query(exact("2")), "/?q=1&q=2", &[]));
    assert!(holds_for(query(exact("")), "/?q", &[]));
    assert!(holds_for(query(None), "/?a=1&q=", &[]));
    assert!(!holds_for(query(None), "/?qq=1", &[]));
}

#[test]
fn authority_and_port_are_those_that_the_client_asked_for() {
    assert!(holds_for(
        mesh::HttpMatch {
            authority: exact("user:80"),
            ..Default::default()
        },
        "/",
        &[]
    ));
    assert!(!holds_for(
        mesh::HttpMatch {
            authority: exact("user"),
            ..Default::default()
        },
        "/",
        &[]
    ));
    assert!(holds_for(
        mesh::HttpMatch {
            port: 80,
            ..Default::default()
        },
        "/",
        &[]
    ));
    assert!(!holds_for(
        mesh::HttpMatch {
            port: 81,
            ..Default::default()
        },
        "/",
        &[]
    ));
}

fn rule(weights: &[u32]) -> Result<RouteTable, crate::model::Invalid> {
    let route = weights.iter().map(|weight| destination("v", *weight)).collect();
    let http = vec![mesh::HttpRule {
        route,
        ..Default::default()
    }];
    mesh::RouteTable {
        http,
        name: "vs".into(),
        namespace: "ns".into(),
        ..Default::default()
    }
    .try_into()
}

#[test]
fn the_draw_follows_the_weights_whatever_their_sum() {
    let table = rule(&[1, 2]).unwrap();
    let route = table.rules[0].route().unwrap();
    let draw = |random| choose_destination(&route.destinations, route.total_weight, random);
    assert_eq!(
        (draw(0), draw(u64::MAX / 3 - 1), draw(u64::MAX / 3 + 2), draw(u64::MAX)),
        (0, 0, 1, 1)
    );
}

#[test]
fn a_single_destination_gets_everything_and_weight_0_of_several_nothing() {
    let only = rule(&[0]).unwrap();
    let route = only.rules[0].route().unwrap();
    assert_eq!(choose_destination(&route.destinations, route.total_weight, 5), 0);
    assert_eq!(rule(&[0, 7]).unwrap().rules[0].route().unwrap().destinations.len(), 1);
    assert_eq!(
        rule(&[0, 0]).unwrap_err().to_string(),
        "http[0].route: total destination weight = 0"
    );
    assert_eq!(rule(&[]).unwrap_err().field, "http[0].route");
}

#[test]
fn a_rule_without_a_name_is_labelled_by_its_virtual_service_and_place() {
    assert_eq!(rule(&[1]).unwrap().rules[0].label, "vs.ns/0");
}
