//! The request series of one (direction, route, destination): counters by method, status, gRPC status and flags,
//! durations by method and status.
//!
//! Made when a snapshot is compiled and held by the route, so that a request finds its cells without a lookup by name.
//! The cells are a grow-only hash table of `OnceLock` chains: reading takes no lock, a new combination takes one
//! allocation once. `/metrics` reads the same cells.
//!
//! Bound: at most `MAX_CELLS` combinations per series (of 10 methods x 71 status codes x 19 gRPC statuses x the flag sets
//! that this proxy makes up), whatever is sent; later ones are counted in one cell, method `OTHER`, status `other`, no flags.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;
use metrics::{Counter, Histogram};

use super::codes::{GrpcCode, MethodCode, StatusCode};
use super::flags::Flags;
use super::histogram::Durations;

/// Combinations of one series that get cells of their own.
pub const MAX_CELLS: usize = 256;
const BUCKETS: usize = 16;

/// Which way a connection or request goes, relative to the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    Inbound,
    Outbound,
}

impl Direction {
    pub const fn as_str(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// What tells one series from another; an empty part does not apply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesKey {
    pub(crate) direction: Direction,
    pub(crate) route: Box<str>,
    pub(crate) service: Box<str>,
    pub(crate) subset: Box<str>,
}

/// Stored handles for the requests of one route to one destination.
#[derive(Debug)]
pub struct RequestSeries {
    key: SeriesKey,
    buckets: [Link; BUCKETS],
    cells: AtomicUsize,
}

type Link = OnceLock<Box<Cell>>;

/// One combination. `requests` and `duration` are the handles that are written, the rest is how a scrape reads them.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) code: Code,
    requests: Counter,
    duration: Histogram,
    requests_cell: Arc<AtomicU64>,
    /// Shared by all gRPC statuses and flag sets of one method and status; read through the first of them.
    durations: Arc<Durations>,
    first_of_durations: bool,
    next: Link,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) method: MethodCode,
    pub(crate) status: StatusCode,
    pub(crate) grpc: GrpcCode,
    pub(crate) flags: Flags,
}

impl Code {
    const OVERFLOW: Code = Code {
        method: MethodCode::OTHER,
        status: StatusCode::OTHER,
        grpc: GrpcCode::NONE,
        flags: Flags::NONE,
    };

    /// By method and status only: every gRPC status and flag set of them is in one chain, where a new one finds the durations to share.
    fn bucket(self) -> usize {
        (usize::from(self.method.0) * 5 + usize::from(self.status.0)) % BUCKETS
    }

    fn shares_durations(self, other: Code) -> bool {
        self.method == other.method && self.status == other.status
    }
}

impl RequestSeries {
    pub(crate) fn new(key: SeriesKey) -> RequestSeries {
        RequestSeries {
            key,
            buckets: [const { OnceLock::new() }; BUCKETS],
            cells: AtomicUsize::new(0),
        }
    }

    /// Counts one finished request. `status` is what the downstream was sent, 0 if it was sent none.
    pub fn record(&self, method: &Method, status: u16, flags: Flags, elapsed: Duration) {
        self.record_call(method, status, GrpcCode::NONE, flags, elapsed);
    }

    /// The same for what may have been a gRPC call.
    pub fn record_call(&self, method: &Method, status: u16, grpc: GrpcCode, flags: Flags, elapsed: Duration) {
        let code = Code {
            method: MethodCode::of(method),
            status: StatusCode::of(status),
            grpc,
            flags,
        };
        let cell = self.cell(code);
        cell.requests.increment(1);
        cell.duration.record(elapsed.as_secs_f64());
    }

    /// The label of whose requests these are.
    pub fn route(&self) -> &str {
        &self.key.route
    }

    pub fn direction(&self) -> Direction {
        self.key.direction
    }

    pub(crate) fn key(&self) -> &SeriesKey {
        &self.key
    }

    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.buckets
            .iter()
            .flat_map(|bucket| std::iter::successors(bucket.get(), |cell| cell.next.get()).map(|cell| &**cell))
    }

    fn cell(&self, code: Code) -> &Cell {
        let mut link = &self.buckets[code.bucket()];
        let mut durations = None;
        while let Some(cell) = link.get() {
            if cell.code == code {
                return cell;
            }
            if cell.code.shares_durations(code) {
                durations = Some(&cell.durations);
            }
            link = &cell.next;
        }
        self.add_cell(code, link, durations)
    }

    /// Appends a cell at `link`, the end of its chain; another thread may do the same at the same time.
    #[cold]
    fn add_cell<'a>(&'a self, code: Code, mut link: &'a Link, mut durations: Option<&'a Arc<Durations>>) -> &'a Cell {
        if code != Code::OVERFLOW && self.cells.fetch_add(1, Ordering::Relaxed) >= MAX_CELLS - 1 {
            self.cells.fetch_sub(1, Ordering::Relaxed);
            return self.cell(Code::OVERFLOW);
        }
        loop {
            let mut added = false;
            let cell = link.get_or_init(|| {
                added = true;
                Box::new(Cell::new(code, durations.cloned()))
            });
            if added {
                return cell;
            }
            if cell.code == code {
                // Somebody else was quicker and has counted it.
                if code != Code::OVERFLOW {
                    self.cells.fetch_sub(1, Ordering::Relaxed);
                }
                return cell;
            }
            if cell.code.shares_durations(code) {
                durations = Some(&cell.durations);
            }
            link = &cell.next;
        }
    }
}

impl Cell {
    fn new(code: Code, shared: Option<Arc<Durations>>) -> Cell {
        let first_of_durations = shared.is_none();
        let durations = shared.unwrap_or_default();
        let requests_cell = Arc::new(AtomicU64::new(0));
        Cell {
            code,
            requests: Counter::from_arc(Arc::clone(&requests_cell)),
            duration: Histogram::from_arc(Arc::clone(&durations)),
            requests_cell,
            durations,
            first_of_durations,
            next: OnceLock::new(),
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests_cell.load(Ordering::Relaxed)
    }

    /// The durations, for exactly one cell of each method and status.
    pub(crate) fn durations(&self) -> Option<&Durations> {
        self.first_of_durations.then_some(&*self.durations)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> RequestSeries {
        RequestSeries::new(SeriesKey {
            direction: Direction::Outbound,
            route: "r".into(),
            service: "s".into(),
            subset: "".into(),
        })
    }

    fn total(series: &RequestSeries) -> u64 {
        series.cells().map(Cell::requests).sum()
    }

    #[test]
    fn the_same_combination_is_counted_in_one_cell() {
        let series = series();
        for _ in 0..3 {
            series.record(&Method::GET, 200, Flags::NONE, Duration::from_millis(1));
        }
        series.record(&Method::GET, 503, Flags::UO, Duration::ZERO);
        let counts: Vec<_> = series.cells().map(|cell| (cell.code.flags, cell.requests())).collect();
        assert_eq!(counts.len(), 2);
        assert!(counts.contains(&(Flags::NONE, 3)) && counts.contains(&(Flags::UO, 1)));
    }

    #[test]
    fn durations_are_shared_by_the_flag_sets_of_a_status_and_read_once() {
        let series = series();
        series.record(&Method::GET, 503, Flags::UO, Duration::from_secs(1));
        series.record(&Method::GET, 503, Flags::UF, Duration::from_secs(2));
        series.record(&Method::POST, 503, Flags::UF, Duration::from_secs(4));
        let sums: Vec<_> = series
            .cells()
            .filter_map(Cell::durations)
            .map(|it| it.read().sum_seconds)
            .collect();
        assert_eq!(sums.len(), 2);
        assert!((sums.iter().sum::<f64>() - 7.0).abs() < 1e-6);
    }

    #[test]
    fn grpc_statuses_are_counted_apart_and_share_their_durations() {
        let series = series();
        for status in [b"0", b"4", b"0"] {
            let status = GrpcCode::of(status);
            series.record_call(&Method::POST, 200, status, Flags::NONE, Duration::from_secs(1));
        }
        let counts: Vec<_> = series
            .cells()
            .map(|cell| (cell.code.grpc.label(), cell.requests()))
            .collect();
        assert_eq!(counts, [("0", 2), ("4", 1)]);
        assert_eq!(series.cells().filter_map(Cell::durations).count(), 1);
    }

    #[test]
    fn the_number_of_cells_is_bounded_and_nothing_goes_uncounted() {
        let series = series();
        let methods = ["GET", "POST", "PUT", "A", "B", "C"];
        let mut sent = 0;
        for method in methods {
            for status in 0..1000 {
                let method = Method::from_bytes(method.as_bytes()).expect("a token");
                series.record(&method, status, Flags::NONE, Duration::ZERO);
                sent += 1;
            }
        }
        assert_eq!(series.cells().count(), MAX_CELLS);
        assert_eq!(total(&series), sent);
    }

    #[test]
    fn threads_that_meet_on_new_combinations_lose_no_count() {
        let series = series();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for status in 100..400 {
                        series.record(&Method::GET, status, Flags::NONE, Duration::ZERO);
                        series.record(&Method::GET, status, Flags::UF, Duration::ZERO);
                    }
                });
            }
        });
        assert_eq!(total(&series), 4 * 300 * 2);
        let counted: u64 = series
            .cells()
            .filter_map(Cell::durations)
            .map(|it| it.read().count())
            .sum();
        assert_eq!(counted, 4 * 300 * 2);
    }
}
