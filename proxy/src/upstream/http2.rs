//! HTTP/2 connections: shared by the requests of a worker, opened once however many requests wait for it.
//!
//! One task drives a connection: it reads and writes, and learns from the endpoint's settings how many streams there may
//! be (RFC 9113, 6.5.2), before the first request and whenever that changes. A request's streams are its own task's.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};
use tsunagi_proto::model;
use tsunagi_proto::model::ConnectionPool;

use super::connection::{Connection, OpenConnection};
use super::http2_keepalive::Keepalive;
use super::http2_lease::{Http2Lease, Place};
use super::http2_opening::Opening;
use super::queue::Next;
use super::{Binding, ClientAddresses, Cluster, Endpoint, Lease};
use crate::codec::Gathered;
use crate::net::ConnectError;

/// Flow-control windows: enough for 1 Gbit/s over 2 ms, and a bound on what a stalled reader can make us hold.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What a stream may hold that waits for the socket.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// An endpoint that does not read what is left to be said is not waited for.
const CLOSING_TIME: Duration = Duration::from_secs(2);
/// `h2`'s count of streams until the endpoint has said its own: no endpoint can say this one.
const UNTOLD: usize = usize::MAX - 1;

#[derive(Debug, Default)]
pub(super) struct Multiplexed {
    pub ready: Vec<Arc<Http2>>,
    /// One for each client or name that has connections of its own, or one for all.
    pub opening: Vec<Arc<Opening>>,
}

#[derive(Debug)]
pub(super) struct Http2 {
    sender: Mutex<SendRequest<Bytes>>,
    pub connection: Arc<Connection>,
    streams: AtomicU32,
    /// How many streams the endpoint allows.
    maximum: AtomicU32,
    /// No new request: `maxRequestsPerConnection` is used up, it is to close, or it does.
    over: AtomicBool,
    used_at: Mutex<Instant>,
    /// What has left through its socket.
    written_bytes: Arc<AtomicU64>,
}

pub(super) enum Found {
    Ready(Lease),
    Opening(Arc<Opening>),
    Nothing,
}

impl Http2 {
    pub fn lease(self: &Arc<Self>, policy: &model::Cluster) -> Option<Lease> {
        let pool = &policy.connection_pool;
        if self.is_over() {
            return None;
        }
        let ends_at = self.connection.ends_at(pool);
        if !self.connection.is_current() || ends_at.is_some_and(|end| end <= Instant::now()) {
            self.close();
            return None;
        }
        let maximum = self.maximum.load(Ordering::Acquire).min(pool.max_concurrent_streams);
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |streams| {
                (streams < maximum).then_some(streams + 1)
            })
            .ok()?;
        if !self.connection.count_request(pool.max_requests_per_connection) {
            self.close();
        }
        let reused = self.connection.is_reused();
        Some(Lease::Http2(Http2Lease::new(Place::new(Arc::clone(self)), reused)))
    }

    /// Changes whenever something leaves.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Acquire)
    }

    /// A stream has ended: there is room for another.
    pub fn end_stream(&self) {
        *self.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.streams.fetch_sub(1, Ordering::AcqRel);
        if self.is_over() {
            self.forget();
        } else {
            self.offer_streams();
        }
    }

    /// A handle of its own for each request: `h2` lets one that opened a stream too many wait, which none of ours does.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// False once the endpoint has said GOAWAY, the connection has ended, or its stream numbers are used up.
    pub fn takes_requests(&self) -> bool {
        let mut sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // This handle opens no stream, so there is none it could wait for.
        let ready = sender.poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(ready, Poll::Ready(Err(_)))
    }

    /// No new requests; those in flight finish, then it closes.
    pub fn close(&self) {
        self.over.store(true, Ordering::Release);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// It closes when nobody holds it any more.
    fn forget(&self) {
        let Connection { endpoint, worker, .. } = &*self.connection;
        let mut shard = endpoint.shard(*worker);
        let forgotten = shard.multiplexed.take_over();
        drop(shard);
        drop(forgotten);
    }

    /// To those who wait at the connection limit.
    fn offer_streams(&self) {
        let Connection {
            cluster,
            endpoint,
            worker,
            origin,
            ..
        } = &*self.connection;
        if cluster.connections.has_waiters() {
            offer_streams(cluster, endpoint, &cluster.told().0, *worker, &origin.binding);
        }
    }
}

impl Multiplexed {
    pub fn sweep(&mut self, pool: &ConnectionPool, now: Instant) {
        self.ready.retain(|http2| {
            let used_at = *http2.used_at.lock().unwrap_or_else(PoisonError::into_inner);
            let unused = http2.streams.load(Ordering::Acquire) == 0;
            let idle = unused && now.saturating_duration_since(used_at) >= http2.connection.idle_timeout(pool);
            if http2.connection.is_too_old(pool, now) || !http2.connection.is_current() {
                http2.close();
            }
            !idle && !http2.is_over()
        });
    }

    fn lease(&mut self, policy: &model::Cluster, binding: &Binding) -> Option<Lease> {
        let own = self
            .ready
            .iter()
            .filter(|http2| http2.connection.origin.binding == *binding);
        let lease = own.into_iter().find_map(|http2| http2.lease(policy));
        if lease.is_none() {
            self.ready.retain(|http2| !http2.is_over());
        }
        lease
    }

    /// Those of this client take no more requests.
    pub fn close_own(&mut self, client: ClientAddresses) -> Vec<Arc<Http2>> {
        let own = |http2: &mut Arc<Http2>| http2.connection.origin.binding.client == Some(client);
        let own: Vec<_> = self.ready.extract_if(.., own).collect();
        own.iter().for_each(|http2| http2.close());
        own
    }

    fn take_over(&mut self) -> Vec<Arc<Http2>> {
        self.ready.extract_if(.., |http2| http2.is_over()).collect()
    }
}

/// A connection of this worker with room for a stream, or the one that is being opened.
pub(super) fn find(endpoint: &Endpoint, policy: &model::Cluster, worker: usize, binding: &Binding) -> Found {
    let mut shard = endpoint.shard(worker);
    if let Some(lease) = shard.multiplexed.lease(policy, binding) {
        return Found::Ready(lease);
    }
    shard
        .multiplexed
        .opening
        .iter()
        .find(|opening| opening.binding == *binding)
        .map_or(Found::Nothing, |opening| Found::Opening(Arc::clone(opening)))
}

pub(super) fn take_ready(
    endpoint: &Endpoint,
    policy: &model::Cluster,
    worker: usize,
    binding: &Binding,
) -> Option<Lease> {
    endpoint.shard(worker).multiplexed.lease(policy, binding)
}

/// Closes a connection without streams; false if there is none.
pub(super) fn evict(endpoint: &Endpoint) -> bool {
    (0..endpoint.workers()).any(|worker| {
        let mut shard = endpoint.shard(worker);
        let position = shard
            .multiplexed
            .ready
            .iter()
            .position(|http2| http2.streams.load(Ordering::Acquire) == 0);
        let evicted = position.map(|index| shard.multiplexed.ready.swap_remove(index));
        drop(shard);
        evicted.is_some()
    })
}

/// Greets the endpoint, leaves the connection to a task of its own and waits for the endpoint's first settings.
pub(super) async fn establish<S>(
    stream: S,
    connection: Arc<Connection>,
    open: OpenConnection,
    pool: &ConnectionPool,
) -> Result<Arc<Http2>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = Gathered::new(stream);
    let timeout = pool.connect_timeout;
    let (sender, mut driven) = Builder::new()
        .initial_max_send_streams(UNTOLD)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_push(false)
        .handshake::<_, Bytes>(socket.clone())
        .await?;
    let http2 = Arc::new(Http2 {
        sender: Mutex::new(sender),
        connection,
        streams: AtomicU32::new(0),
        maximum: AtomicU32::new(0),
        over: AtomicBool::new(false),
        used_at: Mutex::new(Instant::now()),
        written_bytes: socket.written_bytes(),
    });
    let (told, first_settings) = oneshot::channel();
    let keepalive = pool.http2_keepalive.zip(driven.ping_pong()).map(Keepalive::new);
    let watch = Watch::new(Arc::downgrade(&http2), told, keepalive);
    tokio::spawn(drive(driven, socket, watch, open));
    match tokio::time::timeout(timeout, first_settings).await {
        Err(_) => Err(ConnectError::TimedOut(timeout)),
        Ok(Err(_)) => Err(ConnectError::NotHttp2),
        Ok(Ok(Err(error))) => Err(error),
        Ok(Ok(Ok(()))) if http2.maximum.load(Ordering::Acquire) == 0 => Err(ConnectError::NoStreams),
        Ok(Ok(Ok(()))) => Ok(http2),
    }
}

/// Reads and writes until the connection has ended, which it does when nobody holds it and no stream is left, or the
/// endpoint is not there any more.
async fn drive<S>(
    mut driven: h2::client::Connection<Gathered<S>, Bytes>,
    socket: Gathered<S>,
    mut watch: Watch,
    open: OpenConnection,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let ended = std::future::poll_fn(|cx| {
        let mut ended = Pin::new(&mut driven).poll(cx);
        if ended.is_pending()
            && let Poll::Ready(Err(error)) = socket.poll_write_out(cx)
        {
            tracing::debug!(%error, "upstream connection broke");
            ended = Poll::Ready(Ok(()));
        }
        if ended.is_pending() && watch.poll(driven.max_concurrent_send_streams(), cx).is_ready() {
            ended = Poll::Ready(Ok(()));
        }
        ended
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "upstream connection ended");
    }
    if let Some(http2) = watch.http2.upgrade() {
        http2.close();
        http2.forget();
    }
    // Its permit is given on when the socket is closed.
    drop((driven, socket));
    drop(open);
}

/// What the task of a connection looks at besides its bytes.
struct Watch {
    http2: Weak<Http2>,
    /// Until the endpoint has said how many streams it allows.
    told: Option<oneshot::Sender<Result<(), ConnectError>>>,
    known: usize,
    keepalive: Option<Keepalive>,
    /// Since nobody holds the connection any more.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new(http2: Weak<Http2>, told: oneshot::Sender<Result<(), ConnectError>>, keepalive: Option<Keepalive>) -> Self {
        Self {
            http2,
            told: Some(told),
            known: UNTOLD,
            keepalive,
            closing: None,
        }
    }

    /// Ready when the endpoint is not there any more, or does not let the connection end.
    fn poll(&mut self, maximum: usize, cx: &mut Context<'_>) -> Poll<()> {
        let Some(http2) = self.http2.upgrade() else {
            let closing = self.closing.get_or_insert_with(|| Box::pin(sleep(CLOSING_TIME)));
            return closing.as_mut().poll(cx);
        };
        if !http2.is_over() && !http2.takes_requests() {
            http2.close();
        }
        if std::mem::replace(&mut self.known, maximum) != maximum {
            http2
                .maximum
                .store(u32::try_from(maximum).unwrap_or(u32::MAX), Ordering::Release);
            match self.told.take() {
                Some(told) => drop(told.send(Ok(()))),
                // There may be more than before.
                None => http2.offer_streams(),
            }
        }
        let Some(keepalive) = &mut self.keepalive else {
            return Poll::Pending;
        };
        let time = ready!(keepalive.poll(cx));
        if let Some(told) = self.told.take() {
            // Nobody may wait for it any more.
            let _ = told.send(Err(ConnectError::NoPong(time)));
        }
        Poll::Ready(())
    }
}

/// Streams for those who wait at the connection limit.
pub(super) fn offer_streams(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &model::Cluster,
    worker: usize,
    binding: &Binding,
) {
    while cluster.connections.has_waiters() {
        let Some(Lease::Http2(lease)) = take_ready(endpoint, policy, worker, binding) else {
            return;
        };
        match cluster.connections.next_for(endpoint, true, binding) {
            Next::Nobody => return,
            // If that one has stopped waiting, dropping the lease offers its stream again.
            Next::Waiter(waiter) => drop(waiter.take(Lease::Http2(lease))),
            Next::Place => lease.close_connection(),
        }
    }
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
