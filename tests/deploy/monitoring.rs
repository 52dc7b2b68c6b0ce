//! Alerts, dashboard and the adapter's rule: promtool takes the alerts and sees them fire when they should, and every metric that is
//! named is one that the two programs show.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tsunagi_tests::Sample;

use crate::objects::find;
use crate::tools::{Tools, missing, read, run, tools};

/// How our metrics begin.
const OURS: [&str; 4] = ["tsunagi_", "http_request", "process_", "active_connections"];

fn alerts(tools: &Tools) -> Value {
    let objects = tools.judge(&read("deploy/kustomize/monitoring/alerts.yaml")).documents;
    find(&objects, "PrometheusRule").next().unwrap()["spec"].clone()
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/kustomize/monitoring/dashboard.json")).expect("JSON")
}

/// All texts at `key`, however deep.
fn texts_at<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|inner| texts_at(inner, key, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| texts_at(inner, key, found)),
        _ => {}
    }
}

/// The metrics that a query names.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| OURS.iter().any(|start| word.starts_with(start)));
    ours.filter(|word| *word != "http_requests_per_second")
        .map(str::to_owned)
        .collect()
}

/// A histogram's series are named after it.
fn family<'a>(name: &'a str, shown: &BTreeSet<String>) -> &'a str {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    base.filter(|base| shown.contains(*base)).unwrap_or(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_in_alerts_dashboard_and_adapter_is_one_that_the_programs_show() {
    let Some(tools) = tools() else { return };
    let sample = Sample::start("").await;
    sample.get("/").await;
    let pages = [
        sample.sidecar.metrics().await.text,
        sample.control.get("/metrics").await.text(),
    ];
    let lines = pages.iter().flat_map(|page| page.lines());
    let named = lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let shown: BTreeSet<String> = named.map(str::to_owned).collect();

    let (alerts, dashboard) = (alerts(&tools), dashboard());
    let adapter = tools.judge(&read("deploy/examples/prometheus-adapter.yaml")).documents;
    let mut queries = Vec::new();
    texts_at(&alerts, "expr", &mut queries);
    texts_at(&dashboard, "expr", &mut queries);
    texts_at(&dashboard, "definition", &mut queries);
    for key in ["seriesQuery", "matches"] {
        texts_at(&adapter[0], key, &mut queries);
    }
    assert!(queries.len() > 40, "{} queries", queries.len());
    let used: BTreeSet<String> = queries.iter().flat_map(|query| metrics_in(query)).collect();
    assert!(used.len() > 15, "{used:?}");
    for name in &used {
        assert!(
            shown.contains(family(name, &shown)),
            "nobody shows {name}; shown: {shown:?}"
        );
    }
    // The other way round: what is worth a metric is worth a place on the dashboard.
    for name in shown
        .iter()
        .filter(|name| name.starts_with("tsunagi_upstream") || name.starts_with("tsunagi_outlier"))
    {
        assert!(used.contains(name), "no panel or alert shows {name}");
    }
}

#[test]
fn a_metric_that_does_not_exist_is_found() {
    assert_eq!(
        metrics_in("sum by (le) (rate(http_request_duration_seconds_bucket{a=\"b\"}[5m])) > tsunagi_x"),
        ["http_request_duration_seconds_bucket", "tsunagi_x"]
            .map(str::to_owned)
            .into()
    );
    let shown = ["http_request_duration_seconds", "a_count"].map(str::to_owned).into();
    assert_eq!(
        family("http_request_duration_seconds_bucket", &shown),
        "http_request_duration_seconds"
    );
    assert_eq!(
        (family("a_count", &shown), family("b_count", &shown)),
        ("a_count", "b_count")
    );
}

#[test]
fn promtool_takes_the_alerts_and_they_fire_when_they_should() {
    let Some(tools) = tools() else { return };
    if Command::new("promtool").arg("--version").output().is_err() {
        return missing("promtool (Debian package prometheus)", "the alerts");
    }
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    // YAML contains JSON.
    let judge = |rules: &str| {
        std::fs::write(at("rules.yml"), rules).unwrap();
        std::fs::write(at("tests.yml"), read("tests/deploy/alerts.yaml")).unwrap();
        run("promtool", &["check", "rules", &at("rules.yml")], "")?;
        run("promtool", &["test", "rules", &at("tests.yml")], "")
    };
    let rules = alerts(&tools).to_string();
    if let Err(said) = judge(&rules) {
        panic!("{said}");
    }
    for (right, wrong) in [("> 0.05", "> 0.5"), ("rate(", "rat("), ("== 0", "== 7")] {
        let broken = rules.replace(right, wrong);
        assert!(broken != rules && judge(&broken).is_err(), "not found: {wrong}");
    }
}

#[test]
fn every_alert_is_tested() {
    let Some(tools) = tools() else { return };
    let alerts = alerts(&tools);
    let (mut names, tests) = (Vec::new(), read("tests/deploy/alerts.yaml"));
    texts_at(&alerts, "alert", &mut names);
    assert!(names.len() > 10, "{names:?}");
    // A week is too long for a test of minutes.
    for name in names.iter().filter(|name| **name != "TsunagiSidecarVersionsDiffer") {
        assert!(tests.contains(&format!("alertname: {name}")), "{name} is not tested");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(taken.insert((x, y)), "panels overlap at {x}, {y}: {panel}");
        }
        if panel["type"] != "row" {
            assert!(
                panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()),
                "{panel}"
            );
            assert!(
                panel["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{panel}"
            );
        }
    }
    assert!(panels.len() > 15);
}
