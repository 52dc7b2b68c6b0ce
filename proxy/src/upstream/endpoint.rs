//! One endpoint of one cluster, as we know it: requests in flight, health, idle connections of each worker.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tsunagi_proto::model::ConnectionPool;

use super::ClientAddresses;
use super::balance::Warming;
use super::http1::Idle;
use super::http2::Multiplexed;
use super::outlier::Health;
use super::rotation::Rotation;

/// A sweep comes every 100 ms, so that others are preferred for 100 to 200 ms.
const REFUSING_SWEEPS: u8 = 2;

#[derive(Debug)]
pub struct Endpoint {
    pub id: String,
    /// Of an endpoint that is a name it is unspecified: see `take_turn`.
    pub address: SocketAddr,
    /// Connections to it come from this address, or are not made.
    pub source: Option<IpAddr>,
    rotation: Rotation,
    pub(super) health: Health,
    pub(super) warming: Warming,
    /// Requests that chose this endpoint and have not ended, waiting and connecting ones included: a slow connect is
    /// not idle.
    active: AtomicU32,
    /// Open connections, and those being opened.
    pub(super) connections: AtomicU32,
    /// Of these, those being opened.
    opening: AtomicU32,
    /// Requests that waited at the connection limit and got one of its connections that had become free.
    served: AtomicU32,
    /// No longer told: connections are not kept.
    retired: AtomicBool,
    /// It was told healthy once.
    was_healthy: AtomicBool,
    /// A connection carries one request: the application may be about to end.
    letting_go: AtomicBool,
    /// Asked what it would speak, it chose HTTP/1.1.
    http1: AtomicBool,
    /// When a connection to it was closed, it did not close its side for long.
    late: AtomicBool,
    /// Sweeps until it is chosen again like any other: nobody was there to take a request.
    refusing: AtomicU8,
    shards: Box<[Mutex<Shard>]>,
}

/// The connections that one worker opened and that can take a request.
#[derive(Debug, Default)]
pub(super) struct Shard {
    /// The last is the one used last.
    pub idle: Vec<Idle>,
    pub multiplexed: Multiplexed,
}

impl Endpoint {
    pub fn new(id: String, address: SocketAddr, source: Option<IpAddr>, workers: usize) -> Arc<Self> {
        Arc::new(Self {
            id,
            address,
            source,
            rotation: Rotation::default(),
            health: Health::default(),
            warming: Warming::default(),
            active: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            opening: AtomicU32::new(0),
            served: AtomicU32::new(0),
            retired: AtomicBool::new(false),
            was_healthy: AtomicBool::new(false),
            letting_go: AtomicBool::new(false),
            http1: AtomicBool::new(false),
            late: AtomicBool::new(false),
            refusing: AtomicU8::new(0),
            shards: (0..workers.max(1)).map(|_| Mutex::default()).collect(),
        })
    }

    /// Each connection goes to the next of these.
    pub(super) fn rotate(&self, addresses: Arc<[SocketAddr]>) {
        self.rotation.set(addresses);
    }

    /// Of an endpoint that is a name, where a new connection goes: the first of these that answers. Else there are none.
    pub(super) fn take_turn(&self) -> Vec<SocketAddr> {
        self.rotation.take_turn()
    }

    /// A connection stands, to that address of the name.
    pub(super) fn reached(&self, address: SocketAddr) {
        self.rotation.reached(address);
    }

    /// What people are shown: where it is, or, of a name, where its last connection went.
    pub fn shown_address(&self) -> SocketAddr {
        self.rotation.last().unwrap_or(self.address)
    }

    pub fn active_requests(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Is anybody opening a connection to it?
    pub fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Relaxed) != 0
    }

    /// Counts a connection that is being opened, until the guard is dropped.
    pub(super) fn open_one(self: &Arc<Self>) -> OpeningGuard {
        self.opening.fetch_add(1, Ordering::Relaxed);
        OpeningGuard {
            endpoint: Arc::clone(self),
            served: self.served.load(Ordering::Relaxed),
        }
    }

    /// One of those who wait at the connection limit gets a connection to it that has become free.
    pub(super) fn count_served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Nobody was there to take a request: for a moment others are preferred, because an endpoint that fails at once has
    /// few requests in flight and would attract them.
    pub(super) fn refused(&self) {
        self.refusing.store(REFUSING_SWEEPS, Ordering::Relaxed);
    }

    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) != 0
    }

    /// From now on its share grows as that of a new one, where the cluster has a `warmup`: it returned.
    pub(super) fn begin_warmup(&self, now: Instant) {
        self.warming.begin(now);
    }

    /// What it chose to speak; the next connection may find out something else.
    pub(super) fn has_chosen(&self, http2: bool) {
        self.http1.store(!http2, Ordering::Relaxed);
    }

    pub(super) fn has_chosen_http1(&self) -> bool {
        self.http1.load(Ordering::Relaxed)
    }

    /// A connection to it was closed; `in_time`: it has closed its side, too.
    pub(super) fn has_closed(&self, in_time: bool) {
        self.late.store(!in_time, Ordering::Relaxed);
    }

    pub(super) fn closes_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// What an operator reads in `/clusters`.
    pub fn health_name(&self) -> &'static str {
        self.health.standing().as_str()
    }

    pub(super) fn shard(&self, worker: usize) -> MutexGuard<'_, Shard> {
        self.shards[worker % self.shards.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn workers(&self) -> usize {
        self.shards.len()
    }

    /// From now on each request has a connection of its own: on one that is kept, a request may cross the end of an
    /// application that was told to go, and nobody could say whether it was processed.
    pub fn let_go(&self) {
        self.letting_go.store(true, Ordering::Release);
        self.close_idle();
    }

    /// May a connection be kept for another request?
    pub(super) fn keeps_connections(&self) -> bool {
        !self.is_retired() && !self.letting_go.load(Ordering::Acquire)
    }

    /// The endpoint left the service: what is idle is closed, what is in flight finishes.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.close_idle();
    }

    /// It is told healthy.
    pub(super) fn restore(&self) {
        self.retired.store(false, Ordering::Release);
        self.was_healthy.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_healthy(&self) -> bool {
        self.was_healthy.load(Ordering::Relaxed)
    }

    pub(super) fn close_idle(&self) {
        for worker in 0..self.workers() {
            let Shard { idle, multiplexed } = std::mem::take(&mut *self.shard(worker));
            idle.into_iter().for_each(Idle::close);
            drop(multiplexed);
        }
    }

    /// Closes what is only this client's; what a request of it uses ends with that.
    pub(super) fn close_own(&self, client: ClientAddresses) {
        for worker in 0..self.workers() {
            let mut shard = self.shard(worker);
            let idle: Vec<Idle> = shard.idle.extract_if(.., |idle| idle.is_of(client)).collect();
            let multiplexed = shard.multiplexed.close_own(client);
            drop(shard);
            idle.into_iter().for_each(Idle::close);
            drop(multiplexed);
        }
    }

    /// Closes what has been idle or open for too long and forgets what the other side closed. False: there will be nothing
    /// to look at, unless it is called again.
    pub(super) fn sweep(&self, pool: &ConnectionPool, now: Instant) -> bool {
        let refusing = self.refusing.load(Ordering::Relaxed);
        if refusing != 0 {
            self.refusing.store(refusing - 1, Ordering::Relaxed);
        }
        let restless = refusing > 1 || !self.health.is_settled();
        if self.connections() == 0 {
            return restless;
        }
        for worker in 0..self.workers() {
            let mut shard = self.shard(worker);
            let mut expired = Vec::new();
            let mut index = 0;
            while let Some(idle) = shard.idle.get_mut(index) {
                if idle.is_spent(pool, now) {
                    expired.push(shard.idle.remove(index));
                } else {
                    index += 1;
                }
            }
            shard.multiplexed.sweep(pool, now);
            drop(shard);
            expired.into_iter().for_each(Idle::close);
        }
        restless
    }

    /// Counts a request towards this endpoint until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.begin_claimed(false)
    }

    /// As `begin`; `probe`: the request decides whether the endpoint returns.
    pub(super) fn begin_claimed(self: &Arc<Self>, probe: bool) -> ActiveRequest {
        self.active.fetch_add(1, Ordering::Relaxed);
        ActiveRequest {
            endpoint: Arc::clone(self),
            probe,
            probed: false,
        }
    }
}

#[derive(Debug)]
pub(super) struct OpeningGuard {
    endpoint: Arc<Endpoint>,
    /// As many had been when it began.
    served: u32,
}

impl OpeningGuard {
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The endpoint is there, whatever becomes of this connection: it has served somebody who waited.
    pub fn has_served_meanwhile(&self) -> bool {
        self.endpoint.served.load(Ordering::Relaxed) != self.served
    }
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        self.endpoint.opening.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in flight to an endpoint. If it was the probe of an ejected endpoint and ends without a verdict, the next
/// request probes.
#[derive(Debug)]
pub struct ActiveRequest {
    pub endpoint: Arc<Endpoint>,
    pub(super) probe: bool,
    /// It was, and began well or not: how it ends is still to be seen.
    pub(super) probed: bool,
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.endpoint.active.fetch_sub(1, Ordering::Relaxed);
        if self.probe {
            self.endpoint.health.abandon_probe();
        }
    }
}
