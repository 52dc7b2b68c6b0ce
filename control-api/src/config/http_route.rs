//! What a VirtualService's http rule does: weighted destinations, retries, header operations.

use std::collections::HashSet;

use http::HeaderName;
use tsunagi_proto::model::HeaderTemplate;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{HeaderOperations, Headers, Retries, WeightedDestination, names};

pub(super) const ROUTE: Fields = Fields {
    supported: &["destination", "weight", "headers"],
    later: &[],
};
const DESTINATION: Fields = Fields {
    supported: &["host", "subset", "port"],
    later: &[],
};
const PORT: Fields = Fields {
    supported: &["number"],
    later: &[],
};
const HEADERS: Fields = Fields {
    supported: &["request", "response"],
    later: &[],
};
const OPERATIONS: Fields = Fields {
    supported: &["set", "add", "remove"],
    later: &[],
};
pub(super) const RETRIES: Fields = Fields {
    supported: &[
        "attempts",
        "perTryTimeout",
        "retryOn",
        "backoff",
        "retryIgnorePreviousHosts",
    ],
    later: &["retryRemoteLocalities"],
};

/// Conditions of Envoy and gRPC that are supported.
const CONDITIONS: [&str; 13] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "refused-stream",
    "retriable-4xx",
    "retriable-status-codes",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
const LATER_CONDITIONS: [&str; 3] = ["retriable-headers", "envoy-ratelimited", "http3-post-connect-failure"];
/// More would be an outage of its own.
const MOST_ATTEMPTS: i64 = 100;

/// Headers that frame a message or belong to a connection: a rule that changed one could break it.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

pub(super) fn read_list(list: &Field<'_>, namespace: &str) -> Vec<WeightedDestination> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let route: Vec<Option<WeightedDestination>> = items.iter().map(|item| destination(item, namespace)).collect();
    let whole = route.iter().all(Option::is_some);
    let route: Vec<WeightedDestination> = route.into_iter().flatten().collect();
    let total: u64 = route.iter().map(|destination| u64::from(destination.weight)).sum();
    if whole && route.len() > 1 && total == 0 {
        list.refuse("total destination weight = 0");
    }
    if total > u64::from(u32::MAX) {
        list.refuse(format!("total destination weight = {total} is above {}", u32::MAX));
    }
    route
}

fn destination(item: &Field<'_>, namespace: &str) -> Option<WeightedDestination> {
    if !item.is_message_around(&ROUTE, &[("destination", &DESTINATION)]) {
        return None;
    }
    let weight = item.get("weight").map_or(Some(0), |field| field.count());
    let headers = item
        .get("headers")
        .map(|field| read_headers(&field))
        .unwrap_or_default();
    let destination = item.required("destination")?;
    if !destination.is_message_around(&DESTINATION, &[("port", &PORT)]) {
        return None;
    }
    let subset = destination
        .get("subset")
        .and_then(|field| subset(&field))
        .unwrap_or_default();
    let port = destination.get("port").and_then(|field| port(&field));
    let host = names::host(&destination.required("host")?, namespace)?;
    Some(WeightedDestination {
        host,
        port,
        subset,
        weight: weight?,
        weight_is_given: item.get("weight").is_some(),
        headers,
        authority: String::new(),
    })
}

fn subset(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    if !name.is_empty() && !names::is_subset_name(name) {
        field.refuse(format!("{} is not a subset name", shown(name)));
    }
    Some(name.to_owned())
}

fn port(field: &Field<'_>) -> Option<u16> {
    if field.is_message(&PORT) {
        field.required("number")?.port()
    } else {
        None
    }
}

pub(super) fn read_headers(field: &Field<'_>) -> Headers {
    if !field.is_message_around(&HEADERS, &[("request", &OPERATIONS), ("response", &OPERATIONS)]) {
        return Headers::default();
    }
    let operations = |name| field.get(name).map(|field| operations(&field)).unwrap_or_default();
    Headers {
        request: operations("request"),
        response: operations("response"),
    }
}

fn operations(field: &Field<'_>) -> HeaderOperations {
    if !field.is_message(&OPERATIONS) {
        return HeaderOperations::default();
    }
    let values = |name| field.get(name).map(|field| values(&field)).unwrap_or_default();
    let mut remove: Vec<String> = match field.get("remove") {
        Some(list) => list
            .items()
            .iter()
            .filter_map(|item| header_name(item.text()?, item))
            .collect(),
        None => Vec::new(),
    };
    remove.sort();
    remove.dedup();
    HeaderOperations {
        set: values("set"),
        add: values("add"),
        remove,
    }
}

fn values(field: &Field<'_>) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = Vec::new();
    let mut seen = HashSet::new();
    for (name, field) in field.entries() {
        let value = field.text().and_then(|text| header_value(text, &field));
        let Some(name) = header_name(name, &field) else {
            continue;
        };
        if !seen.insert(name.clone()) {
            field.refuse("this header is there twice, in another case");
        }
        values.extend(value.map(|value| (name, value)));
    }
    values.sort();
    values
}

fn header_name(name: &str, field: &Field<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower == "host" || lower.starts_with(':') {
        field.not_supported_yet("changing the host or a pseudo-header");
    } else if FRAMING.contains(&lower.as_str()) {
        field.refuse(format!("`{lower}` frames the message: a rule cannot change it"));
    } else if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        field.refuse(format!("{} is not a header name", shown(name)));
    } else {
        return Some(lower);
    }
    None
}

/// May have Envoy's formatters, as in `%DOWNSTREAM_REMOTE_ADDRESS%`; it is told to proxies as it is written.
fn header_value(text: &str, field: &Field<'_>) -> Option<String> {
    match HeaderTemplate::parse(text) {
        Ok(_) => Some(text.to_owned()),
        Err(reason) => {
            field.refuse(format!("{}: {reason}", shown(text)));
            None
        }
    }
}

pub(super) fn read_retries(field: &Field<'_>) -> Retries {
    let mut retries = Retries {
        attempts: 0,
        per_try_timeout: None,
        retry_on: Vec::new(),
        backoff: None,
        ignore_previous_hosts: None,
        retry_remote_localities: false,
    };
    if !field.is_message(&RETRIES) {
        return retries;
    }
    let attempts = field
        .get("attempts")
        .map_or(Some(0), |field| field.number(0, MOST_ATTEMPTS));
    let configured = ["perTryTimeout", "retryOn", "backoff"]
        .iter()
        .any(|name| field.get(name).is_some());
    if attempts == Some(0) && configured {
        field.refuse_at("attempts", "is 0, which turns retries off, but they are configured");
    }
    retries.attempts = attempts
        .and_then(|attempts| u32::try_from(attempts).ok())
        .unwrap_or_default();
    retries.per_try_timeout = field.get("perTryTimeout").and_then(|field| field.duration());
    retries.backoff = field.get("backoff").and_then(|field| field.duration());
    retries.ignore_previous_hosts = field.get("retryIgnorePreviousHosts").and_then(|field| field.flag());
    retries.retry_on = field.get("retryOn").map(|field| conditions(&field)).unwrap_or_default();
    retries
}

fn conditions(field: &Field<'_>) -> Vec<String> {
    let text = field.text().unwrap_or_default();
    let mut conditions: Vec<String> = Vec::new();
    for condition in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let status = condition.len() == 3 && condition.parse::<u16>().is_ok_and(|code| (100..600).contains(&code));
        if status || CONDITIONS.contains(&condition) {
            conditions.push(condition.to_owned());
        } else if LATER_CONDITIONS.contains(&condition) {
            field.not_supported_yet(condition);
        } else {
            let known = names::did_you_mean(condition, CONDITIONS.into_iter());
            field.refuse(format!(
                "{} is neither a retry condition nor a status code{known}",
                shown(condition)
            ));
        }
    }
    conditions.sort();
    conditions.dedup();
    conditions
}
