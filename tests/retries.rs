//! A retry goes to another endpoint, sends the whole body again, and never repeats what may have been processed; all of them
//! together take no longer than the request may.

use std::time::Duration;

use http::HeaderValue;
use tokio::net::TcpListener;
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, Sample, Sidecar, SidecarOptions, Upstream, Version, Workload, body,
    eventually, request, service, slow_body,
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

/// Of a request that takes `timeout` altogether.
async fn two_within(timeout: &str, retries: &str) -> Sample {
    two(&format!("{retries}\n    timeout: {timeout}")).await
}

fn all(sample: &Sample, behaviour: Behaviour) {
    for upstream in &sample.upstreams {
        upstream.set(behaviour.clone());
    }
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
async fn every_retry_is_counted_by_its_own_result() {
    let rules = rules("{attempts: 3, retryOn: '503,unavailable', backoff: 1ms}");
    let sample = Sample::with("http", &["a", "b", "c"], &rules, &SidecarOptions::default()).await;
    let counted = async |result: &str| {
        let metrics = sample.sidecar.metrics().await;
        metrics.sum("tsunagi_upstream_retries_total", &[("result", result)])
    };
    for failing in [Behaviour::Status(503), Behaviour::Head(200, "grpc-status", "14")] {
        let before = counted("failure").await;
        all(&sample, failing);
        for _ in 0..5 {
            assert_eq!(sample.get("/").await.flags(), "URX");
        }
        assert_eq!(
            (counted("failure").await - before, counted("success").await),
            (15.0, 0.0)
        );
    }
    // Two of three fail: whoever meets both is sent again twice.
    all(&sample, Behaviour::Status(503));
    sample.upstreams[2].set(Behaviour::Answer);
    let (failures, requests) = (counted("failure").await, sample.requests());
    let mut retried = 0;
    for _ in 0..9 {
        let before = sample.requests();
        assert_eq!(sample.get("/").await.status, 200);
        retried += u64::from(sample.requests() > before + 1);
    }
    let retries = (sample.requests() - requests - 9) as f64;
    assert_eq!(counted("success").await, retried as f64);
    assert_eq!(counted("failure").await - failures, retries - retried as f64);
    assert!(retries > retried as f64, "{retries} {retried}");
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
async fn a_rule_that_does_not_say_when_repeats_grpc_calls_that_are_not_served() {
    for (rule, code, tries) in [
        ("{attempts: 3}", "14", 4),
        ("{attempts: 3, perTryTimeout: 2s}", "1", 4),
        ("{attempts: 3, retryOn: ''}", "14", 4),
        ("{attempts: 3}", "4", 1),
        ("{attempts: 3, retryOn: 'connect-failure'}", "14", 1),
        ("{}", "14", 1),
    ] {
        let sample = two(rule).await;
        all(&sample, Behaviour::Head(200, "grpc-status", code));
        let mut call = request("POST", "echo", "/");
        *call.body_mut() = body("a message");
        let reply = sample.connect(Version::Http1).await.send(call).await;
        let flags = if tries > 1 { "URX" } else { "" };
        assert_eq!((reply.status, reply.flags()), (200, flags), "{rule} {code}");
        assert_eq!(sample.requests(), tries, "{rule} {code}");
    }
    let sample = two("{attempts: 3}").await;
    all(&sample, Behaviour::Status(503));
    assert_eq!((sample.get("/").await.status, sample.requests()), (503, 1));
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tries_that_are_all_too_slow_end_in_504_ut_and_urx() {
    let sample = two("{attempts: 1, retryOn: 5xx, perTryTimeout: 150ms}").await;
    all(&sample, Behaviour::Hold);
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (504, "URX,UT"));
    assert_eq!(sample.requests(), 2);
    eventually("the log says which limit it was", LIMIT, async || {
        let lines = sample.sidecar.process.stdout();
        let said = |line: &String| line.contains("\"response_code_details\":\"upstream_per_try_timeout\"");
        lines.iter().any(said).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_is_too_slow_is_not_repeated_where_no_condition_says_so() {
    let sample = two("{attempts: 2, retryOn: 'connect-failure,refused-stream,503', perTryTimeout: 150ms}").await;
    all(&sample, Behaviour::Hold);
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (504, "UT"));
    assert_eq!(sample.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_requests_timeout_covers_all_its_tries_and_the_pauses_between() {
    let sample = two_within("1s", "{attempts: 50, retryOn: 5xx, perTryTimeout: 300ms, backoff: 1ms}").await;
    all(&sample, Behaviour::Hold);
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (504, "UT"));
    assert!(reply.elapsed >= Duration::from_secs(1), "{:?}", reply.elapsed);
    assert!((2..=4).contains(&sample.requests()), "{} tries", sample.requests());
    // A pause that would be longer than what is left.
    let sample = two_within("1s", "{attempts: 1, retryOn: 5xx, backoff: 3600s}").await;
    all(&sample, Behaviour::Close);
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (504, "UT"));
    assert_eq!(sample.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_has_waited_goes_to_the_endpoints_that_there_are_by_then() {
    let [old, new] = [Upstream::start("old").await, Upstream::start("new").await];
    let at = |upstream: &Upstream| {
        let address = upstream.address;
        service("echo", "http", &[Workload { version: "v1", address }])
    };
    let control = ControlPlane::start();
    let retries = "{attempts: 1, retryOn: 5xx, perTryTimeout: 3s}";
    let delay = format!("{retries}\n    fault: {{delay: {{fixedDelay: 3s, percentage: {{value: 100}}}}}}");
    old.set(Behaviour::Hold);
    for rule in [retries, &delay] {
        control.apply(&format!("{}---\n{}", rules(rule), at(&old))).await;
        let sidecar = Sidecar::start(&control).ready().await;
        assert!(sidecar.get("unknown", "/").await.status == 404, "it is there");
        let (outbound, held) = (sidecar.outbound, old.live_requests());
        let reply =
            tokio::spawn(async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await });
        if rule == retries {
            eventually("it is held", LIMIT, async || (old.live_requests() > held).then_some(())).await;
        } else {
            eventually("its host is known", LIMIT, async || {
                let page = sidecar.admin("GET", "/clusters").await.text();
                page.contains("outbound|80||echo").then_some(())
            })
            .await;
        }
        control.apply(&at(&new)).await;
        let reply = reply.await.expect("it is answered");
        assert_eq!((reply.status, reply.text().as_str()), (200, "new"), "{}", reply.flags());
        assert!(reply.elapsed >= Duration::from_secs(3), "{:?}", reply.elapsed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_may_not_take_longer_than_the_request() {
    let sample = two_within("300ms", "{attempts: 2, retryOn: 5xx, perTryTimeout: 30s}").await;
    all(&sample, Behaviour::Hold);
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags()), (504, "UT"));
    assert_eq!(sample.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_repeated_for_any_method_when_the_rule_says_so_and_only_then() {
    for (condition, status) in [
        ("reset", 200),
        ("5xx", 200),
        ("gateway-error", 200),
        ("connect-failure", 503),
    ] {
        let sample = two(&format!("{{attempts: 2, retryOn: {condition}}}")).await;
        sample.upstreams[0].set(Behaviour::Close);
        let mut connection = sample.connect(Version::Http1).await;
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let mut post = request("POST", "echo", "/echo");
            *post.body_mut() = body("once more");
            statuses.push(connection.send(post).await.status);
        }
        assert!(sample.upstreams[0].requests() > 0);
        assert!(statuses.contains(&status), "{condition}: {statuses:?}");
        assert_eq!(statuses.contains(&503), status == 503, "{condition}: {statuses:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_endpoint_calls_rate_limited_is_not_repeated_as_an_error() {
    let sample = two("{attempts: 2, retryOn: '5xx,429'}").await;
    all(&sample, Behaviour::Head(429, "x-envoy-ratelimited", "true"));
    let reply = sample.get("/").await;
    assert_eq!((reply.status, reply.flags(), sample.requests()), (429, "", 1));
    all(&sample, Behaviour::Status(429));
    assert_eq!(sample.get("/").await.flags(), "URX");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_too_large_to_keep_is_sent_once() {
    let sample = two("{attempts: 2, retryOn: 5xx}").await;
    // It says no only when it has read everything.
    all(&sample, Behaviour::Swallow(503));
    let mut connection = sample.connect(Version::Http1).await;
    for (length, tries, flags) in [(64 * 1024, 3, "URX"), (64 * 1024 + 1, 1, "")] {
        let before = sample.requests();
        let mut put = request("PUT", "echo", "/");
        *put.body_mut() = body(vec![b'x'; length]);
        let reply = connection.send(put).await;
        assert_eq!((reply.status, reply.flags()), (503, flags), "{length}");
        assert_eq!(sample.requests(), before + tries, "{length}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_steer_envoy_steers_nothing_and_goes_no_further() {
    let sample = two_within("10s", "{attempts: 2, retryOn: 5xx}").await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = sample.connect(version).await;
        all(&sample, Behaviour::Delay(Duration::from_millis(100)));
        let steered = |path: &str| {
            let mut steered = request("GET", "echo", path);
            for (name, value) in [
                ("x-envoy-max-retries", "0"),
                ("x-envoy-retry-on", "retriable-4xx"),
                ("x-envoy-upstream-rq-timeout-ms", "1"),
                ("x-envoy-upstream-rq-per-try-timeout-ms", "1"),
                ("x-envoy-attempt-count", "77"),
                ("x-envoy-original-path", "/kept"),
            ] {
                steered.headers_mut().insert(name, HeaderValue::from_static(value));
            }
            steered
        };
        let reply = connection.send(steered("/head")).await;
        assert_eq!(reply.status, 200, "{}", reply.flags());
        let text = reply.text();
        let mut said: Vec<_> = text.lines().filter(|line| line.starts_with("x-envoy-")).collect();
        said.sort_unstable();
        let expected = ["x-envoy-attempt-count: 1", "x-envoy-original-path: /kept"];
        assert_eq!(said, expected, "{version:?}");
        all(&sample, Behaviour::Answer);
        let before = sample.requests();
        assert_eq!(connection.send(steered("/status/503")).await.flags(), "URX");
        assert_eq!(sample.requests(), before + 3);
        let before = sample.requests();
        assert_eq!(connection.send(steered("/status/409")).await.flags(), "");
        assert_eq!(sample.requests(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_upload_is_not_the_endpoints_time() {
    let sample = two_within("700ms", "{attempts: 0}").await;
    let pause = Duration::from_millis(400);
    for version in [Version::Http1, Version::Http2] {
        let mut connection = sample.connect(version).await;
        let mut post = request("POST", "echo", "/swallow");
        *post.body_mut() = slow_body(&["one", "two", "three"], pause);
        let reply = connection.send(post).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "11"), "{}", reply.flags());
        assert!(reply.elapsed >= 3 * pause);
    }
    // It counts from the last byte on.
    all(&sample, Behaviour::Hold);
    let mut connection = sample.connect(Version::Http1).await;
    let mut post = request("POST", "echo", "/");
    *post.body_mut() = slow_body(&["one", "two", "three"], Duration::from_millis(100));
    let reply = connection.send(post).await;
    assert_eq!((reply.status, reply.flags()), (504, "UT"));
}
