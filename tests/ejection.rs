//! Outlier detection: five errors in a row and an endpoint rests; one probe brings it back or sends it off again.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tsunagi_tests::{Behaviour, Connection, LIMIT, Sample, SidecarOptions, Version, eventually};

const BASE: Duration = Duration::from_millis(1500);

fn rules(extra: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
    outlierDetection:
      consecutive5xxErrors: 5
      interval: 50ms
      baseEjectionTime: 1500ms
{extra}"
    )
}

async fn two_endpoints(extra: &str) -> Sample {
    Sample::with("http", &["a", "b"], &rules(extra), &SidecarOptions::default()).await
}

async fn send(connection: &mut Connection, count: usize) {
    for _ in 0..count {
        connection.get("echo", "/").await;
    }
}

/// Sends until the first endpoint failed for the fifth time.
async fn eject_first(sample: &Sample, connection: &mut Connection, status: u16) -> Instant {
    let first = &sample.upstreams[0];
    first.set(Behaviour::Status(status));
    let started = Instant::now();
    while first.requests() < 5 {
        send(connection, 1).await;
        assert!(
            started.elapsed() < LIMIT,
            "{} requests reached the failing endpoint",
            first.requests()
        );
    }
    Instant::now()
}

async fn ejected(sample: &Sample, wanted: f64) {
    eventually(&format!("{wanted} endpoints ejected"), LIMIT, async || {
        let metrics = sample.sidecar.metrics().await;
        (metrics.sum("tsunagi_outlier_ejected_endpoints", &[]) == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_fifth_error_no_request_arrives_until_the_time_is_over_and_a_push_changes_nothing() {
    let sample = two_endpoints("").await;
    let mut connection = sample.connect(Version::Http1).await;
    let ejected_at = eject_first(&sample, &mut connection, 500).await;
    send(&mut connection, 50).await;
    // The policy stays as it is; the service's rules change.
    let route = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - name: pushed
    route:
    - destination:
        host: echo
    headers:
      response:
        set:
          x-pushed: yes-it-was
";
    sample.control.apply(route).await;
    assert_eq!(connection.get("echo", "/").await.header("x-pushed"), Some("yes-it-was"));
    send(&mut connection, 50).await;
    assert_eq!(sample.upstreams[0].requests(), 5, "an ejected endpoint got a request");
    assert!(
        ejected_at.elapsed() < BASE,
        "this machine is too slow for the test to say anything"
    );

    let metrics = sample.sidecar.metrics().await;
    let service = [("destination_service", "echo.default.svc.cluster.local")];
    assert_eq!(metrics.sum("tsunagi_outlier_ejected_endpoints", &service), 1.0);
    assert_eq!(metrics.sum("tsunagi_endpoints_healthy", &service), 1.0);
    assert_eq!(
        metrics.sum("tsunagi_outlier_ejections_total", &[("cause", "consecutive_5xx")]),
        1.0
    );

    sample.upstreams[0].set(Behaviour::Answer);
    while sample.upstreams[0].requests() == 5 {
        send(&mut connection, 1).await;
        assert!(ejected_at.elapsed() < LIMIT, "the endpoint never came back");
    }
    assert!(ejected_at.elapsed() >= BASE, "back after {:?}", ejected_at.elapsed());
    send(&mut connection, 100).await;
    assert!(
        sample.upstreams[0].requests() > 40,
        "{} requests after the return",
        sample.upstreams[0].requests()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_returned_endpoint_gets_exactly_one_probe_until_that_is_answered() {
    let sample = two_endpoints("").await;
    let mut connection = sample.connect(Version::Http1).await;
    eject_first(&sample, &mut connection, 503).await;
    let first = &sample.upstreams[0];
    first.set(Behaviour::Hold);
    let mut held = JoinSet::new();
    let started = Instant::now();
    while first.live_requests() == 0 {
        let outbound = sample.sidecar.outbound;
        held.spawn(async move {
            Connection::open(outbound, Version::Http1)
                .await
                .get("echo", "/")
                .await
                .status
        });
        while held.len() > 4 {
            held.join_next().await;
        }
        assert!(started.elapsed() < LIMIT, "no probe came");
    }
    send(&mut connection, 100).await;
    assert_eq!((first.live_requests(), first.requests()), (1, 6), "more than one probe");

    first.set(Behaviour::Answer);
    assert!(held.join_all().await.into_iter().all(|status| status == 200));
    send(&mut connection, 100).await;
    assert!(
        first.requests() > 40,
        "{} requests after a good probe",
        first.requests()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_probe_ejects_again() {
    let sample = two_endpoints("").await;
    let mut connection = sample.connect(Version::Http1).await;
    let ejected_at = eject_first(&sample, &mut connection, 500).await;
    let first = &sample.upstreams[0];
    while first.requests() == 5 {
        send(&mut connection, 1).await;
        assert!(ejected_at.elapsed() < LIMIT, "no probe came");
    }
    send(&mut connection, 100).await;
    assert_eq!(first.requests(), 6, "a failed probe must be the only request");
    assert_eq!(
        sample
            .sidecar
            .metrics()
            .await
            .sum("tsunagi_outlier_ejections_total", &[]),
        2.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_endpoint_is_never_ejected() {
    let sample = two_endpoints("      maxEjectionPercent: 100\n").await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Status(500)));
    let mut connection = sample.connect(Version::Http1).await;
    send(&mut connection, 40).await;
    ejected(&sample, 1.0).await;
    for _ in 0..20 {
        let reply = connection.get("echo", "/").await;
        assert_eq!(
            (reply.status, reply.flags()),
            (500, ""),
            "the last endpoint answers, however badly"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_errors_and_a_success_eject_nobody() {
    let sample = two_endpoints("").await;
    let mut connection = sample.connect(Version::Http1).await;
    let first = &sample.upstreams[0];
    for _ in 0..5 {
        let before = first.requests();
        first.set(Behaviour::Status(500));
        while first.requests() < before + 4 {
            send(&mut connection, 1).await;
        }
        first.set(Behaviour::Answer);
        while first.requests() < before + 5 {
            send(&mut connection, 1).await;
        }
    }
    assert_eq!(
        sample
            .sidecar
            .metrics()
            .await
            .sum("tsunagi_outlier_ejections_total", &[]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_refuses_connections_is_ejected_and_nobody_notices() {
    let sample = two_endpoints("").await;
    let mut connection = sample.connect(Version::Http1).await;
    send(&mut connection, 4).await;
    let mut sample = sample;
    // Cut: the port refuses from now on. Retries of what was provably not processed hide it from the client.
    let gone = sample.upstreams.remove(0);
    drop(gone);
    // It is avoided for a moment after each refusal, so the fifth one takes more than ten requests.
    eventually("the endpoint is ejected", LIMIT, async || {
        let reply = connection.get("echo", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "b"), "{}", reply.flags());
        let ejected = sample
            .sidecar
            .metrics()
            .await
            .sum("tsunagi_outlier_ejected_endpoints", &[]);
        (ejected == 1.0).then_some(())
    })
    .await;
}
