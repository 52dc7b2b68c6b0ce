//! Regexes: whatever the control plane admits compiles in a proxy, whatever a proxy would take is refused only for a limit
//! or for what RE2 reads otherwise, and a table of it is decided alike by index and by scan. The input is a pattern and,
//! after the first line break, a value.

use tsunagi::config::parse;
use tsunagi_proto::model::{RouteTable, full_match};
use tsunagi_proto::wire::mesh::{self, string_match::Kind};

use super::judged::{self, Request};

/// As in Istio.
const LONGEST_BYTES: usize = 1024;

/// Is the pattern admitted?
pub fn regex(input: &[u8]) -> bool {
    let (pattern, value) = match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (input, [].as_slice()),
    };
    let (Ok(pattern), value) = (std::str::from_utf8(pattern), String::from_utf8_lossy(value)) else {
        return false;
    };
    match parse("a.yaml", &rule(pattern), "default") {
        Ok(_) => {
            assert!(full_match(pattern).is_ok(), "admitted, but a proxy would refuse it");
            table(pattern, &value);
            true
        }
        Err(problems) => {
            let not_a_regex = problems.iter().any(|problem| problem.reason.contains("not a regex"));
            // What is longer is not compiled at all.
            let short = pattern.len() <= LONGEST_BYTES;
            let compiles = short && not_a_regex && full_match(pattern).is_ok();
            assert!(!compiles, "a proxy would take it: {problems:?}");
            false
        }
    }
}

fn rule(pattern: &str) -> String {
    let document = serde_json::json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "a"},
        "spec": {
            "hosts": ["a"],
            "http": [{
                "match": [{"uri": {"regex": pattern}}],
                "route": [{"destination": {"host": "a"}}],
            }],
        },
    });
    document.to_string()
}

/// Among other rules, so that there is an index.
fn table(pattern: &str, value: &str) {
    let string = |kind| Some(mesh::StringMatch { kind: Some(kind) });
    let of_path = |uri| mesh::HttpMatch {
        uri: string(uri),
        ..mesh::HttpMatch::default()
    };
    let of_header = |pattern: &str| mesh::HttpMatch {
        headers: vec![mesh::NamedMatch {
            name: "a".to_owned(),
            value: string(Kind::Regex(pattern.to_owned())),
        }],
        ..mesh::HttpMatch::default()
    };
    let start: String = value.chars().take(3).collect();
    let matches = [
        of_path(Kind::Exact("/a".to_owned())),
        of_path(Kind::Regex(pattern.to_owned())),
        of_header(pattern),
        of_path(Kind::Prefix(start)),
        of_path(Kind::Prefix("/b".to_owned())),
        of_path(Kind::Exact(value.to_owned())),
    ];
    let rule = |item| mesh::HttpRule {
        matches: vec![item],
        route: vec![mesh::WeightedDestination {
            host: "h".to_owned(),
            ..mesh::WeightedDestination::default()
        }],
        ..mesh::HttpRule::default()
    };
    let table = mesh::RouteTable {
        http: matches.map(rule).into(),
        ..mesh::RouteTable::default()
    };
    let table = RouteTable::try_from(table).expect("of an admitted pattern");
    judged::table(&table);
    let mut request = Request {
        path: value.to_owned(),
        ..Request::default()
    };
    judged::request(&table, &request);
    request.headers.0.push(("a".to_owned(), value.as_bytes().to_vec()));
    judged::request(&table, &request);
}
