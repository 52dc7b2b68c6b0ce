//! The way of a request, top to bottom: admit, find its host, route, headers, then attempts (limits, endpoint,
//! connection, forward, observe) until one answers, then the response's body.
//!
//! Called for every request of every connection, on the worker that accepted it, in one task from the first byte to the
//! last: nothing is handed to another.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};

use super::actions::act_first;
use super::attempts::dispatch;
use super::control_headers::remove_controls;
use super::deadline::Deadline;
use super::downstream::{Downstream, DownstreamConnection, break_off, unless_gone};
use super::exchange::Exchange;
use super::explained;
use super::formatted::{Formatted, edit_response};
use super::forward::{speaks_http2, upgrades_http2};
use super::hash_key::{Keyed, key_of};
use super::head::{self, Authority};
use super::local_reply::Cause;
use super::located::{headed, locate, without_endpoint};
use super::mirror::mirror;
use super::normalized::normalize;
use super::outcome::observe_end;
use super::own_answer::send_own;
use super::redirected::{Found, find_known, find_redirected};
use super::request_body::RequestBody;
use super::request_id::identify;
use super::response::{End, relay};
use super::retry::Retries;
use super::rewritten::rewrite;
use super::route::{Route, find_host, find_known_host, find_port, find_route};
use super::tunnel::{self, Tunnel};
use super::upgrade::{self, Switched, Upgraded};
use crate::codec::{BodyLength, Known, RequestHead, ResponseHead};
use crate::drain::{Drain, DrainWatch};
use crate::snapshot::{Cluster, Demand, Host, InboundReader, Passthrough, Port, Reader};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Direction, Flags, RequestSeries, Telemetry};
use crate::upstream::OwnConnections;

/// Of a request that would have been sent again.
const NO_RETRY: &str = " (not sent again: as many retries are in flight as retryBudget or maxRetries allow)";

/// What one worker serves with; shared by its connections.
#[derive(Debug)]
pub struct Proxy {
    pub worker: usize,
    pub reader: Reader,
    pub demand: Demand,
    /// The application as hosts: what inbound requests are for.
    pub inbound: InboundReader,
    /// What nobody registered.
    pub passthrough: Passthrough,
    /// Requests that belong to no host.
    pub unrouted: Arc<RequestSeries>,
    pub access_log: AccessLog,
    pub debug_headers: bool,
    pub telemetry: Telemetry,
    pub drain: Drain,
    pub on_demand_timeout: Duration,
    /// Is told of each connection of a client that ends.
    pub own_connections: Arc<OwnConnections>,
}

impl Proxy {
    /// The end of the side that a connection belongs to.
    pub fn drain_of(&self, direction: Direction) -> DrainWatch {
        match direction {
            Direction::Inbound => self.drain.inbound().watch(),
            Direction::Outbound => self.drain.outbound().watch(),
        }
    }

    /// What a connection from the mesh is for, by the destination that it had before it was redirected.
    pub fn inbound_host(&self, original_destination: Option<SocketAddr>) -> Arc<Host> {
        self.inbound.host(original_destination)
    }
}

/// What became of a request.
#[derive(Debug)]
pub enum Served<'p> {
    /// Answered, or broken off; the downstream knows which.
    Done,
    /// The `CONNECT` was answered: the connection's bytes are the tunnel's now.
    Tunnel(Box<Tunnel>),
    /// The endpoint goes on in another protocol: the connection's bytes are this one's now.
    Upgraded(Box<Upgraded<'p>>),
}

/// What a connection that has carried a request becomes.
enum Onward {
    Tunnel(Box<Tunnel>),
    Upgraded(Box<Switched>),
}

/// Serves one request; `length` of its body, or why that is not certain. Dropping the future cancels what is in flight
/// upstream.
pub async fn serve<'p, D: Downstream>(
    proxy: &'p Arc<Proxy>,
    downstream: &DownstreamConnection,
    head: &mut RequestHead,
    length: Result<BodyLength, &'static str>,
    client: &mut D,
) -> Served<'p> {
    identify(&mut head.headers);
    remove_controls(&mut head.headers);
    let length = normalize(head).and(length);
    let mut exchange = Exchange::begin(proxy, downstream, head);
    exchange.explained = explained::asked(proxy, downstream.direction, &mut head.headers);
    match answer(proxy, downstream, head, length, client, &mut exchange).await {
        Ok(None) => Served::Done,
        Ok(Some(Onward::Tunnel(tunnel))) => Served::Tunnel(tunnel),
        Ok(Some(Onward::Upgraded(switched))) => Served::Upgraded(Box::new(Upgraded { switched, exchange })),
        Err(cause) => {
            if cause == Cause::Blocked {
                exchange.routed(
                    &proxy.passthrough.blocked,
                    Passthrough::BLOCKED_ROUTE,
                    Passthrough::BLACK_HOLE,
                );
            }
            Box::pin(reply(cause, client, exchange)).await;
            Served::Done
        }
    }
}

async fn answer<D: Downstream>(
    proxy: &Arc<Proxy>,
    downstream: &DownstreamConnection,
    head: &mut RequestHead,
    length: Result<BodyLength, &'static str>,
    client: &mut D,
    exchange: &mut Exchange<'_>,
) -> Result<Option<Onward>, Cause> {
    let length = length.map_err(Cause::BadRequest)?;
    head::check_scheme(head).map_err(Cause::BadRequest)?;
    let named = match (downstream.direction, downstream.original_destination) {
        (Direction::Outbound, None) => head::authority(head),
        (Direction::Inbound, _) | (Direction::Outbound, Some(_)) => head::authority_if_any(head),
    };
    let authority = named.map_err(Cause::BadRequest)?;
    let connect = head.method == Method::CONNECT;
    if connect && downstream.direction == Direction::Inbound && downstream.original_destination.is_some() {
        // A connection that begins with one is not served here but passed on to the application.
        return Err(Cause::NoTunnel);
    }
    let (host, number) = find_destination_host(proxy, downstream, &authority, connect, client).await?;
    host.touch();
    exchange.series = Arc::clone(&host.unrouted);
    let port = find_destination_port(downstream.direction, &host, number, &authority)?;
    explained::decided(exchange, &host, port, head, &authority);
    if connect {
        let tunnel = Box::pin(tunnel::open(proxy, downstream, &host, port, &authority)).await?;
        return Box::pin(open_tunnel(tunnel, client, exchange)).await;
    }
    if !port.protocol.is_http() {
        return Err(Cause::NoRoute(
            format!("port {} of {} does not speak HTTP", port.number, host.told.fqdn).into(),
        ));
    }

    let mut route = find_route(&host, port, head, &authority, rand::random())
        .ok_or_else(|| Cause::NoRoute(format!("no rule for {} matches the request", host.told.fqdn).into()))?;
    let formatted = begin_route(&route, downstream, exchange);
    if route.acts_first() {
        let named = (authority.text, port.number);
        let acted = Box::pin(act_first(&route, head, named, &formatted, client, exchange));
        if acted.await? {
            return Ok(None);
        }
    }
    let told = find_cluster(&route)?;
    let located = if told.is_located() {
        None
    } else {
        // Boxed: what is rare should not make every request's state larger.
        let headed = headed(downstream, &authority, port.number);
        Some(Box::pin(locate(told, headed, proxy.on_demand_timeout)).await?)
    };
    let cluster = located.as_ref().unwrap_or(told);
    if authority.text.is_empty() {
        name_destination(head, downstream, port);
    }

    upgrade::recognise(head, length, upgrades_http2(cluster, head));
    head.headers.remove_hop_by_hop();
    rewrite(&route, head, port.number, &formatted)?;

    if head.upgrade.is_some() {
        upgrade::prepare(head, speaks_http2(cluster, head));
        route.repeat_only_unprocessed();
    }

    let deadline = Deadline::new(route.timeout(), &head.headers, exchange.grpc, exchange.started());
    let keep = Retries::keeps_body(route.retries(), &head.method, speaks_http2(cluster, head));
    let mut body = RequestBody::new(length, keep);
    // What comes after an upgrade cannot be copied.
    if head.upgrade.is_none() {
        mirror(&route, head, &mut body, exchange, downstream.remote);
    }
    let Keyed { hash, set_cookie } = key_of(cluster, head, downstream);
    let sent = dispatch(
        proxy, cluster, &route, head, &mut body, deadline, hash, client, exchange,
    );
    let mut response = sent.await.map_err(|cause| match cause {
        Cause::NoHealthyUpstream => without_endpoint(cluster),
        cause => cause,
    })?;

    let switches = upgrade::switches(head, &mut response.lease)?;
    let length = response.length(&head.method).map_err(|_| Cause::UpstreamProtocol)?;
    let endpoint = Some(response.lease.endpoint().shown_address());
    let upstream = response.lease.response_mut();
    upstream.headers.remove_hop_by_hop();
    // Only sidecars say it, and only to each other: nothing of it goes on, whoever sent it.
    upstream.headers.remove_known(Known::XTsunagiUnprocessed);
    let said = (exchange.flags, "via_upstream");
    edit_response(&route, &formatted, head, upstream, endpoint, said);
    if let Some(cookie) = &set_cookie {
        upstream.headers.append(&header::SET_COOKIE, cookie);
    }
    exchange.show_to_page(upstream);
    exchange.answered(upstream);
    show_flags(exchange, upstream);
    if let Some(protocol) = switches {
        let switched = Box::pin(upgrade::switch(response, &protocol, client)).await?;
        return Ok(Some(Onward::Upgraded(switched)));
    }
    let (end, sent_bytes) = relay(&mut response, &mut body, length, client).await;
    exchange.received(|| body.bytes);
    observe_end(&response, cluster, end);
    response.finish(end, exchange, sent_bytes);
    match end {
        End::Whole if poll_fn(|cx| client.poll_flush(cx)).await.is_ok() => {}
        End::Whole | End::ClientGone | End::RequestBroke => client.abort(),
        End::UpstreamBroke | End::Late => Box::pin(break_off(client)).await,
    }
    Ok(None)
}

/// The host, and its port where the destination of a redirected connection has decided that too.
async fn find_destination_host<D: Downstream>(
    proxy: &Proxy,
    downstream: &DownstreamConnection,
    authority: &Authority<'_>,
    connect: bool,
    client: &mut D,
) -> Result<(Arc<Host>, Option<u16>), Cause> {
    match (downstream.direction, downstream.original_destination) {
        (Direction::Outbound, None) => match find_known_host(proxy, authority) {
            Some(host) => Ok((host, None)),
            None => unless_gone(client, Box::pin(find_host(proxy, authority)))
                .await
                .unwrap_or(Err(Cause::ClientGone))
                .map(|host| (host, None)),
        },
        (Direction::Outbound, Some(destination)) => match find_known(proxy, destination, authority) {
            Some(Found { host, port }) => Ok((host, Some(port))),
            None => unless_gone(
                client,
                Box::pin(find_redirected(proxy, destination, authority, connect)),
            )
            .await
            .unwrap_or(Err(Cause::ClientGone))
            .map(|Found { host, port }| (host, Some(port))),
        },
        (Direction::Inbound, destination) => Ok((proxy.inbound_host(destination), None)),
    }
}

fn find_destination_port<'h>(
    direction: Direction,
    host: &'h Host,
    number: Option<u16>,
    authority: &Authority<'_>,
) -> Result<&'h Port, Cause> {
    match (direction, number) {
        (Direction::Outbound, None) => find_port(host, authority),
        (Direction::Outbound, Some(number)) => host.port(number).ok_or(Cause::NoHealthyUpstream),
        (Direction::Inbound, _) => host.ports.first().ok_or(Cause::NoHealthyUpstream),
    }
}

/// Endpoints are asked with HTTP/1.1 or 2, where a name must be said: the address, as from a client that knows no other.
fn name_destination(head: &mut RequestHead, downstream: &DownstreamConnection, port: &Port) {
    let name = match downstream.original_destination {
        Some(destination) => destination.to_string(),
        None => format!("localhost:{}", port.number),
    };
    if let Ok(name) = HeaderValue::try_from(name) {
        head.headers.set(&header::HOST, &name);
    }
}

/// Takes note of the rule, and of what its header values may say.
fn begin_route<'a>(
    route: &Route<'a>,
    downstream: &'a DownstreamConnection,
    exchange: &mut Exchange<'_>,
) -> Formatted<'a> {
    let destination = route.destination;
    let cluster = destination.cluster.as_ref().map_or("", |cluster| &cluster.learned.name);
    exchange.routed(&destination.series, route.label(), cluster);
    exchange.matched(route.match_name());
    explained::drawn(exchange, destination);
    exchange.prefixed = route.prefixed().cloned();
    Formatted {
        downstream,
        started: exchange.started(),
        route: route.label(),
        cluster,
    }
}

fn find_cluster<'h>(route: &Route<'h>) -> Result<&'h Cluster, Cause> {
    route.destination.cluster.as_deref().ok_or_else(|| {
        Cause::ClusterNotFound(
            format!(
                "route {:?} leads to a host or subset that does not exist",
                route.label()
            )
            .into(),
        )
    })
}

/// The proxy's own answer.
async fn reply<D: Downstream>(cause: Cause, client: &mut D, mut exchange: Exchange<'_>) {
    if cause == Cause::ClientGone {
        // The exchange says so itself.
        client.abort();
        return;
    }
    match &cause {
        Cause::ConnectFailure(reason) => exchange.connect_failed(reason),
        Cause::Overflow(limit) => exchange.connect_failed(&format!("overflow ({limit})")),
        _ => {}
    }
    let mut reply = cause.reply();
    if exchange.flags.contains(Flags::UO) {
        reply.body.to_mut().push_str(NO_RETRY);
    }
    exchange.flags.insert(reply.flags);
    exchange.details(reply.details);
    let (mut head, body) = reply.response(exchange.grpc);
    if let (Some(called_at), Some(unanswered)) = (exchange.called_at, exchange.unanswered) {
        unanswered.write(&mut head, called_at);
    }
    exchange.show_to_page(&mut head);
    // What the client may have sent already was for the tunnel.
    if reply.flags.contains(Flags::DPE) || *exchange.method() == Method::CONNECT {
        client.close_after();
    }
    send_own(head, body, client, &mut exchange).await;
}

async fn open_tunnel<D: Downstream>(
    tunnel: Tunnel,
    client: &mut D,
    exchange: &mut Exchange<'_>,
) -> Result<Option<Onward>, Cause> {
    exchange.status = 200;
    exchange.details("connect");
    exchange.finish(0);
    client.open_tunnel().map_err(|_| Cause::ClientGone)?;
    poll_fn(|cx| client.poll_flush(cx))
        .await
        .map_err(|_| Cause::ClientGone)?;
    Ok(Some(Onward::Tunnel(Box::new(tunnel))))
}

pub(super) fn show_flags(exchange: &Exchange<'_>, head: &mut ResponseHead) {
    explained::show(exchange, head);
    if exchange.proxy().debug_headers
        && !exchange.flags.is_empty()
        && let Ok(flags) = HeaderValue::from_str(&exchange.flags.to_string())
    {
        let name = HeaderName::from_static("x-tsunagi-response-flags");
        head.headers.set(&name, &flags);
    }
}
