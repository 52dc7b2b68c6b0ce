//! HTTP/1.1 connections: one request at a time, kept idle in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tsunagi_proto::model;

use super::connection::{Connection, OpenConnection};
use super::queue::{ConnectionPermit, ConnectionQueue};
use super::{Cluster, Endpoint, Lease, RequestBody};
use crate::net::{ConnectError, Lingering, connect};

/// A response head larger than this is refused.
const MAX_HEAD_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub struct Http1Lease {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) connection: Arc<Connection>,
    pub(super) reused: bool,
    /// `maxRequestsPerConnection` allows another request after this one.
    keep: bool,
}

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Idle {
    sender: SendRequest<RequestBody>,
    connection: Arc<Connection>,
    since: Instant,
}

impl Idle {
    /// Closed by the other side, or unused for too long.
    pub fn is_spent(&self, idle_timeout: Duration, now: Instant) -> bool {
        self.sender.is_closed() || now.saturating_duration_since(self.since) >= idle_timeout
    }

    fn lease(self, policy: &model::Cluster) -> Http1Lease {
        let keep = self
            .connection
            .count_request(policy.connection_pool.max_requests_per_connection);
        Http1Lease {
            sender: self.sender,
            connection: self.connection,
            reused: true,
            keep,
        }
    }
}

/// The connection used last by this worker that is still open.
pub(super) fn take_idle(endpoint: &Endpoint, policy: &model::Cluster, worker: usize) -> Option<Lease> {
    let mut shard = endpoint.shard(worker);
    while let Some(idle) = shard.idle.pop() {
        if !idle.sender.is_closed() {
            return Some(Lease::Http1(idle.lease(policy)));
        }
    }
    None
}

/// Closes the connection of the endpoint that has been idle longest; false if there is none.
pub(super) fn evict(endpoint: &Endpoint) -> bool {
    (0..endpoint.workers()).any(|worker| {
        let mut shard = endpoint.shard(worker);
        let idle = if shard.idle.is_empty() {
            None
        } else {
            Some(shard.idle.remove(0))
        };
        drop(shard);
        idle.is_some()
    })
}

/// Opens a connection and leaves it to a task of its own. Dropping the future before that closes the socket.
pub(super) async fn open(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &model::Cluster,
    worker: usize,
    permit: ConnectionPermit,
) -> Result<Lease, ConnectError> {
    let open = OpenConnection::new(endpoint, permit);
    let stream = connect(endpoint.address, policy.connection_pool.connect_timeout).await?;
    let (sender, driver) = Builder::new()
        .preserve_header_case(true)
        .max_header_size(MAX_HEAD_BYTES)
        .handshake(TokioIo::new(Lingering::new(stream)))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            tracing::debug!(%error, "upstream connection ended");
        }
        drop(open);
    });
    let connection = Connection::new(cluster, endpoint, worker);
    let keep = connection.count_request(policy.connection_pool.max_requests_per_connection);
    Ok(Lease::Http1(Http1Lease {
        sender,
        connection,
        reused: false,
        keep,
    }))
}

impl Http1Lease {
    /// Puts the connection where the next request finds it: with one that waits, else with its worker's idle ones.
    pub(super) fn give_back(self) {
        if !self.keep || self.sender.is_closed() || !self.connection.is_wanted() {
            return;
        }
        let cluster = Arc::clone(&self.connection.cluster);
        let lease = if cluster.connections.has_waiters() {
            let policy_limit = cluster.told().0.connection_pool.max_requests_per_connection;
            let keep = self.connection.count_request(policy_limit);
            match ConnectionQueue::offer(
                &cluster,
                Lease::Http1(Self {
                    reused: true,
                    keep,
                    ..self
                }),
            ) {
                Some(Lease::Http1(lease)) => lease,
                _ => return,
            }
        } else {
            self
        };
        let connection = Arc::clone(&lease.connection);
        let idle = Idle {
            sender: lease.sender,
            connection: lease.connection,
            since: Instant::now(),
        };
        connection.endpoint.shard(connection.worker).idle.push(idle);
        // Someone may have begun to wait, or the endpoint may have left, since we looked.
        if cluster.connections.has_waiters() {
            let policy = cluster.told().0;
            if let Some(lease) = take_idle(&connection.endpoint, &policy, connection.worker)
                && let Some(Lease::Http1(unclaimed)) = ConnectionQueue::offer(&cluster, lease)
            {
                let idle = Idle {
                    sender: unclaimed.sender,
                    connection: unclaimed.connection,
                    since: Instant::now(),
                };
                connection.endpoint.shard(connection.worker).idle.push(idle);
            }
        } else if connection.endpoint.is_retired() {
            connection.endpoint.close_idle();
        }
    }
}
