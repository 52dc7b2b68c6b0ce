//! Requests at a fixed rate, whatever the answers take: a slow answer does not hide the requests that wait behind it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at};
use tsunagi_tests::{Connection, Version};

pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: JoinSet<Outcome>,
}

#[derive(Default)]
struct Outcome {
    failures: Vec<String>,
    times: Vec<Duration>,
}

impl Load {
    /// `rate` requests a second over `connections` connections, half of them HTTP/2.
    pub async fn start(sidecar: SocketAddr, host: &str, rate: u64, connections: u64) -> Load {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        let every = Duration::from_secs_f64(connections as f64 / rate as f64);
        for number in 0..connections {
            let version = if number % 2 == 0 {
                Version::Http1
            } else {
                Version::Http2
            };
            let connection = Connection::open(sidecar, version).await;
            let first = Instant::now() + every.mul_f64(number as f64 / connections as f64);
            clients.spawn(client(
                connection,
                host.to_owned(),
                first,
                every,
                stop.clone(),
                sent.clone(),
            ));
        }
        Load { stop, sent, clients }
    }

    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What failed, and how long each request took.
    pub async fn end(self) -> (Vec<String>, Vec<Duration>) {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = self.clients.join_all().await;
        let mut all = Outcome::default();
        for outcome in outcomes {
            all.failures.extend(outcome.failures);
            all.times.extend(outcome.times);
        }
        (all.failures, all.times)
    }
}

async fn client(
    mut connection: Connection,
    host: String,
    first: Instant,
    every: Duration,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut due = interval_at(first, every);
    while !stop.load(Ordering::Relaxed) {
        let intended = due.tick().await;
        let reply = connection.get(&host, "/").await;
        sent.fetch_add(1, Ordering::Relaxed);
        outcome.times.push(intended.elapsed());
        if reply.status != 200 {
            outcome
                .failures
                .push(format!("{} {} {}", reply.status, reply.flags(), reply.text()));
        }
    }
    outcome
}
