//! What Prometheus sees: the promised names and labels, in text that its own judge accepts, bounded whatever is sent.

use std::io::Write;
use std::process::{Command, Stdio};

use http::{HeaderName, HeaderValue};
use tsunagi_tests::{Connection, LIMIT, Metrics, Sample, Version, eventually, request};

const RULES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - name: named
    match: [{uri: {prefix: /named}}]
    route: [{destination: {host: echo, subset: v1}}]
  - route: [{destination: {host: echo, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 5}
  subsets:
  - {name: v1, labels: {version: v1}}
";
const SERVICE: &str = "echo.default.svc.cluster.local";

async fn busy() -> (Sample, Metrics) {
    let sample = Sample::start(RULES).await;
    for path in ["/named/1", "/named/2", "/status/404", "/other"] {
        sample.get(path).await;
    }
    sample.sidecar.get("nobody", "/").await;
    let metrics = sample.sidecar.metrics().await;
    (sample, metrics)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_counted_by_route_status_destination_and_flags() {
    let (_sample, metrics) = busy().await;
    assert_eq!(metrics.kind("http_requests_total"), Some("counter"));
    let count = |labels: &[(&str, &str)]| metrics.sum("http_requests_total", labels);
    let to_v1 = [
        ("destination_service", SERVICE),
        ("destination_subset", "v1"),
        ("direction", "outbound"),
    ];
    assert_eq!(count(&to_v1), 4.0, "{}", metrics.text);
    assert_eq!(
        count(&[("route", "named"), ("status_code", "200"), ("method", "GET")]),
        2.0
    );
    assert_eq!(
        count(&[
            ("route", "echo.default/1"),
            ("status_code", "404"),
            ("response_flags", "")
        ]),
        1.0
    );
    assert_eq!(
        count(&[
            ("response_flags", "NR"),
            ("status_code", "404"),
            ("destination_service", "")
        ]),
        1.0
    );
    let promised = [
        "direction",
        "method",
        "route",
        "status_code",
        "destination_service",
        "destination_subset",
        "source_workload",
        "response_flags",
        "grpc_status",
    ];
    for (labels, _) in metrics.series("http_requests_total", &[]) {
        assert!(promised.iter().all(|label| labels.contains_key(*label)), "{labels:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn durations_are_a_histogram_with_the_promised_buckets() {
    let (_sample, metrics) = busy().await;
    assert_eq!(metrics.kind("http_request_duration_seconds"), Some("histogram"));
    let bucket = |bound: &str| {
        metrics.sum(
            "http_request_duration_seconds_bucket",
            &[("route", "named"), ("le", bound)],
        )
    };
    for bound in ["0.0005", "0.1", "0.5", "1", "2", "5", "60", "+Inf"] {
        let there = metrics
            .series("http_request_duration_seconds_bucket", &[("le", bound)])
            .count();
        assert!(there > 0, "no bucket {bound}: {}", metrics.text);
    }
    assert_eq!((bucket("60"), bucket("+Inf")), (2.0, 2.0));
    assert_eq!(
        metrics.sum("http_request_duration_seconds_count", &[("route", "named")]),
        2.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promised_metric_is_there_with_its_type() {
    let (_sample, metrics) = busy().await;
    let promised = [
        ("active_connections", "gauge"),
        ("tsunagi_upstream_connections", "gauge"),
        ("tsunagi_upstream_active_requests", "gauge"),
        ("tsunagi_upstream_pending_requests", "gauge"),
        ("tsunagi_upstream_overflow_total", "counter"),
        ("tsunagi_upstream_retries_total", "counter"),
        ("tsunagi_outlier_ejections_total", "counter"),
        ("tsunagi_outlier_ejections_overflow_total", "counter"),
        ("tsunagi_outlier_unejections_total", "counter"),
        ("tsunagi_outlier_ejected_endpoints", "gauge"),
        ("tsunagi_endpoints_healthy", "gauge"),
        ("tsunagi_upstream_panic", "gauge"),
        ("tsunagi_config_version_info", "gauge"),
        ("tsunagi_config_updates_total", "counter"),
        ("tsunagi_control_plane_connected", "gauge"),
    ];
    for (name, kind) in promised {
        assert_eq!(metrics.kind(name), Some(kind), "{name}\n{}", metrics.text);
    }
    let to_v1 = [("destination_service", SERVICE), ("destination_subset", "v1")];
    // Each worker keeps connections of its own.
    assert!(
        (1.0..=2.0).contains(&metrics.sum("tsunagi_upstream_connections", &to_v1)),
        "{}",
        metrics.text
    );
    assert_eq!(metrics.sum("tsunagi_endpoints_healthy", &to_v1), 1.0);
    assert_eq!(metrics.sum("tsunagi_control_plane_connected", &[]), 1.0);
    for limit in ["connections", "pending_requests", "requests", "retries"] {
        assert_eq!(metrics.sum("tsunagi_upstream_overflow_total", &[("limit", limit)]), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_series_is_bounded_whatever_clients_send() {
    let (sample, _) = busy().await;
    let mut connection = sample.connect(Version::Http1).await;
    // Once over all that a client can vary, so that what may grow has grown.
    let odd = |round: usize| {
        let method = format!("M{round}");
        let mut odd = request(&method, "echo", &format!("/path/{round}?q={round}"));
        let header = HeaderName::from_bytes(format!("x-{round}").as_bytes()).expect("a header name");
        odd.headers_mut().insert(header, HeaderValue::from(round));
        odd
    };
    connection.send(odd(0)).await;
    connection.get("unknown-0", "/").await;
    let before = sample.sidecar.metrics().await;
    for round in 1..300 {
        connection.send(odd(round)).await;
        connection.get(&format!("unknown-{round}"), &format!("/{round}")).await;
    }
    let after = sample.sidecar.metrics().await;
    assert_eq!(after.series_count(), before.series_count());
    assert_eq!(after.sum("http_requests_total", &[("method", "OTHER")]), 300.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_of_what_is_gone_vanish() {
    let (sample, metrics) = busy().await;
    assert!(metrics.sum("http_requests_total", &[("route", "named")]) > 0.0);
    sample
        .control
        .apply(&RULES.replace("name: named", "name: renamed"))
        .await;
    let gone = async || {
        sample.get("/named/3").await;
        let after = sample.sidecar.metrics().await;
        (after.series("http_requests_total", &[("route", "named")]).count() == 0).then_some(after)
    };
    let after = eventually("the old route's series are gone", LIMIT, gone).await;
    assert!(after.sum("http_requests_total", &[("route", "renamed")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_paths_serve_text_and_openmetrics_is_served_when_asked_for() {
    let (sample, _) = busy().await;
    let mut connection = Connection::open(sample.sidecar.metrics, Version::Http1).await;
    let text = connection.get("proxy", "/stats/prometheus").await;
    assert!(
        text.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    assert!(Metrics::parse(&text.text()).sum("http_requests_total", &[]) >= 5.0);
    let mut open = request("GET", "proxy", "/metrics");
    open.headers_mut().insert(
        "accept",
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0"),
    );
    let open = connection.send(open).await;
    assert!(
        open.header("content-type")
            .is_some_and(|kind| kind.starts_with("application/openmetrics-text"))
    );
    assert!(open.text().ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_finds_nothing_to_say_about_either_binary() {
    let (sample, metrics) = busy().await;
    let control = sample.control.get("/metrics").await.text();
    assert!(!control.is_empty());
    for (name, text) in [("tsunagi-proxy", &metrics.text), ("tsunagi", &control)] {
        let Some(problems) = promtool(text) else {
            assert!(
                std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
                "promtool is not installed"
            );
            eprintln!("NOT RUN: promtool is not installed (Debian package prometheus); nothing judged the metrics");
            return;
        };
        assert_eq!(problems, "", "{name}:\n{text}");
    }
}

/// What `promtool check metrics` complains of; nothing when there is no promtool.
fn promtool(text: &str) -> Option<String> {
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().ok()?;
    child.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let output = child.wait_with_output().ok()?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    // An older promtool knows no unit-less names by exception; exit code and words must both be clean.
    if output.status.success() {
        Some(said)
    } else {
        Some(format!("exit {:?}: {said}", output.status.code()))
    }
}
