//! When a request may be sent again, and how often.
//!
//! Conditions are Envoy's (`x-envoy-retry-on`, `x-envoy-retry-grpc-on`) and Istio's numeric status codes; what each means is
//! decided here for responses and in the proxy's `retry` for attempts without one.

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
    /// Avoid endpoints that already failed this request. `None`: unless a key says where it belongs. Where none is left near, a
    /// retry goes to another locality.
    pub ignore_previous_hosts: Option<bool>,
    /// After every second attempt the priority levels that were tried are left.
    pub remote_localities: bool,
    /// A rule asks for them: then they are as many as it says, however many requests are in flight.
    pub of_rule: bool,
}

/// Conditions under which an attempt is repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Chosen by the user: then they hold for any method. The default set repeats what the upstream may have processed only
    /// where the method is idempotent.
    pub explicit: bool,
    pub any_5xx: bool,
    pub gateway_error: bool,
    pub reset: bool,
    pub reset_before_request: bool,
    pub connect_failure: bool,
    pub refused_stream: bool,
    pub retriable_4xx: bool,
    /// A response with `x-envoy-ratelimited`, which no other condition repeats.
    pub envoy_ratelimited: bool,
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
            ignore_previous_hosts: None,
            remote_localities: false,
            of_rule: false,
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

    /// Of a rule that asks for retries and says nothing of when: Istio's conditions, by which gRPC calls that are known not to
    /// be served are sent again, too.
    fn rule_default() -> Self {
        Self {
            grpc: vec![1, 14],
            ..Self::mesh_default()
        }
    }

    /// Does a response ask for another attempt? `grpc`: the `grpc-status` in its head; `rate_limited`: it says
    /// `x-envoy-ratelimited`, which is asked for only where it could matter.
    pub fn response(&self, status: u16, grpc: Option<u8>, rate_limited: impl FnOnce() -> bool) -> bool {
        let wanted = self.status(status) || grpc.is_some_and(|status| self.grpc.contains(&status));
        if (wanted || self.envoy_ratelimited) && rate_limited() {
            return self.envoy_ratelimited;
        }
        wanted
    }

    /// Is a connection that broke, in any way, among the conditions? It would have become a 503, so a 5xx is enough.
    pub fn any_reset(&self) -> bool {
        self.reset || self.any_5xx || self.gateway_error
    }

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
            "envoy-ratelimited" => self.envoy_ratelimited = true,
            // Names the list of codes, which Istio writes into the same field.
            "retriable-status-codes" => {}
            // Can never come true, as in Istio: the headers would be named by the request, where a sidecar does not believe
            // it, and no endpoint is asked over HTTP/3.
            "retriable-headers" | "http3-post-connect-failure" => {}
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
        let mut on = RetryOn::rule_default();
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
            ignore_previous_hosts: wire.ignore_previous_hosts,
            remote_localities: wire.retry_remote_localities,
            of_rule: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(conditions: &[&str]) -> RetryOn {
        let wire = mesh::RetryPolicy {
            retry_on: conditions.iter().map(|&condition| condition.to_owned()).collect(),
            ..mesh::RetryPolicy::default()
        };
        RetryPolicy::try_from(wire).expect("conditions of Envoy").on
    }

    #[test]
    fn each_condition_repeats_the_responses_that_envoy_says() {
        // Condition, statuses that it repeats, grpc-status that it repeats.
        let cases: [(&str, &[u16], &[u8]); 15] = [
            ("5xx", &[500, 501, 502, 503, 504, 599], &[]),
            ("gateway-error", &[502, 503, 504], &[]),
            ("retriable-4xx", &[409], &[]),
            ("418", &[418], &[]),
            ("retriable-status-codes", &[], &[]),
            ("reset", &[], &[]),
            ("reset-before-request", &[], &[]),
            ("connect-failure", &[], &[]),
            ("refused-stream", &[], &[]),
            ("envoy-ratelimited", &[], &[]),
            ("cancelled", &[], &[1]),
            ("deadline-exceeded", &[], &[4]),
            ("resource-exhausted", &[], &[8]),
            ("internal", &[], &[13]),
            ("unavailable", &[], &[14]),
        ];
        for (condition, statuses, grpc) in cases {
            let on = on(&[condition]);
            assert!(on.explicit, "{condition}");
            for status in [200, 301, 404, 408, 409, 418, 429, 500, 501, 502, 503, 504, 599] {
                let wanted = on.response(status, None, || false);
                assert_eq!(wanted, statuses.contains(&status), "{condition} {status}");
            }
            for status in 0..=16 {
                let wanted = on.response(200, Some(status), || false);
                assert_eq!(wanted, grpc.contains(&status), "{condition} grpc-status {status}");
            }
        }
    }

    #[test]
    fn a_rule_that_does_not_say_when_has_the_conditions_of_istio() {
        let on = on(&[]);
        assert!(!on.explicit && on.connect_failure && on.refused_stream);
        for status in 0..=16 {
            let wanted = on.response(200, Some(status), || false);
            assert_eq!(wanted, matches!(status, 1 | 14), "grpc-status {status}");
        }
        assert!(!on.response(503, None, || false));
        let without_a_rule = RetryPolicy::default();
        assert!(!without_a_rule.of_rule && !without_a_rule.on.response(200, Some(14), || false));
    }

    #[test]
    fn what_is_rate_limited_is_repeated_only_where_that_is_said() {
        for (conditions, limited, repeated) in [
            (&["5xx", "429"][..], false, true),
            (&["5xx", "429"], true, false),
            (&["5xx", "envoy-ratelimited"], true, true),
            (&["envoy-ratelimited"], true, true),
            (&["envoy-ratelimited"], false, false),
        ] {
            let wanted = on(conditions).response(if conditions.contains(&"429") { 429 } else { 200 }, None, || limited);
            assert_eq!(wanted, repeated, "{conditions:?} {limited}");
        }
    }

    #[test]
    fn the_header_is_not_looked_for_where_it_cannot_matter() {
        assert!(!on(&["5xx"]).response(200, Some(0), || unreachable!("a response that nobody repeats")));
    }

    #[test]
    fn conditions_that_cannot_come_true_are_taken_and_repeat_nothing() {
        for condition in ["retriable-headers", "http3-post-connect-failure"] {
            let on = on(&[condition]);
            assert_eq!(
                on,
                RetryOn {
                    explicit: true,
                    ..RetryOn::default()
                }
            );
        }
    }

    #[test]
    fn what_is_neither_a_condition_nor_a_status_is_refused_by_name() {
        for wrong in ["", "5XX", "sometimes", "99", "600", "-1"] {
            let wire = mesh::RetryPolicy {
                retry_on: vec![wrong.to_owned()],
                ..mesh::RetryPolicy::default()
            };
            let refused = RetryPolicy::try_from(wire).unwrap_err().to_string();
            assert!(refused.contains(&format!("{wrong:?}")), "{refused}");
        }
    }
}
