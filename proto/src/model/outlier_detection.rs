//! When an endpoint gets no requests for a while: DestinationRule `outlierDetection`.

use std::time::Duration;

use super::{Invalid, duration};
use crate::wire::mesh;

/// DestinationRule `outlierDetection`. A threshold of `None` is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlierDetection {
    pub consecutive_5xx: Option<u32>,
    pub consecutive_gateway_errors: Option<u32>,
    /// Count connect failures and timeouts on a counter of their own.
    pub split_local_origin_errors: bool,
    pub consecutive_local_origin_failures: Option<u32>,
    /// Between sweeps, which return ejected endpoints. Default 10 s.
    pub interval: Duration,
    /// Times the number of ejections so far. Default 30 s.
    pub base_ejection_time: Duration,
    /// Ceiling of an ejection. Default 300 s, or the base if longer.
    pub max_ejection_time: Duration,
    /// Percent of the endpoints, 0 to 100; at least one endpoint may go, never the last.
    pub max_ejection_percent: u32,
    /// Below this percentage of healthy endpoints health is ignored (panic). 0: never.
    pub min_health_percent: u32,
    /// Statuses that count as errors, sorted; empty: 500 to 599.
    pub error_statuses: Vec<u16>,
    /// Envoy's own rules: the percentage alone decides who may go, and an endpoint returns with its whole share once its time
    /// is over. Else at least one may go, never the last, and one request probes before the rest come back.
    pub as_envoy: bool,
}

fn percent(field: &str, value: u32) -> Result<u32, Invalid> {
    if value > 100 {
        Err(Invalid::new(field, format!("{value} is more than 100 percent")))
    } else {
        Ok(value)
    }
}

impl TryFrom<mesh::OutlierDetection> for OutlierDetection {
    type Error = Invalid;

    fn try_from(wire: mesh::OutlierDetection) -> Result<Self, Invalid> {
        let threshold = |value: u32| (value != 0).then_some(value);
        let base = duration("base_ejection_time", wire.base_ejection_time)?.unwrap_or(Duration::from_secs(30));
        let max_ejection_time = duration("max_ejection_time", wire.max_ejection_time)?;
        if max_ejection_time.is_some_and(|max| max < base) {
            return Err(Invalid::new("max_ejection_time", "shorter than base_ejection_time"));
        }
        Ok(Self {
            consecutive_5xx: threshold(wire.consecutive_5xx),
            consecutive_gateway_errors: threshold(wire.consecutive_gateway_errors),
            split_local_origin_errors: wire.split_local_origin_errors,
            consecutive_local_origin_failures: threshold(wire.consecutive_local_origin_failures),
            interval: duration("interval", wire.interval)?.unwrap_or(Duration::from_secs(10)),
            base_ejection_time: base,
            max_ejection_time: max_ejection_time.unwrap_or(base.max(Duration::from_secs(300))),
            max_ejection_percent: percent("max_ejection_percent", wire.max_ejection_percent)?,
            min_health_percent: percent("min_health_percent", wire.min_health_percent)?,
            as_envoy: wire.as_envoy,
            error_statuses: wire.error_statuses.into_iter().map(status).collect::<Result<_, _>>()?,
        })
    }
}

fn status(value: u32) -> Result<u16, Invalid> {
    let status = u16::try_from(value).ok().filter(|status| (100..600).contains(status));
    status.ok_or_else(|| Invalid::new("error_statuses", format!("{value} is not a status (100 to 599)")))
}
