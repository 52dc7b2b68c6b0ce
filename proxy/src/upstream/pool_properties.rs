//! What must hold of the pool whatever happens: random requests, ends, cancellations, pushes and failures against endpoints
//! of the loopback. After each step no limit is exceeded (as the endpoints see it, too), nobody overtakes in the queue, and
//! nobody waits while something is free; at the end every count is back at zero.
//!
//! Each seed is a run of its own; a failure names it and its steps.

mod endpoints;
mod requests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, yield_now};
use tsunagi_proto::model::{self, Health, LoadBalancer, UNLIMITED};

use super::testing::{endpoint, policy, strict};
use super::{Binding, Cluster, Members, Need, Outcome};
use crate::telemetry::{Direction, Telemetry};
use crate::tls::Offer;
use endpoints::{Endpoint, Seen};
use requests::{End, Sent};

const SEEDS: u64 = 60;
const STEPS: usize = 600;
const WORKERS: usize = 2;
const ENDPOINTS: usize = 3;
/// More than a connection that is closed takes to be gone.
const LIMIT: Duration = Duration::from_secs(10);
/// Nobody listens there, whatever the port.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 253, 254, 253));

/// A request that has not ended.
struct Started {
    task: JoinHandle<()>,
    end: Option<oneshot::Sender<End>>,
    /// Its place in the queue, where it had one when it began.
    place: Option<u64>,
    /// It ended because an endpoint could not be connected to.
    unconnected: Arc<AtomicBool>,
}

impl Started {
    fn is_unconnected(&self) -> bool {
        self.unconnected.load(SeqCst)
    }
}

struct World {
    random: StdRng,
    seen: Arc<Seen>,
    endpoints: Vec<Endpoint>,
    cluster: Arc<Cluster>,
    policy: Arc<model::Cluster>,
    members: Arc<Members>,
    /// Every one that there has ever been.
    learned: Vec<Arc<super::Endpoint>>,
    requests: Vec<Started>,
    steps: Vec<String>,
    seed: u64,
    /// HTTP/1 only: an HTTP/2 request that shares a connection may come back to the queue.
    http1: bool,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let seen = Arc::<Seen>::default();
        let mut told = model::Cluster::clone(&policy(LoadBalancer::LeastRequest, Some(strict())));
        let pool = &mut told.connection_pool;
        pool.connect_timeout = Duration::from_secs(5);
        pool.max_requests_per_connection = [1, 2, 5, UNLIMITED][random.random_range(0..4)];
        pool.max_concurrent_streams = [1, 2, UNLIMITED][random.random_range(0..3)];
        pool.idle_timeout = Duration::from_secs(60);
        seen.max_requests.store(pool.max_requests_per_connection, SeqCst);
        let streams = [1, 2, 100][random.random_range(0..3)];
        let fewest = pool.max_concurrent_streams.min(streams);
        seen.max_streams.store(fewest, SeqCst);
        let mut endpoints = Vec::new();
        for _ in 0..ENDPOINTS {
            endpoints.push(Endpoint::start(&seen, streams).await);
        }
        let told = Arc::new(told);
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        let cluster = Cluster::new(Arc::clone(&told), series, WORKERS);
        let http1 = random.random_range(0..2) == 0;
        let mut world = Self {
            random,
            seen,
            endpoints,
            members: cluster.reconcile(Arc::clone(&told), &[]),
            cluster,
            policy: told,
            learned: Vec::new(),
            requests: Vec::new(),
            steps: Vec::new(),
            seed,
            http1,
        };
        world.push();
        world
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random.random_range(0..bound)
    }

    /// Lets everything run that can.
    async fn settle(&self) {
        for _ in 0..60 {
            yield_now().await;
        }
    }

    /// Limits and endpoints as told from now on.
    fn push(&mut self) {
        let mut told = model::Cluster::clone(&self.policy);
        let pool = &mut told.connection_pool;
        pool.max_connections = self.random.random_range(1..=4);
        pool.max_pending_requests = self.random.random_range(1..=6);
        pool.max_requests = self.random.random_range(2..=12);
        let mut list = Vec::new();
        for index in 0..ENDPOINTS {
            let told = endpoint(self.endpoints[index].address.port(), 1);
            let health = match self.random.random_range(0..10) {
                0 => Health::Unhealthy,
                1 => Health::Draining,
                2 | 3 if !list.is_empty() => continue,
                _ => Health::Healthy,
            };
            list.push(Arc::new(model::Endpoint {
                health,
                ..(*told).clone()
            }));
        }
        self.policy = Arc::new(told);
        let open = self.cluster.open_connections();
        self.seen.allowed.store(self.max_connections().max(open), SeqCst);
        self.members = self.cluster.reconcile(Arc::clone(&self.policy), &list);
        self.cluster.serve_waiting();
        let told = &self.members;
        let all = told.list.iter().chain(&told.unhealthy).chain(&told.draining);
        self.learned.extend(all.map(|member| Arc::clone(&member.endpoint)));
    }

    fn max_connections(&self) -> u32 {
        self.policy.connection_pool.max_connections
    }

    async fn start(&mut self) {
        let (end, told) = oneshot::channel();
        let http2 = !self.http1 && self.below(2) == 0;
        let request = Sent {
            members: self.some_members(),
            cluster: Arc::clone(&self.cluster),
            policy: Arc::clone(&self.policy),
            need: Need {
                offer: if http2 { Offer::Http2 } else { Offer::Http1 },
                binding: self.some_binding(),
            },
            worker: self.below(WORKERS),
            random: self.random.random(),
        };
        let before = self.cluster.connections.places();
        let unconnected = Arc::<AtomicBool>::default();
        let task = tokio::spawn(request.run(told, Arc::clone(&unconnected)));
        // It enters the queue, if it does, before anything else happens to the pool.
        self.settle().await;
        let after = self.cluster.connections.places();
        let place = after.last().copied().filter(|place| !before.contains(place));
        self.requests.push(Started {
            task,
            end: Some(end),
            place,
            unconnected,
        });
        self.steps.push(format!("start http2={http2} {place:?}"));
    }

    /// Most often none; else requests for one name are on connections of their own.
    fn some_binding(&mut self) -> Binding {
        let name = ["a.example", "b.example"].get(self.below(8)).copied();
        Binding {
            server_name: name.map(Into::into),
            ..Binding::default()
        }
    }

    /// Most often all; else the request is for one of them and no other.
    fn some_members(&mut self) -> Arc<Members> {
        let count = self.members.list.len();
        if count == 0 || self.below(4) > 0 {
            return Arc::clone(&self.members);
        }
        let index = self.below(count);
        let endpoint = &self.members.list[index].endpoint;
        self.members.only(&self.policy, &endpoint.id, endpoint.address)
    }

    fn some_request(&mut self) -> Option<usize> {
        self.requests.retain(|request| !request.task.is_finished());
        match self.requests.len() {
            0 => None,
            count => Some(self.below(count)),
        }
    }

    fn end(&mut self) {
        let Some(index) = self.some_request() else { return };
        let how = [
            End::GiveBack,
            End::Drop,
            End::Exchange,
            End::Exchange,
            End::Exchange,
            End::Upgrade,
        ][self.below(6)];
        if let Some(end) = self.requests[index].end.take() {
            let _ = end.send(how);
            self.steps.push(format!("{how:?}"));
        }
    }

    /// The place in the queue that is given up.
    fn cancel(&mut self) -> Option<u64> {
        let index = self.some_request()?;
        let request = self.requests.swap_remove(index);
        request.task.abort();
        self.steps.push(format!("cancel {:?}", request.place));
        request.place
    }

    fn some_endpoint(&mut self) -> &Endpoint {
        let index = self.below(ENDPOINTS);
        &self.endpoints[index]
    }

    /// From now on connects to it are refused, or are not any more.
    fn close_door(&mut self) {
        let (closed, count) = (self.below(3) > 0, self.members.list.len());
        if count == 0 {
            return;
        }
        let index = self.below(count);
        let endpoint = &self.members.list[index].endpoint;
        let mut address = endpoint.address;
        address.set_ip(if closed { NOBODY } else { address.ip() });
        endpoint.rotate(Arc::new([address]));
        self.steps
            .push(format!("connects to {} fail: {closed}", endpoint.address));
    }

    fn eject(&mut self) {
        let count = self.members.list.len();
        if count == 0 {
            return;
        }
        let index = self.below(count);
        let mut active = self.members.list[index].endpoint.begin();
        let detection = self.policy.outlier_detection.as_ref();
        active.observe(&self.cluster, detection, Outcome::Status(500));
    }

    async fn step(&mut self) {
        let before = self.cluster.connections.places();
        let (mut cancelled, mut unclear) = (None, false);
        match self.below(100) {
            0..37 => self.start().await,
            37..77 => self.end(),
            77..85 => {
                cancelled = self.cancel();
                // One that has come back to the queue cannot be told from one that was served.
                unclear = !self.http1;
            }
            85..89 => {
                self.push();
                self.steps.push(format!("push {:?}", self.policy.connection_pool));
            }
            89..91 => {
                self.some_endpoint().cut();
                self.steps.push("cut".to_owned());
            }
            91..93 => {
                let refuses = self.below(4) == 0;
                self.some_endpoint().refuses.store(refuses, SeqCst);
            }
            93..95 => {
                let holds = self.below(3) == 0;
                self.some_endpoint().hold(holds);
                self.steps.push(format!("hold {holds}"));
            }
            95..96 => self.eject(),
            96..98 => {
                let later = Duration::from_secs(self.random.random_range(0..90));
                self.cluster.sweep(Instant::now() + later);
                self.steps.push(format!("sweep {later:?}"));
            }
            98..99 => self.close_door(),
            _ => self.members.list.iter().for_each(|member| {
                super::pool::evict(&member.endpoint);
            }),
        }
        self.settle().await;
        unclear |= !self.http1 && self.requests.iter().any(Started::is_unconnected);
        if !unclear {
            self.check_order(&before, cancelled);
        }
        self.check_limits().await;
    }

    /// Whoever left the queue had nobody before them who is still there, unless there was no connection for them.
    fn check_order(&self, before: &[u64], cancelled: Option<u64>) {
        let after = self.cluster.connections.places();
        assert!(after.is_sorted(), "{after:?}");
        let first_left = before.iter().find(|place| after.contains(place));
        let failed = |place: u64| {
            let of_place = |request: &&Started| request.place == Some(place);
            let request = self.requests.iter().find(of_place);
            request.is_some_and(Started::is_unconnected)
        };
        let overtaken = |place: &&u64| {
            let left = !after.contains(place) && Some(**place) != cancelled && !failed(**place);
            left && first_left.is_some_and(|first| *place > first)
        };
        let overtakers: Vec<_> = before.iter().filter(overtaken).collect();
        assert!(overtakers.is_empty(), "{overtakers:?} went before {first_left:?}");
    }

    async fn check_limits(&self) {
        let (cluster, pool) = (&self.cluster, &self.policy.connection_pool);
        let open = cluster.open_connections();
        let allowed = self.seen.allowed.load(SeqCst);
        assert!(open <= allowed, "{open} connections, {allowed} allowed");
        self.seen.allowed.store(pool.max_connections.max(open), SeqCst);
        let broken = self.seen.broken.lock().unwrap().clone();
        assert!(broken.is_empty(), "{broken:?}");
        self.eventually("somebody waits while something is free", || {
            let occupied = cluster.connections.is_occupied();
            let waits = cluster.pending_requests() > 0;
            let full = cluster.open_connections() >= pool.max_connections;
            !waits || (full && !occupied && self.unused() == 0)
        })
        .await;
    }

    /// Connections that could take a request.
    fn unused(&self) -> usize {
        let all = self.members.list.iter().chain(&self.members.unhealthy);
        all.flat_map(|member| (0..WORKERS).map(move |worker| member.endpoint.shard(worker).idle.len()))
            .sum()
    }

    async fn eventually(&self, what: &str, holds: impl Fn() -> bool) {
        let started = Instant::now();
        while !holds() {
            assert!(
                started.elapsed() < LIMIT,
                "{what}: {} open, {} wait, {} unused, places {:?}",
                self.cluster.open_connections(),
                self.cluster.pending_requests(),
                self.unused(),
                self.cluster.connections.places(),
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Everything ends, one way or the other; what is left then has leaked.
    async fn finish(mut self) -> u32 {
        self.endpoints.iter().for_each(|endpoint| endpoint.hold(false));
        let mut tasks = Vec::new();
        for request in std::mem::take(&mut self.requests) {
            if self.below(2) == 0 {
                request.task.abort();
            }
            tasks.push(request.task);
        }
        for task in tasks {
            let _ = tokio::time::timeout(LIMIT, task).await.expect("a request hangs");
        }
        self.cluster.reconcile(Arc::clone(&self.policy), &[]);
        let cluster = &self.cluster;
        self.eventually("a permit has leaked", || {
            let counts = (
                cluster.open_connections(),
                cluster.pending_requests(),
                cluster.requests.current(),
            );
            let queue = &cluster.connections;
            counts == (0, 0, 0) && !queue.has_waiters() && !queue.has_occupied() && !queue.has_ending()
        })
        .await;
        for endpoint in &self.learned {
            let counts = (endpoint.connections(), endpoint.active_requests());
            assert_eq!(counts, (0, 0), "of {}", endpoint.address);
        }
        self.eventually("an endpoint still has a connection", || self.seen.live() == 0)
            .await;
        self.seen.answered.load(SeqCst)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.steps.len().saturating_sub(25);
            eprintln!(
                "seed {}, step {}; the last: {:#?}",
                self.seed,
                self.steps.len(),
                &self.steps[last..]
            );
        }
    }
}

fn run(seed: u64) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // What the sockets have to say is heard at each step.
        .event_interval(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut world = World::new(seed).await;
        for _ in 0..STEPS {
            world.step().await;
        }
        world.finish().await
    })
}

#[test]
fn whatever_happens_limits_hold_nobody_is_overtaken_or_forgotten_and_nothing_leaks() {
    let answered: u32 = (0..SEEDS).map(run).sum();
    println!(
        "{} steps over {SEEDS} seeds, {answered} requests answered",
        SEEDS as usize * STEPS
    );
    assert!(answered > SEEDS as u32 * 10, "{answered}: hardly anything happened");
}
