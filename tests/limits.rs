//! Limits are exact, over all workers and endpoints, and what is over them is told so at once.

use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tsunagi_tests::{
    Behaviour, BlackHole, Connection, ControlPlane, Group, LIMIT, Reply, Sample, Sidecar, SidecarOptions, Upstream,
    Version, Workload, eventually, request, service,
};

fn policy(pool: &str) -> String {
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

fn no_retries() -> &'static str {
    "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - route:
    - destination:
        host: echo
    retries:
      attempts: 0
"
}

const HUNDRED: &str = "      tcp:\n        maxConnections: 100\n      http:\n        http1MaxPendingRequests: 50\n";

async fn three_endpoints(pool: &str, port_name: &str) -> (Sample, Group) {
    let group = Group::default();
    let versions = ["a", "b", "c"];
    let mut upstreams = Vec::new();
    for version in versions {
        upstreams.push(Upstream::start_in(&group, version).await);
    }
    let options = SidecarOptions::default();
    (
        Sample::of(port_name, upstreams, &versions, &policy(pool), &options).await,
        group,
    )
}

/// Starts `count` GETs, each on a connection of its own.
fn start(sample: &Sample, count: usize, replies: &mut JoinSet<Reply>) {
    let outbound = sample.sidecar.outbound;
    for _ in 0..count {
        replies.spawn(async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await });
    }
}

fn assert_overflow(reply: &Reply) {
    assert_eq!((reply.status, reply.flags()), (503, "UO"), "{}", reply.text());
    assert_eq!(reply.header("x-envoy-overloaded"), Some("true"));
}

async fn live_requests(sample: &Sample, wanted: u64) {
    let live = || sample.upstreams.iter().map(Upstream::live_requests).sum::<u64>();
    eventually(&format!("{wanted} requests at the upstreams"), LIMIT, async || {
        (live() == wanted).then_some(())
    })
    .await;
}

async fn pending(sample: &Sample, wanted: f64) {
    eventually(&format!("{wanted} requests wait"), LIMIT, async || {
        let metrics = sample.sidecar.metrics().await;
        (metrics.sum("tsunagi_upstream_pending_requests", &[]) == wanted).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_are_never_exceeded_and_the_request_over_the_pending_limit_is_told_at_once() {
    let (sample, group) = three_endpoints(HUNDRED, "http").await;
    assert_eq!(sample.get("/").await.status, 200);
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Hold));
    let mut replies = JoinSet::new();
    start(&sample, 100, &mut replies);
    live_requests(&sample, 100).await;
    start(&sample, 50, &mut replies);
    pending(&sample, 50.0).await;

    let mut connection = sample.connect(Version::Http1).await;
    let mut times = Vec::new();
    for _ in 0..41 {
        let reply = connection.get("echo", "/").await;
        assert_overflow(&reply);
        times.push(reply.elapsed);
    }
    times.sort();
    // The median: the machine runs other tests at the same time.
    assert!(times[20] < Duration::from_millis(5), "{times:?}");
    assert_eq!(group.live_connections(), 100);

    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Answer));
    let replies = replies.join_all().await;
    assert!(replies.iter().all(|reply| reply.status == 200), "{replies:?}");
    assert!(
        group.peak_connections() <= 100,
        "{} connections at once",
        group.peak_connections()
    );
    let overflows = sample
        .sidecar
        .metrics()
        .await
        .sum("tsunagi_upstream_overflow_total", &[("limit", "pending_requests")]);
    assert_eq!(overflows, 41.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_pool_of_two_workers_and_three_endpoints_never_opens_one_connection_more() {
    let pool = "      tcp:\n        maxConnections: 7\n      http:\n        http1MaxPendingRequests: 1000\n";
    let (sample, group) = three_endpoints(pool, "http").await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Delay(Duration::from_millis(1))));
    let mut clients = JoinSet::new();
    for _ in 0..40 {
        let mut connection = sample.connect(Version::Http1).await;
        clients.spawn(async move {
            for _ in 0..50 {
                assert_eq!(connection.get("echo", "/").await.status, 200);
            }
        });
    }
    clients.join_all().await;
    assert!(
        group.peak_connections() <= 7,
        "{} connections at once",
        group.peak_connections()
    );
    assert_eq!(sample.requests(), 2000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_over_http2_max_requests_is_told_so() {
    let (sample, _) = three_endpoints("      http:\n        http2MaxRequests: 10\n", "http2").await;
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Hold));
    let mut replies = JoinSet::new();
    start(&sample, 10, &mut replies);
    live_requests(&sample, 10).await;
    assert_overflow(&sample.get("/").await);
    sample
        .upstreams
        .iter()
        .for_each(|upstream| upstream.set(Behaviour::Answer));
    assert!(replies.join_all().await.iter().all(|reply| reply.status == 200));
    assert_eq!(sample.get("/").await.status, 200);
    let overflows = sample
        .sidecar
        .metrics()
        .await
        .sum("tsunagi_upstream_overflow_total", &[("limit", "requests")]);
    assert_eq!(overflows, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_carries_max_requests_per_connection() {
    let pool = policy("      http:\n        maxRequestsPerConnection: 3\n");
    let options = SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    };
    let sample = Sample::with("http", &["v1"], &pool, &options).await;
    let mut connection = sample.connect(Version::Http1).await;
    for _ in 0..9 {
        assert_eq!(connection.get("echo", "/").await.status, 200);
    }
    let on: Vec<u64> = sample.upstream().seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(on, [0, 0, 0, 1, 1, 1, 2, 2, 2]);
}

/// Istio's page on circuit breaking: with two clients there is one request at the endpoint and one that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clients_that_ask_one_after_the_other_find_room_in_a_pool_of_one_and_a_queue_of_one() {
    const REQUESTS: usize = 300;
    let closing = "        maxRequestsPerConnection: 1\n";
    for more in ["", closing] {
        let pool =
            format!("      tcp:\n        maxConnections: 1\n      http:\n        http1MaxPendingRequests: 1\n{more}");
        let sample = Sample::start(&policy(&pool)).await;
        sample.control.apply(no_retries()).await;
        let outbound = sample.sidecar.outbound;
        let mut clients = JoinSet::new();
        for _ in 0..2 {
            clients.spawn(async move {
                let mut client = Connection::open(outbound, Version::Http1).await;
                for nth in 0..REQUESTS {
                    let reply = client.get("echo", "/").await;
                    assert_eq!(reply.status, 200, "{nth}: {} {}", reply.flags(), reply.text());
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.expect("every request is answered");
        }
        assert_eq!(sample.upstream().requests(), 2 * REQUESTS as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unused_connection_closes_after_the_idle_timeout() {
    let sample = Sample::start(&policy("      http:\n        idleTimeout: 300ms\n")).await;
    let started = Instant::now();
    assert_eq!(sample.get("/").await.status, 200);
    assert_eq!(sample.upstream().live_connections(), 1);
    let gone = async || (sample.upstream().live_connections() == 0).then_some(());
    eventually("the connection is closed", LIMIT, gone).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_longer_than_the_connect_timeout_fails_the_request() {
    let hole = BlackHole::start().await;
    let address = hole.address;
    let control = ControlPlane::start();
    let echo = service("echo", "http", &[Workload { version: "v1", address }]);
    let pool = policy("      tcp:\n        connectTimeout: 250ms\n");
    control.apply(&[echo.as_str(), &pool, no_retries()].join("---\n")).await;
    let sidecar = Sidecar::start(&control).ready().await;
    let reply = sidecar.get("echo", "/").await;
    assert_eq!((reply.status, reply.flags()), (503, "UF"), "{}", reply.text());
    let expected = Duration::from_millis(250)..Duration::from_secs(3);
    assert!(expected.contains(&reply.elapsed), "{:?}", reply.elapsed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_a_connect_failure() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    let address = unused.local_addr().expect("a bound socket");
    drop(unused);
    let control = ControlPlane::start();
    let echo = service("echo", "http", &[Workload { version: "v1", address }]);
    control.apply(&format!("{echo}---\n{}", no_retries())).await;
    let sidecar = Sidecar::start(&control).ready().await;
    let reply = sidecar.send(request("GET", "echo", "/")).await;
    assert_eq!((reply.status, reply.flags()), (503, "UF"), "{}", reply.text());
}

/// The last line of the access log with these flags, and its details, reason and endpoint.
async fn logged(sample: &Sample, flags: &str) -> [Option<String>; 3] {
    let line = eventually("it is logged", LIMIT, async || {
        let lines = sample.sidecar.process.stdout();
        let wanted = format!("\"response_flags\":\"{flags}\"");
        lines.into_iter().rev().find(|line| line.contains(&wanted))
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    [
        "response_code_details",
        "upstream_transport_failure_reason",
        "upstream_host",
    ]
    .map(|field| line[field].as_str().map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_which_limit_it_was_and_names_no_endpoint_that_was_not_asked() {
    let one = "      tcp:\n        maxConnections: 1\n      http:\n        http1MaxPendingRequests: 1\n";
    let held = "  - match: [{uri: {exact: /held}}]\n    route: [{destination: {host: echo}}]\n";
    let limited = no_retries()
        .replace("  http:\n", &format!("  http:\n{held}"))
        .replace("    retries:", "    timeout: 500ms\n    retries:");
    let rules = format!("{}---\n{limited}", policy(one));
    let sample = Sample::with("http", &["v1"], &rules, &SidecarOptions::default()).await;
    sample.upstream().set(Behaviour::Hold);
    let outbound = sample.sidecar.outbound;
    let held = tokio::spawn(async move {
        Connection::open(outbound, Version::Http1)
            .await
            .get("echo", "/held")
            .await
    });
    live_requests(&sample, 1).await;
    let mut replies = JoinSet::new();
    start(&sample, 1, &mut replies);
    pending(&sample, 1.0).await;
    assert_overflow(&sample.get("/").await);
    let details = "upstream_reset_before_response_started{overflow}".to_owned();
    let reason = "overflow (pending_requests)".to_owned();
    assert_eq!(logged(&sample, "UO").await, [Some(details), Some(reason), None]);

    // The one that only waited, and the one that was asked.
    assert_eq!(replies.join_all().await[0].flags(), "UT");
    assert_eq!(
        logged(&sample, "UT").await,
        [Some("response_timeout".to_owned()), None, None]
    );
    sample.upstream().set(Behaviour::Answer);
    assert_eq!(held.await.unwrap().status, 200);
    let asked = sample.upstream().address.to_string();
    assert_eq!(
        logged(&sample, "-").await,
        [Some("via_upstream".to_owned()), None, Some(asked)]
    );
}
