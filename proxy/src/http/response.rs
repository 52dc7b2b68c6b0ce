//! The response's body on its way downstream, with what is left of the request's on its way up. When the upstream's last
//! byte is read the request is over: its connection goes back to the pool, its permits are free, it is recorded. A slow
//! client holds them only for as long as there is more to come than fits the buffers.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::time::sleep_until;

use super::deadline::Deadline;
use super::downstream::Downstream;
use super::exchange::Exchange;
use super::request_body::{Attempted, RequestBody};
use crate::codec::{BodyError, BodyLength, Broken, HeadError, Known, Source, Step, Transfer};
use crate::limits::Permit;
use crate::telemetry::{Flags, GrpcCode};
use crate::upstream::{ActiveRequest, Lease, Outcome};

/// A response whose head is there, and everything that the request holds until it has ended.
pub struct Response {
    pub lease: Lease,
    pub active: ActiveRequest,
    /// What outlier detection was told of its head.
    pub began: Outcome,
    pub permit: Permit,
    pub upload: Transfer,
    /// The endpoint reads no more of the request.
    pub upload_refused: bool,
    /// The endpoint did not ask to close.
    pub keep_alive: bool,
    pub deadline: Deadline,
    /// What its trailers say of a gRPC call.
    pub grpc_status: Option<GrpcCode>,
}

/// The response's body, with an eye on its trailers.
struct Watched<'a> {
    lease: &'a mut Lease,
    grpc_status: &'a mut Option<GrpcCode>,
}

impl Source for Watched<'_> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        self.lease.poll_data(cx)
    }

    fn data(&self) -> &[u8] {
        self.lease.data()
    }

    fn consume(&mut self, count: usize) {
        self.lease.consume(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        self.lease.take(limit)
    }

    fn is_end(&self) -> bool {
        self.lease.is_end()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        let trailers = self.lease.take_trailers();
        let status = trailers
            .as_ref()
            .and_then(|trailers| trailers.get(Known::GrpcStatus.name()));
        *self.grpc_status = status.map(|status| GrpcCode::of(status.as_bytes()));
        trailers
    }
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Whole,
    UpstreamBroke,
    RequestBroke,
    ClientGone,
    Late,
}

impl Response {
    /// Of the body, as it goes downstream: what has no length is sent in chunks.
    pub fn length(&self, method: &Method) -> Result<BodyLength, HeadError> {
        Ok(match self.lease.response_length(method)? {
            BodyLength::UntilClose if self.lease.is_end() => BodyLength::Exact(0),
            BodyLength::UntilClose => BodyLength::Chunked,
            known => known,
        })
    }

    /// The request is over: it is recorded, and what it held is free. A response that is not whole closes its HTTP/1
    /// connection or resets its HTTP/2 stream.
    pub fn finish(self, end: End, exchange: &mut Exchange<'_>, sent_bytes: u64) {
        let (flag, details) = match end {
            End::Whole => (Flags::NONE, ""),
            End::UpstreamBroke => (Flags::UC, "upstream_reset_after_response_started"),
            End::Late => (Flags::UT, "response_timeout"),
            End::ClientGone | End::RequestBroke => (Flags::DC, "downstream_remote_disconnect"),
        };
        if end != End::Whole {
            exchange.flags.insert(flag);
            exchange.details(details);
        }
        match (self.grpc_status, end) {
            (Some(status), _) if exchange.grpc => exchange.grpc_status = status,
            (_, End::Late) if exchange.grpc => exchange.grpc_status = GrpcCode::DEADLINE_EXCEEDED,
            _ => {}
        }
        exchange.finish(sent_bytes);
        self.release(end);
    }

    /// What it held is free; its connection goes back to the pool if it may be used again.
    pub fn release(self, end: End) {
        let reusable = end == End::Whole && self.keep_alive && self.upload.is_flushed();
        drop((self.active, self.permit));
        if reusable || self.lease.is_http2() {
            self.lease.give_back(reusable);
        }
    }

    /// One step up and one step down.
    fn poll<D: Downstream>(
        &mut self,
        body: &mut RequestBody,
        download: &mut Transfer,
        client: &mut D,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        if !self.upload.is_flushed() && !self.upload_refused {
            match self
                .upload
                .poll_flushed(&mut Attempted { body, client }, &mut self.lease, cx)
            {
                Poll::Ready(Err(Broken::Source(_))) => return Poll::Ready(End::RequestBroke),
                // The endpoint reads no further; its answer may still be whole.
                Poll::Ready(Err(Broken::Sink(_))) => self.upload_refused = true,
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        let mut watched = Watched {
            lease: &mut self.lease,
            grpc_status: &mut self.grpc_status,
        };
        match download.poll(&mut watched, client, cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Whole),
            Poll::Ready(Err(Broken::Source(_))) => Poll::Ready(End::UpstreamBroke),
            Poll::Ready(Err(Broken::Sink(_))) => Poll::Ready(End::ClientGone),
            Poll::Pending => client.poll_gone(cx).map(|()| End::ClientGone),
        }
    }
}

/// Sends the response with a body of this length, until its last byte has come; says how many bytes that were.
pub async fn relay<D: Downstream>(
    response: &mut Response,
    body: &mut RequestBody,
    length: BodyLength,
    client: &mut D,
) -> (End, u64) {
    let mut download = Transfer::default();
    let over = length == BodyLength::None || response.lease.is_end();
    if client.respond(response.lease.response_mut(), length, over).is_err() {
        return (End::ClientGone, 0);
    }
    if length == BodyLength::None {
        // An endpoint that does not end its stream there has nothing more to say that anybody may hear.
        response.keep_alive &= response.lease.is_end();
        return match client.finish(None) {
            Ok(()) => (End::Whole, 0),
            Err(_) => (End::ClientGone, 0),
        };
    }
    let mut timer = None;
    let end = poll_fn(|cx| {
        if let Poll::Ready(end) = response.poll(body, &mut download, client, cx) {
            return Poll::Ready(end);
        }
        response.deadline.follow(body, response.upload_refused);
        let Some(at) = response.deadline.at() else {
            return Poll::Pending;
        };
        let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| End::Late)
    });
    (end.await, download.bytes)
}
