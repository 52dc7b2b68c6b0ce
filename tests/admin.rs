//! The operator's doors: what is in force, who is healthy, how loud the log is, and the way out.

use serde_json::Value;
use tsunagi_tests::{ISSUE_RULES, LIMIT, Sample, SidecarOptions, Upstream, eventually};

async fn sample() -> Sample {
    let upstreams = vec![Upstream::start("v1").await];
    let rules = ISSUE_RULES.replace("user-service", "echo");
    let sample = Sample::of("http", upstreams, &["v1"], &rules, &SidecarOptions::default()).await;
    sample.get("/").await;
    sample
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_dump_shows_the_rules_in_force_as_json() {
    let sample = sample().await;
    let dump = sample.sidecar.admin("GET", "/config_dump").await;
    assert_eq!(dump.status, 200);
    let _: Value = serde_json::from_slice(&dump.body).expect("JSON");
    let text = dump.text();
    assert!(
        text.contains("echo.default.svc.cluster.local") && text.contains("90"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clusters_and_listeners_show_endpoints_and_addresses() {
    let sample = sample().await;
    let clusters = sample.sidecar.admin("GET", "/clusters").await.text();
    assert!(clusters.contains("echo.default.svc.cluster.local"), "{clusters}");
    assert!(clusters.contains(&sample.upstream().address.to_string()), "{clusters}");
    let listeners = sample.sidecar.admin("GET", "/listeners").await.text();
    assert!(listeners.contains(&sample.sidecar.outbound.to_string()), "{listeners}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_changes_and_a_wrong_one_is_refused() {
    let sample = sample().await;
    assert_eq!(sample.sidecar.admin("POST", "/logging?level=debug").await.status, 200);
    assert_eq!(
        sample.sidecar.admin("POST", "/logging?level=shouting").await.status,
        400
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_something_needs_post_and_what_is_unknown_is_404() {
    let mut sample = sample().await;
    for path in ["/drain", "/quitquitquit"] {
        assert_eq!(sample.sidecar.admin("GET", path).await.status, 405, "{path}");
    }
    assert_eq!(sample.sidecar.admin("GET", "/nothing").await.status, 404);
    assert!(sample.sidecar.process.exit_status().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quitquitquit_ends_the_sidecar_with_exit_code_0() {
    let mut sample = sample().await;
    assert_eq!(sample.sidecar.admin("POST", "/quitquitquit").await.status, 200);
    let process = &mut sample.sidecar.process;
    let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
}
