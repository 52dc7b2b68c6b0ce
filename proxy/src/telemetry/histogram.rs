//! The duration histogram: fixed buckets of atomics behind the `metrics` crate's `HistogramFn`.
//!
//! A sample costs two atomic additions and is gone: nothing is kept per request. The count is the sum of the buckets,
//! so a scrape never shows `+Inf` and `_count` apart.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// Upper bounds in seconds, with their spelling in the text format and in OpenMetrics (where a bound is always a float).
pub(crate) const BOUNDS: [(f64, &str, &str); 16] = [
    (0.0005, "0.0005", "0.0005"),
    (0.001, "0.001", "0.001"),
    (0.0025, "0.0025", "0.0025"),
    (0.005, "0.005", "0.005"),
    (0.01, "0.01", "0.01"),
    (0.025, "0.025", "0.025"),
    (0.05, "0.05", "0.05"),
    (0.1, "0.1", "0.1"),
    (0.25, "0.25", "0.25"),
    (0.5, "0.5", "0.5"),
    (1.0, "1", "1.0"),
    (2.0, "2", "2.0"),
    (5.0, "5", "5.0"),
    (10.0, "10", "10.0"),
    (30.0, "30", "30.0"),
    (60.0, "60", "60.0"),
];

#[derive(Debug, Default)]
pub(crate) struct Durations {
    /// The last one is `+Inf`.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    /// Whole nanoseconds: an addition, where a float would need a compare-and-swap loop. Lasts for 584 years of requests.
    sum_nanoseconds: AtomicU64,
}

/// What one scrape sees: cumulative counts per bound, `+Inf` last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) cumulative: [u64; BOUNDS.len() + 1],
    pub(crate) sum_seconds: f64,
}

impl Reading {
    pub(crate) fn count(&self) -> u64 {
        self.cumulative[BOUNDS.len()]
    }
}

impl Durations {
    pub(crate) fn read(&self) -> Reading {
        let mut total = 0;
        let cumulative = std::array::from_fn(|index| {
            total += self.buckets[index].load(Ordering::Relaxed);
            total
        });
        let sum_seconds = self.sum_nanoseconds.load(Ordering::Relaxed) as f64 / 1e9;
        Reading {
            cumulative,
            sum_seconds,
        }
    }
}

impl HistogramFn for Durations {
    fn record(&self, seconds: f64) {
        let bucket = BOUNDS.partition_point(|(bound, ..)| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        // The cast saturates: a negative or absurd value adds 0 or the maximum, and never panics.
        self.sum_nanoseconds
            .fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_on_a_bound_belongs_to_that_bound() {
        let durations = Durations::default();
        durations.record(0.1);
        let reading = durations.read();
        let at = |seconds: f64| {
            BOUNDS
                .iter()
                .position(|(bound, ..)| *bound == seconds)
                .expect("a bound")
        };
        assert_eq!(reading.cumulative[at(0.05)], 0);
        assert_eq!(reading.cumulative[at(0.1)], 1);
        assert_eq!(reading.count(), 1);
    }

    #[test]
    fn what_is_longer_than_the_last_bound_is_only_in_infinity() {
        let durations = Durations::default();
        durations.record(61.0);
        let reading = durations.read();
        assert_eq!(reading.cumulative[BOUNDS.len() - 1], 0);
        assert_eq!(reading.count(), 1);
        assert!((reading.sum_seconds - 61.0).abs() < 1e-6);
    }

    #[test]
    fn the_bounds_rise_and_contain_the_promised_ones() {
        assert!(BOUNDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for promised in [0.0005, 0.1, 0.5, 1.0, 2.0, 5.0, 60.0] {
            assert!(BOUNDS.iter().any(|(bound, ..)| *bound == promised), "{promised}");
        }
        for (bound, text, openmetrics) in BOUNDS {
            assert_eq!(text.parse(), Ok(bound));
            assert_eq!(openmetrics.parse(), Ok(bound));
            assert!(openmetrics.contains('.'));
        }
    }
}
