//! What an explanation says, predicate by predicate; that it never disagrees with the decision is tested beside that.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;
use crate::wire::mesh::{self, string_match::Kind};

fn exact(value: &str) -> Option<mesh::StringMatch> {
    let kind = Some(Kind::Exact(value.to_owned()));
    Some(mesh::StringMatch { kind })
}

fn named(name: &str, value: Option<mesh::StringMatch>) -> Vec<mesh::NamedMatch> {
    let name = name.to_owned();
    vec![mesh::NamedMatch { name, value }]
}

fn route() -> Vec<mesh::WeightedDestination> {
    vec![mesh::WeightedDestination {
        host: "h".to_owned(),
        ..Default::default()
    }]
}

fn table(rules: Vec<Vec<mesh::HttpMatch>>) -> RouteTable {
    let http = rules.into_iter().map(|matches| mesh::HttpRule {
        matches,
        route: route(),
        ..Default::default()
    });
    let table = mesh::RouteTable {
        http: http.collect(),
        ..Default::default()
    };
    table.try_into().expect("a valid table")
}

fn client() -> Source {
    Source {
        namespace: "web".to_owned(),
        labels: [("app".to_owned(), "api".to_owned())].into(),
    }
}

/// Of `POST /a?v=2` for port 80, with one header.
fn explained(rules: Vec<Vec<mesh::HttpMatch>>, (name, value): (&'static str, &str)) -> Explanation {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::from_str(value).expect("a header value");
    headers.insert(HeaderName::from_static(name), value);
    let head = RequestHead {
        method: "POST",
        scheme: "http",
        path: "/a",
        query: Some("v=2"),
        authority: "user:80",
        headers: &headers,
        port: 80,
    };
    explain(&table(rules), &head, &client())
}

fn reason(item: mesh::HttpMatch, header: (&'static str, &str)) -> String {
    let explanation = explained(vec![vec![item]], header);
    let [passed] = explanation.passed_over.as_slice() else {
        return format!("{explanation:?}");
    };
    passed.reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn of_each_match_the_first_predicate_that_fails_is_told_with_what_was_wanted_and_found() {
    let item = mesh::HttpMatch::default;
    let regex = |text: &str| {
        let kind = Some(Kind::Regex(text.to_owned()));
        Some(mesh::StringMatch { kind })
    };
    let label = |value: &str| mesh::Label {
        key: "app".to_owned(),
        value: value.to_owned(),
    };
    for (item, expected) in [
        (
            mesh::HttpMatch { port: 81, ..item() },
            "port: wanted 81, the request is for 80",
        ),
        (
            mesh::HttpMatch {
                uri: exact("/b"),
                method: exact("GET"),
                ..item()
            },
            "uri: wanted exact \"/b\", the request has \"/a\"",
        ),
        (
            mesh::HttpMatch {
                uri: exact("/B"),
                ignore_uri_case: true,
                ..item()
            },
            "uri: wanted exact \"/b\" in any case, the request has \"/a\"",
        ),
        (
            mesh::HttpMatch {
                method: exact("GET"),
                ..item()
            },
            "method: wanted exact \"GET\", the request has \"POST\"",
        ),
        (
            mesh::HttpMatch {
                authority: regex("x|y"),
                ..item()
            },
            "authority: wanted regex x|y, the request has \"user:80\"",
        ),
        (
            mesh::HttpMatch {
                scheme: exact("https"),
                ..item()
            },
            "scheme: wanted exact \"https\", the request has \"http\"",
        ),
        (
            mesh::HttpMatch {
                headers: named("version", exact("v2")),
                ..item()
            },
            "headers.version: wanted exact \"v2\", the request has none",
        ),
        (
            mesh::HttpMatch {
                headers: named("x", exact("v2")),
                ..item()
            },
            "headers.x: wanted exact \"v2\", the request has \"1\"",
        ),
        (
            mesh::HttpMatch {
                without_headers: named("x", None),
                ..item()
            },
            "withoutHeaders.x: wanted that there is none, the request has \"1\"",
        ),
        (
            mesh::HttpMatch {
                without_headers: named("y", regex(".*")),
                ..item()
            },
            "withoutHeaders.y: wanted anything but regex .*, the request has none, which counts as \"\"",
        ),
        (
            mesh::HttpMatch {
                query_params: named("v", exact("1")),
                ..item()
            },
            "queryParams.v: wanted exact \"1\", the request has \"2\"",
        ),
        (
            mesh::HttpMatch {
                query_params: named("w", None),
                ..item()
            },
            "queryParams.w: wanted any value, the request has none",
        ),
        (
            mesh::HttpMatch {
                source_labels: vec![label("web")],
                uri: exact("/b"),
                ..item()
            },
            "sourceLabels: wanted app=web, the client has app=api",
        ),
        (
            mesh::HttpMatch {
                source_namespace: "shop".to_owned(),
                ..item()
            },
            "sourceNamespace: wanted \"shop\", the client is in \"web\"",
        ),
    ] {
        assert_eq!(reason(item, ("x", "1")), expected);
    }
}

#[test]
fn the_rule_and_the_match_that_decide_are_told_and_nothing_after_them() {
    let uri = |value| mesh::HttpMatch {
        uri: exact(value),
        ..Default::default()
    };
    let rules = vec![vec![uri("/b")], vec![uri("/c"), uri("/a")], vec![]];
    let explanation = explained(rules, ("x", "1"));
    let verdict = Verdict::Rule {
        index: 1,
        item: Some(1),
    };
    assert_eq!(explanation.verdict, verdict);
    let passed: Vec<usize> = explanation.passed_over.iter().map(|passed| passed.index).collect();
    assert_eq!(passed, [0]);
    let verdict = Verdict::Rule { index: 0, item: None };
    assert_eq!(explained(vec![vec![]], ("x", "1")).verdict, verdict);
}

#[test]
fn rules_for_others_alone_are_as_no_rules() {
    let other_port = mesh::HttpMatch {
        port: 81,
        ..Default::default()
    };
    let other_client = mesh::HttpMatch {
        source_namespace: "shop".to_owned(),
        ..Default::default()
    };
    let other_path = mesh::HttpMatch {
        uri: exact("/b"),
        ..Default::default()
    };
    let rules = vec![vec![other_port], vec![other_client]];
    let verdict = |rules| explained(rules, ("x", "1")).verdict;
    assert_eq!(verdict(rules.clone()), Verdict::NotConcerned);
    assert_eq!(verdict([rules, vec![vec![other_path]]].concat()), Verdict::NoRule);
}

#[test]
fn what_is_long_is_shortened_and_what_is_not_text_cannot_break_the_line() {
    let item = mesh::HttpMatch {
        headers: named("x", exact(&"é".repeat(500))),
        ..Default::default()
    };
    let said = reason(item, ("x", &"a".repeat(5_000)));
    assert!(said.chars().count() < 250 && said.contains("a…\""), "{said}");
    assert_eq!(shortened(b"a\r\nb\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
}

#[test]
fn a_connections_rules_are_explained_as_a_requests() {
    let item = |sni: &str, subnet: &str| mesh::ConnectionMatch {
        sni_hosts: vec![sni.to_owned()],
        destination_subnets: vec![subnet.to_owned()],
        ..Default::default()
    };
    let rule = |item| mesh::ConnectionRule {
        matches: vec![item],
        route: route(),
        ..Default::default()
    };
    let wire = mesh::RouteTable {
        tls: vec![
            rule(item("a.example.com", "10.0.0.0/8")),
            rule(item("*.example.com", "10.0.0.0/8")),
            rule(item("*.example.com", "127.0.0.0/8")),
        ],
        ..Default::default()
    };
    let table = RouteTable::try_from(wire).expect("a valid table");
    let head = |sni| ConnectionHead {
        port: 443,
        destination: Some([127, 0, 0, 1].into()),
        source: None,
        sni,
    };
    let explanation = explain_connection(&table.tls, &head(Some("b.example.com")), &client());
    let reasons = explanation.passed_over.iter().flat_map(|passed| &passed.reasons);
    let said: Vec<String> = reasons.map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "sniHosts: wanted a.example.com, the client asks for \"b.example.com\"",
            "destinationSubnets: wanted 10.0.0.0/8, the connection goes to 127.0.0.1"
        ]
    );
    assert_eq!(
        explanation.verdict,
        Verdict::Rule {
            index: 2,
            item: Some(0)
        }
    );
    assert_eq!(
        super::super::decide_connection(&table.tls, &head(Some("b.example.com"))),
        Some(2)
    );
    let nobody = explain_connection(&table.tls, &head(None), &client());
    assert_eq!(nobody.verdict, Verdict::NotConcerned);
    assert_eq!(nobody.passed_over.len(), 3);
}
