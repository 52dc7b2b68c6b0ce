//! Tests of the exposition as a whole: what Prometheus sees.

use std::time::Duration;

use http::Method;

use super::*;

fn line<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.lines().find(|line| line.starts_with(start))
}

#[test]
fn a_request_shows_with_every_promised_label() {
    let telemetry = Telemetry::new("client");
    let series = telemetry.request_series(Direction::Outbound, "canary", "users.default.svc.cluster.local", "v2");
    series.record(&Method::GET, 503, Flags::URX | Flags::UF, Duration::from_millis(3));
    let text = telemetry.render(false);
    assert_eq!(
        line(&text, "http_requests_total{"),
        Some(
            "http_requests_total{direction=\"outbound\",method=\"GET\",route=\"canary\",status_code=\"503\",\
             destination_service=\"users.default.svc.cluster.local\",destination_subset=\"v2\",\
             source_workload=\"client\",response_flags=\"URX,UF\",grpc_status=\"\"} 1"
        )
    );
    let duration = "http_request_duration_seconds_bucket{direction=\"outbound\",method=\"GET\",route=\"canary\",\
                    status_code=\"503\",destination_service=\"users.default.svc.cluster.local\",\
                    destination_subset=\"v2\",le=";
    assert_eq!(
        line(&text, &format!("{duration}\"0.0025\"}}")),
        Some(format!("{duration}\"0.0025\"}} 0").as_str())
    );
    assert_eq!(
        line(&text, &format!("{duration}\"0.005\"}}")),
        Some(format!("{duration}\"0.005\"}} 1").as_str())
    );
    assert_eq!(
        line(&text, &format!("{duration}\"1\"}}")),
        Some(format!("{duration}\"1\"}} 1").as_str())
    );
}

#[test]
fn a_tcp_connection_shows_with_every_promised_label_and_a_port_without_one_does_not() {
    let telemetry = Telemetry::new("client");
    let series = telemetry.tcp_series(Direction::Outbound, "db.default.svc.cluster.local", "");
    let _unused = telemetry.tcp_series(Direction::Outbound, "web.default.svc.cluster.local", "");
    series.received.increment(3);
    series.sent.increment(5);
    series.record(Flags::UC);
    let text = telemetry.render(false);
    let labels = "direction=\"outbound\",destination_service=\"db.default.svc.cluster.local\",destination_subset=\"\"";
    for expected in [
        format!("tsunagi_tcp_connections_total{{{labels},response_flags=\"UC\"}} 1"),
        format!("tsunagi_tcp_received_bytes_total{{{labels}}} 3"),
        format!("tsunagi_tcp_sent_bytes_total{{{labels}}} 5"),
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
    assert!(!text.contains("web.default"));
}

#[test]
fn inbound_requests_have_no_source_workload() {
    let telemetry = Telemetry::new("client");
    let series = telemetry.request_series(Direction::Inbound, "", "", "");
    series.record(&Method::GET, 200, Flags::NONE, Duration::ZERO);
    let text = telemetry.render(false);
    assert!(line(&text, "http_requests_total{").is_some_and(|line| line.contains("source_workload=\"\"")));
}

#[test]
fn a_series_lives_on_over_a_push_and_vanishes_with_its_last_holder() {
    let telemetry = Telemetry::new("");
    let old = telemetry.request_series(Direction::Outbound, "r", "s", "");
    old.record(&Method::GET, 200, Flags::NONE, Duration::ZERO);
    let new = telemetry.request_series(Direction::Outbound, "r", "s", "");
    drop(old);
    assert!(line(&telemetry.render(false), "http_requests_total{").is_some());
    drop(new);
    assert!(line(&telemetry.render(false), "http_requests_total{").is_none());

    let cluster = telemetry.cluster_series(Direction::Outbound, "s", "v1");
    cluster.connections.set(4.0);
    let text = telemetry.render(false);
    assert!(text.contains(
        "tsunagi_upstream_connections{direction=\"outbound\",destination_service=\"s\",destination_subset=\"v1\"} 4\n"
    ));
    drop(cluster);
    assert!(!telemetry.render(false).contains("tsunagi_upstream_connections{"));
}

#[test]
fn the_registry_does_not_grow_with_what_is_gone() {
    let telemetry = Telemetry::new("");
    for number in 0..1000 {
        drop(telemetry.cluster_series(Direction::Outbound, &number.to_string(), ""));
    }
    assert!(lock(&telemetry.shared.clusters).entries.len() <= 64);
}

#[test]
fn an_active_connection_counts_while_its_guard_lives() {
    let telemetry = Telemetry::new("");
    let guard = telemetry.active_connection(Direction::Inbound);
    assert!(
        telemetry
            .render(false)
            .contains("active_connections{direction=\"inbound\"} 1\n")
    );
    assert!(
        telemetry
            .render(false)
            .contains("active_connections{direction=\"outbound\"} 0\n")
    );
    drop(guard);
    assert!(
        telemetry
            .render(false)
            .contains("active_connections{direction=\"inbound\"} 0\n")
    );
}

#[test]
fn the_control_plane_series_follow_what_is_told() {
    let telemetry = Telemetry::new("");
    assert!(telemetry.render(false).contains("tsunagi_control_plane_connected 0\n"));
    telemetry.set_control_plane_connected(true);
    telemetry.set_config_version("17");
    telemetry.set_config_version("18");
    telemetry.count_config_update(UpdateResult::Refused);
    let text = telemetry.render(false);
    assert!(text.contains("tsunagi_control_plane_connected 1\n"));
    assert!(text.contains("tsunagi_config_version_info{version=\"18\"} 1\n") && !text.contains("\"17\""));
    assert!(text.contains("tsunagi_config_updates_total{result=\"refused\"} 1\n"));
    assert!(text.contains("tsunagi_config_updates_total{result=\"applied\"} 0\n"));
}

#[test]
fn every_sample_belongs_to_the_family_announced_above_it() {
    let telemetry = Telemetry::new("w");
    let _cluster = telemetry.cluster_series(Direction::Outbound, "s", "v1");
    let series = telemetry.request_series(Direction::Outbound, "r", "s", "v1");
    series.record(&Method::GET, 200, Flags::NONE, Duration::from_secs(1));
    series.record(&Method::POST, 200, Flags::DC, Duration::from_secs(1));
    for openmetrics in [false, true] {
        let text = telemetry.render(openmetrics);
        let mut family = "";
        let mut seen = std::collections::BTreeSet::new();
        let body = text.strip_suffix("# EOF\n").unwrap_or(&text);
        assert_eq!(openmetrics, body.len() < text.len());
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                family = help.split(' ').next().expect("a name");
                assert!(seen.insert(family), "{family} twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                assert_eq!(kind.split(' ').next(), Some(family));
            } else {
                assert!(line.starts_with(family), "{line} is not of {family}");
            }
        }
        assert!(seen.len() > 15);
    }
}
