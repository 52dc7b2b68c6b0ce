//! `warmup`: whoever joins, or comes back from an ejection, begins with little and has its whole share when the time is over.
//!
//! Requests are counted by when they were sent: within a quarter of the time an endpoint has at most a quarter of its weight,
//! behind half of it at least a half, and afterwards all of it. What chance adds is in the bounds.

use std::time::{Duration, Instant};

use tsunagi_tests::{Behaviour, Connection, LIMIT, Sample, SidecarOptions, Upstream, Version, binomial_bounds};

use crate::{NAMES, entry, knows, name_of, rule, sample};

const WINDOW: Duration = Duration::from_secs(10);
/// Fewer say too little: of so many a third is not mistaken for a ninth.
const ENOUGH: u64 = 150;
const ALPHA: f64 = 1e-6;

/// Requests that were sent, and how many of them the endpoint had.
#[derive(Debug)]
struct Counted {
    sent: u64,
    had: u64,
}

/// One request after the other until then, or as many as are asked for.
async fn send(connection: &mut Connection, endpoint: &Upstream, more: impl Fn(u64) -> bool) -> Counted {
    let before = endpoint.requests();
    let mut sent = 0;
    while more(sent) {
        assert_eq!(connection.get("echo", "/").await.status, 200);
        sent += 1;
    }
    let had = endpoint.requests() - before;
    Counted { sent, had }
}

/// The third endpoint of three that has warmed up since a moment between these two.
async fn warms_up(sample: &Sample, connection: &mut Connection, after: Instant, before: Instant) {
    let endpoint = &sample.upstreams[2];
    let until = |moment: Instant| move |_| Instant::now() < moment;
    let early = send(connection, endpoint, until(after + WINDOW / 4)).await;
    send(connection, endpoint, until(before + WINDOW / 2)).await;
    let late = send(connection, endpoint, until(after + WINDOW * 3 / 4)).await;
    send(connection, endpoint, until(before + WINDOW)).await;
    let warm = send(connection, endpoint, |sent| sent < 600).await;

    assert!(
        early.sent >= ENOUGH && late.sent >= ENOUGH,
        "this machine is too slow for the test to say anything: {early:?} {late:?}"
    );
    // Beside two others: 0.25 of 2.25, 0.5 of 2.5.
    let (_, most) = binomial_bounds(early.sent, 1.0 / 9.0, ALPHA);
    assert!(early.had <= most, "{early:?}: at most {most}");
    let (least, _) = binomial_bounds(late.sent, 0.2, ALPHA);
    assert!(late.had >= least, "{late:?}: at least {least}");
    let (least, most) = binomial_bounds(warm.sent, 1.0 / 3.0, ALPHA);
    assert!((least..=most).contains(&warm.had), "{warm:?}: {least} to {most}");
}

async fn joins(load_balancer: &str) {
    let sample = sample("http", &NAMES[..3], load_balancer, 1).await;
    let mut connection = sample.connect(Version::Http1).await;
    assert_eq!(
        connection.get("echo", "/").await.status,
        200,
        "now the service is known"
    );
    let name = name_of(2, NAMES[2]);
    let deleted = sample.control.cli(&["delete", "WorkloadEntry", &name]).await;
    assert_eq!(deleted.code, 0, "{}", deleted.stderr);
    knows(&sample.sidecar, 2).await;
    let without = send(&mut connection, &sample.upstreams[2], |sent| sent < 50).await;
    assert_eq!(without.had, 0);
    let after = Instant::now();
    sample.control.apply(&entry(&sample, 2, 1)).await;
    knows(&sample.sidecar, 3).await;
    warms_up(&sample, &mut connection, after, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_joins_others_begins_with_little_and_has_its_share_in_the_end() {
    tokio::join!(
        joins("{simple: ROUND_ROBIN, warmupDurationSecs: 10s}"),
        joins("{simple: LEAST_REQUEST, warmup: {duration: 10s, minimumPercent: 5, aggression: 1}}")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_returns_from_an_ejection_warms_up_anew() {
    let rules = rule("{simple: ROUND_ROBIN, warmup: {duration: 10s}}")
        + "    outlierDetection: {consecutive5xxErrors: 3, interval: 50ms, baseEjectionTime: 300ms}\n";
    let options = SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    };
    let sample = Sample::with("http", &NAMES[..3], &rules, &options).await;
    let endpoint = &sample.upstreams[2];
    endpoint.set(Behaviour::Status(500));
    let mut connection = sample.connect(Version::Http1).await;
    while endpoint.requests() < 3 {
        connection.get("echo", "/").await;
    }
    endpoint.set(Behaviour::Answer);
    let begun = Instant::now();
    // It warms up from the moment that its probe was answered.
    let after = loop {
        let sent = Instant::now();
        if connection.get("echo", "/").await.text() == NAMES[2] {
            break sent;
        }
        assert!(begun.elapsed() < LIMIT, "it does not return");
    };
    assert!(begun.elapsed() >= Duration::from_millis(250), "it was not ejected");
    warms_up(&sample, &mut connection, after, Instant::now()).await;
}
