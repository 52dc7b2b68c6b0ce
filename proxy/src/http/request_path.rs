//! The way of a request, top to bottom: admit, find its host, route, headers, then attempts (limits, endpoint,
//! connection, forward, observe) until one answers; the response's body does the rest.
//!
//! Called for every request of every connection, on the worker that accepted it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::exchange::Exchange;
use super::forward::{Answer, Failure, Progress, attempt, speaks_http2};
use super::head::{self, Authority, remove_hop_by_hop};
use super::local_reply::{Cause, is_grpc};
use super::response_body::{Held, ResponseBody, Upstream};
use super::retry::Retries;
use super::route::{Route, find_host, find_port, find_route};
use super::tunnel;
use crate::drain::DrainWatch;
use crate::snapshot::{Cluster, Demand, Host, Reader};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::{Direction, RequestSeries, Telemetry};
use crate::upstream::{Outcome, RequestBody};

/// What one worker serves with; shared by its connections.
#[derive(Debug)]
pub struct Proxy {
    pub worker: usize,
    pub reader: Reader,
    pub demand: Demand,
    /// The application as a host: what inbound requests are for.
    pub application: Arc<Host>,
    /// Requests that belong to no host.
    pub unrouted: Arc<RequestSeries>,
    pub access_log: AccessLog,
    pub debug_headers: bool,
    pub telemetry: Telemetry,
    pub drain: DrainWatch,
    pub on_demand_timeout: Duration,
}

/// The connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub struct Downstream {
    pub direction: Direction,
    pub remote: Option<SocketAddr>,
    /// Inside a `CONNECT`: only the worker's own connection may open one.
    pub tunnelled: bool,
}

/// Serves one request; `ambiguous`: its head says two things about where its body ends. Dropping the future (the client
/// went away) cancels what is in flight upstream.
pub async fn serve(
    proxy: &Arc<Proxy>,
    downstream: &Downstream,
    request: Request<Incoming>,
    ambiguous: bool,
) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(proxy, downstream, &request);
    if ambiguous {
        let cause = Cause::BadRequest("the request has both Transfer-Encoding and Content-Length");
        return reply(cause, false, exchange);
    }
    let grpc = is_grpc(request.headers());
    let version = request.version();
    match answer(proxy, downstream, request, &mut exchange).await {
        Ok(Reached::Upstream(reached)) => stream(*reached, version, exchange),
        Ok(Reached::Tunnel) => reply_tunnel(exchange),
        Err(cause) => reply(cause, grpc, exchange),
    }
}

/// What a request came to.
enum Reached {
    Upstream(Box<UpstreamAnswer>),
    Tunnel,
}

struct UpstreamAnswer {
    response: Response<Incoming>,
    held: Held,
    deadline: Option<Instant>,
}

async fn answer(
    proxy: &Arc<Proxy>,
    downstream: &Downstream,
    mut request: Request<Incoming>,
    exchange: &mut Exchange,
) -> Result<Reached, Cause> {
    let upgrade = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let (mut parts, incoming) = request.into_parts();
    let authority = head::authority(&parts).map_err(Cause::BadRequest)?;
    let host = find_destination_host(proxy, downstream, &authority).await?;
    host.touch();
    exchange.series = Arc::clone(&host.unrouted);
    let port = match downstream.direction {
        Direction::Outbound => find_port(&host, &authority)?,
        Direction::Inbound => host.ports.first().ok_or(Cause::NoHealthyUpstream)?,
    };
    if let Some(upgrade) = upgrade {
        tunnel::open(proxy, downstream, &host, port, upgrade).await?;
        return Ok(Reached::Tunnel);
    }
    if !port.protocol.is_http() {
        return Err(Cause::NoRoute(
            format!("port {} of {} does not speak HTTP", port.number, host.told.fqdn).into(),
        ));
    }

    let route = find_route(&host, port, &parts, &authority, rand::random())
        .ok_or_else(|| Cause::NoRoute(format!("no rule for {} matches the request", host.told.fqdn).into()))?;
    let cluster = find_cluster(&route, exchange)?;

    remove_hop_by_hop(&mut parts.headers);
    // By reading the body we have said 100 ourselves.
    parts.headers.remove(header::EXPECT);
    for operations in route.request_headers() {
        operations.apply(&mut parts.headers);
    }

    let deadline = route.timeout().map(|timeout| Instant::now() + timeout);
    let keep = Retries::keeps_body(route.retries(), &parts.method, speaks_http2(cluster, &parts));
    let body = RequestBody::streamed(incoming, keep);
    let (mut response, held) = dispatch(proxy, cluster, &route, parts, body, deadline, exchange).await?;

    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked: an upgrade ends at this hop.
        return Err(Cause::UpstreamProtocol);
    }
    if response.headers().contains_key(header::TRANSFER_ENCODING) {
        // The encoding overrides it (RFC 9112, 6.3), and it would contradict what we send.
        response.headers_mut().remove(header::CONTENT_LENGTH);
    }
    remove_hop_by_hop(response.headers_mut());
    for operations in route.response_headers() {
        operations.apply(response.headers_mut());
    }
    Ok(Reached::Upstream(Box::new(UpstreamAnswer {
        response,
        held,
        deadline,
    })))
}

async fn find_destination_host(
    proxy: &Proxy,
    downstream: &Downstream,
    authority: &Authority<'_>,
) -> Result<Arc<Host>, Cause> {
    match downstream.direction {
        Direction::Outbound => find_host(proxy, authority).await,
        Direction::Inbound => Ok(Arc::clone(&proxy.application)),
    }
}

fn find_cluster<'h>(route: &Route<'h>, exchange: &mut Exchange) -> Result<&'h Cluster, Cause> {
    let destination = route.destination;
    let name = destination.cluster.as_ref().map_or("", |cluster| &cluster.learned.name);
    exchange.routed(&destination.series, route.label(), name);
    destination.cluster.as_deref().ok_or_else(|| {
        Cause::ClusterNotFound(
            format!(
                "route {:?} leads to a host or subset that does not exist",
                route.label()
            )
            .into(),
        )
    })
}

/// Attempts until one answers, or none is left.
async fn dispatch(
    proxy: &Proxy,
    cluster: &Cluster,
    route: &Route<'_>,
    parts: request::Parts,
    body: RequestBody,
    deadline: Option<Instant>,
    exchange: &mut Exchange,
) -> Result<(Response<Incoming>, Held), Cause> {
    let mut retries = Retries::new(route.retries(), &cluster.learned, &parts.method);
    let original = body.watch();
    let mut request = Request::from_parts(parts, body);
    loop {
        let mut progress = Progress::default();
        let per_try = route.retries().per_try_timeout;
        let tried = attempt(cluster, request, &retries, &mut progress, proxy.worker);
        let outcome = within(tried, deadline, per_try).await;
        if let Some(endpoint) = progress.endpoint() {
            exchange.attempted(endpoint);
        }
        let failure = match outcome {
            Ok(answer) => {
                let status = answer.response.status().as_u16();
                progress.observe(cluster, Outcome::Status(outlier_status(&answer.response)));
                let endpoint = Arc::clone(answer.lease.endpoint());
                let repeatable = progress.spare.is_some() && original.is_repeatable();
                if !retries.after_response(status, answer.response.headers(), &endpoint, repeatable) {
                    retries.record(status < 500);
                    retries.flag(&mut exchange.flags);
                    return accept(answer, progress, original).ok_or(Cause::NoHealthyUpstream);
                }
                None
            }
            Err(failure) => {
                progress.observe_failure(cluster, &failure);
                let endpoint = progress.endpoint().cloned();
                let repeatable = progress.spare.is_some() && original.is_repeatable();
                if !retries.after_failure(&failure, endpoint.as_ref(), repeatable) {
                    exchange.received(|| original.bytes());
                    retries.record(false);
                    retries.flag(&mut exchange.flags);
                    return Err(failure.cause());
                }
                Some(failure)
            }
        };
        let (Some(parts), Some(body)) = (progress.spare.take(), original.again()) else {
            return Err(failure.map_or(Cause::UpstreamReset { remote: false }, Failure::cause));
        };
        request = Request::from_parts(parts, body);
        drop(progress);
        back_off(retries.backoff(failure.as_ref(), rand::random()), deadline).await?;
    }
}

/// The attempt, cut off by its own time or by the request's.
async fn within(
    attempt: impl Future<Output = Result<Answer, Failure>>,
    deadline: Option<Instant>,
    per_try: Option<Duration>,
) -> Result<Answer, Failure> {
    let (limit, late) = match (deadline, per_try.map(|per_try| Instant::now() + per_try)) {
        (None, None) => return attempt.await,
        (Some(deadline), Some(one)) if one < deadline => (one, Failure::TryTimeout),
        (Some(deadline), _) => (deadline, Failure::Timeout),
        (None, Some(one)) => (one, Failure::TryTimeout),
    };
    timeout_at(limit, attempt).await.unwrap_or(Err(late))
}

async fn back_off(interval: Duration, deadline: Option<Instant>) -> Result<(), Cause> {
    if interval.is_zero() {
        return Ok(());
    }
    let wait = sleep(interval);
    match deadline {
        None => wait.await,
        Some(deadline) => timeout_at(deadline, wait).await.map_err(|_| Cause::Timeout)?,
    }
    Ok(())
}

/// gRPC errors without a body count as the HTTP status that they stand for.
fn outlier_status(response: &Response<Incoming>) -> u16 {
    match response.headers().get("grpc-status").map(HeaderValue::as_bytes) {
        None | Some(b"0") => response.status().as_u16(),
        Some(b"14") => 503,
        Some(b"4") => 504,
        Some(b"2" | b"13" | b"15") => 500,
        Some(_) => response.status().as_u16(),
    }
}

fn accept(answer: Answer, progress: Progress, request_body: RequestBody) -> Option<(Response<Incoming>, Held)> {
    let Answer {
        response,
        lease,
        permit,
    } = answer;
    let close = response.version() < Version::HTTP_11
        || response.headers().get_all(header::CONNECTION).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|value| value.split(',').any(|item| item.trim().eq_ignore_ascii_case("close")))
        });
    let held = Held {
        lease,
        active: progress.active?,
        permit,
        request_body,
        keep_alive: !close,
    };
    Some((response, held))
}

/// The upstream's response, its body still to come.
fn stream(reached: UpstreamAnswer, version: Version, mut exchange: Exchange) -> Response<ResponseBody> {
    let UpstreamAnswer {
        response,
        held,
        deadline,
    } = reached;
    let (mut parts, incoming) = response.into_parts();
    parts.version = Version::HTTP_11;
    exchange.status = parts.status.as_u16();
    show_flags(&exchange, &mut parts.headers);
    if version == Version::HTTP_2 {
        head::detach(&mut parts.headers);
    }
    let deadline = deadline.map(|deadline| Box::pin(sleep_until(deadline)));
    let body = Upstream {
        incoming,
        exchange,
        deadline,
        held: Some(held),
        sent_bytes: 0,
    };
    Response::from_parts(parts, ResponseBody::upstream(body))
}

/// The proxy's own answer.
fn reply(cause: Cause, grpc: bool, mut exchange: Exchange) -> Response<ResponseBody> {
    let reply = cause.reply();
    exchange.flags.insert(reply.flags);
    exchange.details(reply.details);
    let mut response = reply.response(grpc);
    exchange.status = response.status().as_u16();
    show_flags(&exchange, response.headers_mut());
    exchange.finish(http_body::Body::size_hint(response.body()).lower());
    response
}

fn reply_tunnel(mut exchange: Exchange) -> Response<ResponseBody> {
    exchange.status = 200;
    exchange.details("connect");
    exchange.finish(0);
    Response::new(ResponseBody::local(bytes::Bytes::new()))
}

fn show_flags(exchange: &Exchange, headers: &mut HeaderMap) {
    if exchange.proxy().debug_headers
        && !exchange.flags.is_empty()
        && let Ok(flags) = HeaderValue::from_str(&exchange.flags.to_string())
    {
        headers.insert(HeaderName::from_static("x-tsunagi-response-flags"), flags);
    }
}
