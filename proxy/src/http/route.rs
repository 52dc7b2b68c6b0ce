//! From a request to its destination: the host (asked for on first use), its port, the rule, the draw by weight.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::timeout;
use tsunagi_proto::decide::{Fields, RequestHead, choose_destination, decide, matched_item};
use tsunagi_proto::model::{
    Action, EditFields, Formatter, HeaderOperations, HttpMatch, HttpRule, Mirror, RetryOn, RetryPolicy, RouteAction,
    WeightedDestination,
};

use super::head::Authority;
use super::local_reply::Cause;
use super::request_path::Proxy;
use crate::codec;
use crate::snapshot::{Destination, Host, Lookup, MirrorTarget, Port, Rule};
use crate::telemetry::{Direction, PrefixSeries};

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
    compiled: &'h Rule,
    /// The one of the rule's matches that the request meets, where anybody asks.
    item: Option<&'h HttpMatch>,
    /// And which of its destinations was drawn; `None`: the rule answers by itself.
    to: Option<(&'h RouteAction, usize)>,
}

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
        self.action().and_then(|(action, _)| action.timeout)
    }

    pub fn retries(&self) -> &RetryPolicy {
        if let Some(retries) = &self.retries {
            return retries;
        }
        match (self.action(), self.destination.series.direction()) {
            (Some((action, _)), _) => &action.retries,
            (None, Direction::Outbound) => &DEFAULT_RETRIES,
            (None, Direction::Inbound) => &INBOUND_RETRIES,
        }
    }

    /// From now on only what provably was not processed is repeated, where the user does not say what is.
    pub fn repeat_only_unprocessed(&mut self) {
        let on = &self.retries().on;
        if on.explicit {
            return;
        }
        let mut policy = self.retries().clone();
        policy.on = RetryOn {
            reset: false,
            grpc: Vec::new(),
            ..policy.on
        };
        self.retries = Some(Box::new(policy));
    }

    /// `None`: no VirtualService.
    pub fn rule(&self) -> Option<&'h HttpRule> {
        self.told.map(|told| told.rule)
    }

    /// Of the match that the request meets; empty: none.
    pub fn match_name(&self) -> &'h str {
        self.item().map_or("", |item| &item.name)
    }

    pub fn item(&self) -> Option<&'h HttpMatch> {
        self.told.and_then(|told| told.item)
    }

    /// Of a rule that sends requests to endpoints, and the destination that was drawn.
    pub fn action(&self) -> Option<(&'h RouteAction, usize)> {
        self.told.and_then(|told| told.to)
    }

    /// Is there more to do than to choose an endpoint?
    pub fn acts_first(&self) -> bool {
        self.told
            .is_some_and(|told| told.to.is_none() || told.rule.fault.is_some() || told.rule.cors.is_some())
    }

    /// Where copies go.
    pub fn mirrors(&self) -> impl Iterator<Item = (&'h Mirror, &'h MirrorTarget)> {
        let told = self.told.and_then(|told| Some((told.to?.0, told.compiled)));
        told.into_iter()
            .flat_map(|(action, compiled)| action.mirrors.iter().zip(&compiled.mirrors))
    }

    /// The family that it is counted in, too.
    pub fn prefixed(&self) -> Option<&'h Arc<PrefixSeries>> {
        let told = self.told.filter(|told| !told.compiled.prefixed.is_empty())?;
        let item = std::ptr::from_ref(told.item?);
        let number = told.rule.matches.iter().position(|it| std::ptr::eq(it, item))?;
        told.compiled.prefixed.get(number)?.as_ref()
    }

    pub fn edit_request<F: EditFields + Fields>(&self, fields: &mut F, write: impl Fn(&Formatter, &F, &mut Vec<u8>)) {
        let Some(told) = self.told else { return };
        let of_destination = |to: &'h WeightedDestination| &to.request_headers;
        told.edit(&told.rule.request_headers, of_destination, fields, write);
    }

    pub fn edit_response<F: EditFields + Fields>(&self, fields: &mut F, write: impl Fn(&Formatter, &F, &mut Vec<u8>)) {
        let Some(told) = self.told else { return };
        let of_destination = |to: &'h WeightedDestination| &to.response_headers;
        told.edit(&told.rule.response_headers, of_destination, fields, write);
    }
}

impl<'h> Told<'h> {
    /// As Istio programs Envoy: the operations of a single destination are the rule's, behind its own; where there are
    /// several, the destination's come first as a whole, so that of two values that are set the rule's stays.
    fn edit<F: EditFields + Fields>(
        &self,
        of_rule: &HeaderOperations,
        of_destination: impl Fn(&'h WeightedDestination) -> &'h HeaderOperations,
        fields: &mut F,
        write: impl Fn(&Formatter, &F, &mut Vec<u8>),
    ) {
        let drawn = self
            .to
            .and_then(|(action, drawn)| Some((action, action.destinations.get(drawn)?)));
        match drawn.map(|(action, to)| (action.destinations.len(), of_destination(to))) {
            Some((_, operations)) if operations.is_empty() => of_rule.apply(fields, write),
            None => of_rule.apply(fields, write),
            Some((1, operations)) => HeaderOperations::apply_together(&[of_rule, operations], fields, write),
            Some((_, operations)) => {
                operations.apply(fields, &write);
                of_rule.apply(fields, write);
            }
        }
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
    let head = seen(head, authority.text, port.number);
    let index = decide(routes, &head)?;
    let (rule, compiled) = (routes.rules.get(index)?, port.rules.get(index)?);
    let item = if asks_for_item(rule, compiled) {
        matched_item(rule, &head)
    } else {
        None
    };
    let to = rule.route().map(|action| {
        let drawn = choose_destination(&action.destinations, action.total_weight, random);
        (action, drawn)
    });
    let destination = match to {
        Some((_, drawn)) => compiled.destinations.get(drawn)?,
        None => compiled.answered.as_ref()?,
    };
    let told = Some(Told {
        rule,
        compiled,
        item,
        to,
    });
    Some(Route {
        destination,
        told,
        retries: None,
    })
}

/// The request as rules see it. `authority` as sent.
pub fn seen<'a>(head: &'a codec::RequestHead, authority: &'a str, port: u16) -> RequestHead<'a, codec::Headers> {
    RequestHead {
        method: head.method.as_str(),
        scheme: head.scheme(),
        path: head.path(),
        query: head.query(),
        authority,
        headers: &head.headers,
        port,
    }
}

/// To find it out costs a look at every match of the rule before it.
fn asks_for_item(rule: &HttpRule, compiled: &Rule) -> bool {
    let replaces = match &rule.action {
        Action::Route(action) => action.rewrite.as_ref().is_some_and(|rewrite| rewrite.path.is_some()),
        Action::Redirect(redirect) => redirect.path.is_some(),
        Action::DirectResponse(_) => false,
    };
    replaces || compiled.names_matches || !compiled.prefixed.is_empty()
}
