//! The families of `/metrics`, in order: names, labels and help texts are a promise (INTERFACE, "Metrics").
//!
//! Runs on the control thread; reads atomics, so a scrape never stalls a request.

use std::sync::Arc;

use super::cluster::{COUNTERS, GAUGES};
use super::exposition::{Exposition, Kind, labels};
use super::series::{Direction, RequestSeries};
use super::{ClusterSeries, Shared, TcpSeries, lock, process};

pub(super) fn render(shared: &Shared, openmetrics: bool) -> String {
    let requests = lock(&shared.requests).all();
    let clusters = lock(&shared.clusters).all();
    let tcp = lock(&shared.tcp).all();

    let mut page = Exposition::new(openmetrics);
    request_counts(&mut page, &shared.source_workload, &requests);
    request_durations(&mut page, &requests);
    prefixed_requests(&mut page, shared);
    mirrored_requests(&mut page, shared);
    tcp_connections(&mut page, &tcp);
    connections(&mut page, shared);
    cluster_levels(&mut page, &clusters);
    cluster_counts(&mut page, &clusters);
    control_plane(&mut page, shared);
    own(&mut page, shared);
    page.finish()
}

fn request_counts(page: &mut Exposition, source_workload: &str, all: &[Arc<RequestSeries>]) {
    let name = "http_requests_total";
    page.family(name, Kind::Counter, "Requests that have ended.");
    for series in all {
        let key = series.key();
        let source_workload = match key.direction {
            Direction::Outbound => source_workload,
            Direction::Inbound => "",
        };
        for cell in series.cells() {
            let labels = labels([
                ("direction", key.direction.as_str()),
                ("method", cell.code.method.label()),
                ("route", &key.route),
                ("status_code", &cell.code.status.label()),
                ("destination_service", &key.service),
                ("destination_subset", &key.subset),
                ("source_workload", source_workload),
                ("response_flags", &cell.code.flags.to_string()),
                ("grpc_status", cell.code.grpc.label()),
            ]);
            page.sample(name, &labels, cell.requests());
        }
    }
}

fn request_durations(page: &mut Exposition, all: &[Arc<RequestSeries>]) {
    let name = "http_request_duration_seconds";
    page.family(
        name,
        Kind::Histogram,
        "Time from the first byte of a request to the last byte of its response.",
    );
    for series in all {
        let key = series.key();
        for cell in series.cells() {
            let Some(durations) = cell.durations() else { continue };
            let labels = labels([
                ("direction", key.direction.as_str()),
                ("method", cell.code.method.label()),
                ("route", &key.route),
                ("status_code", &cell.code.status.label()),
                ("destination_service", &key.service),
                ("destination_subset", &key.subset),
            ]);
            page.histogram(name, &labels, &durations.read());
        }
    }
}

fn prefixed_requests(page: &mut Exposition, shared: &Shared) {
    let name = "tsunagi_route_requests_total";
    let help = "Requests that met a match with a statPrefix, by what the client was sent.";
    page.family(name, Kind::Counter, help);
    for series in lock(&shared.prefixed).all() {
        for (status, count) in series.counts() {
            let labels = labels([("stat_prefix", series.prefix()), ("status_code", &status.label())]);
            page.sample(name, &labels, count);
        }
    }
}

fn mirrored_requests(page: &mut Exposition, shared: &Shared) {
    let name = "tsunagi_mirrored_requests_total";
    page.family(name, Kind::Counter, "Copies of requests, by what became of them.");
    for series in lock(&shared.mirrors).all() {
        for (result, count) in series.counts() {
            let labels = labels([
                ("destination_service", series.service()),
                ("destination_subset", series.subset()),
                ("result", result),
            ]);
            page.sample(name, &labels, count);
        }
    }
}

fn tcp_connections(page: &mut Exposition, all: &[Arc<TcpSeries>]) {
    let name = "tsunagi_tcp_connections_total";
    page.family(name, Kind::Counter, "TCP connections passed on that have ended.");
    for series in all {
        let key = series.key();
        for (flags, count) in series.connections() {
            let labels = labels([
                ("direction", key.direction.as_str()),
                ("destination_service", &key.service),
                ("destination_subset", &key.subset),
                ("response_flags", &flags.to_string()),
            ]);
            page.sample(name, &labels, count);
        }
    }
    tcp_bytes(
        page,
        all,
        "tsunagi_tcp_received_bytes_total",
        "Bytes of TCP connections passed from the downstream to the upstream.",
        |(received, _)| received,
    );
    tcp_bytes(
        page,
        all,
        "tsunagi_tcp_sent_bytes_total",
        "Bytes of TCP connections passed from the upstream to the downstream.",
        |(_, sent)| sent,
    );
}

fn tcp_bytes(page: &mut Exposition, all: &[Arc<TcpSeries>], name: &str, help: &str, which: fn((u64, u64)) -> u64) {
    page.family(name, Kind::Counter, help);
    for series in all {
        let Some(bytes) = series.bytes() else { continue };
        let key = series.key();
        let labels = labels([
            ("direction", key.direction.as_str()),
            ("destination_service", &key.service),
            ("destination_subset", &key.subset),
        ]);
        page.sample(name, &labels, which(bytes));
    }
}

fn connections(page: &mut Exposition, shared: &Shared) {
    let name = "active_connections";
    page.family(name, Kind::Gauge, "Downstream connections that are open.");
    let directions = [
        (Direction::Inbound, &shared.connections_inbound),
        (Direction::Outbound, &shared.connections_outbound),
    ];
    for (direction, gauge) in directions {
        page.sample(name, &labels([("direction", direction.as_str())]), gauge.level());
    }
}

fn cluster_levels(page: &mut Exposition, clusters: &[Arc<ClusterSeries>]) {
    for (name, help) in GAUGES {
        page.family(name, Kind::Gauge, help);
        for cluster in clusters {
            let labels = labels([
                ("direction", cluster.direction().as_str()),
                ("destination_service", cluster.service()),
                ("destination_subset", cluster.subset()),
            ]);
            for (_, bits) in cluster.read(name) {
                page.sample(name, &labels, f64::from_bits(bits));
            }
        }
    }
}

fn cluster_counts(page: &mut Exposition, clusters: &[Arc<ClusterSeries>]) {
    for (name, help) in COUNTERS {
        page.family(name, Kind::Counter, help);
        for cluster in clusters {
            for (label, count) in cluster.read(name) {
                let Some(label) = label else { continue };
                let labels = labels([
                    ("direction", cluster.direction().as_str()),
                    ("destination_service", cluster.service()),
                    ("destination_subset", cluster.subset()),
                    label,
                ]);
                page.sample(name, &labels, count);
            }
        }
    }
}

fn control_plane(page: &mut Exposition, shared: &Shared) {
    let name = "tsunagi_config_version_info";
    page.family(
        name,
        Kind::Info,
        "The version of the configuration in force, as a label.",
    );
    if let Some(version) = &*lock(&shared.config_version) {
        page.sample(name, &labels([("version", version)]), 1);
    }

    let name = "tsunagi_config_updates_total";
    page.family(
        name,
        Kind::Counter,
        "Updates received from the control plane, by what became of them.",
    );
    page.sample(name, &labels([("result", "applied")]), shared.updates_applied.count());
    page.sample(name, &labels([("result", "refused")]), shared.updates_refused.count());

    let name = "tsunagi_dns_lookups_total";
    page.family(
        name,
        Kind::Counter,
        "Names of endpoints that were looked up, by what became of it.",
    );
    for (result, cells) in [
        ("resolved", &shared.lookups_resolved),
        ("absent", &shared.lookups_absent),
        ("failed", &shared.lookups_failed),
    ] {
        page.sample(name, &labels([("result", result)]), cells.count());
    }

    let name = "tsunagi_control_plane_connected";
    page.family(
        name,
        Kind::Gauge,
        "1 while the stream to the control plane is up, else 0.",
    );
    page.sample(name, &labels([]), shared.control_plane_connected.level());
}

fn own(page: &mut Exposition, shared: &Shared) {
    let name = "tsunagi_access_log_dropped_total";
    page.family(
        name,
        Kind::Counter,
        "Access-log lines dropped because their reader was too slow.",
    );
    page.sample(name, &labels([]), shared.access_log_dropped.count());

    let name = "tsunagi_build_info";
    page.family(name, Kind::Info, "What this binary was built from, as labels.");
    page.sample(
        name,
        &labels([("component", "proxy"), ("version", env!("CARGO_PKG_VERSION"))]),
        1,
    );

    let name = "process_start_time_seconds";
    page.family(
        name,
        Kind::Gauge,
        "When this process started, in seconds since the epoch.",
    );
    page.sample(name, &labels([]), shared.started.seconds());

    // What /proc does not say is left out rather than shown as 0.
    if let Some(bytes) = process::resident_bytes() {
        let name = "process_resident_memory_bytes";
        page.family(name, Kind::Gauge, "Resident memory of this process.");
        page.sample(name, &labels([]), bytes);
    }
    if let Some(time) = process::cpu_time() {
        let name = "process_cpu_seconds_total";
        page.family(
            name,
            Kind::Counter,
            "Processor time spent by this process, user and system.",
        );
        page.sample(name, &labels([]), time.as_secs_f64());
    }
    if let Some(count) = process::open_files() {
        let name = "process_open_fds";
        page.family(name, Kind::Gauge, "File descriptors that are open.");
        page.sample(name, &labels([]), count);
    }
}
