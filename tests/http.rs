//! HTTP as clients and services speak it: every way to name a host, bodies in both directions, what is passed on and
//! what is not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tsunagi_tests::{
    Behaviour, Body, Connection, ControlPlane, LIMIT, RawConnection, RawUpstream, Sample, Sidecar, SidecarOptions,
    Upstream, Version, Workload, body, eventually, request, service, within,
};

const BOTH: [Version; 2] = [Version::Http1, Version::Http2];

async fn raw(sample: &Sample) -> RawConnection {
    RawConnection::open(sample.sidecar.outbound).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_named_with_or_without_port_and_by_each_of_its_names() {
    let sample = Sample::start("").await;
    for name in [
        "echo",
        "echo:80",
        "echo.default",
        "echo.default.svc",
        "echo.default.svc.cluster.local",
        "ECHO",
    ] {
        for version in BOTH {
            let reply = sample.connect(version).await.get(name, "/").await;
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (200, "v1"),
                "{name} {version:?}: {}",
                reply.flags()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_absolute_form_names_the_host_whatever_the_host_header_says() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    connection
        .write("GET http://echo/head?q=1 HTTP/1.1\r\nHost: nobody\r\n\r\n")
        .await;
    let response = connection.response().await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(
        response.text().starts_with("GET /head?q=1 HTTP/1.1\n"),
        "{}",
        response.text()
    );
    assert!(response.text().contains("host: echo\n"), "{}", response.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_opens_a_tunnel_to_a_service_of_the_mesh() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    connection
        .write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n")
        .await;
    let opened = connection.head_response().await;
    assert_eq!(opened.status, 200, "{}", opened.head);
    connection.write("GET / HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    let response = connection.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "v1"));
}

fn channel() -> (http_body_util::channel::Sender<Bytes, std::convert::Infallible>, Body) {
    let (sender, streamed) = Channel::new(1);
    (sender, streamed.boxed_unsync())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_stream_both_ways_at_once_and_trailers_pass() {
    for port_name in ["http", "http2"] {
        let sample = Sample::with(port_name, &["v1"], "", &SidecarOptions::default()).await;
        for version in BOTH {
            let place = format!("{port_name} {version:?}");
            let mut connection = sample.connect(version).await;
            let (mut sender, streamed) = channel();
            let mut echo = request("POST", "echo", "/echo");
            *echo.body_mut() = streamed;
            echo.headers_mut().insert("te", HeaderValue::from_static("trailers"));
            echo.headers_mut()
                .insert("trailer", HeaderValue::from_static("x-checksum"));
            let response = within(&place, LIMIT, connection.start(echo))
                .await
                .expect("a response before the body ends");
            let mut answer = response.into_body();
            for word in ["first", "second", "third"] {
                sender.send_data(Bytes::from(word)).await.expect("the body is open");
                let frame = within(word, LIMIT, answer.frame())
                    .await
                    .expect("a frame")
                    .expect("no error");
                assert_eq!(frame.into_data().ok(), Some(Bytes::from(word)), "{place}");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("7"));
            sender.send_trailers(trailers).await.expect("the body is open");
            drop(sender);
            let rest = within("the end", LIMIT, answer.collect()).await.expect("no error");
            assert_eq!(
                rest.trailers().and_then(|t| t.get("x-checksum")),
                Some(&HeaderValue::from_static("7")),
                "{place}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_of_an_upstream_reach_the_client() {
    let sample = Sample::start("").await;
    for version in BOTH {
        let mut get = request("GET", "echo", "/trailers");
        get.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        let reply = sample.connect(version).await.send(get).await;
        assert_eq!(reply.text(), "with trailers");
        let trailers = reply.trailers.unwrap_or_default();
        assert_eq!(
            trailers.get("x-checksum"),
            Some(&HeaderValue::from_static("42")),
            "{version:?}"
        );
    }
}

/// Until the number has stopped growing: it is the same twice, a tenth of a second apart.
async fn settled(what: &str, count: impl Fn() -> u64) -> u64 {
    let mut last = (count(), Instant::now());
    eventually(what, LIMIT, async || {
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_millis(300)).then_some(now)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_the_upstream() {
    let sample = Sample::start("").await;
    let mut before = 0;
    for version in BOTH {
        let mut connection = sample.connect(version).await;
        let response = connection
            .start(request("GET", "echo", "/endless"))
            .await
            .expect("a response");
        let sent = settled("the upstream waits", || sample.upstream().bytes() - before).await;
        // Socket buffers on two connections and a window or two, not all that an upstream can send.
        assert!(sent < 32 * 1024 * 1024, "{sent} bytes for a client that reads nothing");
        drop(response);
        drop(connection);
        let gone = async || (sample.upstream().live_connections() == 0).then_some(());
        eventually("the upstream is told that the client went", LIMIT, gone).await;
        before = sample.upstream().bytes();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_does_not_read_stops_the_client() {
    let sample = Sample::start("").await;
    sample.upstream().set(Behaviour::Hold);
    for version in BOTH {
        sample.upstream().set(Behaviour::Hold);
        let mut connection = sample.connect(version).await;
        let (mut sender, streamed) = channel();
        let mut upload = request("POST", "echo", "/swallow");
        *upload.body_mut() = streamed;
        let response = tokio::spawn(async move { connection.try_send(upload).await });
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let counted = sent.clone();
        let writer = tokio::spawn(async move {
            let part = Bytes::from(vec![b'x'; 64 * 1024]);
            while counted.load(std::sync::atomic::Ordering::Relaxed) < 64 * 1024 * 1024 {
                if sender.send_data(part.clone()).await.is_err() {
                    break;
                }
                counted.fetch_add(part.len() as u64, std::sync::atomic::Ordering::Relaxed);
            }
        });
        let taken = settled("the client waits", || sent.load(std::sync::atomic::Ordering::Relaxed)).await;
        assert!(
            taken < 32 * 1024 * 1024,
            "{taken} bytes taken for an upstream that reads nothing"
        );
        sample.upstream().set(Behaviour::Answer);
        writer.await.expect("the writer ends");
        let reply = within("the answer", LIMIT, response)
            .await
            .expect("no panic")
            .expect("an answer");
        assert_eq!(reply.text(), (64 * 1024 * 1024).to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_arrive_whole() {
    let sample = Sample::start("").await;
    let sent = Bytes::from(
        (0..5_000_000_u32)
            .map(|n| n.to_le_bytes()[(n % 3) as usize])
            .collect::<Vec<u8>>(),
    );
    for version in BOTH {
        let mut echo = request("POST", "echo", "/echo");
        *echo.body_mut() = body(sent.clone());
        assert!(
            sample.connect(version).await.send(echo).await.body == sent,
            "{version:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_is_answered_and_closed_and_kept_when_asked() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    connection.write("GET / HTTP/1.0\r\nHost: echo\r\n\r\n").await;
    let response = connection.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "v1"));
    assert!(connection.is_closed_within(LIMIT).await);
    assert_eq!(sample.upstream().last().version, "HTTP/1.1");

    let mut kept = raw(&sample).await;
    for _ in 0..2 {
        kept.write("GET / HTTP/1.0\r\nHost: echo\r\nConnection: keep-alive\r\n\r\n")
            .await;
        assert_eq!(kept.response().await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_100_continue_is_answered_before_the_body_is_sent() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    connection
        .write("POST /swallow HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        .await;
    let interim = within("an interim answer", LIMIT, connection.read_head()).await;
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    connection.write("body").await;
    let response = connection.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "4"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn head_and_204_have_no_body_and_the_connection_goes_on() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    connection
        .write("HEAD /bytes/1000 HTTP/1.1\r\nHost: echo\r\n\r\n")
        .await;
    let response = connection.head_response().await;
    assert_eq!(
        (response.status, response.header("content-length")),
        (200, Some("1000")),
        "{}",
        response.head
    );
    connection.write("HEAD / HTTP/1.1\r\nHost: nobody\r\n\r\n").await;
    assert_eq!(connection.head_response().await.status, 404);
    connection.write("GET /status/204 HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    assert_eq!(connection.response().await.status, 204);
    connection.write("GET / HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    assert_eq!(connection.response().await.text(), "v1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_case_is_kept_and_hop_by_hop_headers_are_not_passed_on() {
    let answer = b"HTTP/1.1 200 OK\r\nX-MiXed-Case: yes\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok";
    let upstream = RawUpstream::start(answer).await;
    let control = ControlPlane::start();
    let echo = service(
        "echo",
        "http",
        &[Workload {
            version: "v1",
            address: upstream.address,
        }],
    );
    control.apply(&echo).await;
    let sidecar = Sidecar::start(&control).ready().await;
    let sent = "GET / HTTP/1.1\r\nHost: echo\r\nX-SeNt-So: yes\r\nConnection: keep-alive, X-Secret-Hop\r\nX-Secret-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\nTE: gzip\r\n\r\n";
    let response = RawConnection::exchange(sidecar.outbound, sent).await;
    assert_eq!(
        (response.status, response.text().as_str()),
        (200, "ok"),
        "{}",
        response.head
    );
    assert!(response.head.contains("X-MiXed-Case: yes"), "{}", response.head);
    for hop in ["x-hop:", "keep-alive:"] {
        assert!(!response.head.to_lowercase().contains(hop), "{hop} {}", response.head);
    }
    let head = upstream.heads().pop().expect("a request arrived");
    assert!(head.contains("X-SeNt-So: yes"), "{head}");
    for hop in [
        "x-secret-hop:",
        "keep-alive:",
        "proxy-connection:",
        "upgrade:",
        "te: gzip",
    ] {
        assert!(!head.to_lowercase().contains(hop), "{hop} {head}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let sample = Sample::start("").await;
    let mut connection = raw(&sample).await;
    let requests: String = (1..=5)
        .map(|n| format!("GET /bytes/{n} HTTP/1.1\r\nHost: echo\r\n\r\n"))
        .collect();
    connection.write(requests).await;
    for n in 1..=5 {
        assert_eq!(connection.response().await.body.len(), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_operations_of_rule_and_destination_apply() {
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - headers:
      request:
        set:
          x-set: by-rule
        add:
          x-many: added
        remove:
        - x-gone
      response:
        set:
          x-answer: by-rule
        remove:
        - x-upstream
    route:
    - destination:
        host: echo
      headers:
        request:
          set:
            x-destination: here
";
    let sample = Sample::start(rules).await;
    let mut get = request("GET", "echo", "/head");
    for (name, value) in [("x-set", "by-client"), ("x-many", "first"), ("x-gone", "1")] {
        get.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let reply = sample.sidecar.send(get).await;
    assert_eq!(
        (reply.header("x-answer"), reply.header("x-upstream")),
        (Some("by-rule"), None)
    );
    let seen = sample.upstream().last().headers;
    assert_eq!(seen.get("x-set"), Some(&HeaderValue::from_static("by-rule")));
    assert_eq!(seen.get("x-destination"), Some(&HeaderValue::from_static("here")));
    assert_eq!(seen.get_all("x-many").iter().count(), 2);
    assert_eq!(seen.get("x-gone"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbound_request_reaches_the_application() {
    let app = Upstream::start("app").await;
    let control = ControlPlane::start();
    let options = SidecarOptions {
        app: Some(app.address),
        ..SidecarOptions::default()
    };
    let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    let mut connection = Connection::open(sidecar.inbound, Version::Http1).await;
    assert_eq!(connection.get("whatever", "/").await.text(), "app");
    let metrics = sidecar.metrics().await;
    assert_eq!(
        metrics.sum(
            "http_requests_total",
            &[("direction", "inbound"), ("status_code", "200")]
        ),
        1.0
    );
}
