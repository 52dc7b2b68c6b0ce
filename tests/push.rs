//! A change reaches the proxies whole, fails no request, and outlives the control plane that made it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use tsunagi_tests::{
    Connection, ControlPlane, ISSUE_RULES, LIMIT, Metrics, Reply, Sample, Sidecar, SidecarOptions, Upstream, Version,
    Workload, eventually, service,
};

/// Clients that ask without pause until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    async fn start(sidecar: &Sidecar, host: &'static str) -> Load {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut clients = JoinSet::new();
        for version in [Version::Http1, Version::Http2, Version::Http1, Version::Http2] {
            let mut connection = Connection::open(sidecar.outbound, version).await;
            let (stop, sent) = (stop.clone(), sent.clone());
            clients.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let reply = connection.get(host, "/").await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    if reply.status != 200 {
                        failures.push(failure(&reply));
                    }
                }
                failures
            });
        }
        let load = Load { stop, sent, clients };
        load.goes_on().await;
        load
    }

    /// A few more requests are through.
    async fn goes_on(&self) {
        let wanted = self.sent.load(Ordering::Relaxed) + 20;
        let through = async || (self.sent.load(Ordering::Relaxed) >= wanted).then_some(());
        eventually("the load goes on", LIMIT, through).await;
    }

    async fn end_without_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        let failures = self.clients.join_all().await.concat();
        let sent = self.sent.load(Ordering::Relaxed);
        assert!(
            failures.is_empty(),
            "{} of {sent} failed: {:?}",
            failures.len(),
            &failures[..failures.len().min(5)]
        );
    }
}

fn failure(reply: &Reply) -> String {
    format!("{} {} {}", reply.status, reply.flags(), reply.text())
}

fn routes(first: u32, second: u32, extra_subset: bool) -> String {
    let third = if extra_subset {
        "    - destination:\n        host: user-service\n        subset: any\n      weight: 5\n"
    } else {
        ""
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: user-service
spec:
  hosts:
  - user-service
  http:
  - route:
    - destination:
        host: user-service
        subset: v1
      weight: {first}
    - destination:
        host: user-service
        subset: v2
      weight: {second}
{third}"
    )
}

fn subsets(max_connections: u32, extra_subset: bool) -> String {
    let third = if extra_subset {
        "  - name: any\n    labels:\n      app: user-service\n"
    } else {
        ""
    };
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: user-service
spec:
  host: user-service
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: {max_connections}
  subsets:
  - name: v1
    labels:
      version: v1
  - name: v2
    labels:
      version: v2
{third}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_route_subset_endpoint_and_policy_under_load_fail_no_request() {
    let upstreams = [
        Upstream::start("v1").await,
        Upstream::start("v2").await,
        Upstream::start("v1").await,
    ];
    let [v1, v2, late] = [0, 1, 2].map(|index| upstreams[index].address);
    let control = ControlPlane::start();
    let two = [
        Workload {
            version: "v1",
            address: v1,
        },
        Workload {
            version: "v2",
            address: v2,
        },
    ];
    let three = [
        two[0],
        two[1],
        Workload {
            version: "v1",
            address: late,
        },
    ];
    control
        .apply(&format!("{}---\n{ISSUE_RULES}", service("user-service", "http", &two)))
        .await;
    let sidecar = Sidecar::start(&control).ready().await;
    let load = Load::start(&sidecar, "user-service").await;
    for round in 0..10_u32 {
        control.apply(&routes(50 + round, 50 - round, false)).await;
        // The subset and the route to it in one transaction: no order to get wrong.
        control
            .apply(&[routes(70, 25, true), subsets(90 + round, true)].join("---\n"))
            .await;
        control.apply(&service("user-service", "http", &three)).await;
        load.goes_on().await;
        control
            .apply(&[routes(90, 10, false), subsets(100, false)].join("---\n"))
            .await;
        let gone = control.cli(&["delete", "WorkloadEntry", "user-service-v1-2"]).await;
        assert_eq!(gone.code, 0, "{}", gone.stderr);
    }
    load.end_without_failure().await;
    assert!(upstreams[2].requests() > 0, "the late endpoint got no request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_control_plane_fails_no_request_and_its_return_resends_nothing() {
    let mut sample = Sample::start("").await;
    let load = Load::start(&sample.sidecar, "echo").await;
    let sent = Metrics::parse(&sample.control.get("/metrics").await.text());
    assert!(
        sent.sum("tsunagi_push_resources_total", &[]) >= 3.0,
        "host, endpoints and workload: {}",
        sent.text
    );
    sample.control.kill();
    connected(&sample.sidecar, 0.0).await;
    load.goes_on().await;
    sample.control.restart();
    connected(&sample.sidecar, 1.0).await;
    load.goes_on().await;
    let sent = Metrics::parse(&sample.control.get("/metrics").await.text());
    assert_eq!(sent.sum("tsunagi_connected_proxies", &[]), 1.0, "{}", sent.text);
    assert_eq!(
        sent.sum("tsunagi_push_resources_total", &[]),
        0.0,
        "resources were sent again"
    );
    // The connection is of use: a change still arrives.
    sample
        .control
        .apply(
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
    headers:
      response:
        set:
          x-after: return
",
        )
        .await;
    let arrived = async || (sample.get("/").await.header("x-after") == Some("return")).then_some(());
    eventually("the change is in force", LIMIT, arrived).await;
    load.end_without_failure().await;
}

async fn connected(sidecar: &Sidecar, wanted: f64) {
    eventually(
        &format!("tsunagi_control_plane_connected is {wanted}"),
        LIMIT,
        async || {
            let metrics = sidecar.metrics().await;
            (metrics.sum("tsunagi_control_plane_connected", &[]) == wanted).then_some(())
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_starts_and_serves_without_a_control_plane_from_what_it_knew() {
    let state = TempDir::new().expect("a temporary folder");
    let options = SidecarOptions {
        state_dir: Some(state.path().to_owned()),
        ..SidecarOptions::default()
    };
    let mut sample = Sample::with("http", &["v1"], "", &options).await;
    assert_eq!(sample.get("/").await.text(), "v1");
    let written = async || {
        let mut files = std::fs::read_dir(state.path())
            .ok()?
            .flatten()
            // Not the file on its way to become it.
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "state"))
            .filter_map(|file| std::fs::read(file.path()).ok());
        files
            .any(|bytes| String::from_utf8_lossy(&bytes).contains("endpoints/echo.default"))
            .then_some(())
    };
    eventually("what it knows is on disk", LIMIT, written).await;
    sample.sidecar.process.kill();
    sample.control.kill();
    let orphan = Sidecar::start_with(sample.control.grpc, &options).ready().await;
    let reply = orphan.get("echo", "/").await;
    assert_eq!((reply.status, reply.text().as_str()), (200, "v1"), "{}", reply.flags());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_not_ready_before_it_heard_from_anyone() {
    let mut control = ControlPlane::start();
    control.kill();
    let sidecar = Sidecar::start(&control);
    assert_eq!(sidecar.health("/healthz/live").await, 200);
    assert_eq!(sidecar.health("/healthz/ready").await, 503);
    control.restart();
    sidecar.ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_wait_returns_after_the_change_is_in_force() {
    let sample = Sample::start("").await;
    let mut connection = sample.connect(Version::Http1).await;
    assert_eq!(connection.get("echo", "/").await.status, 200);
    for round in 0..10 {
        let value = format!("round-{round}");
        sample
            .control
            .apply(&format!(
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
    headers:
      response:
        set:
          x-round: {value}
"
            ))
            .await;
        assert_eq!(
            connection.get("echo", "/").await.header("x-round"),
            Some(value.as_str())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_wait_names_the_proxy_that_does_not_answer_and_what_was_applied_stays() {
    let options = SidecarOptions {
        node_id: "sleeper".into(),
        ..SidecarOptions::default()
    };
    let sample = Sample::with("http", &["v1"], "", &options).await;
    assert_eq!(sample.get("/").await.status, 200);
    sample.sidecar.process.signal("STOP");
    let rule = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: waited-for
spec:
  hosts:
  - echo
  http:
  - timeout: 5s
    route:
    - destination:
        host: echo
";
    let output = sample
        .control
        .cli_with_input(&["apply", "-f", "-", "--wait=1s"], rule)
        .await;
    sample.sidecar.process.signal("CONT");
    assert_eq!(output.code, 1, "{}{}", output.stdout, output.stderr);
    assert!(output.stderr.contains("sleeper"), "{}", output.stderr);
    assert_eq!(sample.control.cli(&["get", "vs", "waited-for"]).await.code, 0);
    let caught_up = async || {
        let listed = sample.control.cli(&["proxies"]).await.stdout;
        listed.contains("sleeper").then_some(())
    };
    eventually("the proxy is listed again", Duration::from_secs(10), caught_up).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_endpoint_gets_requests_and_a_deleted_one_gets_none() {
    let sample = Sample::start("").await;
    let late = Upstream::start("late").await;
    let mut connection = sample.connect(Version::Http1).await;
    assert_eq!(connection.get("echo", "/").await.text(), "v1");
    let late_one = Workload {
        version: "late",
        address: late.address,
    };
    sample.control.apply(&service("echo", "http", &[late_one])).await;
    let arrives = async || (sample.get("/").await.text() == "late").then_some(());
    eventually("the new endpoint answers", LIMIT, arrives).await;
    let deleted = sample.control.cli(&["delete", "we", "echo-v1-0"]).await;
    assert_eq!(deleted.code, 0, "{}", deleted.stderr);
    let hidden = async || {
        let before = sample.upstream().requests();
        for _ in 0..20 {
            assert_eq!(sample.get("/").await.status, 200);
        }
        (sample.upstream().requests() == before).then_some(())
    };
    eventually("the deleted endpoint gets nothing", LIMIT, hidden).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_service_is_unknown_again() {
    let sample = Sample::start("").await;
    assert_eq!(sample.get("/").await.status, 200);
    assert_eq!(sample.control.cli(&["delete", "svc", "echo"]).await.code, 0);
    let unknown = async || {
        let reply = sample.get("/").await;
        (reply.status == 404 && reply.flags() == "NR").then_some(())
    };
    eventually("the service is unknown", LIMIT, unknown).await;
}
