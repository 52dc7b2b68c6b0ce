//! The response's body on its way downstream: streamed, watched for its end, and only then is the request over: its
//! connection goes back to the pool, its permits are free, it is recorded.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::exchange::Exchange;
use crate::limits::Permit;
use crate::telemetry::Flags;
use crate::upstream::{ActiveRequest, BodyError, Lease, RequestBody};

#[derive(Debug)]
pub struct ResponseBody {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Local(Option<Bytes>),
    Upstream(Box<Upstream>),
}

/// Everything that the request holds until its response has ended.
#[derive(Debug)]
pub struct Upstream {
    pub incoming: Incoming,
    pub exchange: Exchange,
    pub deadline: Option<Pin<Box<Sleep>>>,
    pub held: Option<Held>,
    pub sent_bytes: u64,
}

#[derive(Debug)]
pub struct Held {
    pub lease: Lease,
    pub active: ActiveRequest,
    pub permit: Permit,
    pub request_body: RequestBody,
    /// Neither side asked to close.
    pub keep_alive: bool,
}

impl ResponseBody {
    pub fn local(body: Bytes) -> Self {
        Self {
            kind: Kind::Local((!body.is_empty()).then_some(body)),
        }
    }

    pub fn upstream(mut upstream: Upstream) -> Self {
        if upstream.incoming.is_end_stream() {
            upstream.end();
        }
        Self {
            kind: Kind::Upstream(Box::new(upstream)),
        }
    }
}

impl Upstream {
    /// The response arrived whole.
    fn end(&mut self) {
        let Some(held) = self.held.take() else { return };
        self.exchange.received(|| held.request_body.bytes());
        self.exchange.finish(self.sent_bytes);
        let reusable = held.keep_alive && held.request_body.is_sent();
        drop((held.active, held.permit));
        held.lease.give_back(reusable);
    }

    /// It will not; what is held is dropped, which closes an HTTP/1 connection and resets an HTTP/2 stream.
    fn break_off(&mut self, flag: Flags, details: &'static str) {
        if let Some(held) = self.held.take() {
            self.exchange.received(|| held.request_body.bytes());
            self.exchange.flags.insert(flag);
            self.exchange.details(details);
            self.exchange.finish(self.sent_bytes);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(deadline) = &mut self.deadline
            && self.held.is_some()
            && deadline.as_mut().poll(cx).is_ready()
        {
            self.break_off(Flags::UT, "response_timeout");
            return Poll::Ready(Some(Err("upstream request timeout".into())));
        }
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.sent_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                if self.incoming.is_end_stream() {
                    self.end();
                }
            }
            Some(Err(_)) => self.break_off(Flags::UC, "upstream_reset_after_response_started"),
            None => self.end(),
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.break_off(Flags::DC, "downstream_remote_disconnect");
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.kind {
            Kind::Local(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Kind::Upstream(upstream) => upstream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Local(body) => body.is_none(),
            Kind::Upstream(upstream) => upstream.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Local(body) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Kind::Upstream(upstream) => upstream.incoming.size_hint(),
        }
    }
}
