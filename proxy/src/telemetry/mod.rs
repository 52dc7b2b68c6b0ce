//! What the proxy says about itself: metrics, access log, log.
//!
//! Metrics: stored handles of the `metrics` crate over cells of our own, made when configuration is compiled and held by
//! those who write them; nothing is looked up by name on the request path. The stock Prometheus recorder is not used,
//! because it keeps every raw histogram sample until its upkeep runs and cannot retire a series whose route is gone;
//! its public formatting functions write our exposition. The registry here holds `Weak`s: a series lives as long as the
//! route or cluster that holds it.

pub mod access_log;
mod cluster;
mod codes;
mod exposition;
pub mod flags;
mod histogram;
pub mod log;
mod prefixed;
mod process;
mod render;
pub mod series;
mod tcp;
mod timestamp;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use metrics::{Counter, Gauge};

pub use access_log::AccessLog;
pub use cluster::{ClusterSeries, TlsFailure};
pub use codes::GrpcCode;
pub use flags::Flags;
pub use prefixed::{MirrorSeries, Mirrored, PrefixSeries};
pub use process::resident_bytes;
pub use series::{Direction, RequestSeries};
pub use tcp::TcpSeries;

use series::SeriesKey;
use tcp::TcpKey;

/// The metrics of this process. Clones are handles to the same ones.
#[derive(Debug, Clone)]
pub struct Telemetry {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source_workload: Box<str>,
    requests: Mutex<Living<SeriesKey, RequestSeries>>,
    clusters: Mutex<Living<ClusterKey, ClusterSeries>>,
    tcp: Mutex<Living<TcpKey, TcpSeries>>,
    prefixed: Mutex<Living<Box<str>, PrefixSeries>>,
    mirrors: Mutex<Living<MirrorKey, MirrorSeries>>,
    config_version: Mutex<Option<String>>,
    control_plane_connected: Cells<Gauge>,
    updates_applied: Cells<Counter>,
    updates_refused: Cells<Counter>,
    lookups_resolved: Cells<Counter>,
    lookups_absent: Cells<Counter>,
    lookups_failed: Cells<Counter>,
    connections_inbound: Cells<Gauge>,
    connections_outbound: Cells<Gauge>,
    access_log_dropped: Cells<Counter>,
    started: process::Started,
}

/// Destination service and subset.
type MirrorKey = (Box<str>, Box<str>);

/// Direction, destination service and subset.
type ClusterKey = (Direction, Box<str>, Box<str>);

/// A handle with the cell that a scrape reads.
#[derive(Debug)]
struct Cells<Handle> {
    handle: Handle,
    cell: Arc<AtomicU64>,
}

impl Cells<Gauge> {
    fn gauge() -> Self {
        let cell = Arc::new(AtomicU64::new(0));
        Cells {
            handle: Gauge::from_arc(Arc::clone(&cell)),
            cell,
        }
    }

    fn level(&self) -> f64 {
        f64::from_bits(self.cell.load(Ordering::Relaxed))
    }
}

impl Cells<Counter> {
    fn counter() -> Self {
        let cell = Arc::new(AtomicU64::new(0));
        Cells {
            handle: Counter::from_arc(Arc::clone(&cell)),
            cell,
        }
    }

    fn count(&self) -> u64 {
        self.cell.load(Ordering::Relaxed)
    }
}

/// What became of an update from the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateResult {
    /// In force, acknowledged.
    Applied,
    /// At least one of its resources was refused; the others are in force.
    Refused,
}

/// What became of a question to DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupResult {
    Resolved,
    /// The name certainly has no address.
    Absent,
    Failed,
}

impl Telemetry {
    /// `source_workload` is the name of the workload that this proxy stands beside: the source of its outbound requests.
    pub fn new(source_workload: &str) -> Telemetry {
        Telemetry {
            shared: Arc::new(Shared {
                source_workload: source_workload.into(),
                requests: Mutex::default(),
                clusters: Mutex::default(),
                tcp: Mutex::default(),
                prefixed: Mutex::default(),
                mirrors: Mutex::default(),
                config_version: Mutex::default(),
                control_plane_connected: Cells::gauge(),
                updates_applied: Cells::counter(),
                updates_refused: Cells::counter(),
                lookups_resolved: Cells::counter(),
                lookups_absent: Cells::counter(),
                lookups_failed: Cells::counter(),
                connections_inbound: Cells::gauge(),
                connections_outbound: Cells::gauge(),
                access_log_dropped: Cells::counter(),
                started: process::Started::now(),
            }),
        }
    }

    /// The series for requests of one route to one destination: the living one if there is one, so that counts go on
    /// across a push. For the compiler of snapshots, not for the request path.
    pub fn request_series(
        &self,
        direction: Direction,
        route: &str,
        destination_service: &str,
        destination_subset: &str,
    ) -> Arc<RequestSeries> {
        let key = SeriesKey {
            direction,
            route: route.into(),
            service: destination_service.into(),
            subset: destination_subset.into(),
        };
        lock(&self.shared.requests).get_or_insert(key, |key| RequestSeries::new(key.clone()))
    }

    /// The series of one cluster: the living one if there is one.
    pub fn cluster_series(&self, direction: Direction, service: &str, subset: &str) -> Arc<ClusterSeries> {
        let key = (direction, service.into(), subset.into());
        lock(&self.shared.clusters).get_or_insert(key, |(direction, service, subset)| {
            ClusterSeries::new(*direction, service, subset)
        })
    }

    /// The series for plain TCP connections to one destination: the living one if there is one.
    pub fn tcp_series(&self, direction: Direction, service: &str, subset: &str) -> Arc<TcpSeries> {
        let key = TcpKey {
            direction,
            service: service.into(),
            subset: subset.into(),
        };
        lock(&self.shared.tcp).get_or_insert(key, |key| TcpSeries::new(key.clone()))
    }

    /// The series of one `statPrefix`: the living one if there is one.
    pub fn prefix_series(&self, prefix: &str) -> Arc<PrefixSeries> {
        lock(&self.shared.prefixed).get_or_insert(prefix.into(), |prefix| PrefixSeries::new(prefix))
    }

    /// The series of the copies to one destination: the living one if there is one.
    pub fn mirror_series(&self, service: &str, subset: &str) -> Arc<MirrorSeries> {
        let key = (service.into(), subset.into());
        lock(&self.shared.mirrors).get_or_insert(key, |(service, subset)| MirrorSeries::new(service, subset))
    }

    /// Counts a downstream connection in `active_connections` for as long as the guard lives.
    pub fn active_connection(&self, direction: Direction) -> ActiveConnectionGuard {
        let gauge = match direction {
            Direction::Inbound => &self.shared.connections_inbound.handle,
            Direction::Outbound => &self.shared.connections_outbound.handle,
        };
        gauge.increment(1.0);
        ActiveConnectionGuard { gauge: gauge.clone() }
    }

    /// The version of the last update that is in force.
    pub fn set_config_version(&self, version: &str) {
        *lock(&self.shared.config_version) = Some(version.to_owned());
    }

    pub fn count_config_update(&self, result: UpdateResult) {
        match result {
            UpdateResult::Applied => self.shared.updates_applied.handle.increment(1),
            UpdateResult::Refused => self.shared.updates_refused.handle.increment(1),
        }
    }

    pub fn count_lookup(&self, result: LookupResult) {
        let counter = match result {
            LookupResult::Resolved => &self.shared.lookups_resolved,
            LookupResult::Absent => &self.shared.lookups_absent,
            LookupResult::Failed => &self.shared.lookups_failed,
        };
        counter.handle.increment(1);
    }

    pub fn set_control_plane_connected(&self, connected: bool) {
        self.shared
            .control_plane_connected
            .handle
            .set(f64::from(u8::from(connected)));
    }

    /// Is there anybody who could answer what is asked now?
    pub fn is_control_plane_connected(&self) -> bool {
        self.shared.control_plane_connected.level() > 0.0
    }

    /// For the access log: lines that were not written.
    pub fn access_log_dropped(&self) -> Counter {
        self.shared.access_log_dropped.handle.clone()
    }

    /// The whole exposition, as Prometheus text or OpenMetrics.
    pub fn render(&self, openmetrics: bool) -> String {
        render::render(&self.shared, openmetrics)
    }
}

/// One connection in `active_connections`.
#[derive(Debug)]
#[must_use = "the connection is counted while this lives"]
pub struct ActiveConnectionGuard {
    gauge: Gauge,
}

impl Drop for ActiveConnectionGuard {
    fn drop(&mut self) {
        self.gauge.decrement(1.0);
    }
}

/// What somebody still holds, in order of its key. Entries of the dead are swept when the map has doubled, and at a scrape.
#[derive(Debug)]
struct Living<K, V> {
    entries: BTreeMap<K, Weak<V>>,
    sweep_at: usize,
}

impl<K, V> Default for Living<K, V> {
    fn default() -> Self {
        Living {
            entries: BTreeMap::new(),
            sweep_at: 64,
        }
    }
}

impl<K: Ord, V> Living<K, V> {
    fn get_or_insert(&mut self, key: K, make: impl FnOnce(&K) -> V) -> Arc<V> {
        if let Some(living) = self.entries.get(&key).and_then(Weak::upgrade) {
            return living;
        }
        if self.entries.len() >= self.sweep_at {
            self.entries.retain(|_, weak| weak.strong_count() > 0);
            self.sweep_at = (self.entries.len() * 2).max(64);
        }
        let made = Arc::new(make(&key));
        self.entries.insert(key, Arc::downgrade(&made));
        made
    }

    fn all(&mut self) -> Vec<Arc<V>> {
        self.entries.retain(|_, weak| weak.strong_count() > 0);
        self.entries.values().filter_map(Weak::upgrade).collect()
    }
}

/// A thread that panicked while it held one of these locks has left nothing half done: each is one insertion or store.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
