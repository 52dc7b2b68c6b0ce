//! The main promise: a user's own VirtualService and DestinationRule, verbatim, split live traffic as written.

use http::HeaderValue;
use tsunagi_tests::{
    Connection, ControlPlane, ISSUE_RULES, Sidecar, SidecarOptions, Upstream, Version, Workload, binomial_bounds,
    request, service,
};

const REQUESTS: u64 = 20_000;
/// Streams or connections that are busy at once.
const PARALLEL: u64 = 16;

struct Users {
    _control: ControlPlane,
    sidecar: Sidecar,
    v1: Upstream,
    v2: Upstream,
}

async fn users(port_name: &str, workers: u8) -> Users {
    let (v1, v2) = (Upstream::start("v1").await, Upstream::start("v2").await);
    let workloads = [
        Workload {
            version: "v1",
            address: v1.address,
        },
        Workload {
            version: "v2",
            address: v2.address,
        },
    ];
    let control = ControlPlane::start();
    control
        .apply(&format!(
            "{}---\n{ISSUE_RULES}",
            service("user-service", port_name, &workloads)
        ))
        .await;
    let options = SidecarOptions {
        workers,
        ..SidecarOptions::default()
    };
    let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    Users {
        _control: control,
        sidecar,
        v1,
        v2,
    }
}

/// How many of the requests v2 answered.
async fn drive(users: &Users, version: Version, connections: u64) -> u64 {
    let streams = if version == Version::Http2 {
        PARALLEL / connections
    } else {
        1
    };
    let each = REQUESTS / (connections * streams);
    let mut clients = Vec::new();
    for _ in 0..connections {
        let connection = Connection::open(users.sidecar.outbound, version).await;
        for _ in 1..streams {
            clients.push(connection.share());
        }
        clients.push(connection);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move {
            let mut second = 0;
            for _ in 0..each {
                let reply = client.get("user-service", "/").await;
                assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                second += u64::from(&reply.body[..] == b"v2");
            }
            second
        });
    }
    tasks.join_all().await.into_iter().sum()
}

async fn assert_ninety_ten(version: Version, workers: u8) {
    let port_name = if version == Version::Http2 { "http2" } else { "http" };
    let users = users(port_name, workers).await;
    let (low, high) = binomial_bounds(REQUESTS, 0.1, 1e-6);
    let mut expected = 0;
    for connections in [1, PARALLEL] {
        let second = drive(&users, version, connections).await;
        expected += second;
        let place = format!("{version:?}, {workers} workers, {connections} connections");
        assert!(
            (low..=high).contains(&second),
            "{place}: {second} of {REQUESTS} to v2, not in {low}..={high}"
        );
    }
    assert_eq!(
        (users.v1.requests(), users.v2.requests()),
        (2 * REQUESTS - expected, expected)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_ten_over_http1_with_one_worker_on_one_connection_and_on_many() {
    assert_ninety_ten(Version::Http1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_ten_over_http1_with_two_workers_on_one_connection_and_on_many() {
    assert_ninety_ten(Version::Http1, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_ten_over_http2_with_one_worker_on_one_connection_and_on_many() {
    assert_ninety_ten(Version::Http2, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ninety_ten_over_http2_with_two_workers_on_one_connection_and_on_many() {
    assert_ninety_ten(Version::Http2, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_route_sends_every_request_to_v2() {
    let users = users("http", 2).await;
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(users.sidecar.outbound, version).await;
        for _ in 0..200 {
            let mut to_v2 = request("GET", "user-service", "/");
            to_v2.headers_mut().insert("version", HeaderValue::from_static("v2"));
            assert_eq!(connection.send(to_v2).await.text(), "v2");
        }
    }
    assert_eq!((users.v1.requests(), users.v2.requests()), (0, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_rules_split_a_service_entry_with_static_endpoints() {
    let (v1, v2) = (Upstream::start("v1").await, Upstream::start("v2").await);
    let endpoint = |version: &str, upstream: &Upstream| {
        format!(
            "  - address: 127.0.0.1\n    ports:\n      http: {}\n    labels:\n      version: {version}\n",
            upstream.address.port()
        )
    };
    let entry = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: users
spec:
  hosts:
  - users.example.com
  ports:
  - number: 80
    name: http
    protocol: HTTP
  resolution: STATIC
  endpoints:
{}{}",
        endpoint("v1", &v1),
        endpoint("v2", &v2)
    );
    let control = ControlPlane::start();
    control
        .apply(&format!(
            "{entry}---\n{}",
            ISSUE_RULES.replace("user-service", "users.example.com")
        ))
        .await;
    let sidecar = Sidecar::start(&control).ready().await;
    let mut connection = Connection::open(sidecar.outbound, Version::Http1).await;
    for _ in 0..1000 {
        assert_eq!(connection.get("users.example.com", "/").await.status, 200);
    }
    let (low, high) = binomial_bounds(1000, 0.1, 1e-6);
    assert!(
        (low..=high).contains(&v2.requests()),
        "{} of 1000 to v2, not in {low}..={high}",
        v2.requests()
    );
}
