//! HTTP/1.1 connections: one request at a time, driven by the request's own task, a mere socket in between.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tsunagi_proto::model;
use tsunagi_proto::model::ConnectionPool;

use super::beginning::Begun;
use super::connection::{Connection, OpenConnection, UpstreamError};
use super::queue::{ConnectionPermit, ConnectionQueue, Ending, Next, Occupied};
use super::stream::UpstreamStream;
use super::upgraded::UpgradedConnection;
use super::{Binding, ClientAddresses, Cluster, Endpoint, Lease, Need, http2_opening};
use crate::codec::{BodyLength, Http1Stream, NoHead, Prefixed, RequestHead, ResponseHead, Transport};
use crate::net::{ConnectError, LINGER_TIME};
use crate::tls::Offer;

/// After so long the kernel is asked whether the endpoint has closed: what it says of itself may come too late.
const TRUSTED_TIME: Duration = Duration::from_millis(1);

/// A connection with all that belongs to it; boxed, because it moves between the pool and requests.
#[derive(Debug)]
pub(super) struct Http1 {
    stream: Http1Stream<UpstreamStream>,
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
    maximum_requests: u32,
    /// When the connection has been open for as long as it may be.
    ends_at: Option<Instant>,
    /// A request was sent, or begun.
    used: bool,
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

    /// Closed by the other side, unused for too long, or open for too long.
    pub fn is_spent(&mut self, pool: &ConnectionPool, now: Instant) -> bool {
        !self.http1.stream.is_quiet() || self.is_late(pool, now)
    }

    fn is_late(&self, pool: &ConnectionPool, now: Instant) -> bool {
        let connection = &self.http1.connection;
        now.saturating_duration_since(self.since) >= connection.idle_timeout(pool)
            || connection.is_too_old(pool, now)
            || !connection.is_current()
    }

    /// May it take a request? The end of a connection that was used a moment ago has not come unseen.
    fn is_usable(&mut self, pool: &ConnectionPool) -> bool {
        let now = Instant::now();
        let fresh = now.saturating_duration_since(self.since) < TRUSTED_TIME;
        !self.is_spent(pool, now) && (fresh || self.http1.stream.get_ref().is_silent())
    }

    pub fn is_of(&self, client: ClientAddresses) -> bool {
        self.http1.connection.origin.binding.client == Some(client)
    }

    /// Closes it; its permit is free once the endpoint has closed too.
    pub fn close(self) {
        linger(self.http1, true);
    }

    fn lease(self, pool: &ConnectionPool) -> Lease {
        Lease::Http1(Http1Lease::new(self.http1, pool, true))
    }
}

/// The connection used last by this worker that is still open.
pub(super) fn take_idle(
    endpoint: &Endpoint,
    policy: &model::Cluster,
    worker: usize,
    binding: &Binding,
) -> Option<Lease> {
    let its_own = |idle: &Idle| idle.http1.connection.origin.binding == *binding;
    loop {
        let mut shard = endpoint.shard(worker);
        let index = shard.idle.iter().rposition(its_own)?;
        let mut idle = shard.idle.remove(index);
        drop(shard);
        if idle.is_usable(&policy.connection_pool) {
            return Some(idle.lease(&policy.connection_pool));
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
    need: &Need,
    permit: ConnectionPermit,
) -> Result<Lease, Arc<ConnectError>> {
    let open = OpenConnection::new(endpoint, permit, need.binding.client);
    let opening = endpoint.open_one();
    let failed = |error| ConnectionQueue::disappoint(cluster, &opening, &need.binding, error);
    let pool = &policy.connection_pool;
    let begun = cluster.beginning.begin(endpoint, pool, need, &cluster.series).await;
    let Begun { stream, http2, origin } = begun.map_err(failed)?;
    let connection = Connection::new(cluster, endpoint, worker, origin);
    if need.offer == Offer::Either {
        endpoint.has_chosen(http2 == Some(true));
        if http2 == Some(true) {
            // Boxed: it is rare that an endpoint changes its mind.
            let adopted = Box::pin(http2_opening::adopt(stream, connection, open, policy)).await;
            return adopted.map_err(failed);
        }
    }
    let http1 = Http1::new(stream, connection, open);
    Ok(Lease::Http1(Http1Lease::new(http1, pool, false)))
}

/// A connection that an endpoint turned out to speak HTTP/1.1 on. Dropped unused, it goes where the next request finds it.
pub(super) fn adopt(
    stream: UpstreamStream,
    connection: Arc<Connection>,
    open: OpenConnection,
    pool: &ConnectionPool,
) -> Lease {
    Lease::Http1(Http1Lease::new(Http1::new(stream, connection, open), pool, false))
}

/// A connection is not over before the endpoint has closed it too. Its permit is given on only then, so that an endpoint,
/// too, never counts more connections than the limit allows: it learns of the old one's end first. An endpoint that does not
/// close by `LINGER_TIME` is not waited for, and no more from then on where nothing was broken off (`is_whole`): each of its
/// connections would cost that time.
fn linger(http1: Box<Http1>, is_whole: bool) {
    let Ok(runtime) = Handle::try_current() else { return };
    let Http1 {
        mut stream,
        open,
        connection,
        ..
    } = *http1;
    let ending = Ending::new(open.cluster());
    runtime.spawn(async move {
        let mut held = Some((open, ending));
        let endpoint = &connection.endpoint;
        if is_whole && endpoint.closes_late() {
            let _ = timeout(Duration::ZERO, stream.close()).await;
            held = None;
        }
        let closed = timeout(LINGER_TIME, stream.close()).await.is_ok();
        if is_whole {
            endpoint.has_closed(closed);
        }
        drop(stream);
        drop(held);
    });
}

impl Http1 {
    fn new(stream: UpstreamStream, connection: Arc<Connection>, open: OpenConnection) -> Box<Self> {
        Box::new(Self {
            stream: Http1Stream::new(stream, &[]),
            response: ResponseHead::default(),
            length: BodyLength::None,
            connection,
            open,
        })
    }
}

impl Http1Lease {
    const HELD: &str = "a lease has its connection until it is given back";

    fn new(http1: Box<Http1>, pool: &ConnectionPool, reused: bool) -> Self {
        Self {
            ends_at: http1.connection.ends_at(pool),
            http1: Some(http1),
            method: Method::GET,
            reused,
            maximum_requests: pool.max_requests_per_connection,
            used: false,
            keep: true,
        }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.http1().connection.endpoint
    }

    #[cfg(test)]
    pub(super) fn binding(&self) -> &Binding {
        &self.http1().connection.origin.binding
    }

    pub(super) fn stream(&mut self) -> &mut Http1Stream<UpstreamStream> {
        &mut self.http1.as_mut().expect(Self::HELD).stream
    }

    pub(super) fn stream_ref(&self) -> &Http1Stream<UpstreamStream> {
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
        self.used = true;
        self.keep = self.http1().connection.count_request(self.maximum_requests);
        self.stream().send_head(length, |out| head.write_http1(out, length));
        Ok(())
    }

    pub(super) fn poll_response_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let http1 = self.http1.as_mut().expect(Self::HELD);
        let error = match ready!(http1.stream.poll_response(&mut http1.response, &self.method, cx)) {
            // It had waited for the next request for too long when this one was on its way, and has not read it
            // (RFC 9110, 15.5.9).
            Ok(_) if self.reused && is_farewell(&http1.response) => UpstreamError::Unsent,
            Ok(length) => {
                http1.length = length;
                return Poll::Ready(Ok(()));
            }
            Err(NoHead::Refused(_)) => UpstreamError::Protocol,
            Err(NoHead::Io(_)) if let Some(wanted) = http1.stream.get_ref().wants_certificate() => {
                UpstreamError::ClientCertificate { wanted }
            }
            Err(NoHead::Closed | NoHead::Io(_)) if http1.stream.is_unsent() => UpstreamError::Unsent,
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
        if let Some(http1) = self.http1.take() {
            self.put_back(http1);
        }
    }

    fn put_back(&self, mut http1: Box<Http1>) {
        http1.response.clear();
        let late = self.ends_at.is_some_and(|end| end <= Instant::now());
        if !self.keep || late || !http1.stream.is_clean() || !http1.connection.is_wanted() {
            let is_whole = http1.stream.is_clean();
            linger(http1, is_whole);
            return;
        }
        let connection = Arc::clone(&http1.connection);
        let Connection { cluster, endpoint, .. } = &*connection;
        let mut idle = Idle::new(http1);
        while let Some(unclaimed) = offer(cluster, idle) {
            endpoint.shard(connection.worker).idle.push(unclaimed);
            // The endpoint may have left, or someone may have begun to wait, since we looked.
            if !endpoint.keeps_connections() {
                endpoint.close_idle();
                return;
            }
            if !cluster.connections.has_waiters() {
                return;
            }
            let Some(again) = endpoint.shard(connection.worker).idle.pop() else {
                return;
            };
            idle = again;
        }
    }
}

/// What an endpoint says that closes a connection on which nothing was asked for long.
fn is_farewell(response: &ResponseHead) -> bool {
    response.status == StatusCode::REQUEST_TIMEOUT && !response.keeps_alive()
}

/// To whoever waits at the connection limit; it comes back when nobody does.
fn offer(cluster: &Arc<Cluster>, mut idle: Idle) -> Option<Idle> {
    loop {
        let Connection { endpoint, origin, .. } = &*idle.http1.connection;
        let next = cluster.connections.next_for(endpoint, false, &origin.binding);
        let waiter = match next {
            Next::Nobody => return Some(idle),
            Next::Place => {
                idle.close();
                return None;
            }
            Next::Waiter(waiter) => waiter,
        };
        match waiter.take(idle.lease(&cluster.told().0.connection_pool)) {
            Ok(()) => return None,
            Err(Lease::Http1(mut lease)) => idle = lease.http1.take().map(Idle::new)?,
            Err(Lease::Http2(_)) => return None,
        }
    }
}

impl Drop for Http1Lease {
    /// Not given back: the request was broken off, or had not begun.
    fn drop(&mut self) {
        match self.http1.take() {
            Some(http1) if self.used => linger(http1, false),
            Some(http1) => self.put_back(http1),
            None => {}
        }
    }
}
