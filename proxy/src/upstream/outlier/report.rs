//! Says what outlier detection did, once each: a line in the log, a count.

use super::counters::Cause;
use super::decision::{Event, Return};
use crate::telemetry::ClusterSeries;
use crate::upstream::Endpoint;

pub(super) fn tell(cluster: &str, series: &ClusterSeries, endpoint: &Endpoint, event: Event) {
    let address = endpoint.address;
    match event {
        Event::Ejected { cause, time, ejections } => {
            ejected(series, cause).increment(1);
            let cause = cause.as_str();
            tracing::warn!(cluster, endpoint = %address, cause, duration = ?time, ejections, "endpoint ejected");
        }
        Event::Kept { cause, first } => {
            kept(series, cause).increment(1);
            if first {
                let cause = cause.as_str();
                tracing::warn!(
                    cluster,
                    endpoint = %address,
                    cause,
                    "endpoint fails and is kept: maxEjectionPercent is reached, or it is the last healthy one"
                );
            }
        }
        Event::AwaitsProbe => {
            tracing::info!(cluster, endpoint = %address, "ejection time is over, awaiting a probe");
        }
        Event::Returned { reason, after } => {
            returned(series, reason).increment(1);
            let reason = reason.as_str();
            tracing::info!(cluster, endpoint = %address, reason, ?after, "endpoint returned");
        }
    }
}

fn ejected(series: &ClusterSeries, cause: Cause) -> &metrics::Counter {
    match cause {
        Cause::Consecutive5xx => &series.ejections_consecutive_5xx,
        Cause::ConsecutiveGatewayErrors => &series.ejections_consecutive_gateway_errors,
        Cause::ConsecutiveLocalOrigin => &series.ejections_consecutive_local_origin,
        Cause::FailedProbe => &series.ejections_failed_probe,
    }
}

fn kept(series: &ClusterSeries, cause: Cause) -> &metrics::Counter {
    match cause {
        Cause::Consecutive5xx => &series.kept_consecutive_5xx,
        Cause::ConsecutiveGatewayErrors => &series.kept_consecutive_gateway_errors,
        Cause::ConsecutiveLocalOrigin => &series.kept_consecutive_local_origin,
        Cause::FailedProbe => &series.kept_failed_probe,
    }
}

fn returned(series: &ClusterSeries, reason: Return) -> &metrics::Counter {
    match reason {
        Return::Probe => &series.unejections_probe,
        Return::Time => &series.unejections_time,
        Return::Needed => &series.unejections_needed,
        Return::NoDetection => &series.unejections_no_detection,
    }
}
