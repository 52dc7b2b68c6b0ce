//! The series of plain TCP connections to one destination: how they ended, and the bytes that were passed on.
//!
//! Made when a snapshot is compiled and held by the port. Bytes are counted while they pass, so that a connection that
//! lives for days shows; the connection itself is counted when it has ended, because only then its flags are known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

use super::flags::Flags;
use super::series::Direction;

/// How a connection can end. Flags that are not here are counted without any.
const ENDINGS: [Flags; 10] = [
    Flags::NONE,
    Flags::UF,
    Flags::UH,
    Flags::UO,
    Flags::NC,
    Flags::NR,
    Flags::DC,
    Flags::UC,
    Flags::SI,
    Flags::DT,
];

/// What tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TcpKey {
    pub(crate) direction: Direction,
    pub(crate) service: Box<str>,
    pub(crate) subset: Box<str>,
}

/// Stored handles for the connections to one destination.
#[derive(Debug)]
pub struct TcpSeries {
    key: TcpKey,
    /// From the downstream to the upstream, in bytes.
    pub received: Counter,
    /// From the upstream to the downstream, in bytes.
    pub sent: Counter,
    received_cell: Arc<AtomicU64>,
    sent_cell: Arc<AtomicU64>,
    connections: [AtomicU64; ENDINGS.len()],
}

impl TcpSeries {
    pub(crate) fn new(key: TcpKey) -> TcpSeries {
        let cells = [(); 2].map(|()| Arc::new(AtomicU64::new(0)));
        let [received, sent] = cells.each_ref().map(|cell| Counter::from_arc(Arc::clone(cell)));
        let [received_cell, sent_cell] = cells;
        TcpSeries {
            key,
            received,
            sent,
            received_cell,
            sent_cell,
            connections: [const { AtomicU64::new(0) }; ENDINGS.len()],
        }
    }

    /// Counts one connection that has ended.
    pub fn record(&self, flags: Flags) {
        let index = ENDINGS.iter().position(|ending| *ending == flags).unwrap_or_default();
        self.connections[index].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn key(&self) -> &TcpKey {
        &self.key
    }

    /// The endings that there were, and how often.
    pub(crate) fn connections(&self) -> impl Iterator<Item = (Flags, u64)> {
        let counts = self.connections.iter().map(|cell| cell.load(Ordering::Relaxed));
        ENDINGS.into_iter().zip(counts).filter(|(_, count)| *count > 0)
    }

    /// Received and sent bytes; `None`: there was no connection yet, as with nearly every port that speaks HTTP.
    pub(crate) fn bytes(&self) -> Option<(u64, u64)> {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let (received, sent) = (load(&self.received_cell), load(&self.sent_cell));
        (received + sent > 0 || self.connections().next().is_some()).then_some((received, sent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_counted_once_by_its_ending_and_bytes_as_they_pass() {
        let series = TcpSeries::new(TcpKey {
            direction: Direction::Outbound,
            service: "s".into(),
            subset: "".into(),
        });
        assert_eq!(series.bytes(), None);
        series.received.increment(3);
        series.sent.increment(5);
        assert_eq!(series.bytes(), Some((3, 5)));
        for flags in [Flags::NONE, Flags::UF, Flags::UF, Flags::DPE] {
            series.record(flags);
        }
        let counted: Vec<_> = series.connections().collect();
        assert_eq!(counted, [(Flags::NONE, 2), (Flags::UF, 2)]);
    }
}
