//! How many retries may be in flight to a cluster, so that retries cannot bring a struggling service down: `retryBudget`
//! where the user set it, else `maxRetries` where that is set (Envoy's precedence), else, for retries that no rule asks for,
//! 20 % of the requests in flight and at least 3 (Envoy's default budget). Asked by `http::retry`; each request to the cluster is counted here.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tsunagi_proto::model;

use crate::limits::{Limit, Permit};

const DEFAULT: model::RetryBudget = model::RetryBudget {
    percent: 20.0,
    min_retry_concurrency: 3,
    interval: None,
};

#[derive(Debug)]
pub struct RetryBudget {
    retries: Arc<Limit>,
    /// Looked at for retries only, which are rare.
    rule: Mutex<Rule>,
    recent: Recent,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Maximum(u32),
    Budget(model::RetryBudget),
    /// The user has said nothing.
    Unset,
}

impl Rule {
    fn of(policy: &model::Cluster) -> Self {
        match (policy.retry_budget, policy.connection_pool.max_retries) {
            (Some(budget), _) => Self::Budget(budget),
            (None, Some(maximum)) => Self::Maximum(maximum),
            (None, None) => Self::Unset,
        }
    }
}

impl RetryBudget {
    pub fn new(policy: &model::Cluster) -> Self {
        let budget = Self {
            retries: Limit::new(u32::MAX),
            rule: Mutex::new(Rule::Unset),
            recent: Recent::new(),
        };
        budget.set(policy);
        budget
    }

    pub fn set(&self, policy: &model::Cluster) {
        *self.rule() = Rule::of(policy);
        let interval = policy.retry_budget.and_then(|budget| budget.interval);
        self.recent.set_interval(interval);
    }

    fn rule(&self) -> MutexGuard<'_, Rule> {
        self.rule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins.
    pub fn count_request(&self) {
        self.recent.count(Instant::now);
    }

    /// For a retry that the user asked for, and for the first repeat of a request that got no answer at all: when one of three
    /// endpoints goes, a fifth is too little (for that reason Istio has no limit), and one repeat each cannot become a storm.
    /// What the user set holds all the same.
    pub fn acquire_unless_limited(&self, requests_in_flight: u32) -> Option<Permit> {
        let rule = *self.rule();
        match rule {
            Rule::Unset => self.retries.acquire(),
            Rule::Maximum(_) | Rule::Budget(_) => self.acquire_by(rule, requests_in_flight),
        }
    }

    /// `requests_in_flight` is what the percentage is taken of: sent ones and those that wait.
    pub fn acquire(&self, requests_in_flight: u32) -> Option<Permit> {
        let rule = *self.rule();
        self.acquire_by(rule, requests_in_flight)
    }

    fn acquire_by(&self, rule: Rule, requests_in_flight: u32) -> Option<Permit> {
        let maximum = match rule {
            Rule::Maximum(maximum) => maximum,
            Rule::Budget(budget) => {
                let recent = self.recent.sum(Instant::now());
                share(&budget, u64::from(requests_in_flight).max(recent))
            }
            Rule::Unset => share(&DEFAULT, requests_in_flight.into()),
        };
        self.retries.acquire_below(maximum)
    }
}

fn share(budget: &model::RetryBudget, requests: u64) -> u32 {
    let share = budget.percent / 100.0 * requests as f64;
    (share as u32).max(budget.min_retry_concurrency)
}

/// Parts that the interval is counted in: what is older by one part too much still counts at most.
const PARTS: u64 = 16;

/// How many requests have begun within the last `budgetInterval`. Each part's number and count are one word.
#[derive(Debug)]
struct Recent {
    epoch: Instant,
    /// 0: nothing is counted.
    part_nanos: AtomicU64,
    parts: [AtomicU64; PARTS as usize],
}

impl Recent {
    fn new() -> Self {
        Self {
            epoch: Instant::now(),
            part_nanos: AtomicU64::new(0),
            parts: Default::default(),
        }
    }

    fn set_interval(&self, interval: Option<Duration>) {
        let nanos = interval.map_or(0, |interval| u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        let part = nanos.div_ceil(PARTS);
        if self.part_nanos.swap(part, Ordering::Relaxed) != part {
            self.parts.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }

    /// From 1.
    fn part(&self, now: Instant) -> Option<u32> {
        let nanos = self.part_nanos.load(Ordering::Relaxed);
        let since = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        let part = since.checked_div(nanos)?;
        Some((part as u32).wrapping_add(1))
    }

    fn count(&self, now: impl FnOnce() -> Instant) {
        if self.part_nanos.load(Ordering::Relaxed) == 0 {
            return;
        }
        let Some(part) = self.part(now()) else { return };
        let add = |word: u64| {
            let (number, count) = ((word >> 32) as u32, word as u32);
            let count = if number == part { count.saturating_add(1) } else { 1 };
            Some(u64::from(part) << 32 | u64::from(count))
        };
        let word = &self.parts[(u64::from(part) % PARTS) as usize];
        // It never declines.
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    fn sum(&self, now: Instant) -> u64 {
        let Some(part) = self.part(now) else { return 0 };
        let words = self.parts.iter().map(|word| word.load(Ordering::Relaxed));
        let recent = |word: &u64| u64::from(part.wrapping_sub((word >> 32) as u32)) < PARTS;
        words.filter(recent).map(|word| u64::from(word as u32)).sum()
    }
}

#[cfg(test)]
mod tests {
    use tsunagi_proto::model::LoadBalancer;

    use super::*;
    use crate::upstream::testing;

    fn policy(max_retries: Option<u32>, retry_budget: Option<model::RetryBudget>) -> model::Cluster {
        let mut policy = model::Cluster::clone(&testing::policy(LoadBalancer::RoundRobin, None));
        policy.connection_pool.max_retries = max_retries;
        policy.retry_budget = retry_budget;
        policy
    }

    fn budget(max_retries: Option<u32>, retry_budget: Option<model::RetryBudget>) -> RetryBudget {
        RetryBudget::new(&policy(max_retries, retry_budget))
    }

    fn of(percent: f64, min_retry_concurrency: u32) -> Option<model::RetryBudget> {
        Some(model::RetryBudget {
            percent,
            min_retry_concurrency,
            interval: None,
        })
    }

    /// How many retries are allowed at once.
    fn room(budget: &RetryBudget, requests_in_flight: u32) -> usize {
        let held: Vec<_> = (0..1000).map_while(|_| budget.acquire(requests_in_flight)).collect();
        held.len()
    }

    #[test]
    fn the_budget_is_a_fifth_of_the_requests_in_flight_and_at_least_three() {
        let budget = budget(None, None);
        assert_eq!((room(&budget, 5), room(&budget, 100)), (3, 20));
    }

    #[test]
    fn a_maximum_that_the_user_set_replaces_the_budget() {
        assert_eq!(room(&budget(Some(1), None), 1000), 1);
    }

    #[test]
    fn a_budget_that_the_user_set_counts_whatever_the_maximum_says() {
        for maximum in [None, Some(1), Some(900)] {
            let budget = budget(maximum, of(50.0, 2));
            let found = [0, 4, 5, 7, 100].map(|in_flight| room(&budget, in_flight));
            assert_eq!(found, [2, 2, 2, 3, 50], "{maximum:?}");
        }
        assert_eq!(room(&budget(None, of(0.0, 1)), 1000), 1);
        assert_eq!(room(&budget(None, of(0.0, 0)), 1000), 0);
    }

    #[test]
    fn what_is_told_anew_counts_at_once() {
        let budget = budget(Some(1), None);
        budget.set(&policy(Some(1), of(10.0, 0)));
        assert_eq!(room(&budget, 50), 5);
        budget.set(&policy(Some(4), None));
        assert_eq!(room(&budget, 50), 4);
        budget.set(&policy(None, None));
        assert_eq!(room(&budget, 50), 10);
    }

    #[test]
    fn what_got_no_answer_is_beyond_the_default_but_not_beyond_what_was_set() {
        let default = budget(None, None);
        let held: Vec<_> = (0..100).filter_map(|_| default.acquire_unless_limited(5)).collect();
        assert_eq!(held.len(), 100);
        assert!(default.acquire(5).is_none());
        for limited in [budget(Some(2), None), budget(None, of(0.0, 2))] {
            let held: Vec<_> = (0..10).filter_map(|_| limited.acquire_unless_limited(5)).collect();
            assert_eq!(held.len(), 2);
        }
    }

    #[test]
    fn requests_that_began_within_the_interval_count_although_they_are_over() {
        let interval = Duration::from_secs(16);
        let recent = Recent::new();
        recent.set_interval(Some(interval));
        let second = |number: u64| recent.epoch + Duration::from_secs(number);
        for number in 0..40 {
            (0..3).for_each(|_| recent.count(|| second(number)));
            assert_eq!(recent.sum(second(number)), 3 * (number + 1).min(16), "{number}");
        }
        assert_eq!(recent.sum(second(47)), 3 * 8);
        assert_eq!(recent.sum(second(60)), 0);
        recent.set_interval(None);
        recent.count(|| unreachable!("the time is not asked for where nothing is counted"));
        assert_eq!(recent.sum(second(39)), 0);
    }

    #[test]
    fn the_interval_of_the_policy_is_counted() {
        let told = of(50.0, 0).map(|budget| model::RetryBudget {
            interval: Some(Duration::from_secs(3600)),
            ..budget
        });
        let budget = budget(None, told);
        (0..20).for_each(|_| budget.count_request());
        assert_eq!((room(&budget, 0), room(&budget, 60)), (10, 30));
    }
}
