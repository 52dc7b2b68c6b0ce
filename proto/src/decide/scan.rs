//! The specification of the decision: each rule in turn, each of its matches in turn. Small tables are decided by it, and
//! whatever narrows the search in large ones must come to the same answer.
//!
//! Source: Istio's HTTPMatchRequest as Envoy carries it out.

use http::HeaderName;

use super::fields::with_value;
use super::{Fields, RequestHead};
use crate::model::{HttpMatch, HttpRule, NamedMatch, StringMatch};

pub(super) fn first_match<F: Fields>(rules: &[HttpRule], head: &RequestHead<'_, F>) -> Option<usize> {
    rules.iter().position(|rule| rule_matches(rule, head))
}

fn rule_matches<F: Fields>(rule: &HttpRule, head: &RequestHead<'_, F>) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|item| match_holds(item, head))
}

#[inline]
pub(super) fn match_holds<F: Fields>(item: &HttpMatch, head: &RequestHead<'_, F>) -> bool {
    item.port.is_none_or(|port| port == head.port)
        && uri_holds(item, head.path)
        && holds(&item.method, head.method)
        && holds(&item.authority, head.authority)
        && holds(&item.scheme, head.scheme)
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
fn header_holds<F: Fields>(wanted: &NamedMatch<HeaderName>, headers: &F) -> bool {
    match &wanted.value {
        None => headers.has(&wanted.name),
        Some(matcher) => with_value(headers, &wanted.name, |value| matcher.matches(value)).unwrap_or(false),
    }
}

/// `withoutHeaders`: a missing header counts as the empty value, so what matches the empty value never holds on absence.
fn header_absent<F: Fields>(unwanted: &NamedMatch<HeaderName>, headers: &F) -> bool {
    match &unwanted.value {
        None => !headers.has(&unwanted.name),
        Some(matcher) => {
            !with_value(headers, &unwanted.name, |value| matcher.matches(value)).unwrap_or_else(|| matcher.matches(b""))
        }
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
