//! An application that is down: its sidecar says that nothing of the request was processed, the caller's sidecar goes
//! elsewhere with any method, and no client ever sees a word of that.

use std::net::SocketAddr;

use http::HeaderValue;
use tokio::net::TcpListener;
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, RawConnection, RawUpstream, Reply, Sidecar, SidecarOptions, Upstream,
    Version, Workload, body, eventually, request, service,
};

const MARKER: &str = "x-tsunagi-unprocessed";

/// Of an application, reachable or not.
async fn sidecar(control: &ControlPlane, name: &str, app: SocketAddr) -> Sidecar {
    let options = SidecarOptions {
        node_id: name.into(),
        app: Some(app),
        ..SidecarOptions::default()
    };
    Sidecar::start_with(control.grpc, &options).ready().await
}

async fn nobody() -> SocketAddr {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    unused.local_addr().expect("a bound socket")
}

async fn publish(control: &ControlPlane, sidecars: &[&Sidecar], rules: &str) {
    publish_as(&["echo".to_owned()], control, sidecars, rules).await;
}

/// The same endpoints under several names.
async fn publish_as(names: &[String], control: &ControlPlane, sidecars: &[&Sidecar], rules: &str) {
    let workloads: Vec<_> = sidecars
        .iter()
        .map(|sidecar| Workload {
            version: "v1",
            address: sidecar.inbound,
        })
        .collect();
    let mut documents: Vec<String> = names.iter().map(|name| service(name, "http", &workloads)).collect();
    documents.push(rules.to_owned());
    control.apply(&documents.join("---\n")).await;
}

/// With a body where the method has one.
fn asking(host: &str, method: &str, content_type: &'static str) -> http::Request<tsunagi_tests::Body> {
    let mut request = request(method, host, "/echo");
    if matches!(method, "POST" | "PUT" | "PATCH") {
        *request.body_mut() = body(format!("{method} something"));
    }
    let content_type = HeaderValue::from_static(content_type);
    request.headers_mut().insert("content-type", content_type);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_any_method_that_met_a_dead_application_is_answered_by_the_other() {
    let up = Upstream::start("up").await;
    let control = ControlPlane::start();
    let alive = sidecar(&control, "alive", up.address).await;
    let dead = sidecar(&control, "dead", nobody().await).await;
    // A service for each case, because an endpoint that nobody answered at is avoided for a moment.
    let names: Vec<String> = (0..28).map(|number| format!("echo-{number}")).collect();
    publish_as(&names, &control, &[&alive, &dead], "").await;
    let caller = sidecar(&control, "caller", nobody().await).await;
    let (mut sent, mut names) = (0, names.iter());
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(caller.outbound, version).await;
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "LOCK"] {
            for content_type in ["text/plain", "application/grpc"] {
                let name = names.next().expect("as many as there are cases");
                for _ in 0..4 {
                    let reply = connection.send(asking(name, method, content_type)).await;
                    let what = format!("{method} {content_type} {version:?}: {:?}", reply.headers);
                    assert_eq!((reply.status, reply.flags()), (200, ""), "{what}");
                    assert_eq!(reply.header("x-upstream"), Some("up"), "{what}");
                    assert_eq!(reply.header(MARKER), None, "{what}");
                    if matches!(method, "POST" | "PUT" | "PATCH") {
                        assert_eq!(reply.text(), format!("{method} something"));
                    }
                    sent += 1;
                }
            }
        }
    }
    assert_eq!(up.requests(), sent, "nothing was sent to the application twice");
    let refused = [("direction", "inbound"), ("response_flags", "UF")];
    let met_the_dead = dead.metrics().await.sum("http_requests_total", &refused);
    assert!(met_the_dead >= 10.0, "only {met_the_dead} met the dead application");
    let retried = [("direction", "outbound"), ("result", "success")];
    let retries = caller.metrics().await.sum("tsunagi_upstream_retries_total", &retried);
    assert_eq!(retries, met_the_dead);
}

fn plainly_down(reply: &Reply) {
    assert_eq!(reply.status, 503);
    assert!(
        reply.flags().contains("UF") && reply.flags().contains("URX"),
        "{}",
        reply.flags()
    );
    assert_eq!(reply.header(MARKER), None);
    assert!(reply.text().contains("connection failure"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_nowhere_else_to_go_the_client_gets_the_503_and_no_more() {
    let control = ControlPlane::start();
    let dead = sidecar(&control, "dead", nobody().await).await;
    let detection = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: echo}\nspec:\n  host: echo\n  \
                     trafficPolicy:\n    outlierDetection: {consecutive5xxErrors: 0, splitExternalLocalOriginErrors: true, \
                     consecutiveLocalOriginFailures: 3, maxEjectionPercent: 100}\n";
    let alive = Upstream::start("up").await;
    let other = sidecar(&control, "other", alive.address).await;
    publish(&control, &[&dead], detection).await;
    let caller = sidecar(&control, "caller", nobody().await).await;
    plainly_down(&caller.send(asking("echo", "POST", "text/plain")).await);
    let grpc = caller.send(asking("echo", "POST", "application/grpc")).await;
    assert_eq!(
        (grpc.status, grpc.header("grpc-status"), grpc.header(MARKER)),
        (200, Some("14"), None)
    );

    // Each counts as a failure to connect: with another endpoint, the dead one is ejected.
    publish(&control, &[&dead, &other], detection).await;
    // It is avoided for a moment after each, so that takes more than three requests.
    let cause = [("cause", "consecutive_local_origin")];
    eventually("the dead one is ejected", LIMIT, async || {
        assert_eq!(caller.send(asking("echo", "POST", "text/plain")).await.status, 200);
        let ejections = caller.metrics().await.sum("tsunagi_outlier_ejections_total", &cause);
        (ejections == 1.0).then_some(())
    })
    .await;

    // To a sidecar that asks, it is said; to clients without one it means nothing.
    let mut connection = Connection::open(dead.inbound, Version::Http1).await;
    let said = format!("1 {}", dead.inbound);
    let reply = connection.send(asking("echo", "POST", "text/plain")).await;
    assert_eq!(
        (reply.status, reply.flags(), reply.header(MARKER)),
        (503, "UF", Some(&*said))
    );
    let reply = connection.send(asking("echo", "POST", "application/grpc")).await;
    assert_eq!(
        (reply.header("grpc-status"), reply.header(MARKER)),
        (Some("14"), Some(&*said))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_breaks_off_is_as_a_reset_to_the_caller_and_only_what_may_be_repeated_is() {
    let (up, breaks) = (Upstream::start("up").await, Upstream::start("breaks").await);
    breaks.set(Behaviour::Close);
    let control = ControlPlane::start();
    let good = sidecar(&control, "good", up.address).await;
    let bad = sidecar(&control, "bad", breaks.address).await;
    publish(&control, &[&good, &bad], "").await;
    let caller = sidecar(&control, "caller", nobody().await).await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(caller.outbound, version).await;
        for _ in 0..20 {
            let reply = connection.send(asking("echo", "GET", "text/plain")).await;
            assert_eq!((reply.status, reply.flags()), (200, ""), "{:?}", reply.headers);
        }
        let mut broken = 0;
        for _ in 0..40 {
            let reply = connection.send(asking("echo", "POST", "text/plain")).await;
            assert!(
                reply.status == 200 || (reply.status == 503 && reply.flags() == "UR"),
                "{:?}",
                reply.headers
            );
            assert_eq!(reply.header(MARKER), None);
            broken += usize::from(reply.status == 503);
        }
        // Half of them meet it: that none of 40 does happens once in a trillion times.
        assert!(broken > 0, "a POST that may have been processed is not repeated");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_passes_on_what_another_sidecar_said_to_it_is_asked_once() {
    let control = ControlPlane::start();
    let dead = sidecar(&control, "dead", nobody().await).await;
    let relayed: &'static [u8] = format!(
        "HTTP/1.1 503 Service Unavailable\r\nX-Tsunagi-Unprocessed: 1 {}\r\nContent-Length: 0\r\n\r\n",
        dead.inbound
    )
    .leak()
    .as_bytes();
    // Without a sidecar of its own, as a reverse proxy may be.
    let relay = RawUpstream::start(relayed).await;
    let workload = Workload {
        version: "v1",
        address: relay.address,
    };
    control.apply(&service("echo", "http", &[workload])).await;
    let caller = sidecar(&control, "caller", nobody().await).await;
    let reply = caller.send(asking("echo", "POST", "text/plain")).await;
    assert_eq!((reply.status, reply.header(MARKER)), (503, None));
    assert_eq!(relay.heads().len(), 1, "it may have done something before it asked on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_an_application_nor_a_client_can_say_it() {
    let control = ControlPlane::start();
    let answers: [&'static [u8]; 2] = [
        b"HTTP/1.1 503 Service Unavailable\r\nX-Tsunagi-Unprocessed: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-tsunagi-unprocessed: 1\r\nContent-Length: 0\r\n\r\n",
    ];
    for (index, (answer, status)) in answers.into_iter().zip([503, 200]).enumerate() {
        let app = RawUpstream::start(answer).await;
        let callee = sidecar(&control, &format!("callee-{index}"), app.address).await;
        publish(&control, &[&callee], "").await;
        let caller = sidecar(&control, &format!("caller-{index}"), nobody().await).await;
        let sent = "POST / HTTP/1.1\r\nHost: echo\r\nX-Tsunagi-Unprocessed: 1\r\nContent-Length: 0\r\n\r\n";
        for door in [caller.outbound, callee.inbound] {
            let before = app.heads().len();
            let reply = RawConnection::exchange(door, sent).await;
            assert_eq!((reply.status, reply.header(MARKER)), (status, None), "{}", reply.head);
            let heads = app.heads();
            assert_eq!(
                heads.len(),
                before + 1,
                "it may have been processed: it is not repeated"
            );
            assert!(!heads[before].to_lowercase().contains(MARKER), "{}", heads[before]);
        }
    }
}
