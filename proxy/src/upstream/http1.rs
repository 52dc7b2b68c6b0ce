//! HTTP/1.1 connections: one request at a time, driven by the request's own task, a mere socket in between.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::Method;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tsunagi_proto::model;

use super::connection::{Connection, OpenConnection, UpstreamError};
use super::queue::{ConnectionPermit, ConnectionQueue, Occupied};
use super::upgraded::UpgradedConnection;
use super::{Cluster, Endpoint, Lease};
use crate::codec::{BodyLength, Http1Stream, NoHead, Prefixed, RequestHead, ResponseHead};
use crate::net::{ConnectError, LINGER_TIME, connect};

/// A connection with all that belongs to it; boxed, because it moves between the pool and requests.
#[derive(Debug)]
pub(super) struct Http1 {
    stream: Http1Stream<TcpStream>,
    response: ResponseHead,
    /// Of the response's body.
    length: BodyLength,
    connection: Arc<Connection>,
    open: OpenConnection,
}

#[derive(Debug)]
pub struct Http1Lease {
    /// `None` only once it was given back.
    http1: Option<Box<Http1>>,
    method: Method,
    pub(super) reused: bool,
    /// `maxRequestsPerConnection` allows another request after this one.
    keep: bool,
}

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Idle {
    http1: Box<Http1>,
    since: Instant,
}

impl Idle {
    fn new(http1: Box<Http1>) -> Self {
        Self {
            http1,
            since: Instant::now(),
        }
    }

    /// Closed by the other side, or unused for too long.
    pub fn is_spent(&mut self, idle_timeout: Duration, now: Instant) -> bool {
        !self.http1.stream.is_quiet() || now.saturating_duration_since(self.since) >= idle_timeout
    }

    /// Closes it; its permit is free once the endpoint has closed too.
    pub fn close(self) {
        linger(self.http1);
    }

    fn lease(self, policy: &model::Cluster) -> Lease {
        let maximum = policy.connection_pool.max_requests_per_connection;
        let keep = self.http1.connection.count_request(maximum);
        Lease::Http1(Http1Lease {
            http1: Some(self.http1),
            method: Method::GET,
            reused: true,
            keep,
        })
    }
}

/// The connection used last by this worker that is still open.
pub(super) fn take_idle(endpoint: &Endpoint, policy: &model::Cluster, worker: usize) -> Option<Lease> {
    loop {
        let mut idle = endpoint.shard(worker).idle.pop()?;
        if idle.http1.stream.is_quiet() {
            return Some(idle.lease(policy));
        }
        idle.close();
    }
}

/// Closes the connection of the endpoint that has been idle longest; false if there is none.
pub(super) fn evict(endpoint: &Endpoint) -> bool {
    (0..endpoint.workers()).any(|worker| {
        let mut shard = endpoint.shard(worker);
        let idle = (!shard.idle.is_empty()).then(|| shard.idle.remove(0));
        drop(shard);
        idle.map(Idle::close).is_some()
    })
}

/// Opens a connection. Dropping the future before that closes the socket.
pub(super) async fn open(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &model::Cluster,
    worker: usize,
    permit: ConnectionPermit,
) -> Result<Lease, ConnectError> {
    let open = OpenConnection::new(endpoint, permit);
    let opening = endpoint.open_one();
    let stream = connect(
        endpoint.address,
        endpoint.source,
        policy.connection_pool.connect_timeout,
    )
    .await?;
    drop(opening);
    let connection = Connection::new(cluster, endpoint, worker);
    let keep = connection.count_request(policy.connection_pool.max_requests_per_connection);
    let http1 = Http1 {
        stream: Http1Stream::new(stream, &[]),
        response: ResponseHead::default(),
        length: BodyLength::None,
        connection,
        open,
    };
    Ok(Lease::Http1(Http1Lease {
        http1: Some(Box::new(http1)),
        method: Method::GET,
        reused: false,
        keep,
    }))
}

/// A connection is not over before the endpoint has closed it too. Its permit is given on only then, so that an endpoint,
/// too, never counts more connections than the limit allows: it learns of the old one's end first.
fn linger(http1: Box<Http1>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let Http1 { mut stream, open, .. } = *http1;
    runtime.spawn(async move {
        // An endpoint that does not close by then is not waited for.
        let _ = timeout(LINGER_TIME, stream.close()).await;
        drop(stream);
        drop(open);
    });
}

impl Http1Lease {
    const HELD: &str = "a lease has its connection until it is given back";

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.http1().connection.endpoint
    }

    pub(super) fn stream(&mut self) -> &mut Http1Stream<TcpStream> {
        &mut self.http1.as_mut().expect(Self::HELD).stream
    }

    pub(super) fn stream_ref(&self) -> &Http1Stream<TcpStream> {
        &self.http1().stream
    }

    pub(super) fn response_length(&self) -> BodyLength {
        self.http1().length
    }

    pub(super) fn response(&self) -> &ResponseHead {
        &self.http1().response
    }

    pub(super) fn response_mut(&mut self) -> &mut ResponseHead {
        &mut self.http1.as_mut().expect(Self::HELD).response
    }

    fn http1(&self) -> &Http1 {
        self.http1.as_ref().expect(Self::HELD)
    }

    pub(super) fn send_head(&mut self, head: &RequestHead, length: BodyLength) -> Result<(), UpstreamError> {
        self.method = head.method.clone();
        self.stream().send_head(length, |out| head.write_http1(out, length));
        Ok(())
    }

    pub(super) fn poll_response_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let http1 = self.http1.as_mut().expect(Self::HELD);
        let error = match ready!(http1.stream.poll_response(&mut http1.response, &self.method, cx)) {
            Ok(length) => {
                http1.length = length;
                return Poll::Ready(Ok(()));
            }
            Err(NoHead::Refused(_)) => UpstreamError::Protocol,
            Err(NoHead::Closed | NoHead::Io(_)) => UpstreamError::Reset { remote: false },
        };
        Poll::Ready(Err(error))
    }

    pub(super) fn into_upgraded(mut self) -> UpgradedConnection {
        let Http1 {
            stream,
            connection,
            open,
            ..
        } = *self.http1.take().expect(Self::HELD);
        let (stream, read) = stream.into_parts();
        let occupied = Occupied::new(&connection.cluster);
        UpgradedConnection::http1(Prefixed::new(read, stream), open, occupied)
    }

    /// Puts the connection where the next request finds it: with one that waits, else with its worker's idle ones.
    pub(super) fn give_back(mut self) {
        let Some(mut http1) = self.http1.take() else { return };
        http1.response.clear();
        if !self.keep || !http1.stream.is_clean() || !http1.connection.is_wanted() {
            linger(http1);
            return;
        }
        let connection = Arc::clone(&http1.connection);
        let cluster = &connection.cluster;
        let Some(idle) = offer(cluster, Idle::new(http1)) else {
            return;
        };
        connection.endpoint.shard(connection.worker).idle.push(idle);
        // Someone may have begun to wait, or the endpoint may have left, since we looked.
        if cluster.connections.has_waiters() {
            let taken = connection.endpoint.shard(connection.worker).idle.pop();
            if let Some(idle) = taken.and_then(|idle| offer(cluster, idle)) {
                connection.endpoint.shard(connection.worker).idle.push(idle);
            }
        } else if !connection.endpoint.keeps_connections() {
            connection.endpoint.close_idle();
        }
    }
}

/// To whoever waits at the connection limit; it comes back when nobody does.
fn offer(cluster: &Arc<Cluster>, mut idle: Idle) -> Option<Idle> {
    if !cluster.connections.has_waiters() {
        return Some(idle);
    }
    if !idle.http1.stream.is_quiet() {
        idle.close();
        return None;
    }
    match ConnectionQueue::offer(cluster, idle.lease(&cluster.told().0)) {
        Some(Lease::Http1(mut lease)) => lease.http1.take().map(Idle::new),
        _ => None,
    }
}

impl Drop for Http1Lease {
    /// Not given back: the request was broken off.
    fn drop(&mut self) {
        if let Some(http1) = self.http1.take() {
            linger(http1);
        }
    }
}
