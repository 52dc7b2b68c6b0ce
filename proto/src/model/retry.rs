//! When a request may be sent again, and how often.
//!
//! Conditions are Envoy's (`x-envoy-retry-on`, `x-envoy-retry-grpc-on`) and Istio's numeric status codes.

use std::time::Duration;

use super::{Invalid, duration};
use crate::wire::mesh;

/// Istio's default number of retries.
const DEFAULT_ATTEMPTS: u32 = 2;
/// Envoy's default base interval.
const DEFAULT_BACKOFF: Duration = Duration::from_millis(25);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt. Default 2; 0 is off.
    pub attempts: u32,
    /// `None`: bounded by the request's timeout alone.
    pub per_try_timeout: Option<Duration>,
    pub on: RetryOn,
    /// Base interval of the exponential backoff. Default 25 ms; the ceiling is ten times that.
    pub backoff: Duration,
    /// Avoid endpoints that already failed this request. Default true.
    pub ignore_previous_hosts: bool,
}

/// Conditions under which an attempt is repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Chosen by the user: then they hold for any method. The mesh's default set repeats what the upstream may have
    /// processed only where the method is idempotent.
    pub explicit: bool,
    pub any_5xx: bool,
    pub gateway_error: bool,
    pub reset: bool,
    pub reset_before_request: bool,
    pub connect_failure: bool,
    pub refused_stream: bool,
    pub retriable_4xx: bool,
    pub status_codes: Vec<u16>,
    /// `grpc-status` numbers.
    pub grpc: Vec<u8>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: DEFAULT_ATTEMPTS,
            per_try_timeout: None,
            on: RetryOn::mesh_default(),
            backoff: DEFAULT_BACKOFF,
            ignore_previous_hosts: true,
        }
    }
}

impl RetryOn {
    /// What provably was not processed, and what an idempotent method may repeat.
    fn mesh_default() -> Self {
        Self {
            connect_failure: true,
            refused_stream: true,
            reset: true,
            reset_before_request: true,
            ..Self::default()
        }
    }

    /// Does a response with this status ask for another attempt?
    pub fn status(&self, status: u16) -> bool {
        (self.any_5xx && (500..600).contains(&status))
            || (self.gateway_error && (502..=504).contains(&status))
            || (self.retriable_4xx && status == 409)
            || self.status_codes.contains(&status)
    }

    fn add(&mut self, condition: &str) -> Result<(), Invalid> {
        match condition {
            "5xx" => self.any_5xx = true,
            "gateway-error" => self.gateway_error = true,
            "reset" => self.reset = true,
            "reset-before-request" => self.reset_before_request = true,
            "connect-failure" => self.connect_failure = true,
            "refused-stream" => self.refused_stream = true,
            "retriable-4xx" => self.retriable_4xx = true,
            // Names the list of codes, which Istio writes into the same field.
            "retriable-status-codes" => {}
            "cancelled" => self.grpc.push(1),
            "deadline-exceeded" => self.grpc.push(4),
            "resource-exhausted" => self.grpc.push(8),
            "internal" => self.grpc.push(13),
            "unavailable" => self.grpc.push(14),
            code => match code.parse::<u16>() {
                Ok(code @ 100..=599) => self.status_codes.push(code),
                _ => {
                    return Err(Invalid::new(
                        "retry_on",
                        format!("{code:?} is neither a condition nor a status code"),
                    ));
                }
            },
        }
        Ok(())
    }
}

impl TryFrom<mesh::RetryPolicy> for RetryPolicy {
    type Error = Invalid;

    fn try_from(wire: mesh::RetryPolicy) -> Result<Self, Invalid> {
        let mut on = RetryOn::mesh_default();
        if !wire.retry_on.is_empty() {
            on = RetryOn {
                explicit: true,
                ..RetryOn::default()
            };
            for condition in &wire.retry_on {
                on.add(condition)?;
            }
        }
        Ok(Self {
            attempts: wire.attempts.min(100),
            per_try_timeout: duration("per_try_timeout", wire.per_try_timeout)?,
            on,
            backoff: duration("backoff", wire.backoff)?.unwrap_or(DEFAULT_BACKOFF),
            ignore_previous_hosts: wire.ignore_previous_hosts.unwrap_or(true),
        })
    }
}
