//! How much of a cluster's requests each group of its endpoints gets. Called by `cluster` when endpoints came, went, were
//! ejected or returned; a request only draws.
//!
//! Levels are Envoy's priorities (`source/extensions/load_balancing_policies/common/load_balancer_impl.cc`): a level is as
//! healthy as min(100, 140 * healthy / all) percent, the first takes as much as it is healthy, the next of the rest. Where
//! all together are less than 100 % healthy, health is ignored in each level of which less than the panic threshold is.
//! Groups within a level share by weight and health (locality weights), or by zones (`ZoneAwareLoadBalancerBase`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::locality::{Level, Split, Zones};

/// A level with so many percent more endpoints than it needs is not less healthy for the loss of these.
const OVERPROVISIONED_PERCENT: u64 = 140;

/// Endpoints of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub healthy: u64,
    /// With those that were healthy once.
    pub serving: u64,
    pub total: u64,
}

/// What a group gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Of 1.
    pub share: f64,
    /// Health is ignored.
    pub panic: bool,
}

/// A load for each group. The shares are 1 in all, wherever there is an endpoint or not.
pub(super) fn loads(levels: &[Level], counts: &[Count], panic_percent: u32) -> Vec<Load> {
    let of_level = |level: &Level| counts.get(level.groups.clone()).unwrap_or_default();
    let whole: Vec<Count> = levels.iter().map(|level| sum(of_level(level))).collect();
    let health: Vec<u64> = whole.iter().map(health).collect();
    let available = health.iter().sum::<u64>().min(100);
    // Whether there is a panic is a question of all that are told.
    let is_enough = whole
        .iter()
        .map(|count| of_all(count.healthy, count.total))
        .sum::<u64>()
        >= 100;
    let panics: Vec<bool> = whole
        .iter()
        .map(|count| !is_enough && count.healthy * 100 < u64::from(panic_percent) * count.total)
        .collect();
    let is_total_panic = panic_percent > 0
        && whole
            .iter()
            .zip(&panics)
            .all(|(count, panic)| *panic || count.total == 0);
    let percents = if is_total_panic {
        let all: u64 = whole.iter().map(|count| count.total).sum();
        let mut of_all = whole
            .iter()
            .map(|count| (count.total * 100).checked_div(all).unwrap_or_default());
        rounded(&mut of_all)
    } else {
        let mut rest = 100;
        let mut taken = health.iter().map(|health| {
            let taken = (health * 100).checked_div(available).unwrap_or_default().min(rest);
            rest -= taken;
            taken
        });
        rounded(&mut taken)
    };
    let mut loads = Vec::with_capacity(counts.len());
    for ((level, percent), panic) in levels.iter().zip(percents).zip(panics) {
        let counts = of_level(level);
        let parts = if panic {
            proportional(counts.iter().map(|count| count.total as f64).collect())
        } else {
            parts(&level.split, counts)
        };
        let share = |part: f64| part * percent as f64 / 100.0;
        loads.extend(parts.into_iter().map(|part| Load {
            share: share(part),
            panic,
        }));
    }
    loads
}

fn sum(counts: &[Count]) -> Count {
    counts.iter().fold(Count::default(), |sum, count| Count {
        healthy: sum.healthy + count.healthy,
        serving: sum.serving + count.serving,
        total: sum.total + count.total,
    })
}

/// In percent.
fn health(count: &Count) -> u64 {
    of_all(count.healthy, count.serving)
}

fn of_all(healthy: u64, all: u64) -> u64 {
    let health = (OVERPROVISIONED_PERCENT * healthy).checked_div(all);
    health.unwrap_or_default().min(100)
}

/// What whole percents leave over goes to the first that has any, else to the first.
fn rounded(percents: &mut dyn Iterator<Item = u64>) -> Vec<u64> {
    let mut percents: Vec<u64> = percents.collect();
    let rest = 100 - percents.iter().sum::<u64>().min(100);
    let first = percents.iter().position(|percent| *percent > 0).unwrap_or_default();
    if let Some(percent) = percents.get_mut(first) {
        *percent += rest;
    }
    percents
}

/// Of a level, in all 1.
fn parts(split: &Split, counts: &[Count]) -> Vec<f64> {
    match split {
        Split::Whole => vec![1.0; counts.len().min(1)],
        Split::Weights(weights) => {
            let weighed = |(weight, count): (&u32, &Count)| f64::from(*weight) * health(count) as f64;
            proportional(weights.iter().zip(counts).map(weighed).collect())
        }
        Split::Zones(zones) => of_zones(zones, counts),
    }
}

fn proportional(weights: Vec<f64>) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let count = weights.len().max(1) as f64;
    let part = |weight: f64| if total > 0.0 { weight / total } else { 1.0 / count };
    weights.into_iter().map(part).collect()
}

/// The own locality gets all requests where it has at least as large a part of the endpoints as of the callers, else as
/// many as keep the load of every endpoint the same when all callers do so; others get the rest by what they have more
/// endpoints than callers.
fn of_zones(zones: &Zones, counts: &[Count]) -> Vec<f64> {
    let healthy: u64 = counts.iter().map(|count| count.healthy).sum();
    let by_health = || proportional(counts.iter().map(|count| count.healthy as f64).collect());
    let are_several = counts.iter().filter(|count| count.healthy > 0).count() >= 2;
    if healthy < zones.min_cluster_size || !are_several || zones.all_peers == 0 {
        return by_health();
    }
    let upstream = |index: usize| {
        counts
            .get(index)
            .map_or(0.0, |count| count.healthy as f64 / healthy as f64)
    };
    let callers =
        |index: usize| f64::from(zones.peers.get(index).copied().unwrap_or_default()) / zones.all_peers as f64;
    let own = |index: usize| zones.own == Some(index);
    let direct = match zones.own {
        Some(own) if callers(own) > 0.0 => (upstream(own) / callers(own)).min(1.0),
        _ => 0.0,
    };
    let residual = |index: usize| {
        if own(index) {
            0.0
        } else {
            (upstream(index) - callers(index)).max(0.0)
        }
    };
    let capacity: f64 = (0..counts.len()).map(residual).sum();
    if capacity <= 0.0 && direct < 1.0 {
        return by_health();
    }
    let part = |index: usize| match own(index) {
        true => direct,
        false if capacity > 0.0 => (1.0 - direct) * residual(index) / capacity,
        false => 0.0,
    };
    (0..counts.len()).map(part).collect()
}

/// The shares in force: written when health changes, read by every request.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// Where each group ends on the line from 0 to the largest number.
    ends: Box<[AtomicU64]>,
    panics: Box<[AtomicBool]>,
    /// Those who renew them take turns, so that what was read last is written last.
    renewing: Mutex<()>,
}

impl Shares {
    pub(super) fn new(groups: usize) -> Self {
        Self {
            ends: (0..groups).map(|_| AtomicU64::new(u64::MAX)).collect(),
            panics: (0..groups).map(|_| AtomicBool::new(false)).collect(),
            renewing: Mutex::new(()),
        }
    }

    /// `loads` looks at health.
    pub(super) fn renew(&self, loads: impl FnOnce() -> Vec<Load>) {
        let _turn = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let loads = loads();
        let last = loads.iter().rposition(|load| load.share > 0.0).unwrap_or_default();
        let mut end = 0.0;
        for (index, load) in loads.iter().enumerate().take(self.ends.len()) {
            end += load.share;
            // Sums of fractions may end just below 1.
            let point = if index >= last {
                u64::MAX
            } else {
                (end * 2f64.powi(64)) as u64
            };
            self.ends[index].store(point, Ordering::Relaxed);
            self.panics[index].store(load.panic, Ordering::Relaxed);
        }
    }

    /// The group whose turn it is; `point` is any number, each as likely.
    pub(super) fn pick(&self, point: u64) -> usize {
        let point = point.min(u64::MAX - 1);
        let mut ends = self.ends.iter().take(self.ends.len().saturating_sub(1));
        // While they are renewed the ends may be out of order: that makes one share another for an instant.
        ends.position(|end| point < end.load(Ordering::Relaxed))
            .unwrap_or_else(|| self.ends.len().saturating_sub(1))
    }

    pub(super) fn is_panic(&self, group: usize) -> bool {
        self.panics
            .get(group)
            .is_some_and(|panic| panic.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
