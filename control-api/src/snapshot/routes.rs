//! A VirtualService as a route table, in canonical form: what means the same has the same bytes.

use std::time::Duration;

use tsunagi_proto::wire::mesh;

use super::delegates::Placed;
use super::scope::Rules;
use super::{actions, clusters};
use crate::config::{
    ConnectionMatch, ConnectionRule, HeaderOperations, HttpMatch, HttpRule, Key, Retries, Rewrite, SourceMatch,
    StringMatch, WeightedDestination,
};

/// Weight of a destination that has no other beside it.
const WHOLE: u32 = 100;

/// `None`: there are no rules.
pub(super) fn table(rules: &Rules<'_>) -> Option<mesh::RouteTable> {
    let key = rules.key()?;
    Some(mesh::RouteTable {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        http: encoded(key, &rules.http, http_rule),
        tls: encoded(key, &rules.tls, connection_rule),
        tcp: encoded(key, &rules.tcp, connection_rule),
    })
}

/// The rules that concern sidecars, each with its origin where the proxy would not find it by the position.
fn encoded<R: Clone, W>(
    table: &Key,
    rules: &[Placed<'_, R>],
    encode: impl Fn(&R, Option<mesh::Origin>) -> Option<W>,
) -> Vec<W> {
    let mut encoded = Vec::with_capacity(rules.len());
    for Placed { key, index, rule } in rules {
        let is_elsewhere = *key != table || *index != encoded.len();
        let origin = is_elsewhere.then(|| origin(key, *index));
        encoded.extend(encode(rule, origin));
    }
    encoded
}

/// The place of a rule: a VirtualService, and the index in its `http`, `tls` or `tcp`.
fn origin(key: &Key, index: usize) -> mesh::Origin {
    mesh::Origin {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        index: u32::try_from(index).unwrap_or(u32::MAX),
    }
}

/// The destinations that get requests, with their index: one alone gets all whatever its weight, of several those
/// with weight 0 get none.
pub(super) fn reachable(route: &[WeightedDestination]) -> Vec<(usize, &WeightedDestination)> {
    let several = route.len() > 1;
    let route = route.iter().enumerate();
    route.filter(|(_, to)| !several || to.weight > 0).collect()
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
            Some(StringMatch::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
            Some(StringMatch::Regex(regex)) => regex == ".*",
            Some(StringMatch::Exact(_)) => false,
        };
        let rest = item.method.is_none() && item.authority.is_none() && item.port.is_none() && item.scheme.is_none();
        let anyone = item.source == SourceMatch::default();
        uri && rest
            && anyone
            && item.headers.is_empty()
            && item.without_headers.is_empty()
            && item.query_params.is_empty()
    };
    rule.matches.is_empty() || rule.matches.iter().any(any)
}

pub(super) fn duration(duration: Option<Duration>) -> Option<prost_types::Duration> {
    // What does not fit was refused with the document.
    duration
        .filter(|duration| !duration.is_zero())
        .and_then(|duration| duration.try_into().ok())
}

/// `None`: there is nothing to tell sidecars. It is for gateways only, or it only delegates.
fn http_rule(rule: &HttpRule, origin: Option<mesh::Origin>) -> Option<mesh::HttpRule> {
    if rule.delegate.is_some() {
        return None;
    }
    let matches = for_sidecars(&rule.matches, |item| &item.source, http_match)?;
    let mut encoded = mesh::HttpRule {
        name: rule.name.clone(),
        matches,
        request_headers: operations(&rule.headers.request),
        response_headers: operations(&rule.headers.response),
        fault: rule.fault.as_ref().and_then(actions::fault),
        cors: rule.cors.as_ref().map(actions::cors),
        origin,
        ..mesh::HttpRule::default()
    };
    if let Some(redirect) = &rule.redirect {
        encoded.redirect = Some(actions::redirect(redirect));
    } else if let Some(response) = &rule.direct_response {
        encoded.direct_response = Some(actions::direct_response(response));
    } else {
        encoded.route = destinations(reachable(&rule.route));
        encoded.timeout = duration(rule.timeout);
        encoded.retries = rule.retries.as_ref().map(retries);
        encoded.rewrite = rewrite(rule);
        encoded.mirrors = actions::mirrors(&rule.mirrors);
    }
    Some(encoded)
}

/// With the authority that the rule's headers set.
fn rewrite(rule: &HttpRule) -> Option<mesh::Rewrite> {
    let mut rewrite: Rewrite = rule.rewrite.clone().unwrap_or_default();
    if rewrite.authority.is_empty() {
        rewrite.authority.clone_from(&rule.authority);
    }
    (rewrite != Rewrite::default()).then(|| actions::rewrite(&rewrite))
}

/// `None`: it is for gateways only.
fn connection_rule(rule: &ConnectionRule, origin: Option<mesh::Origin>) -> Option<mesh::ConnectionRule> {
    Some(mesh::ConnectionRule {
        matches: for_sidecars(&rule.matches, |item| &item.source, connection_match)?,
        route: destinations(reachable(&rule.route)),
        origin,
    })
}

/// The matches that are not for gateways only. `None`: all of them are.
fn for_sidecars<M, W>(matches: &[M], source: fn(&M) -> &SourceMatch, encode: fn(&M) -> W) -> Option<Vec<W>> {
    let concern = matches.iter().filter(|item| source(item).concerns_sidecars());
    let encoded: Vec<W> = concern.map(encode).collect();
    (matches.is_empty() || !encoded.is_empty()).then_some(encoded)
}

/// Labels and namespace; not looked at, as in Istio, where the match names its gateways.
fn source(source: &SourceMatch) -> (Vec<mesh::Label>, String) {
    if source.gateways.is_empty() {
        let namespace = source.namespace.clone().unwrap_or_default();
        (clusters::labels(&source.labels), namespace)
    } else {
        (Vec::new(), String::new())
    }
}

fn destinations(reachable: Vec<(usize, &WeightedDestination)>) -> Vec<mesh::WeightedDestination> {
    let alone = reachable.len() == 1;
    reachable.into_iter().map(|(_, to)| destination(to, alone)).collect()
}

fn destination(to: &WeightedDestination, alone: bool) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: to.host.clone(),
        port: to.port.map(u32::from).unwrap_or_default(),
        subset: to.subset.clone(),
        weight: if alone { WHOLE } else { to.weight },
        request_headers: operations(&to.headers.request),
        response_headers: operations(&to.headers.response),
        authority: to.authority.clone(),
    }
}

fn http_match(item: &HttpMatch) -> mesh::HttpMatch {
    let (source_labels, source_namespace) = source(&item.source);
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
        scheme: item.scheme.as_ref().map(string),
        source_labels,
        source_namespace,
        stat_prefix: item.stat_prefix.clone(),
    }
}

fn connection_match(item: &ConnectionMatch) -> mesh::ConnectionMatch {
    let (source_labels, source_namespace) = source(&item.source);
    mesh::ConnectionMatch {
        sni_hosts: item.sni_hosts.clone(),
        destination_subnets: item.destination_subnets.clone(),
        port: item.port.map(u32::from).unwrap_or_default(),
        source_labels,
        source_namespace,
        source_subnet: item.source_subnet.clone().unwrap_or_default(),
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

pub(super) fn string(value: &StringMatch) -> mesh::StringMatch {
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
        retry_remote_localities: retries.retry_remote_localities,
    }
}
