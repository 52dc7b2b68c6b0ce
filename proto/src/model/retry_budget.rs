//! How many retries to a cluster may be in flight: DestinationRule `retryBudget`.

use std::time::Duration;

use super::{Invalid, duration};
use crate::wire::mesh;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryBudget {
    /// Of the requests in flight, 0 to 100.
    pub percent: f64,
    pub min_retry_concurrency: u32,
    /// `budgetInterval`: new requests of this time count, too. `None`: only those in flight.
    pub interval: Option<Duration>,
}

impl TryFrom<mesh::RetryBudget> for RetryBudget {
    type Error = Invalid;

    fn try_from(wire: mesh::RetryBudget) -> Result<Self, Invalid> {
        if !(0.0..=100.0).contains(&wire.percent) {
            return Err(Invalid::new("percent", "must be 0 to 100"));
        }
        Ok(Self {
            percent: wire.percent,
            min_retry_concurrency: wire.min_retry_concurrency,
            interval: duration("interval", wire.interval)?,
        })
    }
}
