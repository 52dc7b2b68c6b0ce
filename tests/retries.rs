//! A retry goes to another endpoint, sends the whole body again, and never repeats what may have been processed.

use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use tsunagi_tests::{
    Behaviour, ControlPlane, Sample, Sidecar, SidecarOptions, Upstream, Version, Workload, body, request, service,
};

fn rules(retries: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - retries: {retries}
    route: [{{destination: {{host: echo}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {{simple: ROUND_ROBIN}}
"
    )
}

async fn two(retries: &str) -> Sample {
    Sample::with("http", &["a", "b"], &rules(retries), &SidecarOptions::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_5xx_is_retried_on_another_endpoint_when_the_rule_says_so() {
    let sample = two("{attempts: 2, retryOn: 5xx}").await;
    sample.upstreams[0].set(Behaviour::Status(500));
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..20 {
        let reply = connection.get("echo", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "b"));
    }
    let retried = sample.upstreams[0].requests();
    assert!(retried >= 5, "{retried} first attempts at the failing endpoint");
    let metrics = sample.sidecar.metrics().await;
    assert_eq!(
        metrics.sum("tsunagi_upstream_retries_total", &[]),
        retried as f64,
        "{}",
        metrics.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_that_run_out_answer_with_the_last_response_and_urx() {
    let sample = two("{attempts: 1, retryOn: 5xx}").await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Status(502)));
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (502, "URX"));
    assert_eq!(sample.requests(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_code_can_be_named() {
    let sample = two("{attempts: 2, retryOn: '409'}").await;
    sample.upstreams[0].set(Behaviour::Status(409));
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..10 {
        assert_eq!(connection.get("echo", "/").await.status, 200);
    }
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Status(500)));
    let before = sample.requests();
    assert_eq!(connection.get("echo", "/").await.status, 500);
    assert_eq!(sample.requests(), before + 1, "a 500 is not a 409");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_takes_too_long_is_given_up_for_another() {
    let sample = two("{attempts: 1, retryOn: gateway-error, perTryTimeout: 200ms}").await;
    sample.upstreams[0].set(Behaviour::Hold);
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..4 {
        let reply = connection.get("echo", "/").await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "b"), "{}", reply.flags());
        assert!(reply.elapsed < Duration::from_secs(5));
    }
    assert!(sample.upstreams[0].requests() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_body_is_sent_again_whole() {
    let sample = two("{attempts: 2, retryOn: 5xx}").await;
    sample.upstreams[0].set(Behaviour::Status(503));
    let mut connection = sample.connect(Version::Http1).await;
    for round in 0..6 {
        let text = format!("{round}: {}", "payload ".repeat(100));
        let mut put = request("PUT", "echo", "/echo");
        *put.body_mut() = body(text.clone());
        put.headers_mut().insert("x-round", HeaderValue::from(round));
        let reply = connection.send(put).await;
        assert_eq!((reply.status, reply.text()), (200, text));
    }
    assert!(sample.upstreams[0].requests() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_policy_a_refused_connection_is_retried_elsewhere() {
    let good = Upstream::start("good").await;
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    let refusing = unused.local_addr().expect("a bound socket");
    drop(unused);
    let control = ControlPlane::start();
    let workloads = [
        Workload {
            version: "good",
            address: good.address,
        },
        Workload {
            version: "refusing",
            address: refusing,
        },
    ];
    control.apply(&service("echo", "http", &workloads)).await;
    let sidecar = Sidecar::start(&control).ready().await;
    for _ in 0..20 {
        let reply = sidecar.get("echo", "/").await;
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (200, "good"),
            "{}",
            reply.flags()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_policy_nothing_that_may_have_been_processed_is_sent_twice() {
    let sample = Sample::with("http", &["a", "b"], "", &SidecarOptions::default()).await;
    let mut connection = sample.connect(Version::Http1).await;
    for (behaviour, status) in [(Behaviour::Status(503), 503), (Behaviour::Close, 503)] {
        sample
            .upstreams
            .iter()
            .for_each(|upstream| upstream.set(behaviour.clone()));
        let before = sample.requests();
        for _ in 0..5 {
            let mut post = request("POST", "echo", "/pay");
            *post.body_mut() = body("one payment");
            assert_eq!(connection.send(post).await.status, status);
        }
        assert_eq!(sample.requests(), before + 5, "{behaviour:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_0_turns_retries_off() {
    let sample = two("{attempts: 0}").await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Close));
    assert_eq!(sample.get("/").await.status, 503);
    assert_eq!(sample.requests(), 1);
}
