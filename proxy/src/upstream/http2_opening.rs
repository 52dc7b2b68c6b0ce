//! HTTP/2 connections on their way: opened once for all requests of a worker that wait, in a task of their own. Where TLS
//! lets the endpoint choose, it may turn out to speak HTTP/1.1, or HTTP/2 where it was thought not to.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tsunagi_proto::model;
use tsunagi_proto::model::ConnectionPool;

use super::beginning::{Begun, of_failure};
use super::connection::{Connection, OpenConnection};
use super::http2::{Http2, establish, offer_streams};
use super::queue::{ConnectionPermit, ConnectionQueue};
use super::stream::UpstreamStream;
use super::{Binding, Cluster, Endpoint, Lease, Need, http1};
use crate::net::{ConnectError, Lingering};
use crate::tls::Offer;

/// A connection on its way; every request that needs it waits for the same one.
#[derive(Debug, Default)]
pub(super) struct Opening {
    pub binding: Binding,
    /// For the first of those who wait, before the connection is offered to anybody else: it was opened for them, and may
    /// be of no use to who comes next. Dropped with the last of them, it is offered like any other.
    first: Mutex<Option<Lease>>,
    done: Notify,
    outcome: OnceLock<Result<(), Arc<ConnectError>>>,
}

impl Opening {
    /// Until the connection is there; the error when it could not be opened. `None`: another one was first.
    pub async fn wait(&self) -> Result<Option<Lease>, Arc<ConnectError>> {
        loop {
            let notified = self.done.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone().map(|()| self.first().take());
            }
            notified.await;
        }
    }

    fn first(&self) -> MutexGuard<'_, Option<Lease>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts to open a connection in a task of its own, so that no single request's end cuts it off.
pub(super) fn start_opening(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &Arc<model::Cluster>,
    worker: usize,
    need: &Need,
    permit: ConnectionPermit,
) -> Arc<Opening> {
    let mut shard = endpoint.shard(worker);
    // Another request of this worker was faster; the permit goes back.
    let openings = &mut shard.multiplexed.opening;
    if let Some(opening) = openings.iter().find(|opening| opening.binding == need.binding) {
        return Arc::clone(opening);
    }
    let opening = Arc::new(Opening {
        binding: need.binding.clone(),
        ..Opening::default()
    });
    openings.push(Arc::clone(&opening));
    drop(shard);
    let (cluster, endpoint, policy) = (Arc::clone(cluster), Arc::clone(endpoint), Arc::clone(policy));
    let (started, need) = (Arc::clone(&opening), need.clone());
    // Known from now on, though nobody may wait for it any more when the task begins.
    let open = OpenConnection::new(&endpoint, permit, need.binding.client);
    tokio::spawn(async move {
        let opened = connect(&cluster, &endpoint, &policy, worker, &need, open).await;
        let outcome = opened.map(|lease| *started.first() = lease);
        let mut shard = endpoint.shard(worker);
        shard
            .multiplexed
            .opening
            .retain(|opening| !Arc::ptr_eq(opening, &started));
        drop(shard);
        let _ = started.outcome.set(outcome);
        started.done.notify_waiters();
        // Nobody waits for it any more, and nobody else may come.
        if Arc::strong_count(&started) == 1 && !endpoint.keeps_connections() {
            endpoint.close_idle();
        }
        if let Some(client) = need.binding.client.filter(|client| cluster.own.is_gone(*client)) {
            endpoint.close_own(client);
        }
        offer_streams(&cluster, &endpoint, &policy, worker, &need.binding);
    });
    opening
}

async fn connect(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &model::Cluster,
    worker: usize,
    need: &Need,
    open: OpenConnection,
) -> Result<Option<Lease>, Arc<ConnectError>> {
    let opening = endpoint.open_one();
    let failed = |error| ConnectionQueue::disappoint(cluster, &opening, &need.binding, error);
    let pool = &policy.connection_pool;
    let begun = cluster.beginning.begin(endpoint, pool, need, &cluster.series).await;
    let Begun { stream, http2, origin } = begun.map_err(failed)?;
    let connection = Connection::new(cluster, endpoint, worker, origin);
    if need.offer == Offer::Either {
        endpoint.has_chosen(http2 == Some(true));
        if http2 != Some(true) {
            return Ok(Some(http1::adopt(stream, connection, open, pool)));
        }
    }
    stand(stream, connection, open, policy).await.map_err(failed)
}

/// A connection that an endpoint has chosen HTTP/2 on, where it was thought not to.
pub(super) async fn adopt(
    stream: UpstreamStream,
    connection: Arc<Connection>,
    open: OpenConnection,
    policy: &model::Cluster,
) -> Result<Lease, ConnectError> {
    let lease = stand(stream, connection, open, policy).await?;
    lease.ok_or(ConnectError::NoStreams)
}

/// Puts the connection where requests find it. Its first stream; `None`: it is of no use already.
async fn stand(
    stream: UpstreamStream,
    connection: Arc<Connection>,
    open: OpenConnection,
    policy: &model::Cluster,
) -> Result<Option<Lease>, ConnectError> {
    let http2 = greet(stream, connection, open, &policy.connection_pool).await?;
    let lease = http2.lease(policy);
    let Connection { endpoint, worker, .. } = &*http2.connection;
    endpoint.shard(*worker).multiplexed.ready.push(Arc::clone(&http2));
    Ok(lease)
}

async fn greet(
    stream: UpstreamStream,
    connection: Arc<Connection>,
    open: OpenConnection,
    pool: &ConnectionPool,
) -> Result<Arc<Http2>, ConnectError> {
    let refusal = stream.refusal();
    let greeted = establish(Lingering::new(stream), connection, open, pool).await;
    greeted.map_err(|error| match refusal.as_ref().and_then(|refusal| refusal.get()) {
        // It is what the endpoint said before it closed.
        Some(failure) => of_failure(failure.clone()),
        None => error,
    })
}
