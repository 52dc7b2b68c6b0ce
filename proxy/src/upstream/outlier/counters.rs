//! What counts as an error of an endpoint, and how many came in a row.
//!
//! The counts are Envoy's (`source/common/upstream/outlier_detection_impl.cc`): a status of 500 to 599 counts as an error,
//! 502 to 504 as a gateway error too; what failed on the way to the endpoint counts as 503 or 504, or, where local errors
//! are split off, on a count of its own. A list of statuses takes the place of 500 to 599 for answers, and for nothing else.
//!
//! One thing is ours: an answer of any status begins the split count anew. Envoy begins it anew with every request that got a
//! connection, so that resets and timeouts behind one never add up.

use std::sync::atomic::{AtomicU32, Ordering};

use tsunagi_proto::model::OutlierDetection;

/// What one request says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Status(u16),
    /// All that TCP can tell of success.
    Connected,
    /// A request has a connection; told in Envoy's mode only.
    Acquired,
    ConnectFailure,
    Timeout,
    /// The connection or the stream broke before the response's head.
    Reset,
}

/// Why an endpoint is an outlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Consecutive5xx,
    ConsecutiveGatewayErrors,
    ConsecutiveLocalOrigin,
    /// The one request that was to say whether it is well again.
    FailedProbe,
}

impl Cause {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayErrors => "consecutive_gateway_errors",
            Self::ConsecutiveLocalOrigin => "consecutive_local_origin",
            Self::FailedProbe => "failed_probe",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Success,
    Error { gateway: bool },
    LocalOrigin,
}

fn verdict(detection: &OutlierDetection, outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Status(status) if is_error(detection, status) => Verdict::Error {
            gateway: (502..=504).contains(&status),
        },
        Outcome::Status(_) | Outcome::Connected | Outcome::Acquired => Verdict::Success,
        Outcome::ConnectFailure | Outcome::Timeout | Outcome::Reset if detection.split_local_origin_errors => {
            Verdict::LocalOrigin
        }
        Outcome::ConnectFailure | Outcome::Timeout | Outcome::Reset => Verdict::Error { gateway: true },
    }
}

fn is_error(detection: &OutlierDetection, status: u16) -> bool {
    match detection.error_statuses.as_slice() {
        [] => (500..600).contains(&status),
        listed => listed.contains(&status),
    }
}

/// Does the outcome count towards a threshold that is on?
pub(super) fn is_failure(detection: &OutlierDetection, outcome: Outcome) -> bool {
    match verdict(detection, outcome) {
        Verdict::Success => false,
        Verdict::LocalOrigin => detection.consecutive_local_origin_failures.is_some(),
        Verdict::Error { gateway } => {
            detection.consecutive_5xx.is_some() || (gateway && detection.consecutive_gateway_errors.is_some())
        }
    }
}

/// Errors in a row.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Counters {
    any: AtomicU32,
    gateway: AtomicU32,
    local_origin: AtomicU32,
}

/// The thresholds that one outcome reached, in the order in which Envoy looks at them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::upstream) struct Reached(pub [Option<Cause>; 2]);

impl Reached {
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    pub fn causes(self) -> impl Iterator<Item = Cause> {
        self.0.into_iter().flatten()
    }
}

impl Counters {
    pub fn count(&self, detection: &OutlierDetection, outcome: Outcome) -> Reached {
        let verdict = verdict(detection, outcome);
        if detection.split_local_origin_errors && begins_local_anew(detection, outcome) {
            clear(&self.local_origin);
        }
        match (verdict, outcome) {
            // It says something of the way to the endpoint only.
            (Verdict::Success, Outcome::Acquired) => Reached::default(),
            (Verdict::Success, Outcome::Connected) if detection.split_local_origin_errors => Reached::default(),
            (Verdict::Success, _) => {
                clear(&self.any);
                clear(&self.gateway);
                Reached::default()
            }
            (Verdict::LocalOrigin, _) => {
                let reached = reaches(&self.local_origin, detection.consecutive_local_origin_failures);
                Reached([reached.then_some(Cause::ConsecutiveLocalOrigin), None])
            }
            (Verdict::Error { gateway }, _) => {
                let gateway = if gateway {
                    reaches(&self.gateway, detection.consecutive_gateway_errors)
                } else {
                    clear(&self.gateway);
                    false
                };
                let any = reaches(&self.any, detection.consecutive_5xx);
                Reached([
                    gateway.then_some(Cause::ConsecutiveGatewayErrors),
                    any.then_some(Cause::Consecutive5xx),
                ])
            }
        }
    }

    pub fn clear(&self) {
        [&self.any, &self.gateway, &self.local_origin]
            .into_iter()
            .for_each(clear);
    }

    #[cfg(test)]
    pub fn consecutive_5xx(&self) -> u32 {
        self.any.load(Ordering::Relaxed)
    }
}

fn begins_local_anew(detection: &OutlierDetection, outcome: Outcome) -> bool {
    match outcome {
        Outcome::Connected | Outcome::Acquired => true,
        Outcome::Status(_) => !detection.as_envoy,
        Outcome::ConnectFailure | Outcome::Timeout | Outcome::Reset => false,
    }
}

/// A plain load keeps the cache line shared while all is well.
fn clear(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Relaxed);
    }
}

/// Adds one; at the threshold the count begins anew, whether or not the endpoint may be ejected.
fn reaches(counter: &AtomicU32, threshold: Option<u32>) -> bool {
    let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
    let reached = threshold.is_some_and(|threshold| count >= threshold);
    if reached {
        counter.store(0, Ordering::Relaxed);
    }
    reached
}
