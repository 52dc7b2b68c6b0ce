//! The rules of a VirtualService, in order: which requests and connections each is for, and what becomes of them.

use std::time::Duration;

use super::source::{self, Source};
use super::{
    ConnectionRule, CorsPolicy, DirectResponse, Fault, HeaderOperations, HttpMatch, Invalid, Mirror, Redirect,
    RetryPolicy, Rewrite, RuleIndex, SourceMatch, connection_rule, duration, header_operations, host,
};
use crate::wire::mesh;

#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Of the VirtualService.
    pub namespace: String,
    pub name: String,
    pub rules: Vec<HttpRule>,
    /// Of TLS connections, which are passed on as they are.
    pub tls: Vec<ConnectionRule>,
    pub tcp: Vec<ConnectionRule>,
    /// Of `rules`, where they are many; so they stay as they are.
    pub(crate) index: Option<RuleIndex>,
}

#[derive(Clone, Debug)]
pub struct HttpRule {
    /// The rule's `name`, or `VirtualService.namespace/index`: the `route` label of every metric.
    pub label: String,
    pub origin: Origin,
    /// Any one suffices; none: every request matches.
    pub matches: Vec<HttpMatch>,
    pub action: Action,
    pub fault: Option<Fault>,
    pub cors: Option<CorsPolicy>,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
}

/// Where a rule is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Of the VirtualService, which may be one that was delegated to.
    pub namespace: String,
    pub name: String,
    pub index: usize,
}

#[derive(Clone, Debug)]
pub enum Action {
    Route(RouteAction),
    Redirect(Redirect),
    DirectResponse(DirectResponse),
}

/// To endpoints.
#[derive(Clone, Debug)]
pub struct RouteAction {
    /// Never empty; weights are the ones to draw by (a single destination has all of it).
    pub destinations: Vec<WeightedDestination>,
    pub total_weight: u64,
    /// The whole request, retries included. `None`: no limit.
    pub timeout: Option<Duration>,
    pub retries: RetryPolicy,
    pub rewrite: Option<Rewrite>,
    pub mirrors: Vec<Mirror>,
}

#[derive(Clone, Debug)]
pub struct WeightedDestination {
    pub host: String,
    /// `None`: the host's sole port, else the one that the client asked for.
    pub port: Option<u16>,
    pub subset: String,
    pub weight: u32,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
    /// In place of the request's, unless the rule's rewrite has one.
    pub authority: Option<http::HeaderValue>,
}

impl HttpRule {
    /// What it does, if it sends requests to endpoints.
    pub fn route(&self) -> Option<&RouteAction> {
        match &self.action {
            Action::Route(route) => Some(route),
            Action::Redirect(_) | Action::DirectResponse(_) => None,
        }
    }

    /// Can a request for this port meet it?
    pub fn concerns(&self, port: u16) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|item| item.concerns(port))
    }
}

impl RouteTable {
    /// Is anything of it for some clients only?
    pub fn depends_on_source(&self) -> bool {
        let any = SourceMatch::default();
        let connections = self.tls.iter().chain(&self.tcp).flat_map(|rule| &rule.matches);
        let requests = self.rules.iter().flat_map(|rule| &rule.matches);
        let mut sources = connections
            .map(|item| &item.source)
            .chain(requests.map(|item| &item.source));
        sources.any(|source| *source != any)
    }

    /// As it is for one client: without the rules and matches that are for others. Where nothing is left of one kind of
    /// rules, requests or connections of that kind go to their service as without a VirtualService.
    pub fn for_source(mut self, source: &Source) -> Self {
        source::retain(
            &mut self.rules,
            |rule| &mut rule.matches,
            |item| item.source.admits(source),
        );
        source::retain(
            &mut self.tls,
            |rule| &mut rule.matches,
            |item| item.source.admits(source),
        );
        source::retain(
            &mut self.tcp,
            |rule| &mut rule.matches,
            |item| item.source.admits(source),
        );
        self.index = RuleIndex::new(&self.rules);
        self
    }
}

impl Origin {
    pub(super) fn checked(wire: Option<mesh::Origin>, namespace: &str, name: &str, index: usize) -> Self {
        match wire {
            Some(wire) => Self {
                namespace: wire.namespace,
                name: wire.name,
                index: wire.index as usize,
            },
            None => Self {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                index,
            },
        }
    }
}

impl TryFrom<mesh::WeightedDestination> for WeightedDestination {
    type Error = Invalid;

    fn try_from(wire: mesh::WeightedDestination) -> Result<Self, Invalid> {
        if wire.host.is_empty() {
            return Err(Invalid::new("host", "must not be empty"));
        }
        Ok(Self {
            host: wire.host,
            port: host::optional_port("port", wire.port)?,
            subset: wire.subset,
            weight: wire.weight,
            request_headers: header_operations::checked("request_headers", wire.request_headers)?,
            response_headers: header_operations::checked("response_headers", wire.response_headers)?,
            authority: super::action::authority("authority", &wire.authority)?,
        })
    }
}

/// Istio's reading of weights: one destination gets everything whatever its weight; of several, those with weight 0
/// get nothing.
pub(super) fn weighted(wire: Vec<mesh::WeightedDestination>) -> Result<Vec<WeightedDestination>, Invalid> {
    let mut route = Vec::with_capacity(wire.len());
    for (index, destination) in wire.into_iter().enumerate() {
        route
            .push(WeightedDestination::try_from(destination).map_err(|error| error.within(format!("route[{index}]")))?);
    }
    match route.as_mut_slice() {
        [] => Err(Invalid::new("route", "a rule needs a destination")),
        [only] => {
            only.weight = only.weight.max(1);
            Ok(route)
        }
        _ => {
            route.retain(|destination| destination.weight > 0);
            if route.is_empty() {
                Err(Invalid::new("route", "total destination weight = 0"))
            } else {
                Ok(route)
            }
        }
    }
}

pub(super) fn total_weight(destinations: &[WeightedDestination]) -> u64 {
    destinations
        .iter()
        .map(|destination| u64::from(destination.weight))
        .sum()
}

/// What the rule does: exactly one thing.
fn action(wire: &mut mesh::HttpRule) -> Result<Action, Invalid> {
    let destinations = std::mem::take(&mut wire.route);
    match (wire.redirect.take(), wire.direct_response.take()) {
        (None, None) => route(wire, destinations).map(Action::Route),
        (redirect, response) if !destinations.is_empty() || (redirect.is_some() && response.is_some()) => Err(
            Invalid::new("route", "only one of route, redirect and direct_response may be set"),
        ),
        (Some(redirect), _) => Redirect::try_from(redirect)
            .map(Action::Redirect)
            .map_err(|error| error.within("redirect")),
        (None, Some(response)) => DirectResponse::try_from(response)
            .map(Action::DirectResponse)
            .map_err(|error| error.within("direct_response")),
    }
}

fn route(wire: &mut mesh::HttpRule, destinations: Vec<mesh::WeightedDestination>) -> Result<RouteAction, Invalid> {
    let destinations = weighted(destinations)?;
    let retries = wire.retries.take().map(RetryPolicy::try_from).transpose();
    let rewrite = wire.rewrite.take().map(Rewrite::try_from).transpose();
    let mirrors = std::mem::take(&mut wire.mirrors).into_iter().enumerate();
    let mirrors = mirrors
        .map(|(index, mirror)| Mirror::try_from(mirror).map_err(|error| error.within(format!("mirrors[{index}]"))));
    Ok(RouteAction {
        total_weight: total_weight(&destinations),
        destinations,
        timeout: duration("timeout", wire.timeout.take())?,
        retries: retries.map_err(|error| error.within("retries"))?.unwrap_or_default(),
        rewrite: rewrite.map_err(|error| error.within("rewrite"))?,
        mirrors: mirrors.collect::<Result<_, _>>()?,
    })
}

fn rule(mut wire: mesh::HttpRule, namespace: &str, name: &str, index: usize) -> Result<HttpRule, Invalid> {
    let action = action(&mut wire)?;
    let mut matches = Vec::with_capacity(wire.matches.len());
    for (number, item) in wire.matches.into_iter().enumerate() {
        matches.push(HttpMatch::try_from(item).map_err(|error| error.within(format!("matches[{number}]")))?);
    }
    let origin = Origin::checked(wire.origin, namespace, name, index);
    Ok(HttpRule {
        label: if wire.name.is_empty() {
            format!("{}.{}/{}", origin.name, origin.namespace, origin.index)
        } else {
            wire.name
        },
        origin,
        matches,
        action,
        fault: wire
            .fault
            .map(Fault::try_from)
            .transpose()
            .map_err(|error| error.within("fault"))?,
        cors: wire
            .cors
            .map(CorsPolicy::try_from)
            .transpose()
            .map_err(|error| error.within("cors"))?,
        request_headers: header_operations::checked("request_headers", wire.request_headers)?,
        response_headers: header_operations::checked("response_headers", wire.response_headers)?,
    })
}

impl TryFrom<mesh::RouteTable> for RouteTable {
    type Error = Invalid;

    fn try_from(wire: mesh::RouteTable) -> Result<Self, Invalid> {
        let (namespace, name) = (wire.namespace, wire.name);
        let mut rules = Vec::with_capacity(wire.http.len());
        for (index, http) in wire.http.into_iter().enumerate() {
            rules.push(rule(http, &namespace, &name, index).map_err(|error| error.within(format!("http[{index}]")))?);
        }
        Ok(Self {
            tls: connection_rule::checked("tls", wire.tls, &namespace, &name)?,
            tcp: connection_rule::checked("tcp", wire.tcp, &namespace, &name)?,
            index: RuleIndex::new(&rules),
            rules,
            namespace,
            name,
        })
    }
}
