//! A connection to an endpoint and the right to send one request on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::http1::Http1Lease;
use super::http2::Http2Lease;
use super::queue::ConnectionPermit;
use super::{Cluster, Endpoint, RequestBody};

/// Shared by the connection's task and whoever uses it.
#[derive(Debug)]
pub(super) struct Connection {
    pub cluster: Arc<Cluster>,
    pub endpoint: Arc<Endpoint>,
    /// The worker that drives it.
    pub worker: usize,
    requests: AtomicU32,
}

impl Connection {
    pub fn new(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>, worker: usize) -> Arc<Self> {
        Arc::new(Self {
            cluster: Arc::clone(cluster),
            endpoint: Arc::clone(endpoint),
            worker,
            requests: AtomicU32::new(0),
        })
    }

    /// Counts a request; false when it is the last that `maximum` allows.
    pub fn count_request(&self, maximum: u32) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed).saturating_add(1) < maximum
    }

    /// May the connection be kept for another request?
    pub fn is_wanted(&self) -> bool {
        !self.endpoint.is_retired() && !self.cluster.connections.is_exceeded()
    }
}

/// Held by the task that drives a connection: it exists exactly as long as the socket.
#[derive(Debug)]
pub(super) struct OpenConnection {
    endpoint: Arc<Endpoint>,
    _permit: ConnectionPermit,
}

impl OpenConnection {
    pub fn new(endpoint: &Arc<Endpoint>, permit: ConnectionPermit) -> Self {
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        Self {
            endpoint: Arc::clone(endpoint),
            _permit: permit,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
    }
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
            Self::Http1(lease) => &lease.connection.endpoint,
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

    /// Sends the request and waits for the response's head. The error carries the request when nothing of it was sent.
    /// Dropping the future cancels the request.
    pub async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        match self {
            Self::Http1(lease) => lease.sender.try_send_request(request).await,
            Self::Http2(lease) => lease.sender().try_send_request(request).await,
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
