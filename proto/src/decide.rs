//! The decision: which rule a request meets and which destination it is sent to. Pure: no I/O, no clock, randomness is
//! passed in. The proxy runs it for every request; whatever explains or tests routes runs the same.
//!
//! Semantics are Envoy's as Istio configures it: rules in order, the first that matches decides, nothing falls through.

mod connection;
mod cors;
mod explain;
mod fields;
mod grpc;
mod mirror;
mod path;
mod prepared;
mod redirect;
mod rewrite;
mod scan;
mod search;

pub use cors::{Cors, cors};
pub use explain::{Explanation, Mismatch, PassedOver, Verdict, explain, explain_connection};
pub use fields::Fields;
pub use grpc::{grpc_status, grpc_status_of_rule, http_status};
pub use mirror::shadow_authority;
pub use path::{ZeroByte, normalized_path};
pub use prepared::{CONTROLS, is_control, prepare};
pub use redirect::location;
pub use rewrite::{TooLong, rewritten_authority, rewritten_path};
pub use scan::query_value;

use std::net::IpAddr;

use crate::model::{ConnectionRule, HttpMatch, HttpRule, RouteTable, WeightedDestination};

/// What a rule can see of a request.
#[derive(Debug)]
pub struct RequestHead<'a, F: Fields> {
    pub method: &'a str,
    /// In lower case.
    pub scheme: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// As sent, port included.
    pub authority: &'a str,
    pub headers: &'a F,
    /// The service port that the client asked for.
    pub port: u16,
}

// Derived, they would ask the same of `F`, of which there is only a reference here.
impl<F: Fields> Clone for RequestHead<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Fields> Copy for RequestHead<'_, F> {}

/// The index of the first rule that matches; `None` is 404 `NR`.
pub fn decide<F: Fields>(table: &RouteTable, head: &RequestHead<'_, F>) -> Option<usize> {
    match &table.index {
        None => scan::first_match(&table.rules, head),
        Some(index) => search::first_match(&table.rules, index, head),
    }
}

/// The same, rule by rule: what `decide` means. It costs as much as there are rules before the answer.
pub fn decide_by_scan<F: Fields>(table: &RouteTable, head: &RequestHead<'_, F>) -> Option<usize> {
    scan::first_match(&table.rules, head)
}

/// The first match of the rule that holds for a request that it matches; `None` for a rule that matches every request.
pub fn matched_item<'r, F: Fields>(rule: &'r HttpRule, head: &RequestHead<'_, F>) -> Option<&'r HttpMatch> {
    match rule.matches.as_slice() {
        [] => None,
        [only] => Some(only),
        several => several.iter().find(|item| scan::match_holds(item, head)),
    }
}

/// What a rule can see of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionHead<'a> {
    /// The service port that the client asked for.
    pub port: u16,
    /// Where the client wanted to go, if that is known.
    pub destination: Option<IpAddr>,
    pub source: Option<IpAddr>,
    /// The name that a TLS client asks for, in lower case.
    pub sni: Option<&'a str>,
}

/// The index of the first of `tcp` or `tls` rules that matches. `None`: the connection goes to its service; but of a port
/// that is declared TLS, it goes nowhere once a `tls` rule concerns the port.
pub fn decide_connection(rules: &[ConnectionRule], head: &ConnectionHead<'_>) -> Option<usize> {
    rules.iter().position(|rule| connection::rule_matches(rule, head))
}

/// Could one of the rules match a connection to this port?
pub fn concern_port(rules: &[ConnectionRule], port: u16) -> bool {
    rules.iter().any(|rule| connection::rule_concerns(rule, port))
}

/// Draws a destination by weight; `random` is uniform over all of `u64`. Returns its index.
pub fn choose_destination(destinations: &[WeightedDestination], total_weight: u64, random: u64) -> usize {
    if destinations.len() == 1 {
        return 0;
    }
    // Multiply and shift: uniform to within total / 2^64.
    let mut point = ((u128::from(random) * u128::from(total_weight)) >> 64) as u64;
    for (index, WeightedDestination { weight, .. }) in destinations.iter().enumerate() {
        match point.checked_sub(u64::from(*weight)) {
            Some(rest) => point = rest,
            None => return index,
        }
    }
    destinations.len() - 1
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
