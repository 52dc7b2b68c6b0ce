//! The specification of the decision: each rule in turn, each of its matches in turn, each predicate of a match in turn.
//! Small tables are decided by it, and whatever narrows the search in large ones must come to the same answer. Whether a
//! match holds and which of its predicates is the first that does not are one question here: `explain` tells what
//! `decide` has seen.
//!
//! Source: Istio's HTTPMatchRequest as Envoy carries it out.

use http::HeaderName;

use super::fields::with_value;
use super::{Fields, RequestHead};
use crate::model::{HttpMatch, HttpRule, NamedMatch, StringMatch};

/// What a match asks of a request, in the order in which it is looked at; lists by the index of what does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predicate {
    Port,
    Uri,
    Method,
    Authority,
    Scheme,
    Header(usize),
    WithoutHeader(usize),
    QueryParam(usize),
}

pub(super) fn first_match<F: Fields>(rules: &[HttpRule], head: &RequestHead<'_, F>) -> Option<usize> {
    rules.iter().position(|rule| rule_matches(rule, head))
}

fn rule_matches<F: Fields>(rule: &HttpRule, head: &RequestHead<'_, F>) -> bool {
    rule.matches.is_empty() || rule.matches.iter().any(|item| match_holds(item, head))
}

#[inline]
pub(super) fn match_holds<F: Fields>(item: &HttpMatch, head: &RequestHead<'_, F>) -> bool {
    first_failed(item, head).is_none()
}

/// `None`: the match holds.
#[inline]
pub(super) fn first_failed<F: Fields>(item: &HttpMatch, head: &RequestHead<'_, F>) -> Option<Predicate> {
    if item.port.is_some_and(|port| port != head.port) {
        return Some(Predicate::Port);
    }
    if !uri_holds(item, head.path) {
        return Some(Predicate::Uri);
    }
    if !holds(&item.method, head.method) {
        return Some(Predicate::Method);
    }
    if !holds(&item.authority, head.authority) {
        return Some(Predicate::Authority);
    }
    if !holds(&item.scheme, head.scheme) {
        return Some(Predicate::Scheme);
    }
    let missed = item
        .headers
        .iter()
        .position(|wanted| !header_holds(wanted, head.headers));
    if let Some(index) = missed {
        return Some(Predicate::Header(index));
    }
    let unwanted = &item.without_headers;
    if let Some(index) = unwanted.iter().position(|one| !header_absent(one, head.headers)) {
        return Some(Predicate::WithoutHeader(index));
    }
    let missed = item
        .query_params
        .iter()
        .position(|wanted| !query_holds(wanted, head.query));
    missed.map(Predicate::QueryParam)
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

fn query_holds(wanted: &NamedMatch<String>, query: Option<&str>) -> bool {
    let Some(value) = query_value(&wanted.name, query) else {
        return false;
    };
    wanted
        .value
        .as_ref()
        .is_none_or(|matcher| matcher.matches(value.as_bytes()))
}

/// Only the first value of a repeated parameter counts; nothing is percent-decoded.
pub fn query_value<'q>(name: &str, query: Option<&'q str>) -> Option<&'q str> {
    let pairs = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let mut parsed = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    parsed.find(|(own, _)| *own == name).map(|(_, value)| value)
}
