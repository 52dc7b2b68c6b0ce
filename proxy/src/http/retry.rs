//! Whether a failed attempt is repeated, and after how long.
//!
//! Conditions are Envoy's (`source/common/router/retry_state_impl.cc`): here for attempts without a response, in the policy
//! for those with one. Ours on purpose: where the user names no condition, what breaks off is repeated only if it provably
//! was not processed, or its method is idempotent; and a budget bounds the retries that no rule asks for.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use tsunagi_proto::model::RetryPolicy;

use super::forward::Failure;
use super::head::is_idempotent;
use crate::codec::{Known, ResponseHead};
use crate::limits::Permit;
use crate::telemetry::Flags;
use crate::upstream::{Cluster, Endpoint};

/// Requests that found their connection closed before anything was sent; the pool may hold several such.
const MAX_STALE: u32 = 32;
/// Ceiling of the backoff, in base intervals.
const BACKOFF_CEILING: u32 = 10;

static RATE_LIMITED: HeaderName = HeaderName::from_static("x-envoy-ratelimited");

pub struct Retries<'a> {
    policy: &'a RetryPolicy,
    cluster: &'a Cluster,
    idempotent: bool,
    made: u32,
    stale: u32,
    tried: Vec<Arc<Endpoint>>,
    permit: Option<Permit>,
    /// A retry was wanted and none was left.
    exhausted: bool,
    /// A retry was wanted and the budget did not allow it.
    overflowed: bool,
}

impl<'a> Retries<'a> {
    pub fn new(policy: &'a RetryPolicy, cluster: &'a Cluster, method: &Method) -> Self {
        Self {
            policy,
            cluster,
            idempotent: is_idempotent(method),
            made: 0,
            stale: 0,
            tried: Vec::new(),
            permit: None,
            exhausted: false,
            overflowed: false,
        }
    }

    /// Does the policy need the body kept? An endpoint may refuse a request after the body was begun: an HTTP/2 stream, or
    /// the whole of it where the endpoint's sidecar finds no application (which is no reason for a second try inbound).
    pub fn keeps_body(policy: &RetryPolicy, method: &Method, http2: bool) -> bool {
        policy.attempts > 0 && (policy.on.explicit || http2 || policy.on.connect_failure || is_idempotent(method))
    }

    /// An attempt failed: is there another? The answer counts against attempts and budget.
    ///
    /// `repeatable`: the request is still there to be sent again.
    pub fn after_failure(&mut self, failure: &Failure, endpoint: Option<&Arc<Endpoint>>, repeatable: bool) -> bool {
        if matches!(failure, Failure::Stale) {
            self.stale += 1;
            return repeatable && self.stale <= MAX_STALE;
        }
        let on = &self.policy.on;
        let any_reset = on.any_reset() && (on.explicit || self.idempotent);
        let wanted = match failure {
            // Nothing was sent; that an application cannot be connected to is its own sidecar's to know, not to repeat.
            Failure::Connect(_) => on.connect_failure || (on.explicit && (on.reset_before_request || any_reset)),
            Failure::Refused => on.refused_stream || any_reset,
            Failure::Reset { .. } | Failure::TryTimeout { sent: true } => any_reset,
            Failure::Protocol => any_reset && on.explicit,
            Failure::ResetBeforeRequest | Failure::TryTimeout { sent: false } => on.reset_before_request || any_reset,
            Failure::Stale
            | Failure::Overflow(_)
            | Failure::NoEndpoint
            | Failure::Timeout
            | Failure::NoUpgrade
            | Failure::BrokenRequestBody
            | Failure::ClientGone => false,
        };
        wanted && self.take(endpoint, repeatable, !matches!(failure, Failure::TryTimeout { .. }))
    }

    /// Would there be another attempt if the next failed in whatever way?
    pub fn may_repeat(&self, repeatable: bool) -> bool {
        repeatable && self.made < self.policy.attempts && (self.policy.on.explicit || self.idempotent)
    }

    pub fn after_response(&mut self, response: &ResponseHead, endpoint: &Arc<Endpoint>, repeatable: bool) -> bool {
        let on = &self.policy.on;
        let grpc = match on.grpc.is_empty() {
            true => None,
            false => response
                .headers
                .known(Known::GrpcStatus)
                .and_then(|value| str::from_utf8(value).ok()?.parse().ok()),
        };
        let rate_limited = || response.headers.contains(&RATE_LIMITED);
        on.response(response.status.as_u16(), grpc, rate_limited) && self.take(Some(endpoint), repeatable, false)
    }

    /// The endpoint's sidecar answered because nobody else could: as if it had not taken the request.
    pub fn after_unprocessed(&mut self, status: u16, endpoint: &Arc<Endpoint>, repeatable: bool) -> bool {
        let on = &self.policy.on;
        let unsent = on.refused_stream || on.connect_failure || on.reset_before_request;
        let wanted = unsent || on.any_reset() || on.status(status) || on.grpc.contains(&14);
        wanted && self.take(Some(endpoint), repeatable, true)
    }

    fn take(&mut self, endpoint: Option<&Arc<Endpoint>>, repeatable: bool, unanswered: bool) -> bool {
        if self.made >= self.policy.attempts {
            self.exhausted = self.policy.attempts > 0;
            return false;
        }
        if !repeatable {
            return false;
        }
        self.permit = None;
        let (budget, in_flight) = (&self.cluster.retries, self.cluster.requests_in_flight());
        // A rule's own retries are as many as it says, as in Istio.
        self.permit = if self.policy.of_rule || (unanswered && self.made == 0) {
            budget.acquire_unless_limited(in_flight)
        } else {
            budget.acquire(in_flight)
        };
        if self.permit.is_none() {
            self.overflowed = true;
            self.cluster.series.overflow_retries.increment(1);
            return false;
        }
        // This one has failed as well.
        self.record(false);
        self.made += 1;
        self.tried.extend(endpoint.cloned());
        true
    }

    /// The endpoints that the next attempt goes to last. A key belongs to its endpoint, also after a failure, unless the rule
    /// says otherwise, as with Istio.
    pub fn avoided(&self, has_key: bool) -> &[Arc<Endpoint>] {
        if self.policy.ignore_previous_hosts.unwrap_or(!has_key) {
            &self.tried
        } else {
            &[]
        }
    }

    /// Those whose whole levels the next attempt leaves: what Istio makes of `retryRemoteLocalities` is Envoy's
    /// `previous_priorities` with `update_frequency: 2`.
    pub fn left(&self) -> &[Arc<Endpoint>] {
        if self.policy.remote_localities {
            &self.tried[..self.tried.len() & !1]
        } else {
            &[]
        }
    }

    /// Fully jittered exponential backoff. `at_once`: nobody needs time to recover, because the connection was stale, or
    /// because another endpoint gets what one has refused; that is so for the first retry only.
    pub fn backoff(&self, at_once: bool, random: u64) -> Duration {
        if at_once && self.made <= 1 {
            return Duration::ZERO;
        }
        let factor = 1u32
            .checked_shl(self.made.saturating_sub(1))
            .unwrap_or(BACKOFF_CEILING)
            .min(BACKOFF_CEILING);
        let ceiling = self.policy.backoff.saturating_mul(factor);
        ceiling.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Says in the response's flags that another attempt was wanted.
    pub fn flag(&self, flags: &mut Flags) {
        if self.exhausted {
            flags.insert(Flags::URX);
        }
        if self.overflowed {
            flags.insert(Flags::UO);
        }
    }

    /// How many attempts there have been with the one that runs, or runs next.
    pub fn attempt(&self) -> u32 {
        self.made + 1
    }

    /// Counts how a retry ended; the first attempt is none. One in whose place another was wanted has failed.
    pub fn record(&self, success: bool) {
        if self.made > 0 {
            let series = &self.cluster.series;
            let counter = if success && !self.exhausted && !self.overflowed {
                &series.retries_success
            } else {
                &series.retries_failure
            };
            counter.increment(1);
        }
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
