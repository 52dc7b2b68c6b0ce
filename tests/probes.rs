//! The kubelet's probes of an application behind a sidecar, and `tsunagi-proxy wait`: real processes, real sockets.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tsunagi_tests::{
    Behaviour, Bridge, Connection, ControlPlane, LIMIT, PROXY_UID, Reply, Sidecar, SidecarOptions, Upstream, Version,
    binaries, require_root, within,
};

/// A sidecar without a control plane: probes of the application do not wait for one.
fn sidecar(probes: &Value) -> Sidecar {
    let args = vec!["--app-probes".to_owned(), probes.to_string()];
    let options = SidecarOptions {
        args,
        ..SidecarOptions::default()
    };
    Sidecar::start_with(([127, 0, 0, 1], 1).into(), &options)
}

async fn probe(sidecar: &Sidecar, path: &str) -> Reply {
    Connection::open(sidecar.health, Version::Http1)
        .await
        .get("kubelet", path)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_probe_says_what_the_application_says() {
    let app = Upstream::start("app").await;
    let (path, port) = ("/app-health/web/livez", app.address.port());
    let headers = json!([{"name": "Host", "value": "shop.example"}, {"name": "X-Probe", "value": "1"}]);
    let sidecar = sidecar(&json!({
        path: {"httpGet": {"path": "/well?deep=1", "port": port, "httpHeaders": headers}, "timeoutSeconds": 1},
    }));
    assert_eq!(probe(&sidecar, path).await.status, 200);
    let seen = app.last();
    assert_eq!((seen.method.as_str(), seen.uri.as_str()), ("GET", "/well?deep=1"));
    assert_eq!(seen.headers["host"], "shop.example");
    assert_eq!(seen.headers["x-probe"], "1");
    assert!(seen.headers["user-agent"].as_bytes().starts_with(b"kube-probe/"));
    for (answered, status) in [(204, 204), (302, 200), (404, 404), (500, 500), (503, 503)] {
        app.set(Behaviour::Status(answered));
        assert_eq!(
            probe(&sidecar, path).await.status,
            status,
            "the application says {answered}"
        );
    }
    app.set(Behaviour::Hold);
    let slow = probe(&sidecar, path).await;
    assert_eq!(
        (slow.status, slow.text().contains("within 1s")),
        (503, true),
        "{}",
        slow.text()
    );
    app.set(Behaviour::Close);
    assert_eq!(probe(&sidecar, path).await.status, 503);
    // The sidecar itself has no configuration: that is another question.
    assert_eq!(sidecar.health("/healthz/ready").await, 503);
    assert_eq!(probe(&sidecar, "/app-health/web/readyz").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_probe_tells_about_the_application_and_comes_from_where_nothing_is_redirected() {
    let app = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (path, port) = ("/app-health/db/readyz", app.local_addr().expect("bound").port());
    let sidecar = sidecar(&json!({path: {"tcpSocket": {"port": port}}}));
    let (answer, accepted) = tokio::join!(probe(&sidecar, path), within("a connection", LIMIT, app.accept()));
    assert_eq!(answer.status, 200);
    let (_, from) = accepted.expect("a connection");
    assert_eq!(from.ip().to_string(), "127.0.0.6");
    drop(app);
    let refused = probe(&sidecar, path).await;
    assert_eq!(
        (refused.status, refused.text().contains("cannot connect")),
        (503, true),
        "{}",
        refused.text()
    );
}

/// A gRPC health service that says `status` about every service and remembers nothing.
async fn health_service(listener: TcpListener, status: Arc<AtomicI32>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let status = Arc::clone(&status);
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let status = status.load(Ordering::Relaxed);
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                tokio::spawn(async move {
                    let mut asked = Vec::new();
                    let mut body = request.into_body();
                    while let Some(Ok(bytes)) = body.data().await {
                        asked.extend_from_slice(&bytes);
                    }
                    assert!(asked.ends_with(b"shop.Cart"), "{asked:?}");
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    let mut stream = respond
                        .send_response(head.body(()).expect("a head"), false)
                        .expect("sent");
                    let mut trailers = http::HeaderMap::new();
                    // Below zero: a service that does not know the health service.
                    let code = if status < 0 { "12" } else { "0" };
                    trailers.insert("grpc-status", http::HeaderValue::from_static(code));
                    if let Ok(status) = u8::try_from(status) {
                        stream
                            .send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), false)
                            .expect("sent");
                    }
                    stream.send_trailers(trailers).expect("sent");
                });
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_probe_asks_the_health_service() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (path, port) = (
        "/app-health/cart/startupz",
        listener.local_addr().expect("bound").port(),
    );
    let status = Arc::new(AtomicI32::new(1));
    tokio::spawn(health_service(listener, Arc::clone(&status)));
    let sidecar = sidecar(&json!({path: {"grpc": {"port": port, "service": "shop.Cart"}}}));
    assert_eq!(probe(&sidecar, path).await.status, 200);
    for (says, told) in [(2, "NOT_SERVING"), (0, "UNKNOWN"), (-1, "gRPC status 12")] {
        status.store(says, Ordering::Relaxed);
        let answer = probe(&sidecar, path).await;
        assert_eq!(answer.status, 503, "{says}");
        assert!(answer.text().contains(told), "{says}: {}", answer.text());
    }
}

/// In a pod whose traffic is redirected, a probe that went through the sidecar would find the sidecar's listener, which
/// accepts whatever the application does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_redirected_pod_the_application_itself_is_asked() {
    if !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let pod = bridge.pod("web");
    let owner = PROXY_UID.to_string();
    for rule in [
        "-A PREROUTING -p tcp ! --dport 15021 -j REDIRECT --to-ports 15006".to_owned(),
        format!(
            "-A OUTPUT -o lo -p tcp -m owner --uid-owner {owner} ! -s 127.0.0.6 ! -d 127.0.0.0/8 -j REDIRECT --to-ports 15006"
        ),
    ] {
        let done = pod
            .command("iptables")
            .args(["-w", "-t", "nat"])
            .args(rule.split(' '))
            .status();
        assert!(done.is_ok_and(|status| status.success()), "iptables {rule}");
    }
    let app = pod.listen(0);
    let port = app.local_addr().expect("bound").port();
    let accepted = std::thread::spawn(move || app.accept().map(|(_, from)| from));
    let (open, closed) = ("/app-health/web/readyz", "/app-health/web/livez");
    let probes = json!({open: {"tcpSocket": {"port": port}}, closed: {"tcpSocket": {"port": 9}}});
    let options = SidecarOptions {
        args: vec!["--app-probes".to_owned(), probes.to_string()],
        ..SidecarOptions::default()
    };
    let sidecar = Sidecar::start_in(&pod, ([127, 0, 0, 1], 1).into(), &options);
    assert_eq!(sidecar.health.ip(), pod.address());
    assert_eq!(probe(&sidecar, closed).await.status, 503, "nobody listens there");
    assert_eq!(probe(&sidecar, open).await.status, 200);
    let from = spawn_blocking(move || accepted.join()).await.expect("it ended");
    let from = from.expect("no panic").expect("a connection");
    assert_eq!(from.ip().to_canonical().to_string(), "127.0.0.6");
}

fn proxy(args: &[&str]) -> std::process::Output {
    let output = Command::new(&binaries().proxy).args(args).output();
    output.expect("the proxy starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_cannot_be_asked_ends_the_start_with_a_reason() {
    let wrong = r#"{"/app-health/web/livez": {"httpGet": {"port": 80, "path": "no path"}}}"#;
    let output = spawn_blocking(move || proxy(&["run", "--app-probes", wrong]))
        .await
        .expect("it ended");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--app-probes") && said.contains("/app-health/web/livez: path"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_returns_once_the_sidecar_is_ready_and_fails_in_time_where_it_never_is() {
    let lost = sidecar(&json!({}));
    let wait = async |sidecar: &Sidecar, limit: &'static str| {
        let address = sidecar.health.to_string();
        let run = move || proxy(&["wait", "--health-addr", &address, "--timeout", limit]);
        within("wait ends", LIMIT, spawn_blocking(run)).await.expect("it ended")
    };
    let output = wait(&lost, "300ms").await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), said.contains("not ready within 300ms")),
        (Some(1), true),
        "{said}"
    );
    let control = ControlPlane::start();
    let sidecar = Sidecar::start(&control);
    let output = wait(&sidecar, "20s").await;
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(sidecar.health("/healthz/ready").await, 200);
}
