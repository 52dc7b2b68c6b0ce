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
    pub panic: Gauge,

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
    /// `cause="failed_probe"`: its probe began well and was broken off.
    pub kept_failed_probe: Counter,
    /// `reason="probe"`
    pub unejections_probe: Counter,
    /// `reason="time"`: in Envoy's mode.
    pub unejections_time: Counter,
    /// `reason="needed"`: the pool has become too small to spare it.
    pub unejections_needed: Counter,
    /// `reason="no_detection"`: detection was turned off.
    pub unejections_no_detection: Counter,

    /// `cause`, in the order of [`TlsFailure`].
    tls_failures: [AtomicU64; TlsFailure::ALL.len()],

    direction: Direction,
    service: Box<str>,
    subset: Box<str>,
    readings: Vec<Reading>,
}

/// Why there was no TLS connection to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsFailure {
    /// The endpoint's certificate has expired.
    Expired,
    /// It leads to nobody who is trusted.
    UnknownAuthority,
    /// It is for somebody else.
    WrongName,
    Revoked,
    /// Something else is wrong with it.
    Certificate,
    /// The endpoint refused the client's, or wants one.
    ClientCertificate,
    /// What came is no TLS.
    NotTls,
    /// Versions, ciphers, ALPN: they do not agree.
    Protocol,
    /// The endpoint ended the connection.
    Closed,
    Timeout,
    /// This proxy's files are missing or broken.
    Files,
}

impl TlsFailure {
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Expired, "expired"),
        (Self::UnknownAuthority, "unknown_authority"),
        (Self::WrongName, "wrong_name"),
        (Self::Revoked, "revoked"),
        (Self::Certificate, "certificate"),
        (Self::ClientCertificate, "client_certificate"),
        (Self::NotTls, "not_tls"),
        (Self::Protocol, "protocol"),
        (Self::Closed, "closed"),
        (Self::Timeout, "timeout"),
        (Self::Files, "files"),
    ];
}

/// How a scrape reads one handle.
#[derive(Debug)]
struct Reading {
    family: &'static str,
    label: Option<(&'static str, &'static str)>,
    cell: Arc<AtomicU64>,
}

pub(crate) const GAUGES: [(&str, &str); 6] = [
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
    (
        "tsunagi_upstream_panic",
        "1 while requests go to endpoints that are not healthy, too, because fewer than minHealthPercent of a level are.",
    ),
];

/// Shown where it is not zero: most clusters have no TLS.
const TLS_FAILURES: &str = "tsunagi_upstream_tls_failures_total";

pub(crate) const COUNTERS: [(&str, &str); 6] = [
    (
        "tsunagi_upstream_overflow_total",
        "Requests, connections and retries refused because a limit was reached.",
    ),
    (
        "tsunagi_upstream_retries_total",
        "Retries sent to the destination, each by its own result.",
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
    (
        TLS_FAILURES,
        "Connections to the destination that failed in TLS, by cause.",
    ),
];

impl ClusterSeries {
    pub(crate) fn new(direction: Direction, service: &str, subset: &str) -> ClusterSeries {
        let mut readings = Vec::with_capacity(23);
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
            panic,
        ] = GAUGES.each_ref().map(&mut gauge);
        let mut counter =
            |family: usize, label, value| Counter::from_arc(cell(COUNTERS[family].0, Some((label, value))));
        ClusterSeries {
            connections,
            active_requests,
            pending_requests,
            ejected_endpoints,
            endpoints_healthy,
            panic,
            overflow_connections: counter(0, "limit", "connections"),
            overflow_pending_requests: counter(0, "limit", "pending_requests"),
            overflow_requests: counter(0, "limit", "requests"),
            overflow_retries: counter(0, "limit", "retries"),
            retries_success: counter(1, "result", "success"),
            retries_failure: counter(1, "result", "failure"),
            ejections_consecutive_5xx: counter(2, "cause", "consecutive_5xx"),
            ejections_consecutive_gateway_errors: counter(2, "cause", "consecutive_gateway_errors"),
            ejections_consecutive_local_origin: counter(2, "cause", "consecutive_local_origin"),
            tls_failures: Default::default(),
            ejections_failed_probe: counter(2, "cause", "failed_probe"),
            kept_consecutive_5xx: counter(3, "cause", "consecutive_5xx"),
            kept_consecutive_gateway_errors: counter(3, "cause", "consecutive_gateway_errors"),
            kept_consecutive_local_origin: counter(3, "cause", "consecutive_local_origin"),
            kept_failed_probe: counter(3, "cause", "failed_probe"),
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

    pub fn tls_failed(&self, cause: TlsFailure) {
        self.tls_failures[cause as usize].fetch_add(1, Ordering::Relaxed);
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
    pub(crate) fn read(
        &self,
        family: &'static str,
    ) -> impl Iterator<Item = (Option<(&'static str, &'static str)>, u64)> {
        let of_family = move |reading: &&Reading| reading.family == family;
        let failures = if family == TLS_FAILURES {
            &self.tls_failures[..]
        } else {
            &[]
        };
        let failures = failures.iter().zip(TlsFailure::ALL);
        self.readings
            .iter()
            .filter(of_family)
            .map(|reading| (reading.label, reading.cell.load(Ordering::Relaxed)))
            .chain(
                failures
                    .map(|(count, (_, cause))| (Some(("cause", cause)), count.load(Ordering::Relaxed)))
                    .filter(|(_, count)| *count > 0),
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tls_failure_has_the_counter_of_its_cause() {
        let series = ClusterSeries::new(Direction::Outbound, "s", "v1");
        for (number, (cause, label)) in TlsFailure::ALL.into_iter().enumerate() {
            series.tls_failed(cause);
            assert_eq!(cause as usize, number);
            let mut counted = series.read(TLS_FAILURES);
            assert!(counted.any(|it| it == (Some(("cause", label)), 1)), "{label}");
        }
    }

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
