//! How many retries may be in flight to a cluster: `maxRetries` where the user set it, else 20 % of the requests in
//! flight and at least 3 (Envoy's retry budget), so that retries cannot bring a struggling service down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::limits::{Limit, Permit};

const BUDGET_PERCENT: u32 = 20;
const MINIMUM_CONCURRENCY: u32 = 3;
const UNSET: u32 = 0;

#[derive(Debug)]
pub struct RetryBudget {
    retries: Arc<Limit>,
    maximum: AtomicU32,
}

impl RetryBudget {
    pub fn new(maximum: Option<u32>) -> Self {
        Self {
            retries: Limit::new(u32::MAX),
            maximum: AtomicU32::new(maximum.unwrap_or(UNSET)),
        }
    }

    pub fn set_maximum(&self, maximum: Option<u32>) {
        self.maximum.store(maximum.unwrap_or(UNSET), Ordering::Relaxed);
    }

    /// For the first repeat of a request that got no answer at all: when one of three endpoints goes, a fifth is too little
    /// (for that reason Istio has no limit), and one repeat each cannot become a storm. A maximum that the user set holds
    /// all the same.
    pub fn acquire_unanswered(&self, requests_in_flight: u32) -> Option<Permit> {
        match self.maximum.load(Ordering::Relaxed) {
            UNSET => self.retries.acquire(),
            _ => self.acquire(requests_in_flight),
        }
    }

    /// `requests_in_flight` is what the percentage is taken of.
    pub fn acquire(&self, requests_in_flight: u32) -> Option<Permit> {
        let maximum = match self.maximum.load(Ordering::Relaxed) {
            UNSET => (requests_in_flight.saturating_mul(BUDGET_PERCENT) / 100).max(MINIMUM_CONCURRENCY),
            maximum => maximum,
        };
        self.retries.acquire_below(maximum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_fifth_of_the_requests_in_flight_and_at_least_three() {
        let budget = RetryBudget::new(None);
        let held: Vec<_> = (0..10).filter_map(|_| budget.acquire(5)).collect();
        assert_eq!(held.len(), 3);
        drop(held);
        let held: Vec<_> = (0..100).filter_map(|_| budget.acquire(100)).collect();
        assert_eq!(held.len(), 20);
    }

    #[test]
    fn a_maximum_that_the_user_set_replaces_the_budget() {
        let budget = RetryBudget::new(Some(1));
        let held = budget.acquire(1000);
        assert!(held.is_some() && budget.acquire(1000).is_none());
    }

    #[test]
    fn what_got_no_answer_is_beyond_the_budget_but_not_beyond_a_maximum_that_was_set() {
        let budget = RetryBudget::new(None);
        let held: Vec<_> = (0..100).filter_map(|_| budget.acquire_unanswered(5)).collect();
        assert_eq!(held.len(), 100);
        assert!(budget.acquire(5).is_none());
        let limited = RetryBudget::new(Some(2));
        let held: Vec<_> = (0..10).filter_map(|_| limited.acquire_unanswered(5)).collect();
        assert_eq!(held.len(), 2);
    }
}
