//! Outlier detection: which endpoint gets no requests for a while.
//!
//! The counters, the sweep and the growing ejection time are Envoy's
//! (`source/common/upstream/outlier_detection_impl.cc`). Two things are ours: in a small pool at least one endpoint may be
//! ejected (never the last one), and an endpoint returns with a single probe request; only if that succeeds does it get
//! its share.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tsunagi_proto::model::OutlierDetection;

use super::cluster::Members;
use super::{ActiveRequest, Cluster, Endpoint};
use crate::telemetry::ClusterSeries;

const HEALTHY: u8 = 0;
const EJECTED: u8 = 1;
/// Its time is over: the next request that chooses it is the probe.
const PROBE_READY: u8 = 2;
const PROBING: u8 = 3;

/// What one request says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// All that TCP can tell of success.
    Connected,
    ConnectFailure,
    Timeout,
    /// The connection broke before the response's head.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EjectionCause {
    Consecutive5xx,
    ConsecutiveGatewayErrors,
    ConsecutiveLocalOrigin,
}

impl EjectionCause {
    fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayErrors => "consecutive_gateway_errors",
            Self::ConsecutiveLocalOrigin => "consecutive_local_origin",
        }
    }

    fn counter(self, series: &ClusterSeries) -> &metrics::Counter {
        match self {
            Self::Consecutive5xx => &series.ejections_consecutive_5xx,
            Self::ConsecutiveGatewayErrors => &series.ejections_consecutive_gateway_errors,
            Self::ConsecutiveLocalOrigin => &series.ejections_consecutive_local_origin,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Health {
    state: AtomicU8,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_errors: AtomicU32,
    consecutive_local_origin: AtomicU32,
    /// It should have been ejected and the pool could not spare it; said once.
    spared: AtomicBool,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    /// Ejection lasts this many times the base.
    multiplier: u32,
    ejected_at: Option<Instant>,
    returned_at: Option<Instant>,
}

impl Health {
    pub fn is_healthy(&self) -> bool {
        self.state.load(Ordering::Acquire) == HEALTHY
    }

    /// Healthy, and its next ejection would last as long as a first one: time changes nothing.
    pub fn is_settled(&self) -> bool {
        self.is_healthy() && self.history().multiplier == 0
    }

    pub fn is_ejected(&self) -> bool {
        !self.is_healthy()
    }

    /// May a request choose the endpoint? A probe is still to be claimed.
    pub fn is_available(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), HEALTHY | PROBE_READY)
    }

    /// Claims the endpoint for one request: `Some(true)` makes that request the probe, `None` means that another
    /// request was faster.
    pub fn claim(&self) -> Option<bool> {
        match self
            .state
            .compare_exchange(PROBE_READY, PROBING, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => Some(true),
            Err(HEALTHY) => Some(false),
            Err(_) => None,
        }
    }

    /// The probe ended without a verdict: the next request probes.
    pub fn abandon_probe(&self) {
        let _ = self
            .state
            .compare_exchange(PROBING, PROBE_READY, Ordering::AcqRel, Ordering::Acquire);
    }

    pub fn clear(&self) {
        self.state.store(HEALTHY, Ordering::Release);
        self.reset_counters();
    }

    pub fn name(&self) -> &'static str {
        match self.state.load(Ordering::Acquire) {
            HEALTHY => "healthy",
            EJECTED => "ejected",
            PROBE_READY => "awaiting probe",
            _ => "probing",
        }
    }

    fn reset_counters(&self) {
        for counter in [
            &self.consecutive_5xx,
            &self.consecutive_gateway_errors,
            &self.consecutive_local_origin,
        ] {
            // A plain load keeps the cache line shared while all is well.
            if counter.load(Ordering::Relaxed) != 0 {
                counter.store(0, Ordering::Relaxed);
            }
        }
        if self.spared.load(Ordering::Relaxed) {
            self.spared.store(false, Ordering::Relaxed);
        }
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActiveRequest {
    /// Tells outlier detection how the request went. Called at most once an attempt.
    pub fn observe(&mut self, cluster: &Cluster, detection: Option<&OutlierDetection>, outcome: Outcome) {
        if matches!(outcome, Outcome::ConnectFailure) {
            self.endpoint.refused();
            cluster.wake();
        }
        let Some(detection) = detection else { return };
        let health = &self.endpoint.health;
        let cause = count(health, detection, outcome);
        let probe = std::mem::take(&mut self.probe);
        if probe && cause.is_none() && !is_failure(outcome) {
            health.state.store(HEALTHY, Ordering::Release);
            health.reset_counters();
            health.history().returned_at = Some(Instant::now());
            tracing::info!(cluster = cluster.name, endpoint = %self.endpoint.address, "the probe succeeded, endpoint returned");
        } else if probe {
            eject(
                cluster,
                detection,
                &self.endpoint,
                cause.unwrap_or(EjectionCause::Consecutive5xx),
                Instant::now(),
            );
        } else if let Some(cause) = cause
            && health.is_healthy()
        {
            consider(cluster, detection, &self.endpoint, cause, Instant::now());
        }
    }
}

fn is_failure(outcome: Outcome) -> bool {
    !matches!(outcome, Outcome::Connected | Outcome::Status(..500))
}

/// One step of the consecutive counters; a cause when a threshold is reached.
fn count(health: &Health, detection: &OutlierDetection, outcome: Outcome) -> Option<EjectionCause> {
    let status = match outcome {
        Outcome::Status(status) => {
            if detection.split_local_origin_errors {
                health.consecutive_local_origin.store(0, Ordering::Relaxed);
            }
            status
        }
        Outcome::Connected => {
            health.reset_counters();
            return None;
        }
        _ if detection.split_local_origin_errors => {
            return reaches(
                &health.consecutive_local_origin,
                detection.consecutive_local_origin_failures,
            )
            .then_some(EjectionCause::ConsecutiveLocalOrigin);
        }
        Outcome::ConnectFailure | Outcome::Reset => 503,
        Outcome::Timeout => 504,
    };
    if !(500..600).contains(&status) {
        health.reset_counters();
        return None;
    }
    let gateway = if (502..=504).contains(&status) {
        reaches(&health.consecutive_gateway_errors, detection.consecutive_gateway_errors)
    } else {
        health.consecutive_gateway_errors.store(0, Ordering::Relaxed);
        false
    };
    let any = reaches(&health.consecutive_5xx, detection.consecutive_5xx);
    match (gateway, any) {
        (true, _) => Some(EjectionCause::ConsecutiveGatewayErrors),
        (false, true) => Some(EjectionCause::Consecutive5xx),
        (false, false) => None,
    }
}

/// Adds one; at the threshold the counter starts anew, whether or not the endpoint may be ejected.
fn reaches(counter: &AtomicU32, threshold: Option<u32>) -> bool {
    let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let reached = threshold.is_some_and(|threshold| count >= threshold);
    if reached {
        counter.store(0, Ordering::Relaxed);
    }
    reached
}

/// Ejects if the pool can spare the endpoint.
fn consider(cluster: &Cluster, detection: &OutlierDetection, endpoint: &Endpoint, cause: EjectionCause, now: Instant) {
    cluster.with_members(|members| {
        if !endpoint.health.is_healthy() {
            return;
        }
        if can_spare(members, detection.max_ejection_percent) {
            eject(cluster, detection, endpoint, cause, now);
        } else if !endpoint.health.spared.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                cluster = cluster.name,
                endpoint = %endpoint.address,
                cause = cause.as_str(),
                "endpoint fails and is kept: maxEjectionPercent is reached, or it is the last healthy one"
            );
        }
    });
}

fn can_spare(members: &Members, max_ejection_percent: u32) -> bool {
    let total = members.list.len();
    let ejected = members
        .list
        .iter()
        .filter(|member| member.endpoint.health.is_ejected())
        .count();
    let allowed = ejected == 0 || (ejected + 1) * 100 <= total * max_ejection_percent as usize;
    allowed && total - ejected > 1
}

fn eject(cluster: &Cluster, detection: &OutlierDetection, endpoint: &Endpoint, cause: EjectionCause, now: Instant) {
    let health = &endpoint.health;
    let mut history = health.history();
    history.ejected_at = Some(now);
    if detection.base_ejection_time * history.multiplier < detection.max_ejection_time + detection.base_ejection_time {
        history.multiplier += 1;
    }
    let duration = ejection_time(detection, history.multiplier);
    drop(history);
    health.state.store(EJECTED, Ordering::Release);
    health.reset_counters();
    cluster.wake();
    cause.counter(&cluster.series).increment(1);
    tracing::warn!(cluster = cluster.name, endpoint = %endpoint.address, cause = cause.as_str(), ?duration, "endpoint ejected");
}

fn ejection_time(detection: &OutlierDetection, multiplier: u32) -> Duration {
    detection
        .base_ejection_time
        .saturating_mul(multiplier)
        .min(detection.max_ejection_time)
}

/// Once an interval: endpoints whose time is over wait for their probe, and the ejection time of healthy ones shrinks.
pub(super) fn sweep(detection: &OutlierDetection, members: &Members, cluster: &str, now: Instant) {
    for endpoint in members.list.iter().map(|member| &member.endpoint) {
        let health = &endpoint.health;
        let mut history = health.history();
        match health.state.load(Ordering::Acquire) {
            EJECTED => {
                let since = history
                    .ejected_at
                    .map_or(Duration::MAX, |at| now.saturating_duration_since(at));
                if since >= ejection_time(detection, history.multiplier) {
                    health.state.store(PROBE_READY, Ordering::Release);
                    tracing::info!(cluster, endpoint = %endpoint.address, "ejection time is over, awaiting a probe");
                }
            }
            HEALTHY => {
                let settled = |at: Instant| now.saturating_duration_since(at) >= detection.interval;
                if history.multiplier > 0 && history.returned_at.is_none_or(settled) {
                    history.multiplier -= 1;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
