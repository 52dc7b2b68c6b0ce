//! The `match` of a VirtualService's http rule.

use std::collections::HashSet;

use http::HeaderName;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::virtual_service::Context;
use super::{HttpMatch, SourceMatch, StringMatch, names, regex_syntax, visibility};

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
        "scheme",
        "sourceLabels",
        "sourceNamespace",
        "gateways",
        "statPrefix",
    ],
    later: &[],
};
const STRING: Fields = Fields {
    supported: &["exact", "prefix", "regex"],
    later: &[],
};
/// Istio ignores headers of these names, silently.
const IGNORED_BY_ISTIO: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Headers that HTTP/2 has for what fields of a match are for, which Envoy reads as headers.
const PSEUDO_HEADERS: [&str; 3] = [":authority", ":method", ":scheme"];
/// A counter's name is no place for a text of any length.
const LONGEST_STAT_PREFIX: usize = 253;

type Named = Vec<(String, Option<StringMatch>)>;

pub(super) fn read_list(list: &Field<'_>, context: &Context<'_>) -> Vec<HttpMatch> {
    let items = list.items();
    items.iter().filter_map(|item| read(item, context)).collect()
}

fn read(item: &Field<'_>, context: &Context<'_>) -> Option<HttpMatch> {
    if !item.is_message_around(&MATCH, &[("uri", &STRING)]) {
        return None;
    }
    let value = |name| item.get(name).and_then(|field| required_string(&field));
    let headers = |name| item.get(name).map(|field| headers(&field, context)).unwrap_or_default();
    let text = |name| {
        item.get(name)
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned()
    };
    let mut read = HttpMatch {
        name: text("name"),
        uri: item.get("uri").and_then(|field| uri(&field)),
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
        scheme: value("scheme"),
        source: read_source(item),
        stat_prefix: text("statPrefix"),
    };
    if read.stat_prefix.len() > LONGEST_STAT_PREFIX {
        item.refuse_at("statPrefix", format!("is longer than {LONGEST_STAT_PREFIX} bytes"));
    }
    take_pseudo_headers(item, &mut read);
    Some(read)
}

/// What a match of requests or connections asks of the client.
pub(super) fn read_source(item: &Field<'_>) -> SourceMatch {
    let namespace = item.get("sourceNamespace").filter(|field| !field.is(""));
    let namespace = namespace.and_then(|field| {
        let text = field.text()?;
        if !names::is_dns_label(text) {
            field.refuse(format!("{} is not a namespace name", shown(text)));
        }
        Some(text.to_owned())
    });
    SourceMatch {
        labels: item.get("sourceLabels").map(|field| field.labels()).unwrap_or_default(),
        namespace,
        gateways: visibility::gateways(item),
    }
}

/// `headers: {":method": ..}` is `method: ..`.
fn take_pseudo_headers(item: &Field<'_>, read: &mut HttpMatch) {
    if read.without_headers.iter().any(|(name, _)| name.starts_with(':')) {
        item.refuse_at("withoutHeaders", "every request has its pseudo-headers");
    }
    for (name, value) in std::mem::take(&mut read.headers) {
        let (field, place) = match name.as_str() {
            ":authority" => ("authority", &mut read.authority),
            ":method" => ("method", &mut read.method),
            ":scheme" => ("scheme", &mut read.scheme),
            _ => {
                read.headers.push((name, value));
                continue;
            }
        };
        if place.is_some() {
            item.refuse_at("headers", format!("`{name}` is what `{field}` matches already"));
        }
        // Every request has it: its presence is no condition.
        *place = value.or_else(|| place.take());
    }
}

/// An empty prefix is one that every path has.
fn uri(field: &Field<'_>) -> Option<StringMatch> {
    let any = field.get("prefix").is_some_and(|prefix| prefix.is(""));
    if any && field.entries().len() == 1 {
        Some(StringMatch::Prefix(String::new()))
    } else {
        required_string(field)
    }
}

/// What is never empty: a match on nothing is a mistake.
pub(super) fn required_string(field: &Field<'_>) -> Option<StringMatch> {
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

fn headers(field: &Field<'_>, context: &Context<'_>) -> Named {
    let mut headers = Named::new();
    let mut seen = HashSet::new();
    for (name, field) in field.entries() {
        let value = at_name(&field);
        let Some(name) = header_name(name, &field, context) else {
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

fn header_name(name: &str, field: &Field<'_>, context: &Context<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if PSEUDO_HEADERS.contains(&lower.as_str()) {
        return Some(lower);
    } else if lower.starts_with(':') {
        field.not_supported_yet("this pseudo-header; match `uri`, `method`, `authority` or `scheme`");
    } else if lower.starts_with("@request.auth") {
        // What is for gateways only is in force at no sidecar, and Istio takes it.
        if context.concerns_sidecars {
            field.refuse("claims of a token are matched at gateways only");
        }
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

fn query_params(field: &Field<'_>) -> Named {
    let mut params = Named::new();
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
