//! A connection for a request: an open one, a new one, or a place in the queue.
//!
//! Each worker keeps the connections that it opened. Only at the connection limit does a request look at those of other
//! workers and endpoints: it takes what is idle, or makes room for an endpoint that has no connection at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tsunagi_proto::model;

use super::http2::Found;
use super::queue::{ConnectionPermit, ConnectionQueue, Grant, Wanted};
use super::{Cluster, Endpoint, Lease, Members, Need, http1, http2, http2_opening};
use crate::net::ConnectError;

/// Connections to an endpoint for each worker, where they are bound to names: above it a new one takes the place of one that
/// is not used.
const MOST_NAMED_CONNECTIONS: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    #[error("the connection pool's queue is full")]
    PendingOverflow,
    #[error("every connection that may be open was upgraded, and none will be free soon")]
    Occupied,
    #[error("{error}")]
    Connect {
        error: Arc<ConnectError>,
        /// Where: it can be another than the one chosen, which could not be connected to when this request still waited.
        endpoint: Arc<Endpoint>,
    },
}

/// A connection that is there already.
pub fn acquire_ready(endpoint: &Endpoint, policy: &model::Cluster, need: &Need, worker: usize) -> Option<Lease> {
    if !need.is_http2(endpoint) {
        return http1::take_idle(endpoint, policy, worker, &need.binding);
    }
    match http2::find(endpoint, policy, worker, &need.binding) {
        Found::Ready(lease) => Some(lease),
        Found::Opening(_) | Found::Nothing => None,
    }
}

/// Gets a connection for one request. Dropping the future leaves the queue or closes the half-open socket. `waits` is true
/// whenever it is in the queue.
pub async fn acquire(
    cluster: &Arc<Cluster>,
    endpoint: &Arc<Endpoint>,
    policy: &Arc<model::Cluster>,
    members: &Members,
    need: &Need,
    worker: usize,
    waits: &AtomicBool,
) -> Result<Lease, AcquireError> {
    let mut pool = Pool {
        waits,
        cluster,
        endpoint: Arc::clone(endpoint),
        policy,
        members,
        need,
        worker,
    };
    if need.is_http2(endpoint) {
        pool.acquire_http2().await
    } else {
        pool.acquire_http1().await
    }
}

/// Closes one unused connection to the endpoint; false if there is none.
pub(super) fn evict(endpoint: &Endpoint) -> bool {
    http1::evict(endpoint) || http2::evict(endpoint)
}

/// Closes what is not used of an endpoint whose connections are not kept any more.
struct Departed<'a>(&'a Endpoint);

impl Drop for Departed<'_> {
    fn drop(&mut self) {
        if !self.0.keeps_connections() {
            self.0.close_idle();
        }
    }
}

/// What a request goes on with.
enum Permitted {
    /// To open a connection to the pool's endpoint.
    Open(ConnectionPermit),
    Lease(Lease),
}

struct Pool<'a> {
    waits: &'a AtomicBool,
    cluster: &'a Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    policy: &'a Arc<model::Cluster>,
    members: &'a Members,
    need: &'a Need,
    worker: usize,
}

impl Pool<'_> {
    async fn acquire_http1(&mut self) -> Result<Lease, AcquireError> {
        if let Some(lease) = http1::take_idle(&self.endpoint, self.policy, self.worker, &self.need.binding) {
            return Ok(lease);
        }
        let permit = match self.permit_or_lease().await? {
            Permitted::Lease(lease) => return Ok(lease),
            Permitted::Open(permit) => permit,
        };
        http1::open(
            self.cluster,
            &self.endpoint,
            self.policy,
            self.worker,
            self.need,
            permit,
        )
        .await
        .map_err(|error| self.failed(error))
    }

    async fn acquire_http2(&mut self) -> Result<Lease, AcquireError> {
        // It may turn out to speak HTTP/1.1.
        while self.need.is_http2(&self.endpoint) {
            let opening = match http2::find(&self.endpoint, self.policy, self.worker, &self.need.binding) {
                Found::Ready(lease) => return Ok(lease),
                Found::Opening(opening) => opening,
                Found::Nothing => match self.permit_or_lease().await? {
                    Permitted::Lease(lease) => return Ok(lease),
                    Permitted::Open(permit) => self.start_opening(permit),
                },
            };
            // However this ends: what was opened for an endpoint that has left meanwhile must not stay.
            let _departed = Departed(&self.endpoint);
            if let Some(lease) = opening.wait().await.map_err(|error| self.failed(error))? {
                return Ok(lease);
            }
        }
        self.acquire_http1().await
    }

    fn failed(&self, error: Arc<ConnectError>) -> AcquireError {
        AcquireError::Connect {
            error,
            endpoint: Arc::clone(&self.endpoint),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            endpoint: Arc::clone(&self.endpoint),
            need: self.need.clone(),
            pinned: self.members.pinned,
        }
    }

    fn start_opening(&self, permit: ConnectionPermit) -> Arc<http2_opening::Opening> {
        http2_opening::start_opening(
            self.cluster,
            &self.endpoint,
            self.policy,
            self.worker,
            self.need,
            permit,
        )
    }

    async fn permit_or_lease(&mut self) -> Result<Permitted, AcquireError> {
        self.bound_names();
        if let Some(permit) = ConnectionQueue::try_open(self.cluster) {
            return Ok(Permitted::Open(permit));
        }
        if !self.cluster.connections.has_waiters()
            && let Some(lease) = self.take_elsewhere()
        {
            return Ok(Permitted::Lease(lease));
        }
        self.cluster.series.overflow_connections.increment(1);
        if self.cluster.connections.is_occupied() {
            return Err(AcquireError::Occupied);
        }
        let Some(waiting) = ConnectionQueue::enter(self.cluster, self.wanted()) else {
            return Err(AcquireError::PendingOverflow);
        };
        // The last of them may have been upgraded since.
        self.cluster.connections.dismiss_occupied();
        self.make_room();
        self.waits.store(true, Ordering::Relaxed);
        let grant = waiting.await;
        self.waits.store(false, Ordering::Relaxed);
        // The sender lives in the queue as long as this place does, unless there is nothing to wait for any more.
        match grant.ok_or(AcquireError::Occupied)? {
            Grant::Reuse(lease) => Ok(Permitted::Lease(lease)),
            Grant::Open(permit, endpoint) => {
                self.endpoint = endpoint;
                Ok(Permitted::Open(permit))
            }
            Grant::Failed(error, endpoint) => Err(AcquireError::Connect { error, endpoint }),
        }
    }

    /// Clients choose the names that connections are bound to: not each name's is kept.
    fn bound_names(&self) {
        let is_many = || self.endpoint.connections() as usize >= MOST_NAMED_CONNECTIONS * self.endpoint.workers();
        if self.need.binding.server_name.is_some() && is_many() {
            evict(&self.endpoint);
        }
    }

    /// At the limit: a free connection of another worker, or of another endpoint once this one has some of its own.
    fn take_elsewhere(&self) -> Option<Lease> {
        if let Some(lease) = self.take_any(&self.endpoint) {
            return Some(lease);
        }
        if self.members.pinned || self.endpoint.connections() == 0 {
            return None;
        }
        let others = self.members.list.iter().map(|member| &member.endpoint);
        others
            .filter(|other| other.health.is_healthy())
            .find_map(|other| self.take_any(other))
    }

    fn take_any(&self, endpoint: &Endpoint) -> Option<Lease> {
        (0..endpoint.workers()).find_map(|worker| {
            if self.need.is_http2(endpoint) {
                http2::take_ready(endpoint, self.policy, worker, &self.need.binding)
            } else {
                http1::take_idle(endpoint, self.policy, worker, &self.need.binding)
            }
        })
    }

    /// Closes one unused connection; its permit goes to the first who waits. Endpoints that get no requests come first.
    fn make_room(&self) {
        let whole = self.members.pinned.then(|| self.cluster.told().1);
        let members = whole.as_deref().unwrap_or(self.members);
        let endpoints = || {
            members
                .list
                .iter()
                .chain(&members.unhealthy)
                .map(|member| &member.endpoint)
        };
        let _ = endpoints()
            .filter(|endpoint| !endpoint.health.is_available())
            .any(|endpoint| evict(endpoint))
            || endpoints().any(|endpoint| evict(endpoint));
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
