//! The decision: bytes -> a route table and requests made to meet it, now and then to miss it by a letter.

use tsunagi_proto::model::{HttpMatch, RouteTable, Source};
use tsunagi_proto::wire::mesh::{self, string_match::Kind};

use super::choices::Choices;
use super::judged::{self, Request};

const NAMES: [&str; 6] = ["tenant", "x-a", "x-b", "version", "cookie", "accept"];
const TEXTS: [&str; 8] = ["/", "/a", "/a/b", "/A/b", "GET", "a.test", "https", ""];
const REGEXES: [&str; 12] = [
    "/a+.*",
    "/a?/b.*",
    "/ab{0,1}.*",
    "/a|/b.*",
    "(?i)/A.*",
    "/é*.*",
    r"/a\/.*",
    "[0-9]+",
    ".*",
    "(a*)*b",
    r"/\w+(\.a)?",
    "",
];
const MOST_RULES: u8 = 40;
const MOST_REQUESTS: usize = 32;

/// Does one of the requests meet a rule?
pub fn decision(input: &[u8]) -> bool {
    let choices = &mut Choices(input);
    let Ok(table) = RouteTable::try_from(route_table(choices)) else {
        return false;
    };
    let mut met = judged::table(&table) > 0;
    let table = table.for_source(&Source {
        namespace: choices.text(1),
        labels: labels(choices)
            .into_iter()
            .map(|label| (label.key, label.value))
            .collect(),
    });
    for _ in 0..MOST_REQUESTS {
        met |= judged::request(&table, &request(choices, &table));
        if choices.used_up() {
            break;
        }
    }
    met
}

fn route_table(choices: &mut Choices<'_>) -> mesh::RouteTable {
    let rules = 1 + choices.below(MOST_RULES);
    mesh::RouteTable {
        http: (0..rules).map(|_| rule(choices)).collect(),
        ..mesh::RouteTable::default()
    }
}

fn rule(choices: &mut Choices<'_>) -> mesh::HttpRule {
    let matches = if choices.once_in(30) { 0 } else { 1 + choices.below(2) };
    mesh::HttpRule {
        matches: (0..matches).map(|_| http_match(choices)).collect(),
        route: (0..=choices.below(2)).map(|_| destination(choices)).collect(),
        ..mesh::HttpRule::default()
    }
}

fn destination(choices: &mut Choices<'_>) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: "h".to_owned(),
        weight: choices.of(&[1, 0, 90, u32::MAX]),
        ..mesh::WeightedDestination::default()
    }
}

/// One byte says what it asks for, so that a change of one byte changes that.
fn http_match(choices: &mut Choices<'_>) -> mesh::HttpMatch {
    let asks = choices.byte();
    let mut when = |bit: u8| (asks & bit != 0).then(|| string(choices));
    let (uri, method, authority, scheme) = (when(1), when(2), when(4), when(8));
    let (mut headers, mut without_headers, mut query_params) = (Vec::new(), Vec::new(), Vec::new());
    if asks & 16 != 0 {
        headers = (0..=choices.below(2)).map(|_| named(choices)).collect();
    }
    if asks & 32 != 0 {
        without_headers.push(named(choices));
    }
    if asks & 64 != 0 {
        query_params.push(named(choices));
    }
    let mut item = mesh::HttpMatch {
        uri,
        method,
        authority,
        scheme,
        headers,
        without_headers,
        query_params,
        ..mesh::HttpMatch::default()
    };
    if asks & 128 != 0 {
        item.ignore_uri_case = choices.once_in(2);
        item.port = choices.of(&[0, 80, 81]);
        item.source_labels = labels(choices);
        item.source_namespace = choices.text(1);
    }
    item
}

fn labels(choices: &mut Choices<'_>) -> Vec<mesh::Label> {
    let label = |choices: &mut Choices<'_>| mesh::Label {
        key: choices.of(&["app", "version"]).to_owned(),
        value: choices.text(1),
    };
    (0..choices.below(2)).map(|_| label(choices)).collect()
}

fn named(choices: &mut Choices<'_>) -> mesh::NamedMatch {
    mesh::NamedMatch {
        name: choices.of(&NAMES).to_owned(),
        value: (!choices.once_in(5)).then(|| string(choices)),
    }
}

fn string(choices: &mut Choices<'_>) -> mesh::StringMatch {
    let kind = choices.below(8);
    if kind == 7 {
        let pattern = choices.of(&REGEXES).to_owned();
        return mesh::StringMatch {
            kind: Some(Kind::Regex(pattern)),
        };
    }
    let text = if choices.once_in(3) {
        choices.of(&TEXTS).to_owned()
    } else {
        format!("/{}", choices.text(5))
    };
    let kind = if kind < 4 {
        Kind::Exact(text)
    } else {
        Kind::Prefix(text)
    };
    mesh::StringMatch { kind: Some(kind) }
}

/// After one of the table's matches, with something else about it.
fn request(choices: &mut Choices<'_>, table: &RouteTable) -> Request {
    let items: Vec<&HttpMatch> = table.rules.iter().flat_map(|rule| &rule.matches).collect();
    let none = HttpMatch::default();
    let item = items
        .get(usize::from(choices.byte()) % items.len().max(1))
        .copied()
        .unwrap_or(&none);
    let mut request = Request::after(item);
    for _ in 0..choices.below(3) {
        let text = choices.text(3);
        match choices.below(8) {
            0 => request.path.push_str(&text),
            1 => request.path = request.path.to_uppercase(),
            2 => drop(request.path.pop()),
            3 => request.method = text,
            4 => request.authority.push_str(&text),
            5 => request.query = Some(format!("{}={text}&&=", choices.of(&NAMES))),
            6 => request.port = 81,
            _ => {
                let name = choices.of(&NAMES).to_owned();
                request.headers.0.push((name, text.into_bytes()));
            }
        }
    }
    request
}
