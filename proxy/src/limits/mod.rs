//! Counting limits: exact across threads, one compare-and-swap to take, one subtraction to give back.
//!
//! Envoy checks and then increments, so its limits may be overshot; here a permit is there or it is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A number of things that may exist at once. The maximum may change while permits are out; then nothing new is given
/// until enough have come back.
#[derive(Debug)]
pub struct Limit {
    current: AtomicU32,
    maximum: AtomicU32,
}

impl Limit {
    pub fn new(maximum: u32) -> Arc<Self> {
        Arc::new(Self {
            current: AtomicU32::new(0),
            maximum: AtomicU32::new(maximum),
        })
    }

    pub fn set_maximum(&self, maximum: u32) {
        self.maximum.store(maximum, Ordering::Relaxed);
    }

    pub fn maximum(&self) -> u32 {
        self.maximum.load(Ordering::Relaxed)
    }

    pub fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// `None` at the maximum.
    pub fn acquire(self: &Arc<Self>) -> Option<Permit> {
        self.acquire_below(self.maximum())
    }

    /// As `acquire`, with a maximum that the caller has computed.
    pub fn acquire_below(self: &Arc<Self>, maximum: u32) -> Option<Permit> {
        self.current
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |current| {
                (current < maximum).then_some(current + 1)
            })
            .ok()
            .map(|_| Permit {
                limit: Arc::clone(self),
            })
    }
}

/// One of the things; dropping it gives its place back.
#[derive(Debug)]
pub struct Permit {
    limit: Arc<Limit>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.current.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_permits_are_out_than_the_maximum_however_many_threads_ask() {
        let limit = Limit::new(7);
        let peak = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if let Some(_permit) = limit.acquire() {
                            peak.fetch_max(limit.current(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(limit.current(), 0);
        assert!(peak.load(Ordering::Relaxed) <= 7);
    }

    #[test]
    fn a_lowered_maximum_takes_effect_as_permits_come_back() {
        let limit = Limit::new(2);
        let (first, second) = (limit.acquire(), limit.acquire());
        limit.set_maximum(1);
        assert!(limit.current() > limit.maximum());
        drop(first);
        assert!(limit.acquire().is_none());
        drop(second);
        assert!(limit.acquire().is_some());
    }
}
