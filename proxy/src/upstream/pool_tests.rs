//! Those who wait for a connection when one to an endpoint fails: against listeners of the loopback that answer, and such
//! as take no connection. Time is paused: what has to be waited for takes none.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};
use tsunagi_proto::model::LoadBalancer;

use super::super::testing::{WAITS, endpoint, policy};
use super::*;
use crate::net::LINGER_TIME;
use crate::telemetry::{Direction, Telemetry};
use crate::tls::Offer;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
const WORKERS: usize = 2;

/// A listener whose queue is full: what connects to it gets no answer.
struct Hole {
    address: SocketAddr,
    _listener: TcpListener,
    _filling: Vec<std::net::TcpStream>,
}

impl Hole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        let patience = std::time::Duration::from_millis(100);
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
            filling.push(stream);
        }
        Self {
            address,
            _listener: listener,
            _filling: filling,
        }
    }
}

type Acquired = JoinHandle<Result<Lease, AcquireError>>;

struct Setting {
    cluster: Arc<Cluster>,
    policy: Arc<model::Cluster>,
    members: Arc<Members>,
}

impl Setting {
    fn new(max_connections: u32, addresses: &[SocketAddr]) -> Self {
        Self::limited(max_connections, 100, addresses)
    }

    fn limited(max_connections: u32, max_pending: u32, addresses: &[SocketAddr]) -> Self {
        let mut told = model::Cluster::clone(&policy(LoadBalancer::LeastRequest, None));
        told.connection_pool.max_pending_requests = max_pending;
        told.connection_pool.connect_timeout = CONNECT_TIMEOUT;
        told.connection_pool.max_connections = max_connections;
        let policy = Arc::new(told);
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&policy), series, WORKERS);
        let told: Vec<_> = addresses.iter().map(|address| endpoint(address.port(), 1)).collect();
        let members = cluster.reconcile(Arc::clone(&policy), &told);
        Self {
            cluster,
            policy,
            members,
        }
    }

    fn endpoint(&self, index: usize) -> &Arc<Endpoint> {
        &self.members.list[index].endpoint
    }

    /// A request that has chosen this endpoint. It waits, if it does, when this returns.
    async fn acquire(&self, index: usize, offer: Offer, worker: usize) -> Acquired {
        self.acquire_among(&self.members, index, offer, worker).await
    }

    /// The same of one that is for no other endpoint.
    async fn acquire_only(&self, index: usize) -> Acquired {
        let endpoint = self.endpoint(index);
        let only = self.members.only(&self.policy, &endpoint.id, endpoint.address);
        self.acquire_among(&only, index, Offer::Http1, 0).await
    }

    async fn acquire_among(&self, members: &Arc<Members>, index: usize, offer: Offer, worker: usize) -> Acquired {
        let (cluster, policy, members) = (Arc::clone(&self.cluster), Arc::clone(&self.policy), Arc::clone(members));
        let endpoint = Arc::clone(self.endpoint(index));
        let acquired = tokio::spawn(async move {
            acquire(&cluster, &endpoint, &policy, &members, &Need::of(offer), worker, &WAITS).await
        });
        settle().await;
        acquired
    }

    fn pending(&self) -> u32 {
        self.cluster.pending_requests()
    }
}

async fn settle() {
    for _ in 0..32 {
        yield_now().await;
    }
}

async fn done(acquired: Acquired) -> Result<Lease, AcquireError> {
    let limit = Duration::from_secs(60);
    timeout(limit, acquired).await.expect("nobody waits for ever").unwrap()
}

/// The endpoint that could not be connected to.
async fn failed(acquired: Acquired) -> Arc<Endpoint> {
    match done(acquired).await {
        Err(AcquireError::Connect { endpoint, .. }) => endpoint,
        other => panic!("{other:?}"),
    }
}

async fn live() -> (SocketAddr, Vec<TcpStream>, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), Vec::new(), listener)
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_an_endpoint_learns_with_the_first_that_there_is_no_connection() {
    let hole = Hole::new().await;
    for offer in [Offer::Http1, Offer::Http2] {
        let setting = Setting::new(1, &[hole.address]);
        let started = Instant::now();
        let mut waiting = Vec::new();
        for nth in 0..12 {
            waiting.push(setting.acquire(0, offer, nth % WORKERS).await);
        }
        assert!(setting.pending() > 0);
        for acquired in waiting {
            assert!(Arc::ptr_eq(&failed(acquired).await, setting.endpoint(0)));
        }
        let elapsed = started.elapsed();
        assert!(elapsed < CONNECT_TIMEOUT * 2, "{offer:?}: {elapsed:?}");
        assert_eq!((setting.pending(), setting.cluster.open_connections()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn whom_another_endpoint_serves_is_tried_there_in_its_turn() {
    let (hole, (address, _accepted, _listener)) = (Hole::new().await, live().await);
    let setting = Setting::new(1, &[hole.address, address]);
    let first = setting.acquire(0, Offer::Http1, 0).await;
    let second = setting.acquire(0, Offer::Http1, 1).await;
    let only = setting.acquire_only(0).await;
    let last = setting.acquire(1, Offer::Http1, 0).await;
    assert_eq!(setting.pending(), 3);

    assert!(Arc::ptr_eq(&failed(first).await, setting.endpoint(0)));
    assert!(Arc::ptr_eq(&failed(only).await, setting.endpoint(0)));
    let lease = done(second).await.expect("it is tried at the other");
    assert!(Arc::ptr_eq(lease.endpoint(), setting.endpoint(1)));
    settle().await;
    assert_eq!(setting.pending(), 1, "who came last is last");
    lease.give_back(true);
    done(last).await.expect("its turn has come").give_back(true);
}

#[tokio::test(start_paused = true)]
async fn who_was_tried_at_another_endpoint_fails_where_that_fails_too() {
    let holes = [Hole::new().await, Hole::new().await];
    let setting = Setting::new(1, &[holes[0].address, holes[1].address]);
    let started = Instant::now();
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(setting.acquire(0, Offer::Http1, 0).await);
    }
    let first = waiting.remove(0);
    assert!(Arc::ptr_eq(&failed(first).await, setting.endpoint(0)));
    for acquired in waiting {
        assert!(Arc::ptr_eq(&failed(acquired).await, setting.endpoint(1)));
    }
    assert!(started.elapsed() < CONNECT_TIMEOUT * 3, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_ejected_or_refusing_endpoint_is_no_other() {
    let (hole, (address, _accepted, _listener)) = (Hole::new().await, live().await);
    let setting = Setting::new(1, &[hole.address, address]);
    let waiting = [
        setting.acquire(0, Offer::Http1, 0).await,
        setting.acquire(0, Offer::Http1, 0).await,
    ];
    setting.endpoint(1).refused();
    for acquired in waiting {
        assert!(Arc::ptr_eq(&failed(acquired).await, setting.endpoint(0)));
    }
}

#[tokio::test(start_paused = true)]
async fn while_an_endpoint_serves_those_who_wait_one_connect_that_fails_is_its_own_matter() {
    let (hole, (address, _accepted, _listener)) = (Hole::new().await, live().await);
    let setting = Setting::new(2, &[address]);
    let held = done(setting.acquire(0, Offer::Http1, 0).await)
        .await
        .expect("it is there");
    // Its next connection leads nowhere, those after that where the first one did.
    setting.endpoint(0).rotate(Arc::new([hole.address]));
    let unlucky = setting.acquire(0, Offer::Http1, 0).await;
    setting.endpoint(0).rotate(Arc::new([]));
    let served = setting.acquire(0, Offer::Http1, 0).await;
    let patient = setting.acquire(0, Offer::Http1, 0).await;
    assert_eq!(setting.pending(), 2);
    held.give_back(true);
    let served = done(served).await.expect("a connection has become free");
    failed(unlucky).await;
    done(patient)
        .await
        .expect("the place of the other is its")
        .give_back(true);
    served.give_back(true);
}

#[tokio::test(start_paused = true)]
async fn a_place_in_the_queue_is_free_when_its_request_is_given_a_connection() {
    let (address, _accepted, _listener) = live().await;
    let setting = Setting::limited(1, 1, &[address]);
    let held = done(setting.acquire(0, Offer::Http1, 0).await)
        .await
        .expect("it is there");
    let waiting = setting.acquire(0, Offer::Http1, 1).await;
    assert_eq!(setting.pending(), 1);
    let full = setting.acquire(0, Offer::Http1, 0).await;
    assert!(matches!(done(full).await, Err(AcquireError::PendingOverflow)));

    held.give_back(true);
    assert_eq!(setting.pending(), 0, "whether or not it has noticed");
    let next = setting.acquire(0, Offer::Http1, 0).await;
    done(waiting)
        .await
        .expect("it was given the connection")
        .give_back(true);
    done(next).await.expect("its turn has come").give_back(true);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_end_of_a_connection_that_is_being_closed_takes_no_place_of_others() {
    let (address, _accepted, listener) = live().await;
    let setting = Setting::limited(1, 1, &[address]);
    let held = done(setting.acquire(0, Offer::Http1, 0).await)
        .await
        .expect("it is there");
    let (open, _) = listener.accept().await.unwrap();
    setting.endpoint(0).let_go();
    held.give_back(true);
    let mut waiting = Vec::new();
    for worker in 0..2 {
        waiting.push(setting.acquire(0, Offer::Http1, worker).await);
    }
    assert_eq!((setting.pending(), setting.cluster.open_connections()), (2, 1));
    let full = setting.acquire(0, Offer::Http1, 0).await;
    assert!(matches!(done(full).await, Err(AcquireError::PendingOverflow)));
    drop(open);
    for acquired in waiting {
        done(acquired)
            .await
            .expect("there is room, one after the other")
            .give_back(true);
        drop(listener.accept().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_closes_late_is_waited_for_once_and_again_when_it_has_closed_in_time() {
    let (address, mut accepted, listener) = live().await;
    let setting = Setting::new(1, &[address]);
    setting.endpoint(0).let_go();
    let mut waited = Vec::new();
    for in_time in [false, false, true, false, false] {
        let held = done(setting.acquire(0, Offer::Http1, 0).await)
            .await
            .expect("it is there");
        let (theirs, _) = listener.accept().await.unwrap();
        if !in_time {
            accepted.push(theirs);
        }
        let started = Instant::now();
        held.give_back(true);
        while setting.cluster.open_connections() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        waited.push(started.elapsed() >= LINGER_TIME);
    }
    assert_eq!(waited, [true, false, false, true, false]);
}
