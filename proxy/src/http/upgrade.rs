//! A request that asks for another protocol on its connection or stream (WebSocket and its like). It goes the way of every
//! request, up to the endpoint's answer: 101, or success over HTTP/2 (RFC 8441). From there on its bytes are passed on,
//! until both sides have ended or one has aborted, and the request is recorded then. An endpoint that answers anything
//! else has answered a request.
//!
//! Either side speaks what it speaks: an extended CONNECT is passed on as a GET with `Upgrade` and the other way round, as
//! Envoy does ("WebSocket and HTTP upgrades"), and what only one of the two has is supplied here. Called by `request_path`.

use std::future::poll_fn;
use std::pin::Pin;

use http::{Method, StatusCode};

use super::downstream::Downstream;
use super::exchange::Exchange;
use super::local_reply::Cause;
use super::response::Response;
use crate::codec::{BodyLength, Ending, RequestHead, Transport, WEBSOCKET, first_of, pass_upgraded};
use crate::limits::Permit;
use crate::upstream::{ActiveRequest, Lease, UpgradedConnection};

/// Notes what the request asks for. One with a body, or that cannot be said to an endpoint that speaks HTTP/2, is as if it
/// had not asked, which is always right (RFC 9110, 7.8). To be asked before what ends at a hop is removed.
pub fn recognise(head: &mut RequestHead, length: BodyLength, http2: bool) {
    let bodiless = matches!(length, BodyLength::None | BodyLength::Exact(0));
    if head.upgrade.is_none() && bodiless && (!http2 || head.method == Method::GET) {
        head.upgrade = head.asks_for();
    }
}

/// Supplies what the endpoint wants and the client did not have to say.
pub fn prepare(head: &mut RequestHead, http2: bool) {
    if head.is_http2() && !http2 && is_websocket(head) {
        head.add_websocket_key();
    }
}

fn is_websocket(head: &RequestHead) -> bool {
    let protocol = head.upgrade.as_deref().map(first_of);
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(WEBSOCKET))
}

/// What the endpoint goes on in, if it does; then the response is a 101 that answers the client's request. An error: the
/// endpoint does what nobody has asked for.
pub fn switches(head: &RequestHead, lease: &mut Lease) -> Result<Option<Box<str>>, Cause> {
    let http2 = lease.is_http2();
    let response = lease.response_mut();
    let agrees = if http2 {
        response.status.is_success()
    } else {
        response.status == StatusCode::SWITCHING_PROTOCOLS
    };
    let asked = match &head.upgrade {
        Some(asked) if agrees => asked,
        _ if response.status == StatusCode::SWITCHING_PROTOCOLS => return Err(Cause::UpstreamProtocol),
        _ => return Ok(None),
    };
    if http2 {
        response.status = StatusCode::SWITCHING_PROTOCOLS;
        if !head.is_http2() && is_websocket(head) {
            response.accept_websocket(head);
        }
        return Ok(Some(first_of(asked).into()));
    }
    let protocol = response.switches_to(asked).ok_or(Cause::UpstreamProtocol)?;
    if head.is_http2() && is_websocket(head) && !response.accepts_websocket(head) {
        return Err(Cause::UpstreamProtocol);
    }
    Ok(Some(protocol))
}

/// What an upgrade holds for as long as it lives.
#[derive(Debug)]
pub struct Switched {
    upstream: UpgradedConnection,
    _active: ActiveRequest,
    _permit: Permit,
}

/// Answers the client. Whoever has gone meanwhile has aborted.
pub async fn switch<D: Downstream>(response: Response, protocol: &str, client: &mut D) -> Result<Box<Switched>, Cause> {
    let Response {
        mut lease,
        active,
        permit,
        upload,
        ..
    } = response;
    if !upload.is_flushed() {
        // It agrees to what it has not heard yet.
        return Err(Cause::UpstreamProtocol);
    }
    let answered = client.switch_protocols(lease.response_mut(), protocol);
    let upstream = lease.into_upgraded();
    if answered.is_err() || poll_fn(|cx| client.poll_flush(cx)).await.is_err() {
        upstream.reset_when_dropped();
        return Err(Cause::ClientGone);
    }
    Ok(Box::new(Switched {
        upstream,
        _active: active,
        _permit: permit,
    }))
}

/// An upgrade whose bytes are to be passed on, and the request that it was.
#[derive(Debug)]
pub struct Upgraded<'p> {
    pub switched: Box<Switched>,
    pub exchange: Exchange<'p>,
}

impl<'p> Upgraded<'p> {
    /// Until both sides have ended or one has aborted; then the request is recorded.
    pub fn run(
        mut self: Box<Self>,
        mut stream: Box<dyn Transport + 'p>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'p>> {
        Box::pin(async move {
            let lifetime = self.switched.upstream.lifetime();
            let (passed, ending) = pass_upgraded(&mut stream, &mut self.switched.upstream, lifetime).await;
            let exchange = &mut self.exchange;
            exchange.flags.insert(ending.flags());
            match ending {
                Ending::Closed => {}
                Ending::DownstreamReset => exchange.details("downstream_remote_disconnect"),
                Ending::UpstreamReset | Ending::Idle => exchange.details("upstream_reset_after_response_started"),
                Ending::TooLong => exchange.details("max_duration_timeout"),
            }
            exchange.received(|| passed.received);
            exchange.finish(passed.sent);
        })
    }
}
