//! Requests that meet a match with a `statPrefix`, in a family of their own, and copies of requests, by what became of them.
//!
//! Made when a snapshot is compiled and held by the rule, so that a request finds its cell by index.

use std::sync::atomic::{AtomicU64, Ordering};

use super::codes::{STATUS_CODES, StatusCode};

/// Of one `statPrefix`.
#[derive(Debug)]
pub struct PrefixSeries {
    prefix: Box<str>,
    cells: [AtomicU64; STATUS_CODES],
}

impl PrefixSeries {
    pub(crate) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            cells: [const { AtomicU64::new(0) }; STATUS_CODES],
        }
    }

    /// `status` is what the downstream was sent, 0 if it was sent none.
    pub fn count(&self, status: u16) {
        self.cells[usize::from(StatusCode::of(status).0)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Those that there are.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (StatusCode, u64)> {
        let cells = self.cells.iter().enumerate();
        let counts = cells.map(|(index, cell)| (StatusCode(index as u8), cell.load(Ordering::Relaxed)));
        counts.filter(|(_, count)| *count > 0)
    }
}

/// What became of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// The endpoint answered; nobody looked what.
    Answered,
    /// It could not be connected to, broke off, or took too long.
    Failed,
    /// A limit of the destination or of this proxy was reached: nothing was sent.
    Overflow,
    /// The destination took the body too slowly, or the client broke off.
    Dropped,
    /// There is no such host or subset.
    NoCluster,
}

const RESULTS: [(Mirrored, &str); 5] = [
    (Mirrored::Answered, "answered"),
    (Mirrored::Failed, "failed"),
    (Mirrored::Overflow, "overflow"),
    (Mirrored::Dropped, "dropped"),
    (Mirrored::NoCluster, "no_cluster"),
];

/// Of the copies to one destination.
#[derive(Debug)]
pub struct MirrorSeries {
    service: Box<str>,
    subset: Box<str>,
    cells: [AtomicU64; RESULTS.len()],
}

impl MirrorSeries {
    pub(crate) fn new(service: &str, subset: &str) -> Self {
        Self {
            service: service.into(),
            subset: subset.into(),
            cells: [const { AtomicU64::new(0) }; RESULTS.len()],
        }
    }

    pub fn count(&self, result: Mirrored) {
        self.cells[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn subset(&self) -> &str {
        &self.subset
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let cells = RESULTS
            .iter()
            .map(|(result, label)| (*label, &self.cells[*result as usize]));
        cells.map(|(label, cell)| (label, cell.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_counted_by_status_whatever_that_is() {
        let series = PrefixSeries::new("users");
        for status in [200, 200, 503, 0, 799, u16::MAX] {
            series.count(status);
        }
        let counts: Vec<_> = series
            .counts()
            .map(|(code, count)| (code.label().into_owned(), count))
            .collect();
        let count = |label: &str| counts.iter().find(|(code, _)| code == label).map(|(_, count)| *count);
        assert_eq!((count("200"), count("503"), count("0")), (Some(2), Some(1), Some(1)));
        assert_eq!(count("other"), Some(2));
    }

    #[test]
    fn every_result_has_its_own_label() {
        let series = MirrorSeries::new("s", "v1");
        for (times, (result, _)) in RESULTS.iter().enumerate() {
            (0..=times).for_each(|_| series.count(*result));
        }
        let counts: Vec<_> = series.counts().collect();
        let wanted = [
            ("answered", 1),
            ("failed", 2),
            ("overflow", 3),
            ("dropped", 4),
            ("no_cluster", 5),
        ];
        assert_eq!(counts, wanted);
    }
}
