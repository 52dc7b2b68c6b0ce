//! A proxy leaves: its callers know before it goes, and no request is lost. The proxy that leaves is driven by hand; the
//! caller is a real sidecar.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tsunagi_tests::{
    AdsClient, Behaviour, Connection, ControlPlane, LIMIT, Sidecar, Upstream, Version, Workload, eventually, service,
};

/// The WorkloadEntry of the first upstream, and so the proxy beside it.
const LEAVING: &str = "echo-a-0";
const DEPARTURE: &str = "departure/default/echo-a-0";
const ECHO: &str = "host/echo.default.svc.cluster.local";

struct Mesh {
    control: ControlPlane,
    caller: Sidecar,
    a: Upstream,
    b: Upstream,
}

impl Mesh {
    async fn start() -> Mesh {
        let (a, b) = (Upstream::start("a").await, Upstream::start("b").await);
        let control = ControlPlane::start();
        let workloads = [("a", a.address), ("b", b.address)].map(|(version, address)| Workload { version, address });
        control.apply(&service("echo", "http", &workloads)).await;
        let caller = Sidecar::start(&control).ready().await;
        let mesh = Mesh { control, caller, a, b };
        mesh.both_serve().await;
        mesh
    }

    async fn get(&self, path: &str) -> String {
        let reply = self.caller.get("echo", path).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.text()
    }

    async fn both_serve(&self) {
        let (mut seen_a, mut seen_b) = (false, false);
        eventually("both endpoints serve", LIMIT, async || {
            match self.get("/before").await.as_str() {
                "a" => seen_a = true,
                _ => seen_b = true,
            }
            (seen_a && seen_b).then_some(())
        })
        .await;
    }

    async fn only_b_serves(&self, path: &str) {
        for _ in 0..200 {
            assert_eq!(self.get(path).await, "b");
        }
    }

    async fn leaver(&self, subscribe: &[&str]) -> AdsClient {
        AdsClient::connect(self.control.grpc, LEAVING, subscribe).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_reaches_an_endpoint_that_left_those_in_flight_finish_and_it_is_back_when_its_proxy_is() {
    let mesh = Mesh::start().await;
    let mut leaving = mesh.leaver(&["workload/default/echo-a-0"]).await;
    leaving.next().await;
    mesh.a.set(Behaviour::Hold);
    let outbound = mesh.caller.outbound;
    let mut asked = Vec::new();
    eventually("a request is held at the endpoint", LIMIT, async || {
        if mesh.a.live_requests() > 0 {
            return Some(());
        }
        asked.push(tokio::spawn(async move {
            let mut connection = Connection::open(outbound, Version::Http1).await;
            connection.get("echo", "/held").await
        }));
        None
    })
    .await;

    leaving.subscribe(DEPARTURE).await;
    let departure = leaving.departure(LEAVING).await;
    assert_eq!(
        (departure.namespace.as_str(), departure.unanswered),
        ("default", Vec::new())
    );
    mesh.only_b_serves("/after").await;
    let listed = mesh.control.cli(&["proxies"]).await;
    let state = |node_id: &str| {
        let line = listed.stdout.lines().find(|line| line.starts_with(node_id));
        line.and_then(|line| line.split_whitespace().nth(2))
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        (state(LEAVING), state("sidecar")),
        ("leaving".into(), "connected".into())
    );
    // An endpoint that leaves is no news to whoever applies something.
    let workloads = [("a", mesh.a.address), ("b", mesh.b.address)];
    let workloads = workloads.map(|(version, address)| Workload { version, address });
    mesh.control.apply(&service("echo", "http", &workloads)).await;

    mesh.a.set(Behaviour::Answer);
    for one in asked {
        assert_eq!(one.await.expect("the client lives").status, 200);
    }
    assert!(mesh.a.seen().iter().all(|seen| seen.uri != "/after"));
    // Gone it stays away; back it serves.
    drop(leaving);
    mesh.only_b_serves("/gone").await;
    let mut back = mesh.leaver(&["workload/default/echo-a-0"]).await;
    back.next().await;
    mesh.both_serve().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_fails_and_nothing_that_begins_after_the_departure_reaches_the_endpoint() {
    let mesh = Mesh::start().await;
    // In which round the endpoint has left; 0: in none.
    let (left, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (left, over, outbound) = (Arc::clone(&left), Arc::clone(&over), mesh.caller.outbound);
            tokio::spawn(async move {
                let mut connection = Connection::open(outbound, Version::Http1).await;
                let mut after = 0;
                while !over.load(Ordering::SeqCst) {
                    let has_left = left.load(Ordering::SeqCst);
                    let reply = connection.get("echo", &format!("/after-{has_left}")).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    after += u32::from(has_left > 0);
                }
                after
            })
        })
        .collect();
    for round in 1..=5 {
        let before = mesh.a.requests();
        eventually("the endpoint is called", LIMIT, async || {
            (mesh.a.requests() > before + 20).then_some(())
        })
        .await;
        let mut leaving = mesh.leaver(&[DEPARTURE]).await;
        leaving.departure(LEAVING).await;
        left.store(round, Ordering::SeqCst);
        let before = mesh.b.requests();
        eventually("the other is called", LIMIT, async || {
            (mesh.b.requests() > before + 50).then_some(())
        })
        .await;
        let late = format!("/after-{round}");
        assert!(mesh.a.seen().iter().all(|seen| seen.uri != late), "round {round}");
        left.store(0, Ordering::SeqCst);
        drop(leaving);
        let _back = mesh.leaver(&[]).await;
        mesh.both_serve().await;
    }
    over.store(true, Ordering::SeqCst);
    let mut after = 0;
    for client in clients {
        after += client.await.expect("nothing failed");
    }
    assert!(after > 0);
}

/// As in a service with one replica, or with all of them on a node that is emptied: who leaves still serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_endpoints_leave_at_once_those_that_leave_serve_on() {
    let mesh = Mesh::start().await;
    let mut leaving = Vec::new();
    for node in ["echo-a-0", "echo-b-1"] {
        let departure = format!("departure/default/{node}");
        let mut one = AdsClient::connect(mesh.control.grpc, node, &[&departure]).await;
        one.departure(node).await;
        leaving.push(one);
    }
    // Callers know: the endpoints have no idle connection left, and get a new one for each request.
    for version in [Version::Http1, Version::Http2] {
        let mut connection = Connection::open(mesh.caller.outbound, version).await;
        for _ in 0..50 {
            let reply = connection.get("echo", "/late").await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
    }
    mesh.both_serve().await;
    // One is back: from then on the other gets nothing.
    drop(leaving.remove(1));
    let mut back = AdsClient::connect(mesh.control.grpc, "echo-b-1", &["workload/default/echo-b-1"]).await;
    back.next().await;
    eventually("only the one that is back serves", LIMIT, async || {
        for _ in 0..50 {
            if mesh.get("/back").await != "b" {
                return None;
            }
        }
        Some(())
    })
    .await;
    mesh.only_b_serves("/after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_does_not_answer_is_named_and_holds_nobody_up_for_long() {
    let mesh = Mesh::start().await;
    let mut mute = AdsClient::connect(mesh.control.grpc, "mute", &[ECHO]).await;
    mute.next().await;
    let mut leaving = mesh.leaver(&[]).await;
    let begun = Instant::now();
    leaving.subscribe(DEPARTURE).await;
    let told = mute.next_unanswered().await;
    assert_eq!(told.resources.len(), 1, "{told:?}");
    let departure = leaving.departure(LEAVING).await;
    assert_eq!(departure.unanswered, ["default/mute"]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    // The others know all the same.
    mesh.only_b_serves("/after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_departure_outlives_the_control_plane_and_without_endpoints_it_is_there_at_once() {
    let mut mesh = Mesh::start().await;
    let mut stranger = AdsClient::connect(mesh.control.grpc, "stranger", &["departure/default/stranger"]).await;
    let begun = Instant::now();
    assert_eq!(stranger.departure("stranger").await.unanswered, Vec::<String>::new());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());

    let mut leaving = mesh.leaver(&[DEPARTURE]).await;
    leaving.departure(LEAVING).await;
    mesh.control.restart();
    let mut leaving = mesh.leaver(&[DEPARTURE]).await;
    assert_eq!(leaving.departure(LEAVING).await.unanswered, Vec::<String>::new());
    mesh.only_b_serves("/after").await;
}
