//! The series of one cluster (destination service and subset): what its pools, limits and outlier detection do.
//!
//! Made with the cluster and held by it; the fields are the handles that the pools and the registry write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge};

use super::series::Direction;

/// Stored handles of one cluster. The series vanish from `/metrics` with the last `Arc` of this.
#[derive(Debug)]
pub struct ClusterSeries {
    /// Connections that exist, in use or idle.
    pub connections: Gauge,
    /// Requests sent and not yet answered whole.
    pub active_requests: Gauge,
    /// Requests that wait for a connection.
    pub pending_requests: Gauge,
    /// Endpoints that outlier detection keeps away from traffic now.
    pub ejected_endpoints: Gauge,
    /// Endpoints that may be given requests.
    pub endpoints_healthy: Gauge,

    /// `limit="connections"`
    pub overflow_connections: Counter,
    /// `limit="pending_requests"`
    pub overflow_pending_requests: Counter,
    /// `limit="requests"`
    pub overflow_requests: Counter,
    /// `limit="retries"`
    pub overflow_retries: Counter,

    /// `result="success"`: a retry whose answer went to the client as good.
    pub retries_success: Counter,
    /// `result="failure"`: a retry that failed as well.
    pub retries_failure: Counter,

    /// `cause="consecutive_5xx"`
    pub ejections_consecutive_5xx: Counter,
    /// `cause="consecutive_gateway_errors"`
    pub ejections_consecutive_gateway_errors: Counter,
    /// `cause="consecutive_local_origin"`
    pub ejections_consecutive_local_origin: Counter,
    /// `cause="failed_probe"`
    pub ejections_failed_probe: Counter,
    /// `cause="consecutive_5xx"`: it should have been ejected, and the pool could not spare it.
    pub kept_consecutive_5xx: Counter,
    /// `cause="consecutive_gateway_errors"`
    pub kept_consecutive_gateway_errors: Counter,
    /// `cause="consecutive_local_origin"`
    pub kept_consecutive_local_origin: Counter,
    /// `reason="probe"`
    pub unejections_probe: Counter,
    /// `reason="time"`: in Envoy's mode.
    pub unejections_time: Counter,
    /// `reason="needed"`: the pool has become too small to spare it.
    pub unejections_needed: Counter,
    /// `reason="no_detection"`: detection was turned off.
    pub unejections_no_detection: Counter,

    direction: Direction,
    service: Box<str>,
    subset: Box<str>,
    readings: Vec<Reading>,
}

/// How a scrape reads one handle.
#[derive(Debug)]
struct Reading {
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
    cell: Arc<AtomicU64>,
}

pub(crate) const GAUGES: [(&str, &str); 5] = [
    (
        "tsunagi_upstream_connections",
        "Connections to the endpoints of the destination that exist, in use or idle.",
    ),
    (
        "tsunagi_upstream_active_requests",
        "Requests sent to the destination and not yet answered whole.",
    ),
    (
        "tsunagi_upstream_pending_requests",
        "Requests that wait for a connection to the destination.",
    ),
    (
        "tsunagi_outlier_ejected_endpoints",
        "Endpoints that outlier detection keeps away from traffic now.",
    ),
    (
        "tsunagi_endpoints_healthy",
        "Endpoints of the destination that may be given requests.",
    ),
];

pub(crate) const COUNTERS: [(&str, &str); 5] = [
    (
        "tsunagi_upstream_overflow_total",
        "Requests, connections and retries refused because a limit was reached.",
    ),
    (
        "tsunagi_upstream_retries_total",
        "Retries sent to the destination, by their result.",
    ),
    (
        "tsunagi_outlier_ejections_total",
        "Ejections of an endpoint by outlier detection, by cause.",
    ),
    (
        "tsunagi_outlier_ejections_overflow_total",
        "Endpoints that failed and were not ejected, because the pool could not spare them, by cause.",
    ),
    (
        "tsunagi_outlier_unejections_total",
        "Returns of an ejected endpoint to its share of the traffic, by reason.",
    ),
];

impl ClusterSeries {
    pub(crate) fn new(direction: Direction, service: &str, subset: &str) -> ClusterSeries {
        let mut readings = Vec::with_capacity(22);
        let mut cell = |family, label| {
            let cell = Arc::new(AtomicU64::new(0));
            readings.push(Reading {
                family,
                label,
                cell: Arc::clone(&cell),
            });
            cell
        };
        let mut gauge = |family: &(&'static str, &str)| Gauge::from_arc(cell(family.0, None));
        let [
            connections,
            active_requests,
            pending_requests,
            ejected_endpoints,
            endpoints_healthy,
        ] = GAUGES.each_ref().map(&mut gauge);
        let mut counter =
            |family: usize, label, value| Counter::from_arc(cell(COUNTERS[family].0, Some((label, value))));
        ClusterSeries {
            connections,
            active_requests,
            pending_requests,
            ejected_endpoints,
            endpoints_healthy,
            overflow_connections: counter(0, "limit", "connections"),
            overflow_pending_requests: counter(0, "limit", "pending_requests"),
            overflow_requests: counter(0, "limit", "requests"),
            overflow_retries: counter(0, "limit", "retries"),
            retries_success: counter(1, "result", "success"),
            retries_failure: counter(1, "result", "failure"),
            ejections_consecutive_5xx: counter(2, "cause", "consecutive_5xx"),
            ejections_consecutive_gateway_errors: counter(2, "cause", "consecutive_gateway_errors"),
            ejections_consecutive_local_origin: counter(2, "cause", "consecutive_local_origin"),
            ejections_failed_probe: counter(2, "cause", "failed_probe"),
            kept_consecutive_5xx: counter(3, "cause", "consecutive_5xx"),
            kept_consecutive_gateway_errors: counter(3, "cause", "consecutive_gateway_errors"),
            kept_consecutive_local_origin: counter(3, "cause", "consecutive_local_origin"),
            unejections_probe: counter(4, "reason", "probe"),
            unejections_time: counter(4, "reason", "time"),
            unejections_needed: counter(4, "reason", "needed"),
            unejections_no_detection: counter(4, "reason", "no_detection"),
            direction,
            service: service.into(),
            subset: subset.into(),
            readings,
        }
    }

    pub(crate) fn direction(&self) -> Direction {
        self.direction
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn subset(&self) -> &str {
        &self.subset
    }

    /// The raw cells of one family with their own label: an integer for a counter, the bits of a float for a gauge.
    pub(crate) fn read(&self, family: &str) -> impl Iterator<Item = (Option<(&'static str, &'static str)>, u64)> {
        let of_family = move |reading: &&Reading| reading.family == family;
        self.readings
            .iter()
            .filter(of_family)
            .map(|reading| (reading.label, reading.cell.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_handle_writes_its_own_series() {
        let series = ClusterSeries::new(Direction::Outbound, "s", "v1");
        series.pending_requests.increment(2.0);
        series.overflow_retries.increment(3);
        series.ejections_consecutive_local_origin.increment(4);
        series.kept_consecutive_5xx.increment(5);
        series.unejections_probe.increment(6);

        let gauge: Vec<_> = series.read("tsunagi_upstream_pending_requests").collect();
        assert_eq!(gauge, [(None, 2.0_f64.to_bits())]);
        let overflow: Vec<_> = series.read("tsunagi_upstream_overflow_total").collect();
        assert_eq!(overflow.len(), 4);
        assert!(overflow.contains(&(Some(("limit", "retries")), 3)));
        let ejections: Vec<_> = series.read("tsunagi_outlier_ejections_total").collect();
        assert!(ejections.contains(&(Some(("cause", "consecutive_local_origin")), 4)));
        let kept: Vec<_> = series.read("tsunagi_outlier_ejections_overflow_total").collect();
        assert!(kept.contains(&(Some(("cause", "consecutive_5xx")), 5)));
        let returned: Vec<_> = series.read("tsunagi_outlier_unejections_total").collect();
        assert!(returned.contains(&(Some(("reason", "probe")), 6)));
        assert_eq!(series.read("tsunagi_upstream_connections").next(), Some((None, 0)));
    }
}
