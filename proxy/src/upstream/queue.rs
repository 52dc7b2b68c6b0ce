//! Permits for connections of a cluster and the requests that wait for one, in order.
//!
//! A connection's permit lives as long as its socket, so `maxConnections` is exact. Whoever waits gets either the right to
//! open a connection or a connection that has just become free; nobody overtakes: what the first in the queue cannot use is
//! closed for it, and its permit is the first one's. The pair "count a waiter, then look for something free" and "free
//! something, then look for a waiter" is sequentially consistent, so none is forgotten.
//!
//! When an endpoint cannot be connected to, those who wait for a connection to it fail too, as in Envoy
//! (`conn_pool_base.cc`, `onConnectionEvent`): one after the other they would find out the same. Ours on purpose: whom
//! another endpoint serves as well is tried there in its turn, and where one of those who wait was served meanwhile, the
//! others go on waiting.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::endpoint::OpeningGuard;
use super::{Binding, Cluster, Endpoint, Lease, Need};
use crate::limits::{Limit, Permit};
use crate::net::ConnectError;

#[derive(Debug)]
pub(super) struct ConnectionQueue {
    open: AtomicU32,
    maximum: AtomicU32,
    /// Of the open ones, those that were upgraded: nobody knows when they end.
    occupied: AtomicU32,
    /// Of the open ones, those that carry no request any more and wait for their endpoint to close, too.
    ending: AtomicU32,
    pending: Arc<Limit>,
    waiting: AtomicUsize,
    next_id: AtomicU64,
    waiters: Mutex<VecDeque<Waiter>>,
}

#[derive(Debug)]
pub(super) struct Waiter {
    id: u64,
    wanted: Wanted,
    /// It is tried at another endpoint than the one that was chosen for it, which could not be connected to.
    moved: bool,
    sender: oneshot::Sender<Grant>,
    /// Of `http1MaxPendingRequests`: free as soon as it leaves the queue, whenever its task may notice.
    place: Permit,
}

/// What a request can go out on.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub endpoint: Arc<Endpoint>,
    pub need: Need,
    /// No other endpoint will do.
    pub pinned: bool,
}

impl Wanted {
    /// Another endpoint serves just as well, unless the request is for this one; one that was ejected does not, unless this
    /// one was, too, and was chosen all the same.
    pub fn accepts(&self, endpoint: &Arc<Endpoint>, http2: bool, binding: &Binding) -> bool {
        let other = || !self.pinned && (endpoint.health.is_healthy() || !self.endpoint.health.is_healthy());
        self.need.accepts(http2, binding) && (Arc::ptr_eq(&self.endpoint, endpoint) || other())
    }
}

/// For whom a connection is that has become free.
#[derive(Debug)]
pub(super) enum Next {
    Nobody,
    Waiter(Waiter),
    /// The first who waits needs another, and so the place of this one.
    Place,
}

impl Waiter {
    /// It comes back when the request has stopped waiting.
    pub fn take(self, lease: Lease) -> Result<(), Lease> {
        drop(self.place);
        match self.sender.send(Grant::Reuse(lease)) {
            Err(Grant::Reuse(lease)) => Err(lease),
            _ => Ok(()),
        }
    }
}

/// What ends a wait.
#[derive(Debug)]
pub(super) enum Grant {
    /// To this endpoint.
    Open(ConnectionPermit, Arc<Endpoint>),
    Reuse(Lease),
    /// Another request has found that there is no connection to this endpoint.
    Failed(Arc<ConnectError>, Arc<Endpoint>),
}

/// The right to have one connection; dropped when the socket is closed.
#[derive(Debug)]
pub struct ConnectionPermit {
    cluster: Arc<Cluster>,
}

impl ConnectionPermit {
    /// For a connection that is not pooled; `None` at the limit.
    pub fn try_open(cluster: &Arc<Cluster>) -> Option<Self> {
        ConnectionQueue::try_open(cluster)
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.cluster.connections.open.fetch_sub(1, SeqCst);
        ConnectionQueue::grant_open(&self.cluster);
    }
}

impl ConnectionQueue {
    pub fn new(max_connections: u32, max_pending: u32) -> Self {
        Self {
            open: AtomicU32::new(0),
            maximum: AtomicU32::new(max_connections),
            occupied: AtomicU32::new(0),
            ending: AtomicU32::new(0),
            pending: Limit::new(max_pending),
            waiting: AtomicUsize::new(0),
            next_id: AtomicU64::new(0),
            waiters: Mutex::default(),
        }
    }

    pub fn set_maximum(&self, max_connections: u32, max_pending: u32) {
        self.maximum.store(max_connections, SeqCst);
        self.pending.set_maximum(max_pending);
    }

    pub fn open(&self) -> u32 {
        self.open.load(SeqCst)
    }

    pub fn pending(&self) -> u32 {
        self.pending.current()
    }

    /// Connections above the maximum, because it was lowered.
    pub fn excess(&self) -> u32 {
        self.open().saturating_sub(self.maximum.load(SeqCst))
    }

    pub fn is_exceeded(&self) -> bool {
        self.excess() > 0
    }

    /// All that may be open were upgraded: there is nothing to wait for.
    pub fn is_occupied(&self) -> bool {
        self.occupied.load(SeqCst) >= self.maximum.load(SeqCst)
    }

    pub fn has_waiters(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Of those who wait, in order.
    #[cfg(test)]
    pub fn places(&self) -> Vec<u64> {
        self.waiters().iter().map(|waiter| waiter.id).collect()
    }

    #[cfg(test)]
    pub fn has_occupied(&self) -> bool {
        self.occupied.load(SeqCst) > 0
    }

    #[cfg(test)]
    pub fn has_ending(&self) -> bool {
        self.ending.load(SeqCst) > 0
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `None` at the limit, or while others wait.
    pub fn try_open(cluster: &Arc<Cluster>) -> Option<ConnectionPermit> {
        if cluster.connections.has_waiters() {
            None
        } else {
            Self::take(cluster)
        }
    }

    fn take(cluster: &Arc<Cluster>) -> Option<ConnectionPermit> {
        let queue = &cluster.connections;
        let maximum = queue.maximum.load(SeqCst);
        queue
            .open
            .fetch_update(SeqCst, SeqCst, |open| (open < maximum).then_some(open + 1))
            .ok()?;
        cluster.wake();
        Some(ConnectionPermit {
            cluster: Arc::clone(cluster),
        })
    }

    /// Takes a place in the queue; `None`: the queue is full. Whoever waits for nothing but the end of a connection that is
    /// being closed does not count: elsewhere that connection would be forgotten already.
    pub fn enter(cluster: &Arc<Cluster>, wanted: Wanted) -> Option<Waiting> {
        let queue = &cluster.connections;
        let places = queue.pending.maximum().saturating_add(queue.ending.load(SeqCst));
        let place = queue.pending.acquire_below(places)?;
        let id = queue.next_id.fetch_add(1, SeqCst);
        let (sender, receiver) = oneshot::channel();
        let mut waiters = queue.waiters();
        waiters.push_back(Waiter {
            id,
            wanted,
            moved: false,
            sender,
            place,
        });
        queue.waiting.fetch_add(1, SeqCst);
        drop(waiters);
        // A connection may have closed since the caller looked.
        Self::grant_open(cluster);
        Some(Waiting {
            cluster: Arc::clone(cluster),
            id,
            receiver,
        })
    }

    fn next_waiter(&self) -> Option<Waiter> {
        let mut waiters = self.waiters();
        let waiter = waiters.pop_front()?;
        self.waiting.fetch_sub(1, SeqCst);
        Some(waiter)
    }

    /// Who gets a connection to this endpoint that has become free; whoever is named here has left the queue.
    pub fn next_for(&self, endpoint: &Arc<Endpoint>, http2: bool, binding: &Binding) -> Next {
        if !self.has_waiters() {
            return Next::Nobody;
        }
        let mut waiters = self.waiters();
        let Some(first) = waiters.front() else {
            return Next::Nobody;
        };
        if !first.wanted.accepts(endpoint, http2, binding) {
            return Next::Place;
        }
        let Some(first) = waiters.pop_front() else {
            return Next::Nobody;
        };
        self.waiting.fetch_sub(1, SeqCst);
        endpoint.count_served();
        Next::Waiter(first)
    }

    /// Nobody whose requests are bound so could connect there. To be called before the permit of that connection is free.
    pub fn disappoint(
        cluster: &Arc<Cluster>,
        opening: &OpeningGuard,
        binding: &Binding,
        error: ConnectError,
    ) -> Arc<ConnectError> {
        let error = Arc::new(error);
        let queue = &cluster.connections;
        if !queue.has_waiters() || opening.has_served_meanwhile() {
            return error;
        }
        let endpoint = opening.endpoint();
        // What this process lacks it lacks for every endpoint.
        let others = if error.is_local() {
            Vec::new()
        } else {
            others(cluster, endpoint)
        };
        for waiter in queue.remove_disappointed(endpoint, binding, &others) {
            // One that has stopped waiting need not know.
            let _ = waiter
                .sender
                .send(Grant::Failed(Arc::clone(&error), Arc::clone(endpoint)));
        }
        error
    }

    /// Those who wait for this endpoint; whom one of the others serves as well keeps its place, once.
    fn remove_disappointed(
        &self,
        endpoint: &Arc<Endpoint>,
        binding: &Binding,
        others: &[Arc<Endpoint>],
    ) -> Vec<Waiter> {
        // Not always the same one.
        let first = self.next_id.load(SeqCst) as usize % others.len().max(1);
        let mut others = others.iter().cycle().skip(first);
        let mut disappointed = Vec::new();
        let mut waiters = self.waiters();
        let mut staying = VecDeque::with_capacity(waiters.len());
        for mut waiter in waiters.drain(..) {
            let wanted = &mut waiter.wanted;
            // The endpoint may know another name.
            let same_name = wanted.need.binding.server_name == binding.server_name;
            let concerned = same_name && Arc::ptr_eq(&wanted.endpoint, endpoint);
            if concerned
                && !waiter.moved
                && !wanted.pinned
                && let Some(other) = others.next()
            {
                wanted.endpoint = Arc::clone(other);
                waiter.moved = true;
            } else if concerned {
                disappointed.push(waiter);
                continue;
            }
            staying.push_back(waiter);
        }
        *waiters = staying;
        self.waiting.fetch_sub(disappointed.len(), SeqCst);
        disappointed
    }

    /// Nothing will be free soon: whoever waits is told so.
    pub fn dismiss_occupied(&self) {
        while self.is_occupied() && self.next_waiter().is_some() {}
    }

    /// Gives free places to those who wait.
    pub fn grant_open(cluster: &Arc<Cluster>) {
        while cluster.connections.has_waiters() {
            let Some(permit) = Self::take(cluster) else { return };
            if let Err(unclaimed) = Self::hand_over(cluster, permit) {
                // Nobody waits any more; giving the permit back looks once more, so nobody is missed.
                drop(unclaimed);
                return;
            }
        }
    }

    fn hand_over(cluster: &Arc<Cluster>, mut permit: ConnectionPermit) -> Result<(), ConnectionPermit> {
        while let Some(Waiter {
            wanted, sender, place, ..
        }) = cluster.connections.next_waiter()
        {
            drop(place);
            match sender.send(Grant::Open(permit, wanted.endpoint)) {
                // It stopped waiting.
                Err(Grant::Open(back, _)) => permit = back,
                _ => return Ok(()),
            }
        }
        Err(permit)
    }
}

/// Where those may be tried who are bound to no endpoint.
fn others(cluster: &Cluster, endpoint: &Arc<Endpoint>) -> Vec<Arc<Endpoint>> {
    let (_, members) = cluster.told();
    let members = members.list.iter().map(|member| &member.endpoint);
    let inviting =
        |other: &&Arc<Endpoint>| !Arc::ptr_eq(other, endpoint) && other.health.is_healthy() && !other.is_refusing();
    members.filter(inviting).cloned().collect()
}

/// A connection that was upgraded, for as long as it is open.
#[derive(Debug)]
pub(super) struct Occupied {
    cluster: Arc<Cluster>,
}

impl Occupied {
    /// Whoever waits for a connection when the last one goes is told so.
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        let queue = &cluster.connections;
        queue.occupied.fetch_add(1, SeqCst);
        queue.dismiss_occupied();
        Self {
            cluster: Arc::clone(cluster),
        }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        self.cluster.connections.occupied.fetch_sub(1, SeqCst);
    }
}

/// A connection that carries no request any more, until it is closed by both sides.
#[derive(Debug)]
pub(super) struct Ending {
    cluster: Arc<Cluster>,
}

impl Ending {
    pub fn new(cluster: &Arc<Cluster>) -> Self {
        cluster.connections.ending.fetch_add(1, SeqCst);
        Self {
            cluster: Arc::clone(cluster),
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.cluster.connections.ending.fetch_sub(1, SeqCst);
    }
}

/// A place in the queue; dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct Waiting {
    cluster: Arc<Cluster>,
    id: u64,
    receiver: oneshot::Receiver<Grant>,
}

impl Future for Waiting {
    type Output = Option<Grant>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Grant>> {
        Pin::new(&mut self.receiver).poll(cx).map(Result::ok)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let queue = &self.cluster.connections;
        let mut waiters = queue.waiters();
        let index = waiters.iter().position(|waiter| waiter.id == self.id);
        let waiter = index.and_then(|index| waiters.remove(index));
        if waiter.is_some() {
            queue.waiting.fetch_sub(1, SeqCst);
        }
        drop(waiters);
        drop(waiter);
        // What it was given at the last moment is the next one's.
        self.receiver.close();
        if let Ok(Grant::Reuse(lease)) = self.receiver.try_recv() {
            lease.give_back(true);
        }
    }
}
