//! What a VirtualService's http rule does: weighted destinations, retries, header operations.

use std::collections::HashSet;

use http::HeaderName;
use tsunagi_proto::model::HeaderTemplate;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{HeaderOperations, Headers, Retries, WeightedDestination, http_action, names};

pub(super) const ROUTE: Fields = Fields {
    supported: &["destination", "weight", "headers"],
    later: &[],
};
/// Of rules for connections.
pub(super) const CONNECTION_ROUTE: Fields = Fields {
    supported: &["destination", "weight"],
    later: &[],
};
pub(super) const DESTINATION: Fields = Fields {
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
        "retryRemoteLocalities",
    ],
    later: &[],
};

/// Conditions of Envoy and gRPC that are supported.
const CONDITIONS: [&str; 16] = [
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
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
];
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
    read_route(list, namespace, &ROUTE)
}

/// Of a rule for connections.
pub(super) fn read_connection_list(list: &Field<'_>, namespace: &str) -> Vec<WeightedDestination> {
    let route = read_route(list, namespace, &CONNECTION_ROUTE);
    if list.is_list() && list.items().is_empty() {
        list.refuse("must not be empty");
    }
    route
}

fn read_route(list: &Field<'_>, namespace: &str, fields: &Fields) -> Vec<WeightedDestination> {
    let items = list.items();
    let route = items.iter().map(|item| destination(item, namespace, fields));
    let route: Vec<Option<WeightedDestination>> = route.collect();
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

fn destination(item: &Field<'_>, namespace: &str, fields: &Fields) -> Option<WeightedDestination> {
    if !item.is_message_around(fields, &[("destination", &DESTINATION)]) {
        return None;
    }
    let weight = item.get("weight").map_or(Some(0), |field| field.count());
    let headers = item.get("headers").map(|field| read_headers(&field));
    let (headers, authority) = headers.unwrap_or_default();
    let (host, port, subset) = read_destination(&item.required("destination")?, namespace)?;
    Some(WeightedDestination {
        host,
        port,
        subset,
        weight: weight?,
        weight_is_given: item.get("weight").is_some(),
        headers,
        authority,
    })
}

/// FQDN, port and subset.
pub(super) fn read_destination(field: &Field<'_>, namespace: &str) -> Option<(String, Option<u16>, String)> {
    if !field.is_message_around(&DESTINATION, &[("port", &PORT)]) {
        return None;
    }
    let subset = field.get("subset").and_then(|field| subset(&field));
    let port = field.get("port").and_then(|field| port(&field));
    let name = field.required("host")?;
    let host = names::host_or_wildcard(&name)?;
    if host == "*" {
        name.refuse("a destination is one host");
    }
    Some((names::resolve(&host, namespace), port, subset.unwrap_or_default()))
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

/// Operations, and the authority that they set, if they do: Istio takes a `Host` that a request gets for that.
pub(super) fn read_headers(field: &Field<'_>) -> (Headers, String) {
    if !field.is_message_around(&HEADERS, &[("request", &OPERATIONS), ("response", &OPERATIONS)]) {
        return <(Headers, String)>::default();
    }
    let mut authorities = Vec::new();
    let request = field
        .get("request")
        .map(|field| operations(&field, Some(&mut authorities)));
    let response = field.get("response").map(|field| operations(&field, None));
    if authorities.len() > 1 {
        field.refuse_at("request", "the authority is set twice");
    }
    let headers = Headers {
        request: request.unwrap_or_default(),
        response: response.unwrap_or_default(),
    };
    (headers, authorities.pop().unwrap_or_default())
}

/// `authorities`: where those go that are set; of responses there is none.
fn operations(field: &Field<'_>, mut authorities: Option<&mut Vec<String>>) -> HeaderOperations {
    if !field.is_message(&OPERATIONS) {
        return HeaderOperations::default();
    }
    let mut read = |name| match field.get(name) {
        Some(field) => values(&field, authorities.as_deref_mut()),
        None => Vec::new(),
    };
    let (set, add) = (read("set"), read("add"));
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
    HeaderOperations { set, add, remove }
}

fn values(field: &Field<'_>, mut authorities: Option<&mut Vec<String>>) -> Vec<(String, String)> {
    let mut values: Vec<(String, String)> = Vec::new();
    let mut seen = HashSet::new();
    for (name, field) in field.entries() {
        if let Some(authorities) = authorities.as_deref_mut().filter(|_| is_authority(name)) {
            let text = field.word();
            authorities.extend(text.and_then(|text| http_action::authority(text, &field)));
            continue;
        }
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

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

fn header_name(name: &str, field: &Field<'_>) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if is_authority(&lower) {
        field.refuse(format!("`{lower}` can be set in requests only"));
    } else if lower.starts_with(':') {
        field.refuse("a rule cannot change this pseudo-header: see `rewrite` and `redirect`");
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
    let configured = ["perTryTimeout", "retryOn", "backoff", "retryRemoteLocalities"]
        .iter()
        .any(|name| field.get(name).is_some_and(|field| !field.is("")));
    if attempts == Some(0) && configured {
        field.refuse_at("attempts", "is 0, which turns retries off, but they are configured");
    }
    retries.attempts = attempts
        .and_then(|attempts| u32::try_from(attempts).ok())
        .unwrap_or_default();
    retries.per_try_timeout = field.get("perTryTimeout").and_then(|field| field.duration());
    retries.backoff = field.get("backoff").and_then(|field| field.duration());
    retries.ignore_previous_hosts = field.get("retryIgnorePreviousHosts").and_then(|field| field.flag());
    retries.retry_remote_localities = field
        .get("retryRemoteLocalities")
        .and_then(|field| field.flag())
        .unwrap_or(false);
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
