//! HTTP/2 connections: shared by the requests of a worker, opened once however many requests wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::Notify;
use tsunagi_proto::model;

use super::connection::{Connection, OpenConnection};
use super::queue::{ConnectionPermit, ConnectionQueue};
use super::{Cluster, Endpoint, Lease, RequestBody};
use crate::net::{ConnectError, Lingering, SettingsWatch, StreamLimit, connect};

/// Flow-control windows: enough for 1 Gbit/s over 2 ms, and a bound on what a stalled reader can make us hold.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Multiplexed {
    ready: Vec<Arc<Http2>>,
    opening: Option<Arc<Opening>>,
}

#[derive(Debug)]
struct Http2 {
    sender: SendRequest<RequestBody>,
    connection: Arc<Connection>,
    streams: AtomicU32,
    limit: Arc<StreamLimit>,
    /// `maxRequestsPerConnection` is used up, or it is to close: no new request.
    full: AtomicBool,
    used_at: Mutex<Instant>,
}

/// A connection on its way; every request that needs it waits for the same one.
#[derive(Debug, Default)]
pub(super) struct Opening {
    done: Notify,
    outcome: OnceLock<Result<(), Arc<ConnectError>>>,
}

#[derive(Debug)]
pub struct Http2Lease {
    http2: Arc<Http2>,
    sender: SendRequest<RequestBody>,
    pub(super) reused: bool,
}

pub(super) enum Found {
    Ready(Lease),
    Opening(Arc<Opening>),
    Nothing,
}

impl Http2 {
    fn lease(self: &Arc<Self>, policy: &model::Cluster) -> Option<Lease> {
        if self.full.load(Ordering::Acquire) || self.sender.is_closed() {
            return None;
        }
        let maximum = self.limit.maximum();
        self.streams
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |streams| {
                (streams < maximum).then_some(streams + 1)
            })
            .ok()?;
        if !self
            .connection
            .count_request(policy.connection_pool.max_requests_per_connection)
        {
            self.full.store(true, Ordering::Release);
        }
        Some(Lease::Http2(Http2Lease {
            sender: self.sender.clone(),
            http2: Arc::clone(self),
            reused: true,
        }))
    }

    /// To those who wait at the connection limit.
    fn offer_streams(&self) {
        let Connection {
            cluster,
            endpoint,
            worker,
            ..
        } = &*self.connection;
        if cluster.connections.has_waiters() {
            offer_streams(cluster, endpoint, &cluster.told().0, *worker);
        }
    }

    fn is_over(&self) -> bool {
        self.full.load(Ordering::Acquire) || self.sender.is_closed()
    }
}

impl Multiplexed {
    pub fn sweep(&mut self, idle_timeout: Duration, now: Instant) {
        self.ready.retain(|http2| {
            let used_at = *http2.used_at.lock().unwrap_or_else(PoisonError::into_inner);
            let idle =
                http2.streams.load(Ordering::Acquire) == 0 && now.saturating_duration_since(used_at) >= idle_timeout;
            !idle && !http2.is_over()
        });
    }

    fn lease(&mut self, policy: &model::Cluster) -> Option<Lease> {
        let lease = self.ready.iter().find_map(|http2| http2.lease(policy));
        if lease.is_none() {
            self.ready.retain(|http2| !http2.is_over());
        }
        lease
    }
}

/// A connection of this worker with room for a stream, or the one that is being opened.
pub(super) fn find(endpoint: &Endpoint, policy: &model::Cluster, worker: usize) -> Found {
    let mut shard = endpoint.shard(worker);
    if let Some(lease) = shard.multiplexed.lease(policy) {
        return Found::Ready(lease);
    }
    shard
        .multiplexed
        .opening
        .as_ref()
        .map_or(Found::Nothing, |opening| Found::Opening(Arc::clone(opening)))
}

pub(super) fn take_ready(endpoint: &Endpoint, policy: &model::Cluster, worker: usize) -> Option<Lease> {
    endpoint.shard(worker).multiplexed.lease(policy)
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

impl Opening {
    /// Until the connection is there; the error when it could not be opened.
    pub async fn wait(&self) -> Result<(), Arc<ConnectError>> {
        loop {
            let notified = self.done.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            notified.await;
        }
    }
}

/// Starts to open a connection in a task of its own, so that no single request's end cuts it off.
pub(super) fn start_opening(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &Arc<model::Cluster>,
    worker: usize,
    permit: ConnectionPermit,
) -> Arc<Opening> {
    let mut shard = endpoint.shard(worker);
    // Another request of this worker was faster; the permit goes back.
    if let Some(opening) = &shard.multiplexed.opening {
        return Arc::clone(opening);
    }
    let opening = Arc::new(Opening::default());
    shard.multiplexed.opening = Some(Arc::clone(&opening));
    drop(shard);
    let (cluster, endpoint, policy) = (Arc::clone(cluster), Arc::clone(endpoint), Arc::clone(policy));
    let started = Arc::clone(&opening);
    tokio::spawn(async move {
        let outcome = open(&cluster, &endpoint, &policy, worker, permit)
            .await
            .map_err(Arc::new);
        endpoint.shard(worker).multiplexed.opening = None;
        let _ = started.outcome.set(outcome);
        started.done.notify_waiters();
        offer_streams(&cluster, &endpoint, &policy, worker);
    });
    opening
}

async fn open(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &model::Cluster,
    worker: usize,
    permit: ConnectionPermit,
) -> Result<(), ConnectError> {
    let open = OpenConnection::new(endpoint, permit);
    let timeout = policy.connection_pool.connect_timeout;
    let stream = connect(endpoint.address, timeout).await?;
    let (stream, limit) = SettingsWatch::new(Lingering::new(stream));
    let (sender, driver) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    let ended = Arc::new(Notify::new());
    let end = Arc::clone(&ended);
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop(open);
        end.notify_one();
    });
    // How many streams there may be is known with the endpoint's first settings.
    tokio::select! {
        () = limit.changed() => {}
        () = ended.notified() => return Err(ConnectError::NotHttp2),
        () = tokio::time::sleep(timeout) => return Err(ConnectError::TimedOut(timeout)),
    }
    if limit.maximum() == 0 {
        return Err(ConnectError::NoStreams);
    }
    let http2 = Arc::new(Http2 {
        sender,
        connection: Connection::new(cluster, endpoint, worker),
        streams: AtomicU32::new(0),
        limit: Arc::clone(&limit),
        full: AtomicBool::new(false),
        used_at: Mutex::new(Instant::now()),
    });
    tokio::spawn(offer_when_raised(limit, Arc::downgrade(&http2), ended));
    endpoint.shard(worker).multiplexed.ready.push(http2);
    Ok(())
}

/// When the endpoint allows more streams, those who wait get them.
async fn offer_when_raised(limit: Arc<StreamLimit>, http2: Weak<Http2>, ended: Arc<Notify>) {
    loop {
        tokio::select! {
            () = limit.changed() => {}
            () = ended.notified() => return,
        }
        let Some(http2) = http2.upgrade() else { return };
        http2.offer_streams();
    }
}

/// Streams for those who wait at the connection limit.
fn offer_streams(cluster: &Arc<Cluster>, endpoint: &Endpoint, policy: &model::Cluster, worker: usize) {
    while cluster.connections.has_waiters() {
        let Some(lease) = take_ready(endpoint, policy, worker) else {
            return;
        };
        if ConnectionQueue::offer(cluster, lease).is_some() {
            return;
        }
    }
}

impl Http2Lease {
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.http2.connection.endpoint
    }

    pub(super) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.sender
    }

    pub(super) fn give_back(self) {
        let connection = &self.http2.connection;
        if !connection.is_wanted() {
            self.http2.full.store(true, Ordering::Release);
            connection
                .endpoint
                .shard(connection.worker)
                .multiplexed
                .ready
                .retain(|ready| !ready.is_over());
        }
    }
}

impl Drop for Http2Lease {
    /// However the stream ended, it makes room for another.
    fn drop(&mut self) {
        *self.http2.used_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.http2.streams.fetch_sub(1, Ordering::AcqRel);
        self.http2.offer_streams();
    }
}
