//! Who is ejected, for how long, and who returns: steps of a state machine that reads no clock and tells nobody. What
//! happened is returned, for `report` to say and for simulations to compare.
//!
//! Called with the members of the last publish and under the cluster's lock, so that there is one ejection at a time.
//! The steps are Envoy's (`source/common/upstream/outlier_detection_impl.cc`). Ours, unless the policy asks for Envoy's: of
//! a small pool at least one may go and the last never does; an ejected endpoint is probed by one request before it gets
//! its share, and early when the only endpoint that is left fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tsunagi_proto::model::OutlierDetection;

use super::counters::{Cause, Outcome, Reached, is_failure};
use super::health::{Health, Standing, ejection_time};
use crate::upstream::{Endpoint, Members};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    Ejected {
        cause: Cause,
        time: Duration,
        ejections: u32,
    },
    /// It fails, and the pool cannot spare it. `first`: since it was last well.
    Kept { cause: Cause, first: bool },
    /// Its time is over.
    AwaitsProbe,
    Returned {
        reason: Return,
        /// Since it was ejected.
        after: Duration,
    },
}

/// Why an endpoint has its share again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    Probe,
    /// Its time was over, in Envoy's mode.
    Time,
    /// The pool has become too small to spare it.
    Needed,
    /// Detection was turned off.
    NoDetection,
}

impl Return {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Time => "time",
            Self::Needed => "needed",
            Self::NoDetection => "no_detection",
        }
    }
}

/// How one request went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub outcome: Outcome,
    pub reached: Reached,
    /// The request was to say whether the endpoint is well again.
    pub probe: bool,
}

/// How many the pool has, and how many of them get no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pool {
    total: usize,
    ejected: usize,
}

impl Pool {
    fn of(members: &Members) -> Self {
        let ejected = endpoints(members)
            .filter(|endpoint| endpoint.health.is_ejected())
            .count();
        Self {
            total: endpoints(members).count(),
            ejected,
        }
    }

    fn can_spare_another(self, detection: &OutlierDetection) -> bool {
        let within = (self.ejected + 1) * 100 <= self.total * detection.max_ejection_percent as usize;
        if detection.as_envoy {
            return within;
        }
        (within || self.ejected == 0) && self.total - self.ejected > 1
    }

    /// How many may stay without a share. A percentage that was lowered is meant; that a deployment makes the pool smaller
    /// for a while is no reason to send requests to those that fail.
    fn spares(self, before: Option<&OutlierDetection>, detection: &OutlierDetection) -> usize {
        let all_but_one = self.total.saturating_sub(1);
        let lowered = before.is_some_and(|before| before.max_ejection_percent > detection.max_ejection_percent);
        if !lowered {
            return all_but_one;
        }
        let within = self.total * detection.max_ejection_percent as usize / 100;
        within.max(1).min(all_but_one)
    }
}

/// Those that outlier detection judges: the ones told unhealthy or draining get no share anyway.
fn endpoints(members: &Members) -> impl Iterator<Item = &Arc<Endpoint>> {
    members.list.iter().map(|member| &member.endpoint)
}

/// A request has said something of the endpoint that may change its standing.
pub(super) fn judge(
    members: &Members,
    detection: &OutlierDetection,
    endpoint: &Arc<Endpoint>,
    seen: Seen,
    now: Instant,
    tell: &mut impl FnMut(&Endpoint, Event),
) {
    // It may have left meanwhile.
    if !endpoints(members).any(|member| Arc::ptr_eq(member, endpoint)) {
        return;
    }
    let health = &endpoint.health;
    match health.standing() {
        Standing::Healthy => {
            let probe = seen.probe && has_just_returned(health, detection, now);
            let probe = probe.then_some(Cause::FailedProbe);
            for cause in seen.reached.causes().chain(probe) {
                if health.is_healthy() {
                    consider(members, detection, endpoint, cause, now, tell);
                }
            }
        }
        Standing::AwaitingProbe | Standing::Probing => {
            if !is_failure(detection, seen.outcome) {
                // In a panic, requests reach it that are no probes, and prove as much.
                endpoint.begin_warmup(now);
                tell(endpoint, give_share(health, Return::Probe, now));
            } else if seen.probe {
                fail_probe(detection, endpoint, now, tell);
            }
        }
        Standing::Ejected => {}
    }
    members.renew_shares();
}

/// Its probe began well: how it ends still decides, for as long as an ejection lasts.
fn has_just_returned(health: &Health, detection: &OutlierDetection, now: Instant) -> bool {
    let returned = health.history().returned_at;
    returned.is_some_and(|at| now.saturating_duration_since(at) < detection.base_ejection_time)
}

fn consider(
    members: &Members,
    detection: &OutlierDetection,
    endpoint: &Arc<Endpoint>,
    cause: Cause,
    now: Instant,
    tell: &mut impl FnMut(&Endpoint, Event),
) {
    let pool = Pool::of(members);
    if pool.can_spare_another(detection) {
        tell(endpoint, eject(&endpoint.health, detection, cause, now));
        return;
    }
    let first = endpoint.health.keep(cause);
    tell(endpoint, Event::Kept { cause, first });
    if !detection.as_envoy && pool.ejected + 1 == pool.total {
        probe_early(members);
    }
}

/// The only one with a share fails: whoever has rested longest may be better, and cannot be worse.
fn probe_early(members: &Members) {
    let resting = endpoints(members).filter(|endpoint| endpoint.health.standing() == Standing::Ejected);
    if let Some(endpoint) = resting.min_by_key(|endpoint| endpoint.health.history().ejected_at) {
        endpoint.health.await_probe(true);
    }
}

fn fail_probe(
    detection: &OutlierDetection,
    endpoint: &Endpoint,
    now: Instant,
    tell: &mut impl FnMut(&Endpoint, Event),
) {
    let health = &endpoint.health;
    let early = !health.history().is_over(detection, now);
    if early {
        // It would have rested anyway: that changes nothing.
        health.stand(Standing::Ejected);
    } else {
        tell(endpoint, eject(health, detection, Cause::FailedProbe, now));
    }
}

fn eject(health: &Health, detection: &OutlierDetection, cause: Cause, now: Instant) -> Event {
    let mut history = health.history();
    history.ejected_at = Some(now);
    history.cause = Some(cause);
    history.ejections = history.ejections.saturating_add(1);
    history.probing_since = None;
    let (base, max) = (detection.base_ejection_time, detection.max_ejection_time);
    if base.saturating_mul(history.multiplier) < max.saturating_add(base) {
        history.multiplier += 1;
    }
    health.stand(Standing::Ejected);
    health.clear_counters();
    Event::Ejected {
        cause,
        time: ejection_time(detection, history.multiplier),
        ejections: history.ejections,
    }
}

fn give_share(health: &Health, reason: Return, now: Instant) -> Event {
    let mut history = health.history();
    let since = history.ejected_at.take();
    history.returned_at = Some(now);
    history.probing_since = None;
    health.clear_counters();
    health.stand(Standing::Healthy);
    Event::Returned {
        reason,
        after: since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at)),
    }
}

/// Once an interval: those whose time is over may be probed (Envoy's: return), and the time of healthy ones shrinks.
pub(super) fn sweep(
    detection: &OutlierDetection,
    members: &Members,
    now: Instant,
    tell: &mut impl FnMut(&Endpoint, Event),
) {
    for endpoint in endpoints(members) {
        if let Some(event) = sweep_one(&endpoint.health, detection, now) {
            tell(endpoint, event);
        }
    }
    members.renew_shares();
}

fn sweep_one(health: &Health, detection: &OutlierDetection, now: Instant) -> Option<Event> {
    let standing = health.standing();
    if standing == Standing::Healthy {
        shrink(health, detection, now);
        return None;
    }
    if !health.history().is_over(detection, now) {
        return None;
    }
    if detection.as_envoy {
        return Some(give_share(health, Return::Time, now));
    }
    match standing {
        Standing::Ejected => return health.await_probe(false).then_some(Event::AwaitsProbe),
        Standing::AwaitingProbe => health.set_overdue(),
        Standing::Probing => replace_probe(health, detection, now),
        Standing::Healthy => {}
    }
    None
}

fn shrink(health: &Health, detection: &OutlierDetection, now: Instant) {
    let mut history = health.history();
    let settled = |at: Instant| now.saturating_duration_since(at) >= detection.interval;
    if history.multiplier > 0 && history.returned_at.is_none_or(settled) {
        history.multiplier -= 1;
    }
}

/// A probe that has no answer for as long as an ejection lasts is one that may never have: another may try.
fn replace_probe(health: &Health, detection: &OutlierDetection, now: Instant) {
    let mut history = health.history();
    let since = *history.probing_since.get_or_insert(now);
    if now.saturating_duration_since(since) >= detection.base_ejection_time {
        history.probing_since = None;
        health.abandon_probe();
    }
}

/// A push has changed the policy or the members: nobody stays ejected whom the pool cannot spare any more.
pub(super) fn settle(
    before: Option<&OutlierDetection>,
    detection: Option<&OutlierDetection>,
    members: &Members,
    now: Instant,
    tell: &mut impl FnMut(&Endpoint, Event),
) {
    let Some(detection) = detection else {
        for endpoint in endpoints(members) {
            if endpoint.health.is_ejected() {
                tell(endpoint, give_share(&endpoint.health, Return::NoDetection, now));
            }
            if before.is_some() {
                endpoint.health.clear_counters();
                endpoint.health.history().multiplier = 0;
            }
        }
        return;
    };
    let pool = Pool::of(members);
    let excess = pool.ejected.saturating_sub(pool.spares(before, detection));
    if detection.as_envoy || excess == 0 {
        return;
    }
    let mut ejected: Vec<_> = endpoints(members)
        .filter(|endpoint| endpoint.health.is_ejected())
        .map(|endpoint| (endpoint.health.history().ejected_at, endpoint))
        .collect();
    ejected.sort_by_key(|(at, _)| *at);
    for (_, endpoint) in ejected.into_iter().take(excess) {
        tell(endpoint, give_share(&endpoint.health, Return::Needed, now));
    }
}
