//! Outlier detection: which endpoint gets no requests for a while. Requests tell it how they went; the cluster's sweep and
//! every push let it look again.
//!
//! Three rooms: `counters` counts errors in a row, `decision` ejects and lets return, `health` remembers. What is Envoy's
//! and what is ours on purpose stands in each.

mod counters;
mod decision;
mod health;
#[cfg(test)]
mod probe_tests;
mod report;
#[cfg(test)]
mod simulation_tests;
#[cfg(test)]
mod testing;

use std::time::Instant;

use tsunagi_proto::model::OutlierDetection;

pub use counters::{Cause, Outcome};
use decision::{Event, Seen};
pub(super) use health::Health;
pub use health::{EndpointHealth, Standing};

use super::cluster::Members;
use super::{ActiveRequest, Cluster, Endpoint};

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateOutcome {
    Whole,
    /// The endpoint broke off.
    BrokenOff,
    /// What its trailers say, as an HTTP status.
    Status(u16),
}

impl ActiveRequest {
    /// Tells outlier detection how the request went. Called at most once an attempt.
    pub fn observe(&mut self, cluster: &Cluster, detection: Option<&OutlierDetection>, outcome: Outcome) {
        if matches!(outcome, Outcome::ConnectFailure) {
            self.endpoint.refused();
            cluster.wake();
        }
        let Some(detection) = detection else { return };
        self.probed = std::mem::take(&mut self.probe);
        if let Some(seen) = count(&self.endpoint.health, detection, outcome, self.probed) {
            judge(cluster, detection, self, seen);
        }
    }

    /// Tells it that the request has a connection, where that counts.
    pub fn observe_acquired(&self, detection: Option<&OutlierDetection>) {
        if let Some(detection) = detection.filter(|it| it.as_envoy && it.split_local_origin_errors) {
            self.endpoint.health.counters.count(detection, Outcome::Acquired);
        }
    }

    /// Tells it how a response ended. An endpoint that breaks off every response fails, although each begins well: these
    /// errors have a count of their own, which only a whole response begins anew. (Envoy's begins anew with every head, and
    /// it does not read trailers.) `began`: what it was told of the head.
    pub fn observe_late(&self, cluster: &Cluster, detection: &OutlierDetection, began: Outcome, outcome: LateOutcome) {
        if let Some(seen) = count_late(&self.endpoint.health, detection, began, outcome, self.probed) {
            judge(cluster, detection, self, seen);
        }
    }

    /// It is the probe, and there is time yet to leave that to a request which can go elsewhere when it fails.
    pub fn is_hasty_probe(&self) -> bool {
        self.probe && !self.endpoint.health.is_overdue()
    }
}

impl Endpoint {
    /// Its standing, and why. `detection`: the policy in force.
    pub fn outlier_health(&self, detection: Option<&OutlierDetection>) -> EndpointHealth {
        self.health.read(detection)
    }
}

/// Counts, and says whether there is something to judge: in most cases there is not.
fn count(health: &Health, detection: &OutlierDetection, outcome: Outcome, probe: bool) -> Option<Seen> {
    let reached = health.counters.count(detection, outcome);
    let success = !counters::is_failure(detection, outcome);
    if success {
        health.forget_kept();
    }
    let seen = Seen {
        outcome,
        reached,
        probe,
    };
    match health.standing() {
        Standing::Healthy => (!reached.is_none()).then_some(seen),
        Standing::AwaitingProbe | Standing::Probing => (probe || success).then_some(seen),
        Standing::Ejected => None,
    }
}

/// `probed`: the request was the probe that the endpoint returned by.
fn count_late(
    health: &Health,
    detection: &OutlierDetection,
    began: Outcome,
    outcome: LateOutcome,
    probed: bool,
) -> Option<Seen> {
    if !detection.as_envoy && counters::is_failure(detection, began) {
        return None;
    }
    let (counters, outcome) = match (outcome, detection.as_envoy) {
        (LateOutcome::BrokenOff, true) => (&health.counters, Outcome::Reset),
        (LateOutcome::Whole | LateOutcome::Status(_), true) => return None,
        (LateOutcome::Whole, false) => {
            health.late.clear();
            return None;
        }
        (LateOutcome::BrokenOff, false) => (&health.late, Outcome::Reset),
        (LateOutcome::Status(status), false) => (&health.late, Outcome::Status(status)),
    };
    let reached = counters.count(detection, outcome);
    // A probe in between knows better.
    let probe = probed && health.is_healthy() && counters::is_failure(detection, outcome);
    (probe || !reached.is_none()).then_some(Seen {
        outcome,
        reached,
        probe,
    })
}

fn judge(cluster: &Cluster, detection: &OutlierDetection, request: &ActiveRequest, seen: Seen) {
    cluster.with_members(|members| {
        decision::judge(
            members,
            detection,
            &request.endpoint,
            seen,
            Instant::now(),
            &mut tell_of(cluster),
        );
    });
}

/// Once an interval, on the control thread.
pub(super) fn sweep(detection: &OutlierDetection, members: &Members, cluster: &Cluster, now: Instant) {
    decision::sweep(detection, members, now, &mut tell_of(cluster));
}

/// After each push, with the cluster's lock held. `before`: the policy until now.
pub(super) fn settle(
    before: Option<&OutlierDetection>,
    detection: Option<&OutlierDetection>,
    members: &Members,
    cluster: &Cluster,
) {
    decision::settle(before, detection, members, Instant::now(), &mut tell_of(cluster));
}

fn tell_of(cluster: &Cluster) -> impl FnMut(&Endpoint, Event) {
    |endpoint, event| {
        // Time has something to change from here on.
        cluster.wake();
        report::tell(&cluster.name, &cluster.series, endpoint, event);
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
