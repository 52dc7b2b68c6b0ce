//! WebSocket and its like through sidecars: requests until the endpoint agrees, bytes from there on. Both ends are a
//! WebSocket library where it is about WebSocket, and bytes where it is about how things end.

#[path = "websocket/edges.rs"]
mod edges;
#[path = "websocket/h2c.rs"]
mod h2c;
#[path = "websocket/peers.rs"]
mod peers;
#[path = "websocket/translated.rs"]
mod translated;

use std::time::{Duration, Instant};

use tokio_tungstenite::tungstenite::{Error, Message};
use tsunagi_tests::{LIMIT, Sidecar, SidecarOptions, eventually};

use peers::{Echo, Ended, Mesh, closes, says};

const LARGE_BYTES: usize = 4 * 1024 * 1024;
const VERSIONS: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  subsets:
  - name: v1
    labels:
      version: v1
  - name: v2
    labels:
      version: v2
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - name: testers
    match:
    - headers:
        x-user:
          exact: tester
        upgrade:
          exact: websocket
    headers:
      request:
        set:
          x-told: 'yes'
      response:
        set:
          x-heard: 'yes'
    route:
    - destination:
        host: echo
        subset: v2
  - route:
    - destination:
        host: echo
        subset: v1
";

pub(crate) fn limits(pool: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    connectionPool:
{pool}"
    )
}

fn status(answer: Result<(peers::WebSocket, http::HeaderMap), Error>) -> (u16, String) {
    match answer {
        Err(Error::Http(response)) => {
            let flags = response.headers().get("x-tsunagi-response-flags");
            let flags = flags.and_then(|flags| flags.to_str().ok()).unwrap_or_default();
            (response.status().as_u16(), flags.to_owned())
        }
        Err(error) => (0, error.to_string()),
        Ok(_) => (101, String::new()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_any_size_pass_and_the_request_is_recorded_when_both_have_closed() {
    let echo = Echo::start("v1").await;
    let mesh = Mesh::start("http", &[("v1", echo.address)], "").await;
    let (mut socket, headers) = mesh.open(&[]).await.expect("an upgrade");
    assert_eq!(headers.get("x-version").map(|it| it.as_bytes()), Some(&b"v1"[..]));
    for message in [
        Message::text("one"),
        Message::binary(Vec::new()),
        Message::binary(vec![7; LARGE_BYTES]),
        Message::text("x".repeat(70_000)),
    ] {
        says(&mut socket, message).await;
    }
    let metrics = mesh.sidecar.metrics().await;
    assert_eq!(metrics.sum("tsunagi_upstream_active_requests", &[]), 1.0);
    assert_eq!(metrics.sum("http_requests_total", &[]), 0.0);
    assert_eq!(mesh.sidecar.process.stdout(), Vec::<String>::new());
    closes(socket).await;
    echo.ended(&[Ended::Closed]).await;

    let labels = [("status_code", "101"), ("method", "GET"), ("response_flags", "")];
    mesh.counted(&mesh.sidecar, &labels, 1.0).await;
    let line = mesh.log_line().await;
    assert_eq!((&line["response_code"], &line["path"]), (&101.into(), &"/chat".into()));
    assert_eq!(line["response_code_details"], "via_upstream");
    for bytes in ["bytes_received", "bytes_sent"] {
        let bytes = line[bytes].as_u64().expect("a number");
        assert!(bytes > LARGE_BYTES as u64 + 70_000, "{line}");
    }
    let metrics = mesh.sidecar.metrics().await;
    for gauge in ["tsunagi_upstream_active_requests", "tsunagi_upstream_connections"] {
        assert_eq!(metrics.sum(gauge, &[]), 0.0, "{gauge}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_route_an_upgrade_and_change_its_headers_as_of_any_request() {
    let (v1, v2) = (Echo::start("v1").await, Echo::start("v2").await);
    let mesh = Mesh::start("http", &[("v1", v1.address), ("v2", v2.address)], VERSIONS).await;
    for _ in 0..4 {
        let (mut socket, headers) = mesh.open(&[("x-user", "tester")]).await.expect("an upgrade");
        assert_eq!(headers["x-version"], "v2");
        assert_eq!(headers["x-heard"], "yes");
        says(&mut socket, Message::text("hello")).await;
        let (_, headers) = mesh.open(&[]).await.expect("an upgrade");
        assert_eq!(headers["x-version"], "v1");
        assert!(!headers.contains_key("x-heard"));
    }
    let request = v2.requests().pop().expect("it was asked");
    assert_eq!(request.headers()["x-told"], "yes");
    assert!(request.headers().contains_key("x-request-id"));
    assert_eq!(v1.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_the_callers_sidecar_and_the_endpoints_both_record_it() {
    let echo = Echo::start("v1").await;
    let nowhere = SidecarOptions {
        node_id: "callee".into(),
        app: Some(echo.address),
        ..SidecarOptions::default()
    };
    let control = tsunagi_tests::ControlPlane::start();
    let callee = Sidecar::start_with(control.grpc, &nowhere).ready().await;
    let mesh = Mesh::start("http", &[("v1", callee.inbound)], "").await;
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    says(&mut socket, Message::binary(vec![1; LARGE_BYTES])).await;
    closes(socket).await;
    echo.ended(&[Ended::Closed]).await;
    let labels = [("status_code", "101"), ("response_flags", "")];
    mesh.counted(&mesh.sidecar, &labels, 1.0).await;
    mesh.counted(&callee, &[("direction", "inbound"), labels[0], labels[1]], 1.0)
        .await;

    // A client that vanishes is one for the application, too.
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    says(&mut socket, Message::text("here")).await;
    socket.get_ref().set_zero_linger().expect("a socket");
    drop(socket);
    echo.ended(&[Ended::Closed, Ended::Broken]).await;
    let gone = [("status_code", "101"), ("response_flags", "DC")];
    mesh.counted(&mesh.sidecar, &gone, 1.0).await;
    mesh.counted(&callee, &gone, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_is_for_the_answer_and_does_not_cut_what_it_has_opened() {
    const TIMEOUT: Duration = Duration::from_millis(400);
    let rules = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - timeout: 400ms
    retries:
      attempts: 1
      perTryTimeout: 300ms
    route:
    - destination:
        host: echo
";
    let echo = Echo::start("v1").await;
    let mesh = Mesh::start("http", &[("v1", echo.address)], rules).await;
    let started = Instant::now();
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    while started.elapsed() < 3 * TIMEOUT {
        says(&mut socket, Message::text("still here")).await;
    }
    closes(socket).await;

    let silent =
        tsunagi_tests::RawUpstream::serving(async |mut connection| while connection.next_head().await.is_some() {})
            .await;
    let mesh = Mesh::start("http", &[("v1", silent.address)], rules).await;
    assert_eq!(status(mesh.open(&[]).await).0, 504);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_holds_its_connection_and_nobody_waits_for_it() {
    let echo = Echo::start("v1").await;
    let rules = limits("      tcp:\n        maxConnections: 1\n");
    let mesh = Mesh::start("http", &[("v1", echo.address)], &rules).await;
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    assert_eq!(status(mesh.open(&[]).await), (503, "UO".to_owned()));
    let reply = mesh.sidecar.get("echo", "/").await;
    assert_eq!((reply.status, reply.flags()), (503, "UO"), "nor does a request");
    says(&mut socket, Message::text("undisturbed")).await;
    let metrics = mesh.sidecar.metrics().await;
    assert_eq!(metrics.sum("tsunagi_upstream_connections", &[]), 1.0);
    let overflows = [("limit", "connections")];
    assert_eq!(metrics.sum("tsunagi_upstream_overflow_total", &overflows), 2.0);
    closes(socket).await;
    eventually("the place is free again", LIMIT, async || {
        mesh.open(&[]).await.is_ok().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_counts_as_a_request_for_as_long_as_it_lives() {
    let echo = Echo::start("v1").await;
    let rules = limits("      http:\n        http2MaxRequests: 1\n");
    let mesh = Mesh::start("http", &[("v1", echo.address)], &rules).await;
    let (socket, _) = mesh.open(&[]).await.expect("an upgrade");
    assert_eq!(status(mesh.open(&[]).await), (503, "UO".to_owned()));
    closes(socket).await;
    eventually("the place is free again", LIMIT, async || {
        mesh.open(&[]).await.is_ok().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_drains_waits_for_it() {
    let echo = Echo::start("v1").await;
    let options = SidecarOptions {
        args: vec!["--drain-timeout".into(), "20s".into()],
        ..SidecarOptions::default()
    };
    let mut mesh = Mesh::with("http", &[("v1", echo.address)], "", &options).await;
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    mesh.sidecar.process.signal("TERM");
    eventually("readiness fails", LIMIT, async || {
        (mesh.sidecar.health("/healthz/ready").await == 503).then_some(())
    })
    .await;
    says(&mut socket, Message::text("still here")).await;
    assert_eq!(mesh.sidecar.process.exit_status(), None);
    closes(socket).await;
    let process = &mut mesh.sidecar.process;
    let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
    echo.ended(&[Ended::Closed]).await;
}
