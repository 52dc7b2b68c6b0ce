//! A VirtualService as a route table, in canonical form: what means the same has the same bytes.

use std::time::Duration;

use tsunagi_proto::wire::mesh;

use crate::config::{
    HeaderOperations, HttpMatch, HttpRule, Key, Retries, StringMatch, VirtualService, WeightedDestination,
};

/// Weight of a destination that has no other beside it.
const WHOLE: u32 = 100;

pub(super) fn table(key: &Key, rule: &VirtualService) -> mesh::RouteTable {
    mesh::RouteTable {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        http: rule.http.iter().map(http_rule).collect(),
        ..mesh::RouteTable::default()
    }
}

/// The destinations that get requests, with their index: one alone gets all whatever its weight, of several those
/// with weight 0 get none.
pub(super) fn reachable(rule: &HttpRule) -> Vec<(usize, &WeightedDestination)> {
    let several = rule.route.len() > 1;
    rule.route
        .iter()
        .enumerate()
        .filter(|(_, to)| !several || to.weight > 0)
        .collect()
}

/// Those of several destinations whose weight nobody wrote, by their index: a 0 that is written is meant.
pub(super) fn forgotten(rule: &HttpRule) -> Vec<usize> {
    let several = rule.route.len() > 1;
    let route = rule.route.iter().enumerate();
    route
        .filter(|(_, to)| several && !to.weight_is_given)
        .map(|(number, _)| number)
        .collect()
}

/// Does a rule match every request, as Istio judges it?
pub(super) fn catches_all(rule: &HttpRule) -> bool {
    let any = |item: &HttpMatch| {
        let uri = match &item.uri {
            None => true,
            Some(StringMatch::Prefix(prefix)) => prefix == "/",
            Some(StringMatch::Regex(regex)) => regex == ".*",
            Some(StringMatch::Exact(_)) => false,
        };
        let rest = item.method.is_none() && item.authority.is_none() && item.port.is_none();
        uri && rest && item.headers.is_empty() && item.without_headers.is_empty() && item.query_params.is_empty()
    };
    rule.matches.is_empty() || rule.matches.iter().any(any)
}

pub(super) fn duration(duration: Option<Duration>) -> Option<prost_types::Duration> {
    // What does not fit was refused with the document.
    duration
        .filter(|duration| !duration.is_zero())
        .and_then(|duration| duration.try_into().ok())
}

fn http_rule(rule: &HttpRule) -> mesh::HttpRule {
    let reachable = reachable(rule);
    let alone = reachable.len() == 1;
    mesh::HttpRule {
        name: rule.name.clone(),
        matches: rule.matches.iter().map(http_match).collect(),
        route: reachable.into_iter().map(|(_, to)| destination(to, alone)).collect(),
        timeout: duration(rule.timeout),
        retries: rule.retries.as_ref().map(retries),
        request_headers: operations(&rule.headers.request),
        response_headers: operations(&rule.headers.response),
        ..mesh::HttpRule::default()
    }
}

fn destination(to: &WeightedDestination, alone: bool) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: to.host.clone(),
        port: to.port.map(u32::from).unwrap_or_default(),
        subset: to.subset.clone(),
        weight: if alone { WHOLE } else { to.weight },
        request_headers: operations(&to.headers.request),
        response_headers: operations(&to.headers.response),
        ..mesh::WeightedDestination::default()
    }
}

fn http_match(item: &HttpMatch) -> mesh::HttpMatch {
    mesh::HttpMatch {
        name: item.name.clone(),
        uri: item.uri.as_ref().map(string),
        // Without a uri there is nothing whose case to ignore.
        ignore_uri_case: item.ignore_uri_case && item.uri.is_some(),
        method: item.method.as_ref().map(string),
        authority: item.authority.as_ref().map(string),
        headers: named(&item.headers),
        without_headers: named(&item.without_headers),
        query_params: named(&item.query_params),
        port: item.port.map(u32::from).unwrap_or_default(),
        ..mesh::HttpMatch::default()
    }
}

fn named(items: &[(String, Option<StringMatch>)]) -> Vec<mesh::NamedMatch> {
    items
        .iter()
        .map(|(name, value)| mesh::NamedMatch {
            name: name.clone(),
            value: value.as_ref().map(string),
        })
        .collect()
}

fn string(value: &StringMatch) -> mesh::StringMatch {
    use mesh::string_match::Kind;
    let kind = match value {
        StringMatch::Exact(text) => Kind::Exact(text.clone()),
        StringMatch::Prefix(text) => Kind::Prefix(text.clone()),
        StringMatch::Regex(text) => Kind::Regex(text.clone()),
    };
    mesh::StringMatch { kind: Some(kind) }
}

fn operations(operations: &HeaderOperations) -> Option<mesh::HeaderOperations> {
    let values = |values: &[(String, String)]| {
        values
            .iter()
            .map(|(name, value)| mesh::HeaderValue {
                name: name.clone(),
                value: value.clone(),
            })
            .collect()
    };
    (*operations != HeaderOperations::default()).then(|| mesh::HeaderOperations {
        remove: operations.remove.clone(),
        set: values(&operations.set),
        add: values(&operations.add),
    })
}

fn retries(retries: &Retries) -> mesh::RetryPolicy {
    mesh::RetryPolicy {
        attempts: retries.attempts,
        per_try_timeout: duration(retries.per_try_timeout),
        retry_on: retries.retry_on.clone(),
        backoff: duration(retries.backoff),
        ignore_previous_hosts: retries.ignore_previous_hosts,
        ..mesh::RetryPolicy::default()
    }
}
