//! Faults that a rule injects, as clients bear them, through real processes.

use std::time::{Duration, Instant};

use http::HeaderValue;
use tsunagi_tests::{RawConnection, Sample, Version, binomial_bounds, eventually, request};

async fn sample(fault: &str) -> Sample {
    Sample::start(&format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - match: [{{uri: {{prefix: /faulty}}}}]
    fault: {fault}
    timeout: 1s
    route: [{{destination: {{host: echo}}}}]
  - route: [{{destination: {{host: echo}}}}]
"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_answers_in_place_of_every_endpoint() {
    let sample = sample("{abort: {httpStatus: 418, percentage: {value: 100}}}").await;
    for version in [Version::Http1, Version::Http2] {
        let reply = sample.connect(version).await.get("echo", "/faulty").await;
        assert_eq!((reply.status, reply.flags()), (418, "FI"));
        assert_eq!(reply.text(), "fault filter abort");
        assert_eq!(sample.connect(version).await.get("echo", "/").await.status, 200);
    }
    assert_eq!(sample.requests(), 2);
    let metrics = sample.sidecar.metrics().await;
    assert_eq!(metrics.sum("http_requests_total", &[("response_flags", "FI")]), 2.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_status_is_told_to_grpc_clients_and_translated_for_others() {
    let sample = sample("{abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}").await;
    let mut call = request("POST", "echo", "/faulty");
    let kind = HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", kind);
    let reply = sample.connect(Version::Http2).await.send(call).await;
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("8")));
    assert_eq!(reply.header("grpc-message"), Some("fault filter abort"));
    assert_eq!(sample.get("/faulty").await.status, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_holds_the_request_and_not_its_timeout() {
    let sample = sample("{delay: {fixedDelay: 1200ms, percentage: {value: 100}}}").await;
    let begun = Instant::now();
    let reply = sample.get("/faulty").await;
    // The rule's timeout is shorter than the delay, and begins behind it.
    assert_eq!((reply.status, reply.flags()), (200, "DI"));
    assert!(begun.elapsed() >= Duration::from_millis(1200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_during_a_delay_is_not_served_any_more() {
    let sample = sample("{delay: {fixedDelay: 60s, percentage: {value: 100}}}").await;
    let mut connection = RawConnection::open(sample.sidecar.outbound).await;
    connection.write("GET /faulty HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    // It has been read once another one is answered behind it on another connection.
    assert_eq!(sample.get("/").await.status, 200);
    drop(connection);
    let gone = eventually("the request is recorded", tsunagi_tests::LIMIT, async || {
        let metrics = sample.sidecar.metrics().await;
        let count = metrics.sum("http_requests_total", &[("status_code", "0")]);
        (count > 0.0).then_some(count)
    });
    assert_eq!(gone.await, 1.0);
    assert_eq!(sample.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_of_requests_meets_the_fault() {
    const REQUESTS: u64 = 2000;
    let sample = sample("{abort: {httpStatus: 503, percentage: {value: 12.5}}}").await;
    let mut connection = sample.connect(Version::Http2).await;
    let mut aborted = 0;
    for _ in 0..REQUESTS {
        aborted += u64::from(connection.get("echo", "/faulty").await.status == 503);
    }
    let (least, most) = binomial_bounds(REQUESTS, 0.125, 1e-6);
    assert!((least..=most).contains(&aborted), "{aborted} of {REQUESTS}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_error_resets_the_stream_and_over_http1_the_connection() {
    let sample = sample("{abort: {http2Error: REFUSED_STREAM, percentage: {value: 100}}}").await;
    let mut connection = sample.connect(Version::Http2).await;
    let error = connection
        .try_send(request("GET", "echo", "/faulty"))
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("REFUSED_STREAM"), "{error:?}");
    assert_eq!(connection.get("echo", "/").await.status, 200);
    let mut connection = sample.connect(Version::Http1).await;
    assert!(connection.try_send(request("GET", "echo", "/faulty")).await.is_err());
    assert_eq!(sample.requests(), 1);
}
