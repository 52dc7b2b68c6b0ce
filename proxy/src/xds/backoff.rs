//! How long to wait before the next attempt to connect: exponential, with full jitter, so that a thousand proxies that
//! lose one control plane do not come back at once. Called by `client`, which passes the randomness in. The algorithm is
//! "full jitter" of the AWS architecture blog's "Exponential Backoff And Jitter".

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(100);
/// Short, because until a proxy is back nobody can tell whether a change has reached it; a connection attempt is cheap.
const LONGEST: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// In whole milliseconds. `fraction` is drawn evenly from 0 to 1.
    pub(super) fn failed(&mut self, fraction: f64) -> Duration {
        let ceiling = SHORTEST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(ceiling.mul_f64(fraction.clamp(0.0, 1.0)).as_millis() as u64)
    }

    /// The last session was healthy.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_start_again_after_a_healthy_session() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<Duration> = (0..10).map(|_| backoff.failed(1.0)).collect();
        assert_eq!(ceilings[..3], [100, 200, 400].map(Duration::from_millis));
        assert_eq!(ceilings[9], LONGEST);
        assert_eq!(backoff.failed(0.5), LONGEST / 2);
        assert_eq!(backoff.failed(0.0), Duration::ZERO);
        assert_eq!(backoff.failed(1.0 / 3.5), Duration::from_millis(857));
        for _ in 0..100 {
            backoff.failed(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.failed(1.0), SHORTEST);
    }
}
