//! Requests to the service through the sidecar, as fast as they go over a few keep-alive connections, and what came back.
//! Called by the acts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, header};
use tokio::{task::JoinSet, time::timeout};

use super::{super::CliError, connection::Answer, connection::Connection, rules, sample};

/// How often a live table changes.
pub(super) const TICK: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) outbound: SocketAddr,
    pub(super) requests: u64,
    pub(super) connections: usize,
    /// The `version` header.
    pub(super) version: Option<&'static str>,
}

/// What was answered until now.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Latencies of what was answered 200, by the version that answered.
    pub(super) versions: BTreeMap<String, Vec<Duration>>,
    /// Answers by endpoint, whatever their status; an answer of the sidecar itself has none.
    pub(super) endpoints: BTreeMap<String, u64>,
    /// Everything else than 200, as `503 UO`.
    pub(super) failures: BTreeMap<String, u64>,
    /// Requests without an answer.
    pub(super) broken: u64,
}

/// Requests that are being sent. Dropping it stops them.
pub(super) struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

struct Shared {
    load: Load,
    left: AtomicU64,
    tally: Mutex<Tally>,
}

impl Traffic {
    pub(super) fn start(load: Load) -> Self {
        let shared = Arc::new(Shared {
            load,
            left: AtomicU64::new(load.requests),
            tally: Mutex::default(),
        });
        let mut clients = JoinSet::new();
        for _ in 0..load.connections {
            clients.spawn(client(Arc::clone(&shared)));
        }
        Self { shared, clients }
    }

    /// Waits for the end, but not longer than a tick. Whether it came.
    pub(super) async fn ended_within_a_tick(&mut self) -> bool {
        let all = async { while self.clients.join_next().await.is_some() {} };
        timeout(TICK, all).await.is_ok()
    }

    pub(super) fn tally(&self) -> Tally {
        self.shared.tally().clone()
    }

    /// Lets what is in flight finish, and sends no more.
    pub(super) async fn stop(mut self) -> Tally {
        self.shared.left.store(0, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        self.tally()
    }
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_one(&self) -> bool {
        let one_less = |left: u64| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_ok()
    }
}

/// A client that opens a new connection after a broken one, once for each request.
async fn client(shared: Arc<Shared>) {
    let mut open = None;
    while shared.take_one() {
        let answer = exchange(&mut open, shared.load).await;
        match answer {
            Ok(answer) => shared.tally().count(&answer),
            Err(_) => {
                open = None;
                shared.tally().broken += 1;
            }
        }
    }
}

async fn exchange(open: &mut Option<Connection>, load: Load) -> Result<Answer, CliError> {
    let connection = match open {
        Some(connection) => connection,
        None => open.insert(Connection::open(load.outbound).await?),
    };
    connection.send(request(load.version)).await
}

/// `GET /` of the service.
pub(super) fn request(version: Option<&'static str>) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    let headers = request.headers_mut();
    headers.insert(header::HOST, header::HeaderValue::from_static(rules::HOST));
    if let Some(version) = version {
        headers.insert("version", header::HeaderValue::from_static(version));
    }
    request
}

impl Tally {
    pub(super) fn count(&mut self, answer: &Answer) {
        let endpoint = answer.header(sample::ENDPOINT_HEADER);
        if !endpoint.is_empty() {
            *self.endpoints.entry(endpoint.to_owned()).or_default() += 1;
        }
        if answer.status == 200 {
            let version = answer.header(sample::VERSION_HEADER).to_owned();
            self.versions.entry(version).or_default().push(answer.elapsed);
        } else {
            *self.failures.entry(failure(answer)).or_default() += 1;
        }
    }

    pub(super) fn version(&self, version: &str) -> u64 {
        self.versions.get(version).map_or(0, |latencies| latencies.len() as u64)
    }

    pub(super) fn endpoint(&self, endpoint: &str) -> u64 {
        self.endpoints.get(endpoint).copied().unwrap_or_default()
    }

    /// Not answered 200.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum::<u64>() + self.broken
    }

    pub(super) fn requests(&self) -> u64 {
        self.versions
            .values()
            .map(|latencies| latencies.len() as u64)
            .sum::<u64>()
            + self.failed()
    }
}

/// Status and, when the sidecar answered or has something to say about it, its flags.
pub(super) fn failure(answer: &Answer) -> String {
    let flags = answer.header("x-tsunagi-response-flags");
    format!("{} {flags}", answer.status.as_u16()).trim_end().to_owned()
}
