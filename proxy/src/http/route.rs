//! From a request to its destination: the host (asked for on first use), its port, the rule, the draw by weight.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::timeout;
use tsunagi_proto::decide::{RequestHead, choose_destination, decide};
use tsunagi_proto::model::{HeaderOperations, HttpRule, RetryOn, RetryPolicy, RouteAction, WeightedDestination};

use super::head::Authority;
use super::local_reply::Cause;
use super::request_path::Proxy;
use crate::codec;
use crate::snapshot::{Destination, Host, Lookup, Port};
use crate::telemetry::Direction;

/// The destination of one request and what its rule says.
pub struct Route<'h> {
    pub destination: &'h Destination,
    /// `None`: no VirtualService.
    told: Option<Told<'h>>,
    /// In the place of the rule's.
    retries: Option<Box<RetryPolicy>>,
}

/// What the rules say.
#[derive(Clone, Copy)]
struct Told<'h> {
    rule: &'h HttpRule,
    action: &'h RouteAction,
    to: &'h WeightedDestination,
}

static NO_OPERATIONS: LazyLock<HeaderOperations> = LazyLock::new(HeaderOperations::default);
static DEFAULT_RETRIES: LazyLock<RetryPolicy> = LazyLock::new(RetryPolicy::default);
/// An application that cannot be connected to is not asked again: the caller is told at once, and goes elsewhere.
static INBOUND_RETRIES: LazyLock<RetryPolicy> = LazyLock::new(|| {
    let mut policy = RetryPolicy::default();
    policy.on.connect_failure = false;
    policy
});

impl<'h> Route<'h> {
    pub fn label(&self) -> &'h str {
        self.destination.series.route()
    }

    pub fn timeout(&self) -> Option<Duration> {
        self.told.and_then(|told| told.action.timeout)
    }

    pub fn retries(&self) -> &RetryPolicy {
        if let Some(retries) = &self.retries {
            return retries;
        }
        match (self.told, self.destination.series.direction()) {
            (Some(told), _) => &told.action.retries,
            (None, Direction::Outbound) => &DEFAULT_RETRIES,
            (None, Direction::Inbound) => &INBOUND_RETRIES,
        }
    }

    /// From now on only what provably was not processed is repeated.
    pub fn repeat_only_unprocessed(&mut self) {
        let mut policy = self.retries().clone();
        let on = &policy.on;
        let unsent = on.reset_before_request || on.any_reset();
        policy.on = RetryOn {
            connect_failure: on.connect_failure || (on.explicit && unsent),
            refused_stream: on.refused_stream || on.any_reset(),
            reset_before_request: unsent,
            ..RetryOn::default()
        };
        self.retries = Some(Box::new(policy));
    }

    /// Of the route, then of the destination.
    pub fn request_headers(&self) -> [&'h HeaderOperations; 2] {
        self.told.map_or([&NO_OPERATIONS; 2], |told| {
            [&told.rule.request_headers, &told.to.request_headers]
        })
    }

    pub fn response_headers(&self) -> [&'h HeaderOperations; 2] {
        self.told.map_or([&NO_OPERATIONS; 2], |told| {
            [&told.rule.response_headers, &told.to.response_headers]
        })
    }
}

/// The host that the name means, if we have been told.
pub fn find_known_host(proxy: &Proxy, authority: &Authority<'_>) -> Option<Arc<Host>> {
    proxy.reader.with(|snapshot| snapshot.known(&authority.host))
}

/// What became of looking for a host.
pub enum Sought {
    Found(Arc<Host>),
    /// The control plane says that there is no such host.
    Absent,
    /// It has not said anything in time.
    Unanswered,
    /// Too much is being asked for.
    Refused,
}

/// The host that the name means. The first request to a host waits until the control plane has told us about it, at most
/// for `limit`.
pub async fn seek_host(proxy: &Proxy, name: &str, limit: Duration) -> Sought {
    let shared = proxy.reader.shared();
    let find = || proxy.reader.with(|snapshot| snapshot.find(name, &shared.namespace));
    let mut changes = shared.changes();
    let mut found = find();
    let arrived = async {
        loop {
            match found {
                Lookup::Found(host) => return Sought::Found(host),
                Lookup::Absent => return Sought::Absent,
                // An address leads to a name, which is asked for in turn.
                Lookup::Unknown(names) => {
                    if !proxy.demand.want(names) {
                        return Sought::Refused;
                    }
                }
            }
            if changes.changed().await.is_err() {
                return Sought::Absent;
            }
            found = find();
        }
    };
    timeout(limit, arrived).await.unwrap_or(Sought::Unanswered)
}

/// As `seek_host`, for a request that cannot go on without it.
pub async fn find_host(proxy: &Proxy, authority: &Authority<'_>) -> Result<Arc<Host>, Cause> {
    let namespace = &proxy.reader.shared().namespace;
    match seek_host(proxy, &authority.host, proxy.on_demand_timeout).await {
        Sought::Found(host) => Ok(host),
        Sought::Absent => Err(Cause::NoRoute(unknown_host(&authority.host, namespace).into())),
        Sought::Refused => Err(Cause::ClusterNotFound(
            "too many unknown services are being asked for".into(),
        )),
        Sought::Unanswered => Err(Cause::ClusterNotFound(
            format!("the control plane has not said yet where {:?} is", authority.host).into(),
        )),
    }
}

fn unknown_host(name: &str, namespace: &str) -> String {
    if name.contains('.') {
        format!("no service is called {name:?}")
    } else {
        format!(
            "no service is called {name:?} in namespace {namespace:?}; a service of another one is {name}.NAMESPACE"
        )
    }
}

pub fn find_port<'h>(host: &'h Host, authority: &Authority<'_>) -> Result<&'h Port, Cause> {
    let port = match authority.port {
        Some(number) => host.port(number),
        None => host.first_http_port(),
    };
    port.ok_or_else(|| {
        if host.ports.is_empty() {
            return Cause::NoRoute(format!("rules name {}, but no service is called that", host.told.fqdn).into());
        }
        let what = authority
            .port
            .map_or("HTTP port".to_owned(), |number| format!("port {number}"));
        Cause::NoRoute(format!("{} has no {what}", host.told.fqdn).into())
    })
}

/// The rule and the draw.
pub fn find_route<'h>(
    host: &'h Host,
    port: &'h Port,
    head: &codec::RequestHead,
    authority: &Authority<'_>,
    random: u64,
) -> Option<Route<'h>> {
    let Some(routes) = host.told.routes.as_ref().filter(|_| port.routed) else {
        return Some(Route {
            destination: port.plain.destinations.first()?,
            told: None,
            retries: None,
        });
    };
    let head = RequestHead {
        method: head.method.as_str(),
        scheme: head.scheme(),
        path: head.path(),
        query: head.query(),
        authority: authority.text,
        headers: &head.headers,
        port: port.number,
    };
    let index = decide(routes, &head)?;
    let rule = routes.rules.get(index)?;
    let action = rule.route()?;
    let drawn = choose_destination(&action.destinations, action.total_weight, random);
    let destination = port.rules.get(index)?.destinations.get(drawn)?;
    let to = action.destinations.get(drawn)?;
    Some(Route {
        destination,
        told: Some(Told { rule, action, to }),
        retries: None,
    })
}
