//! gRPC as its users see it, with grpcio at both ends and a sidecar beside each: every kind of call, deadlines, cancellation,
//! what the proxy answers by itself, and each call's status in metrics and log.

use std::process::Command;
use std::time::Duration;

use http::HeaderValue;
use tokio::task::block_in_place;
use tsunagi_tests::{
    Behaviour, Body, Connection, ControlPlane, LIMIT, Process, Reply, Sample, Sidecar, SidecarOptions, Version,
    Workload, eventually, request, service, within,
};

const PYTHON: &str = "/usr/bin/python3";
const SERVICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/grpc/service.py");

/// Whether grpcio is there; if not, the test says so, or fails where nothing may be skipped.
fn is_installed() -> bool {
    let output = Command::new(PYTHON).args(["-c", "import grpc"]).output();
    let there = output.is_ok_and(|output| output.status.success());
    if !there {
        let said = "the Debian package python3-grpcio is missing";
        assert!(std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(), "{said}");
        eprintln!("NOT RUN: {said}");
    }
    there
}

/// Caller's sidecar, callee's sidecar, application.
struct Chain {
    caller: Sidecar,
    callee: Sidecar,
    app: Process,
    _control: ControlPlane,
}

async fn chain(fields: &str) -> Chain {
    let app = Process::start("the gRPC server", Command::new(PYTHON).args([SERVICE, "serve", "app"]));
    let address = block_in_place(|| app.address("grpc", LIMIT));
    let control = ControlPlane::start();
    let start = async |name: &str| {
        let options = SidecarOptions {
            node_id: name.into(),
            app: Some(address),
            ..SidecarOptions::default()
        };
        Sidecar::start_with(control.grpc, &options).ready().await
    };
    let callee = start("callee").await;
    let workload = Workload {
        version: "v1",
        address: callee.inbound,
    };
    let rules = format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: calls
spec:
  hosts: [calls]
  http:
  - {fields}
    route: [{{destination: {{host: calls}}}}]
---
{}",
        service("empty", "grpc", &[])
    );
    control.apply(&(service("calls", "grpc", &[workload]) + &rules)).await;
    Chain {
        caller: start("caller").await,
        callee,
        app,
        _control: control,
    }
}

impl Chain {
    /// What grpcio's client says.
    async fn call_to(&self, authority: &str, arguments: &[&str]) -> String {
        let mut client = Command::new(PYTHON);
        client.env("GRPC_DNS_RESOLVER", "native");
        client.args([SERVICE, "call", &self.caller.outbound.to_string(), authority]);
        let output = block_in_place(|| client.args(arguments).output()).expect("python runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    async fn call(&self, arguments: &[&str]) -> String {
        self.call_to("calls", arguments).await
    }

    /// A call by hand, whose client waits whatever the deadline.
    async fn raw(&self, method: &str, grpc_timeout: Option<&'static str>, text: &str) -> Reply {
        let mut connection = Connection::open(self.caller.outbound, Version::Http2).await;
        let mut call = grpc("calls", &format!("/tsunagi.tests.Calls/{method}"));
        if let Some(time) = grpc_timeout {
            call.headers_mut()
                .insert("grpc-timeout", HeaderValue::from_static(time));
        }
        let mut message = vec![0, 0, 0, 0, text.len() as u8];
        message.extend_from_slice(text.as_bytes());
        *call.body_mut() = tsunagi_tests::body(message);
        connection.send(call).await
    }

    async fn told(&self, line: &str) {
        eventually(line, LIMIT, async || {
            self.app.stdout().iter().any(|told| told == line).then_some(())
        })
        .await;
    }
}

fn grpc(host: &str, path: &str) -> http::Request<Body> {
    let mut call = request("POST", host, path);
    let content_type = HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", content_type);
    call.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    call
}

/// Calls that ended so, as this sidecar counts them.
async fn counted(sidecar: &Sidecar, labels: &[(&str, &str)], expected: f64) {
    let what = format!("{labels:?} = {expected}");
    eventually(&what, LIMIT, async || {
        let metrics = sidecar.metrics().await;
        (metrics.sum("http_requests_total", labels) == expected).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_call_passes_and_is_counted_by_its_status_at_both_ends() {
    if !is_installed() {
        return;
    }
    let chain = chain("name: calls").await;
    assert_eq!(chain.call(&["Say", "hello"]).await, "app: hello\nOK\n");
    assert_eq!(chain.call(&["Count", "3"]).await, "0\n1\n2\nOK\n");
    assert_eq!(chain.call(&["Add", "1,2,3"]).await, "6\nOK\n");
    assert_eq!(chain.call(&["Talk", "a,b"]).await, "A\nB\nOK\n");
    for status in ["NOT_FOUND", "INTERNAL"] {
        assert_eq!(chain.call(&["Fail", status]).await, format!("{status}: as asked\n"));
    }
    for sidecar in [&chain.caller, &chain.callee] {
        for (status, count) in [("0", 4.0), ("5", 1.0), ("13", 1.0)] {
            counted(sidecar, &[("grpc_status", status), ("status_code", "200")], count).await;
        }
        eventually("the log has the status", LIMIT, async || {
            let lines = sidecar.process.stdout();
            let has = |part: &str| lines.iter().any(|line| line.contains(part));
            (has("\"grpc_status\":\"5\"") && has("\"grpc_status\":\"0\"")).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_over_at_its_deadline_for_its_client_and_for_its_server() {
    if !is_installed() {
        return;
    }
    let chain = chain("name: calls").await;
    assert_eq!(
        chain.call(&["Wait", "grpcio", "0.5"]).await.split(':').next(),
        Some("DEADLINE_EXCEEDED")
    );
    chain.told("over grpcio").await;
    let reply = chain.raw("Wait", Some("400m"), "by hand").await;
    assert_eq!((reply.status, reply.header("grpc-status")), (200, Some("4")));
    assert!(reply.elapsed >= Duration::from_millis(400), "{:?}", reply.elapsed);
    assert!(reply.elapsed < Duration::from_secs(10), "{:?}", reply.elapsed);
    assert!(reply.body.is_empty() && reply.trailers.is_none(), "trailers only");
    chain.told("over by hand").await;
    // One of the two sidecars was first, and said so to the other. The first call may have been its own client's to end.
    eventually("the call by hand is counted", LIMIT, async || {
        let metrics = chain.caller.metrics().await;
        let over = metrics.sum("http_requests_total", &[("grpc_status", "4"), ("status_code", "200")]);
        (1.0..=2.0).contains(&over).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_holds_for_grpc_alone_and_what_is_none_ends_nothing() {
    let sample = Sample::with("grpc", &["v1"], "", &SidecarOptions::default()).await;
    sample.upstream().set(Behaviour::Delay(Duration::from_millis(300)));
    let mut connection = sample.connect(Version::Http2).await;
    for (content_type, time, status) in [
        ("application/grpc", "0S", None),
        ("application/grpc", "100", None),
        ("application/grpc-web", "100m", None),
        ("application/json", "100m", None),
        ("application/grpc+proto", "100m", Some("4")),
    ] {
        let mut call = grpc("echo", "/pkg.Service/Call");
        let headers = call.headers_mut();
        headers.insert("content-type", HeaderValue::from_static(content_type));
        headers.insert("grpc-timeout", HeaderValue::from_static(time));
        let reply = connection.send(call).await;
        assert_eq!(
            (reply.status, reply.header("grpc-status")),
            (200, status),
            "{content_type} {time}"
        );
        assert_eq!(sample.upstream().last().headers["grpc-timeout"], time, "as sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_over_at_its_deadline_too_and_counted_so() {
    if !is_installed() {
        return;
    }
    let chain = chain("name: calls").await;
    let mut connection = Connection::open(chain.caller.outbound, Version::Http2).await;
    let mut call = grpc("calls", "/tsunagi.tests.Calls/Drip");
    call.headers_mut()
        .insert("grpc-timeout", HeaderValue::from_static("800m"));
    *call.body_mut() = tsunagi_tests::body(b"\0\0\0\0\x04late".as_slice());
    let outcome = within("an end", LIMIT, connection.try_send(call)).await;
    assert!(outcome.is_err() || outcome.is_ok_and(|reply| reply.trailers.is_some_and(|it| it["grpc-status"] != "0")));
    chain.told("over late").await;
    counted(&chain.caller, &[("grpc_status", "4")], 1.0).await;
    counted(&chain.caller, &[("grpc_status", "0")], 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rules_timeout_is_a_deadline_that_the_server_is_told() {
    if !is_installed() {
        return;
    }
    let chain = chain("timeout: 3s").await;
    let left = async |arguments: &[&str]| {
        let said = chain.call(arguments).await;
        let seconds = said.lines().next().unwrap_or_default();
        seconds.parse::<f64>().unwrap_or_else(|error| panic!("{said}: {error}"))
    };
    // grpcio says 20 s, or what it was asked to.
    let ruled = left(&["Left"]).await;
    assert!(ruled > 0.0 && ruled <= 3.0, "{ruled}");
    let own = left(&["Left", "", "2"]).await;
    assert!(own > 0.0 && own <= 2.0, "{own}");
    let reply = chain.raw("Wait", None, "ruled").await;
    assert_eq!((reply.header("grpc-status"), reply.body.len()), (Some("4"), 0));
    chain.told("over ruled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_cancels_is_seen_by_the_server() {
    if !is_installed() {
        return;
    }
    let chain = chain("name: calls").await;
    let said = chain.call(&["Drip", "cancelled"]).await;
    assert!(said.starts_with("first\nCANCELLED"), "{said}");
    chain.told("over cancelled").await;
    for sidecar in [&chain.caller, &chain.callee] {
        counted(sidecar, &[("response_flags", "DC"), ("grpc_status", "")], 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_proxy_answers_is_a_status_that_grpcio_understands() {
    if !is_installed() {
        return;
    }
    let chain = chain("name: calls").await;
    assert_eq!(
        chain.call_to("empty", &["Say"]).await,
        "UNAVAILABLE: no healthy upstream\n"
    );
    counted(&chain.caller, &[("grpc_status", "14"), ("response_flags", "UH")], 1.0).await;
    let unknown = chain.call_to("nobody", &["Say"]).await;
    assert!(unknown.starts_with("UNIMPLEMENTED: no service is called"), "{unknown}");
    counted(&chain.caller, &[("grpc_status", "12"), ("response_flags", "NR")], 1.0).await;
}

fn retried(conditions: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - retries: {{attempts: 2, retryOn: '{conditions}'}}
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_in_the_head_of_an_answer_is_retried_where_the_rule_names_it() {
    for (condition, status) in [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ] {
        let rules = retried(condition);
        let sample = Sample::with("grpc", &["a", "b"], &rules, &SidecarOptions::default()).await;
        sample.upstreams[0].set(Behaviour::Head(200, "grpc-status", status));
        let mut connection = sample.connect(Version::Http2).await;
        for _ in 0..4 {
            let reply = connection.send(grpc("echo", "/pkg.Service/Call")).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, "b"), "{condition}");
        }
        let failed = sample.upstreams[0].requests();
        assert!(failed > 0, "{condition}");
        let seen = sample.upstreams[1].seen();
        let second = seen
            .iter()
            .filter(|seen| seen.headers["x-envoy-attempt-count"] == "2")
            .count();
        assert_eq!(second as u64, failed, "{condition}: every second attempt says so");
        // A status that it does not name.
        sample.upstreams[0].set(Behaviour::Head(200, "grpc-status", "3"));
        sample.upstreams[1].set(Behaviour::Head(200, "grpc-status", "3"));
        let before = sample.requests();
        let reply = connection.send(grpc("echo", "/pkg.Service/Call")).await;
        assert_eq!(
            (reply.header("grpc-status"), sample.requests()),
            (Some("3"), before + 1)
        );
    }
}
