//! A connection to an endpoint and the right to send one request on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method};
use tsunagi_proto::model::ConnectionPool;

use super::beginning::Origin;
use super::http1::Http1Lease;
use super::http2_lease::Http2Lease;
use super::own::OwnGuard;
use super::queue::ConnectionPermit;
use super::upgraded::UpgradedConnection;
use super::{ClientAddresses, Cluster, Endpoint};
use crate::codec::{BodyError, BodyLength, HeadError, RequestHead, ResponseHead, Sink, Source, Step};

/// Of a connection that only one client's requests are on: it can have been opened when that client had gone already.
const OWN_IDLE_TIME: Duration = Duration::from_secs(10);

/// Shared by the connection's task and whoever uses it.
#[derive(Debug)]
pub(super) struct Connection {
    pub cluster: Arc<Cluster>,
    pub endpoint: Arc<Endpoint>,
    /// The worker that drives it.
    pub worker: usize,
    pub origin: Origin,
    opened_at: Instant,
    requests: AtomicU32,
}

impl Connection {
    pub fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>, worker: usize, origin: Origin) -> Arc<Self> {
        Arc::new(Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            worker,
            origin,
            opened_at: Instant::now(),
            requests: AtomicU32::new(0),
        })
    }

    /// When it has been open for as long as it may be; `None`: never.
    pub fn ends_at(&self, pool: &ConnectionPool) -> Option<Instant> {
        self.opened_at.checked_add(pool.max_connection_duration)
    }

    pub fn is_too_old(&self, pool: &ConnectionPool, now: Instant) -> bool {
        self.ends_at(pool).is_some_and(|end| end <= now)
    }

    /// It has carried a request before the one that was counted last.
    pub fn is_reused(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 1
    }

    /// Counts a request; false when it is the last that `maximum` allows.
    pub fn count_request(&self, maximum: u32) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1) < maximum
    }

    /// May the connection be kept for another request?
    pub fn is_wanted(&self) -> bool {
        self.is_current()
            && self.endpoint.keeps_connections()
            && !self.cluster.connections.is_exceeded()
            && !self.has_lost_client()
    }

    /// It is of one client, which has gone.
    fn has_lost_client(&self) -> bool {
        self.origin
            .binding
            .client
            .is_some_and(|client| self.cluster.own.is_gone(client))
    }

    /// It began as a new one would, with the same certificates.
    pub fn is_current(&self) -> bool {
        self.origin.generation == self.cluster.beginning.generation()
    }

    /// How long it is kept unused. A client's own is of use to nobody else.
    pub fn idle_timeout(&self, pool: &ConnectionPool) -> Duration {
        if self.origin.binding.client.is_some() {
            pool.idle_timeout.min(OWN_IDLE_TIME)
        } else {
            pool.idle_timeout
        }
    }
}

/// Held by whoever drives a connection: it exists exactly as long as the socket.
#[derive(Debug)]
pub(super) struct OpenConnection {
    endpoint: Arc<Endpoint>,
    permit: ConnectionPermit,
    _own: Option<OwnGuard>,
}

impl OpenConnection {
    /// `client`: only its requests are on it.
    pub fn new(endpoint: &Arc<Endpoint>, permit: ConnectionPermit, client: Option<ClientAddresses>) -> Self {
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint: Arc::clone(endpoint),
            _own: client.map(|client| permit.cluster().own.enter(client, endpoint)),
            permit,
        }
    }
}

impl OpenConnection {
    pub fn cluster(&self) -> &Arc<Cluster> {
        self.permit.cluster()
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why no response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamError {
    /// The connection had closed before anything of the request was sent.
    Unsent,
    /// The endpoint refused the stream: provably not processed.
    Refused,
    /// `remote`: the endpoint reset the stream; else the connection broke.
    Reset { remote: bool },
    /// What came is no response.
    Protocol,
    /// TLS: the endpoint wants a client certificate, or refused the one that it was shown; it heard nothing of the request.
    ClientCertificate { wanted: bool },
    /// The endpoint lets no stream become anything else (RFC 8441, 3); nothing was sent.
    NoUpgrade,
}

/// The right to send one request. Dropping it without `give_back` closes an HTTP/1 connection and frees an HTTP/2 stream.
#[derive(Debug)]
pub enum Lease {
    Http1(Http1Lease),
    Http2(Http2Lease),
}

impl Lease {
    /// The endpoint that the connection leads to: at the connection limit it can be another than the one chosen.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        match self {
            Self::Http1(lease) => lease.endpoint(),
            Self::Http2(lease) => lease.endpoint(),
        }
    }

    /// The connection has carried a request before: it may have died unnoticed.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.reused,
            Self::Http2(lease) => lease.reused,
        }
    }

    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    #[cfg(test)]
    pub(super) fn binding(&self) -> &super::Binding {
        match self {
            Self::Http1(lease) => lease.binding(),
            Self::Http2(lease) => lease.binding(),
        }
    }

    /// Writes the request's head; a body of this length is to follow. Nothing has left before the first flush.
    pub fn send_head(&mut self, head: &RequestHead, length: BodyLength) -> Result<(), UpstreamError> {
        match self {
            Self::Http1(lease) => lease.send_head(head, length),
            Self::Http2(lease) => lease.send_head(head, length),
        }
    }

    /// Ready when the response's head is there, or none will come.
    pub fn poll_response_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match self {
            Self::Http1(lease) => lease.poll_response_head(cx),
            Self::Http2(lease) => lease.poll_response_head(cx),
        }
    }

    /// Has the endpoint said since the last call that it wants the request's body?
    pub fn take_continue(&mut self) -> bool {
        match self {
            Self::Http1(lease) => lease.stream().take_continue(),
            Self::Http2(lease) => lease.take_continue(),
        }
    }

    /// Of the response's body, as its head says.
    pub fn response_length(&self, request: &Method) -> Result<BodyLength, HeadError> {
        match self {
            Self::Http1(lease) => Ok(lease.response_length()),
            Self::Http2(lease) => lease.response().body_length(request),
        }
    }

    pub fn response(&self) -> &ResponseHead {
        match self {
            Self::Http1(lease) => lease.response(),
            Self::Http2(lease) => lease.response(),
        }
    }

    pub fn response_mut(&mut self) -> &mut ResponseHead {
        match self {
            Self::Http1(lease) => lease.response_mut(),
            Self::Http2(lease) => lease.response_mut(),
        }
    }

    /// The endpoint goes on in another protocol: its bytes.
    pub fn into_upgraded(self) -> UpgradedConnection {
        match self {
            Self::Http1(lease) => lease.into_upgraded(),
            Self::Http2(lease) => lease.into_upgraded(),
        }
    }

    /// The request is over. `reusable`: both messages were transferred whole and neither side asked to close.
    pub fn give_back(self, reusable: bool) {
        match self {
            Self::Http1(lease) if reusable => lease.give_back(),
            Self::Http1(_) => {}
            Self::Http2(lease) => lease.give_back(),
        }
    }
}

/// The response's body.
impl Source for Lease {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        match self {
            Self::Http1(lease) => lease.stream().poll_data(cx),
            Self::Http2(lease) => lease.poll_data(cx),
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Self::Http1(lease) => lease.stream_ref().data(),
            Self::Http2(lease) => lease.data(),
        }
    }

    fn consume(&mut self, count: usize) {
        match self {
            Self::Http1(lease) => lease.stream().consume(count),
            Self::Http2(lease) => lease.consume(count),
        }
    }

    fn take(&mut self, limit: usize) -> Bytes {
        match self {
            Self::Http1(lease) => lease.stream().take(limit),
            Self::Http2(lease) => lease.take(limit),
        }
    }

    fn is_end(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.stream_ref().is_end(),
            Self::Http2(lease) => lease.is_end(),
        }
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Http1(lease) => lease.stream().take_trailers(),
            Self::Http2(lease) => lease.take_trailers(),
        }
    }
}

/// The request's body.
impl Sink for Lease {
    fn poll_accept<S: Source>(&mut self, source: &mut S, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        match self {
            Self::Http1(lease) => lease.stream().poll_accept(source, cx),
            Self::Http2(lease) => lease.poll_accept(source, cx),
        }
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        match self {
            Self::Http1(lease) => lease.stream().finish(trailers),
            Self::Http2(lease) => lease.finish(trailers),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        match self {
            Self::Http1(lease) => lease.stream().poll_flush(cx),
            Self::Http2(lease) => lease.poll_flush(cx),
        }
    }
}
