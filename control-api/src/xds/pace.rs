//! How fast a proxy's requests are read: a burst at once, then one by one, and those that name much count more. What is
//! not read waits at the client, by the flow control of its stream. No clock: `server` passes the time in. The
//! algorithm is the generic cell rate algorithm of ITU-T I.371.

use std::time::Duration;

use tokio::time::Instant;

/// Between two requests in the long run: a proxy asks for what it lacks and answers what it gets, far less often.
const INTERVAL: Duration = Duration::from_millis(1);
/// Requests that may come at once, after a rest.
const BURST: u32 = 100;
/// So many names count as one request more.
const NAMES_A_REQUEST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all that was read would have come at the steady rate; `None`: nothing was read yet.
    earned: Option<Instant>,
}

impl Pace {
    /// When the next request may be read; `None`: at once.
    pub(super) fn due(&self) -> Option<Instant> {
        self.earned.and_then(|earned| earned.checked_sub(INTERVAL * BURST))
    }

    /// A request was read that names this many resources.
    pub(super) fn read(&mut self, names: usize, now: Instant) {
        let requests = u32::try_from(1 + names / NAMES_A_REQUEST).unwrap_or(u32::MAX);
        let start = self.earned.map_or(now, |earned| earned.max(now));
        self.earned = Some(start + INTERVAL.saturating_mul(requests));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_due(pace: &Pace, now: Instant) -> bool {
        pace.due().is_none_or(|due| due <= now)
    }

    #[test]
    fn a_burst_is_read_at_once_and_what_follows_at_the_steady_rate() {
        let mut now = Instant::now() + Duration::from_secs(60);
        let mut pace = Pace::default();
        let mut read = 0;
        while is_due(&pace, now) {
            pace.read(1, now);
            read += 1;
        }
        assert_eq!(read, BURST + 1);
        for _ in 0..10 {
            now += INTERVAL;
            assert!(is_due(&pace, now));
            pace.read(1, now);
            assert!(!is_due(&pace, now));
        }
    }

    #[test]
    fn a_request_that_names_much_counts_more() {
        let now = Instant::now() + Duration::from_secs(60);
        let mut pace = Pace::default();
        pace.read(NAMES_A_REQUEST * 1_000, now);
        assert_eq!(pace.due(), Some(now + INTERVAL * (1_001 - BURST)));
    }
}
