//! The `match` of a VirtualService's http rule.

use std::collections::HashSet;

use http::HeaderName;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{HttpMatch, StringMatch, regex_syntax, virtual_service};

pub(super) const MATCH: Fields = Fields {
    supported: &[
        "name",
        "uri",
        "ignoreUriCase",
        "method",
        "authority",
        "headers",
        "withoutHeaders",
        "queryParams",
        "port",
        "gateways",
    ],
    later: &["scheme", "sourceLabels", "sourceNamespace", "statPrefix"],
};
const STRING: Fields = Fields {
    supported: &["exact", "prefix", "regex"],
    later: &[],
};
/// Istio ignores headers of these names, silently.
const IGNORED_BY_ISTIO: [&str; 4] = ["uri", "scheme", "method", "authority"];

pub(super) fn read_list(list: &Field<'_>) -> Vec<HttpMatch> {
    list.items().iter().filter_map(read).collect()
}

fn read(item: &Field<'_>) -> Option<HttpMatch> {
    if !item.is_message_around(&MATCH, &[("uri", &STRING)]) {
        return None;
    }
    if let Some(gateways) = item.get("gateways") {
        virtual_service::only_mesh(&gateways);
    }
    let value = |name| item.get(name).and_then(|field| required_string(&field));
    let headers = |name| item.get(name).map(|field| headers(&field)).unwrap_or_default();
    Some(HttpMatch {
        name: item
            .get("name")
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned(),
        uri: value("uri"),
        ignore_uri_case: item
            .get("ignoreUriCase")
            .and_then(|field| field.flag())
            .unwrap_or(false),
        method: value("method"),
        authority: value("authority"),
        headers: headers("headers"),
        without_headers: headers("withoutHeaders"),
        query_params: item
            .get("queryParams")
            .map(|field| query_params(&field))
            .unwrap_or_default(),
        port: item.get("port").and_then(|field| field.port()),
        ..HttpMatch::default()
    })
}

/// `uri`, `method` and `authority` are never empty, so a match on nothing is a mistake.
fn required_string(field: &Field<'_>) -> Option<StringMatch> {
    match string(field)? {
        None => {
            // An unknown field instead was refused already.
            if field.entries().iter().all(|(name, _)| STRING.supported.contains(name)) {
                field.refuse("one of exact, prefix and regex must be set");
            }
            None
        }
        Some(StringMatch::Exact(text)) if text.is_empty() => {
            field.refuse_at("exact", "must not be empty");
            None
        }
        value => value,
    }
}

/// `None`: refused. `Some(None)`: nothing is set, which means presence where a name is matched.
fn string(field: &Field<'_>) -> Option<Option<StringMatch>> {
    if !field.is_message(&STRING) {
        return None;
    }
    let kinds: Vec<Field<'_>> = STRING.supported.iter().filter_map(|name| field.get(name)).collect();
    if kinds.len() > 1 {
        field.refuse("only one of exact, prefix and regex may be set");
        return None;
    }
    if let Some(exact) = field.get("exact") {
        return exact.text().map(|text| Some(StringMatch::Exact(text.to_owned())));
    }
    if let Some(prefix) = field.get("prefix") {
        return prefix.word().map(|text| Some(StringMatch::Prefix(text.to_owned())));
    }
    let Some(regex) = field.get("regex") else {
        return Some(None);
    };
    let text = regex.text()?;
    match regex_syntax::check(text) {
        Ok(()) => Some(Some(StringMatch::Regex(text.to_owned()))),
        Err(reason) => {
            regex.refuse(format!("{}: {reason}", shown(text)));
            None
        }
    }
}

/// The value to match at a name; `Some(None)`: its presence.
fn at_name(field: &Field<'_>) -> Option<Option<StringMatch>> {
    if field.is_null() {
        field.refuse("is empty: write `{}` where presence is enough");
        return None;
    }
    // Istio's `regex: "*"` is no regex but a way to say presence.
    let any = field.get("regex").is_some_and(|regex| regex.is("*"));
    if any && field.entries().len() == 1 {
        Some(None)
    } else {
        string(field)
    }
}

fn headers(field: &Field<'_>) -> Vec<(String, Option<StringMatch>)> {
    let mut headers: Vec<(String, Option<StringMatch>)> = Vec::new();
    let mut seen = HashSet::new();
    for (name, field) in field.entries() {
        let value = at_name(&field);
        let Some(name) = header_name(name, &field) else {
            continue;
        };
        if !seen.insert(name.clone()) {
            field.refuse("this header is there twice, in another case");
        }
        if let Some(value) = value {
            headers.push((name, value));
        }
    }
    headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    headers
}

fn header_name(name: &str, field: &Field<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower.starts_with(':') {
        field.not_supported_yet("a pseudo-header; match `method`, `uri` or `authority`");
    } else if lower.starts_with("@request.auth") {
        field.not_supported_yet("claims of a token");
    } else if IGNORED_BY_ISTIO.contains(&lower.as_str()) {
        field.refuse(format!(
            "Istio does not match a header of this name: use the field `{lower}`"
        ));
    } else if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        field.refuse("not a header name");
    } else {
        return Some(lower);
    }
    None
}

fn query_params(field: &Field<'_>) -> Vec<(String, Option<StringMatch>)> {
    let mut params: Vec<(String, Option<StringMatch>)> = Vec::new();
    for (name, field) in field.entries() {
        if name.is_empty() {
            field.refuse("a query parameter needs a name");
        }
        if let Some(value) = at_name(&field) {
            params.push((name.to_owned(), value));
        }
    }
    params.sort_by(|(one, _), (other, _)| one.cmp(other));
    params
}
