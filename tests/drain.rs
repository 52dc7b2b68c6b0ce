//! Leaving: readiness fails, requests in flight finish, and then the process is gone, in time.

use std::time::{Duration, Instant};

use tsunagi_tests::{Behaviour, Connection, LIMIT, Sample, SidecarOptions, Version, eventually};

async fn sample(drain_timeout: &str) -> Sample {
    let args = vec!["--drain-timeout".to_owned(), drain_timeout.to_owned()];
    let sample = Sample::with(
        "http",
        &["v1"],
        "",
        &SidecarOptions {
            args,
            ..SidecarOptions::default()
        },
    )
    .await;
    assert_eq!(sample.get("/").await.status, 200);
    sample
}

async fn not_ready(sample: &Sample) {
    let failing = async || (sample.sidecar.health("/healthz/ready").await == 503).then_some(());
    eventually("readiness fails", LIMIT, failing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sigterm_readiness_fails_and_requests_in_flight_finish() {
    for version in [Version::Http1, Version::Http2] {
        let mut sample = sample("20s").await;
        sample.upstream().set(Behaviour::Hold);
        let mut connection = Connection::open(sample.sidecar.outbound, version).await;
        let in_flight = tokio::spawn(async move { connection.get("echo", "/").await });
        let arrived = async || (sample.upstream().live_requests() == 1).then_some(());
        eventually("the request is at the upstream", LIMIT, arrived).await;
        sample.sidecar.process.signal("TERM");
        not_ready(&sample).await;
        assert!(
            sample.sidecar.process.exit_status().is_none(),
            "gone with a request in flight"
        );
        sample.upstream().set(Behaviour::Answer);
        let reply = in_flight.await.expect("the client lives");
        assert_eq!((reply.status, reply.text().as_str()), (200, "v1"), "{version:?}");
        let process = &mut sample.sidecar.process;
        let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
        assert_eq!(status.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_timeout_ends_what_does_not_finish() {
    let mut sample = sample("1s").await;
    sample.upstream().set(Behaviour::Hold);
    let outbound = sample.sidecar.outbound;
    let mut connection = Connection::open(outbound, Version::Http1).await;
    let in_flight = tokio::spawn(async move {
        connection
            .start(tsunagi_tests::request("GET", "echo", "/"))
            .await
            .is_ok()
    });
    let arrived = async || (sample.upstream().live_requests() == 1).then_some(());
    eventually("the request is at the upstream", LIMIT, arrived).await;
    let started = Instant::now();
    sample.sidecar.process.signal("TERM");
    let process = &mut sample.sidecar.process;
    eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    in_flight.await.expect("the client lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_over_the_admin_door_fails_readiness_and_keeps_serving_what_is_open() {
    let sample = sample("20s").await;
    let mut connection = sample.connect(Version::Http1).await;
    assert_eq!(connection.get("echo", "/").await.status, 200);
    assert_eq!(sample.sidecar.admin("POST", "/drain").await.status, 200);
    not_ready(&sample).await;
    assert_eq!(sample.sidecar.health("/healthz/live").await, 200);
}
