//! `corsPolicy` of a rule, checked as Istio does (validation.go: validateCORSPolicy).

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{CorsPolicy, StringMatch, http_match};

pub(super) const CORS: Fields = Fields {
    supported: &[
        "allowOrigin",
        "allowOrigins",
        "allowMethods",
        "allowHeaders",
        "exposeHeaders",
        "maxAge",
        "allowCredentials",
        "unmatchedPreflights",
    ],
    later: &[],
};
const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

pub(super) fn read(field: &Field<'_>) -> Option<CorsPolicy> {
    if !field.is_message(&CORS) {
        return None;
    }
    let texts = |name, check: fn(&Field<'_>) -> Option<String>| -> Vec<String> {
        let list = field.get(name);
        list.map(|list| list.items().iter().filter_map(check).collect())
            .unwrap_or_default()
    };
    Some(CorsPolicy {
        allow_origins: origins(field),
        allow_methods: texts("allowMethods", method),
        allow_headers: texts("allowHeaders", header_name),
        expose_headers: texts("exposeHeaders", header_name),
        max_age: field.get("maxAge").and_then(|field| max_age(&field)),
        allow_credentials: field
            .get("allowCredentials")
            .and_then(|field| field.flag())
            .unwrap_or(false),
        forward_unmatched_preflights: forwards_unmatched(field),
    })
}

/// The old `allowOrigin` is looked at where the new list is not there, as in Istio.
fn origins(field: &Field<'_>) -> Vec<StringMatch> {
    let old = field.get("allowOrigin").map(|list| {
        let words = list.items();
        let words = words.iter().filter_map(|item| item.word());
        words.map(|word| StringMatch::Exact(word.to_owned())).collect()
    });
    let new = field.get("allowOrigins").map(|list| {
        let items = list.items();
        items.iter().filter_map(http_match::required_string).collect()
    });
    match new {
        Some(new) if !Vec::is_empty(&new) => new,
        _ => old.unwrap_or_default(),
    }
}

fn method(item: &Field<'_>) -> Option<String> {
    item.one_of(&METHODS).map(str::to_owned)
}

fn header_name(item: &Field<'_>) -> Option<String> {
    let text = item.word()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text != "*" && !text.bytes().all(allowed) {
        item.refuse(format!("{} is neither a header name nor `*`", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

/// Zero is a value of its own: nothing is remembered.
fn max_age(field: &Field<'_>) -> Option<std::time::Duration> {
    if field.is_zero_duration() {
        return Some(std::time::Duration::ZERO);
    }
    let age = field.duration()?;
    if age.subsec_nanos() > 0 {
        field.refuse("must be whole seconds");
    }
    Some(age)
}

fn forwards_unmatched(field: &Field<'_>) -> bool {
    let Some(word) = field.get("unmatchedPreflights") else {
        return true;
    };
    word.one_of(&["UNSPECIFIED", "FORWARD", "IGNORE"]) != Some("IGNORE")
}
