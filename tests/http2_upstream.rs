//! Endpoints that speak HTTP/2 say how many streams they allow; whoever is over that waits, and is not forgotten.

use tokio::task::JoinSet;
use tsunagi_tests::{Behaviour, Connection, LIMIT, Sample, SidecarOptions, Upstream, Version, eventually};

const ONE_CONNECTION: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 1
";

async fn one_stream(rules: &str) -> Sample {
    let upstream = Upstream::start_with_streams("v1", 1).await;
    Sample::of("http2", vec![upstream], &["v1"], rules, &SidecarOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_its_client_cancels_makes_room_for_the_request_that_waits() {
    let sample = one_stream(ONE_CONNECTION).await;
    let upstream = sample.upstream();
    upstream.set(Behaviour::Hold);
    let outbound = sample.sidecar.outbound;
    let get = move || async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await };
    let first = tokio::spawn(get());
    eventually("the first is there", LIMIT, async || {
        (upstream.requests() == 1).then_some(())
    })
    .await;
    let second = tokio::spawn(get());
    let waits = async || {
        let metrics = sample.sidecar.metrics().await;
        (metrics.sum("tsunagi_upstream_pending_requests", &[]) == 1.0).then_some(())
    };
    eventually("the second waits", LIMIT, waits).await;
    first.abort();
    eventually("the second is there", LIMIT, async || {
        (upstream.requests() == 2).then_some(())
    })
    .await;
    upstream.set(Behaviour::Answer);
    assert_eq!(second.await.expect("it is answered").status, 200);
    assert_eq!(upstream.peak_connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_over_the_endpoints_stream_limit_fails_no_request() {
    for rules in ["", ONE_CONNECTION] {
        let sample = one_stream(rules).await;
        let outbound = sample.sidecar.outbound;
        for _ in 0..3 {
            let mut replies = JoinSet::new();
            for _ in 0..40 {
                replies.spawn(async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await });
            }
            for reply in replies.join_all().await {
                assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
            }
        }
    }
}
