//! The decision: which rule a request meets and which destination it is sent to. Pure: no I/O, no clock, randomness is
//! passed in. The proxy runs it for every request; whatever explains or tests routes runs the same.
//!
//! Semantics are Envoy's as Istio configures it: rules in order, the first that matches decides, nothing falls through.

use http::HeaderMap;

use crate::model::{HttpMatch, HttpRule, NamedMatch, RouteTable, StringMatch, WeightedDestination};

/// What a rule can see of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// As sent, port included.
    pub authority: &'a str,
    pub headers: &'a HeaderMap,
    /// The service port that the client asked for.
    pub port: u16,
}

/// The index of the first rule that matches; `None` is 404 `NR`.
pub fn decide(table: &RouteTable, head: &RequestHead<'_>) -> Option<usize> {
    table.rules.iter().position(|rule| rule_matches(rule, head))
}

/// Draws a destination by weight; `random` is uniform over all of `u64`. Returns its index.
pub fn choose_destination(rule: &HttpRule, random: u64) -> usize {
    if rule.route.len() == 1 {
        return 0;
    }
    // Multiply and shift: uniform to within total / 2^64.
    let mut point = ((u128::from(random) * u128::from(rule.total_weight)) >> 64) as u64;
    for (index, WeightedDestination { weight, .. }) in rule.route.iter().enumerate() {
        match point.checked_sub(u64::from(*weight)) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    rule.route.len() - 1
}

fn rule_matches(rule: &HttpRule, head: &RequestHead<'_>) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|item| match_holds(item, head))
}

fn match_holds(item: &HttpMatch, head: &RequestHead<'_>) -> bool {
    item.port.is_none_or(|port| port == head.port)
        && uri_holds(item, head.path)
        && holds(&item.method, head.method)
        && holds(&item.authority, head.authority)
        && item.headers.iter().all(|wanted| header_holds(wanted, head.headers))
        && item
            .without_headers
            .iter()
            .all(|unwanted| header_absent(unwanted, head.headers))
        && item.query_params.iter().all(|wanted| query_holds(wanted, head.query))
}

fn holds(wanted: &Option<StringMatch>, value: &str) -> bool {
    wanted.as_ref().is_none_or(|wanted| wanted.matches(value.as_bytes()))
}

fn uri_holds(item: &HttpMatch, path: &str) -> bool {
    match &item.uri {
        None => true,
        Some(uri) if item.ignore_uri_case => uri.matches_ignoring_case(path.as_bytes()),
        Some(uri) => uri.matches(path.as_bytes()),
    }
}

/// Values of a repeated header are joined with a comma before they are looked at. A missing header never matches.
fn header_holds(wanted: &NamedMatch<http::HeaderName>, headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(&wanted.name).iter();
    let Some(first) = values.next() else { return false };
    let Some(matcher) = &wanted.value else { return true };
    match values.next() {
        None => matcher.matches(first.as_bytes()),
        Some(second) => {
            let rest = std::iter::once(second).chain(values);
            matcher.matches(&rest.fold(first.as_bytes().to_vec(), |mut joined, value| {
                joined.push(b',');
                joined.extend_from_slice(value.as_bytes());
                joined
            }))
        }
    }
}

/// `withoutHeaders`: a missing header counts as the empty value, so what matches the empty value never holds on absence.
fn header_absent(unwanted: &NamedMatch<http::HeaderName>, headers: &HeaderMap) -> bool {
    match &unwanted.value {
        None => !headers.contains_key(&unwanted.name),
        Some(matcher) if !headers.contains_key(&unwanted.name) => !matcher.matches(b""),
        Some(_) => !header_holds(unwanted, headers),
    }
}

/// Only the first value of a repeated parameter counts; nothing is percent-decoded.
fn query_holds(wanted: &NamedMatch<String>, query: Option<&str>) -> bool {
    let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let mut parsed = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let Some((_, value)) = parsed.find(|(name, _)| *name == wanted.name) else {
        return false;
    };
    wanted
        .value
        .as_ref()
        .is_none_or(|matcher| matcher.matches(value.as_bytes()))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
