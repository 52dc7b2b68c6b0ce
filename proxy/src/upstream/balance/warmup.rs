//! How much of its weight an endpoint has while it warms up. Its window begins when it became ready, when it returned from
//! an ejection, or, where nobody says when it became ready, when this proxy first saw it among others.
//!
//! Source: Envoy's slow start (`load_balancer_impl.cc`): max(minimum, (time / window) ^ (1 / aggression)). That it counts
//! from readiness and not from creation is ours.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tsunagi_proto::model::Warmup;

/// Not warming up.
const WARM: i64 = i64::MIN;
/// However little an endpoint may have, it is not nothing: it would never be chosen again.
const LEAST_SHARE: f64 = 0.0001;

/// Times are kept as the distance to this one.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug)]
pub(in crate::upstream) struct Warming {
    /// Microseconds from `EPOCH`.
    since: AtomicI64,
    /// Of the Unix epoch, in seconds: what was told last; 0 for nothing.
    ready_since: AtomicI64,
    seen: AtomicBool,
}

impl Default for Warming {
    fn default() -> Self {
        Self {
            since: AtomicI64::new(WARM),
            ready_since: AtomicI64::new(0),
            seen: AtomicBool::new(false),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn from_epoch(now: Instant) -> i64 {
    match now.checked_duration_since(*EPOCH) {
        Some(after) => micros(after),
        None => -micros(EPOCH.saturating_duration_since(now)),
    }
}

impl Warming {
    pub fn begin(&self, now: Instant) {
        self.since.store(from_epoch(now), Ordering::Relaxed);
    }

    /// Is it healthy for the first time? It is asked only then, and once.
    pub fn is_new(&self) -> bool {
        !self.seen.swap(true, Ordering::Relaxed)
    }

    /// Told to be ready since then; it begins anew where that is news. A clock that is behind makes it later than now,
    /// which is now.
    pub fn ready(&self, since: SystemTime, now: Instant, clock: SystemTime) {
        let told = since
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        if self.ready_since.swap(told, Ordering::Relaxed) != told {
            let age = clock.duration_since(since).unwrap_or_default();
            let began = from_epoch(now).saturating_sub(micros(age));
            self.since.store(began.max(WARM + 1), Ordering::Relaxed);
        }
    }

    /// Of its weight, over 0 to 1.
    pub fn share(&self, warmup: &Warmup) -> f64 {
        let since = self.since.load(Ordering::Relaxed);
        // The clock is read for those only that warm up.
        if since == WARM {
            1.0
        } else {
            self.share_at(since, warmup, Instant::now())
        }
    }

    fn share_at(&self, since: i64, warmup: &Warmup, now: Instant) -> f64 {
        let passed = from_epoch(now).saturating_sub(since).max(0);
        let window = micros(warmup.duration);
        if passed >= window {
            // Unless it began anew in between.
            let _ = self
                .since
                .compare_exchange(since, WARM, Ordering::Relaxed, Ordering::Relaxed);
            return 1.0;
        }
        let time = passed as f64 / window as f64;
        let grown = time.powf(1.0 / warmup.aggression);
        grown.max(warmup.minimum_percent / 100.0).clamp(LEAST_SHARE, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn warmup(aggression: f64) -> Warmup {
        Warmup {
            duration: MINUTE,
            minimum_percent: 10.0,
            aggression,
        }
    }

    fn share(warming: &Warming, warmup: &Warmup, now: Instant) -> f64 {
        match warming.since.load(Ordering::Relaxed) {
            WARM => 1.0,
            since => warming.share_at(since, warmup, now),
        }
    }

    #[test]
    fn a_share_grows_from_its_minimum_to_the_whole_over_the_window() {
        let warming = Warming::default();
        let now = Instant::now();
        assert_eq!(share(&warming, &warmup(1.0), now), 1.0);
        warming.begin(now);
        for (seconds, expected) in [(0, 0.1), (3, 0.1), (30, 0.5), (45, 0.75), (60, 1.0), (70, 1.0)] {
            let share = share(&warming, &warmup(1.0), now + Duration::from_secs(seconds));
            assert!((share - expected).abs() < 1e-6, "{share} after {seconds} s");
        }
        warming.begin(now);
        let share = share(&warming, &warmup(2.0), now + MINUTE / 4);
        assert!((share - 0.5).abs() < 1e-6, "the square root of a quarter: {share}");
    }

    #[test]
    fn it_counts_from_readiness_and_begins_anew_only_when_that_is_news() {
        let warming = Warming::default();
        let (now, clock) = (Instant::now(), SystemTime::UNIX_EPOCH + MINUTE * 1_000);
        warming.ready(clock - MINUTE / 2, now, clock);
        assert!((share(&warming, &warmup(1.0), now) - 0.5).abs() < 1e-6);
        warming.ready(clock - MINUTE / 2, now + MINUTE, clock + MINUTE);
        assert_eq!(share(&warming, &warmup(1.0), now + MINUTE), 1.0);
        warming.ready(clock + MINUTE * 2, now + MINUTE, clock + MINUTE);
        assert!(
            (share(&warming, &warmup(1.0), now + MINUTE) - 0.1).abs() < 1e-6,
            "not ready before now"
        );
    }
}
