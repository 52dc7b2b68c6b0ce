//! Copies of requests: they arrive whole, nobody waits for them, and limits hold for them, through real processes.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use http::HeaderValue;
use tsunagi_tests::{
    Behaviour, ControlPlane, LIMIT, Sidecar, SidecarOptions, Upstream, Version, Workload, binomial_bounds, body,
    eventually, request, service,
};

struct Mirrored {
    _control: ControlPlane,
    sidecar: Sidecar,
    first: Upstream,
    copy: Upstream,
    /// More endpoints of the copies' destination.
    others: Vec<Upstream>,
}

impl Mirrored {
    async fn start(mirrors: &str, copy_policy: &str) -> Self {
        Self::start_with(mirrors, copy_policy, &[]).await
    }

    async fn start_with(mirrors: &str, copy_policy: &str, more: &[&str]) -> Self {
        let (first, copy) = (Upstream::start("first").await, Upstream::start("copy").await);
        let mut others = Vec::new();
        for name in more {
            others.push(Upstream::start(name).await);
        }
        let workload = |upstream: &Upstream| Workload {
            version: "v1",
            address: upstream.address,
        };
        let copies: Vec<Workload<'_>> = std::iter::once(&copy).chain(&others).map(workload).collect();
        let control = ControlPlane::start();
        let rules = format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: first
spec:
  hosts: [first]
  http:
  - rewrite: {{uri: /inner/}}
    headers: {{request: {{set: {{x-rule: applied}}}}}}
    route: [{{destination: {{host: first}}}}]
{mirrors}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: copy
spec:
  host: copy
  trafficPolicy: {copy_policy}
"
        );
        let services = [
            service("first", "http", &[workload(&first)]),
            service("copy", "http", &copies),
            rules,
        ];
        control.apply(&services.join("---\n")).await;
        let sidecar = Sidecar::start_with(control.grpc, &SidecarOptions::default())
            .ready()
            .await;
        Self {
            _control: control,
            sidecar,
            first,
            copy,
            others,
        }
    }

    async fn results(&self, result: &str) -> f64 {
        let metrics = self.sidecar.metrics().await;
        let labels = [
            ("destination_service", "copy.default.svc.cluster.local"),
            ("result", result),
        ];
        metrics.sum("tsunagi_mirrored_requests_total", &labels)
    }

    async fn wait_for(&self, result: &str, count: f64) {
        eventually(&format!("{count} {result}"), LIMIT, async || {
            (self.results(result).await >= count).then_some(())
        })
        .await;
    }
}

const ALL: &str = "    mirror: {host: copy}";
const ROUND_ROBIN: &str = "{loadBalancer: {simple: ROUND_ROBIN}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_the_request_as_it_leaves_and_says_that_it_is_one() {
    let mesh = Mirrored::start(ALL, ROUND_ROBIN).await;
    // Where the request's own answer comes before its body has, there is no more to copy.
    for upstream in [&mesh.first, &mesh.copy] {
        upstream.set(Behaviour::Swallow(200));
    }
    for (number, version) in [(1, Version::Http1), (2, Version::Http2)] {
        let mut connection = tsunagi_tests::Connection::open(mesh.sidecar.outbound, version).await;
        let mut sent = request("POST", "first:80", "/a?b");
        *sent.body_mut() = body(vec![b'x'; 300_000]);
        let reply = connection.send(sent).await;
        assert_eq!((reply.status, &*reply.text()), (200, "first"));
        mesh.wait_for("answered", f64::from(number)).await;
        let seen = mesh.copy.last();
        assert_eq!((&*seen.method, &*seen.uri), ("POST", "/inner/a?b"));
        assert_eq!(seen.headers["host"], "first-shadow:80");
        assert_eq!(seen.headers["x-rule"], "applied");
        assert_eq!(mesh.first.last().headers["host"], "first:80");
    }
    assert_eq!((mesh.first.bytes(), mesh.copy.bytes()), (600_000, 600_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_hangs_or_fails_holds_nobody_up() {
    let mesh = Mirrored::start(ALL, ROUND_ROBIN).await;
    mesh.copy.set(Behaviour::Hold);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(mesh.sidecar.get("first", "/").await.status, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    eventually("the copies hang", LIMIT, async || {
        (mesh.copy.live_requests() == 20).then_some(())
    })
    .await;
    mesh.copy.set(Behaviour::Close);
    mesh.wait_for("failed", 20.0).await;
    assert_eq!(
        (mesh.first.requests(), mesh.copy.requests()),
        (20, 20),
        "a copy is not repeated"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_hangs_does_not_keep_copies_from_another() {
    let mesh = Mirrored::start(
        "    mirrors:
    - {destination: {host: copy}}
    - {destination: {host: first}}",
        "{connectionPool: {tcp: {maxConnections: 4096}, http: {http1MaxPendingRequests: 4096}}}",
    )
    .await;
    mesh.copy.set(Behaviour::Hold);
    let answered = [
        ("destination_service", "first.default.svc.cluster.local"),
        ("result", "answered"),
    ];
    let mut connection = tsunagi_tests::Connection::open(mesh.sidecar.outbound, Version::Http2).await;
    for number in 1..=1100 {
        assert_eq!(connection.get("first", "/").await.status, 200);
        // One after the other: only what hangs takes places for long.
        if number % 100 == 0 {
            eventually("the other's copies are answered", LIMIT, async || {
                let metrics = mesh.sidecar.metrics().await;
                let count = metrics.sum("tsunagi_mirrored_requests_total", &answered);
                (count == f64::from(number)).then_some(())
            })
            .await;
        }
    }
    mesh.wait_for("overflow", 1100.0 - 256.0).await;
    assert_eq!(mesh.copy.live_requests(), 256);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_the_destination_hold_for_copies() {
    let limited = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let mesh = Mirrored::start(ALL, limited).await;
    mesh.copy.set(Behaviour::Hold);
    for _ in 0..10 {
        assert_eq!(mesh.sidecar.get("first", "/").await.status, 200);
    }
    mesh.wait_for("overflow", 8.0).await;
    assert_eq!(mesh.copy.peak_connections(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mirror_gets_its_share() {
    const REQUESTS: u64 = 1000;
    let mesh = Mirrored::start(
        "    mirrors:
    - {destination: {host: copy}, percentage: {value: 20}}
    - {destination: {host: nowhere}, percentage: {value: 100}}",
        ROUND_ROBIN,
    )
    .await;
    let mut connection = tsunagi_tests::Connection::open(mesh.sidecar.outbound, Version::Http2).await;
    for _ in 0..REQUESTS {
        assert_eq!(connection.get("first", "/").await.status, 200);
    }
    let (least, most) = binomial_bounds(REQUESTS, 0.2, 1e-6);
    mesh.wait_for("answered", least as f64).await;
    let copies = mesh.copy.requests();
    assert!((least..=most).contains(&copies), "{copies} of {REQUESTS}");
    let metrics = mesh.sidecar.metrics().await;
    let nowhere = [("result", "no_cluster")];
    assert_eq!(
        metrics.sum("tsunagi_mirrored_requests_total", &nowhere),
        REQUESTS as f64
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_go_where_their_own_destinations_policy_leads_the_key_of_the_request() {
    const USERS: usize = 20;
    let by_user = |user: usize, host: &str| {
        let mut sent = request("GET", host, "/");
        let value = HeaderValue::from_str(&format!("user-{user}")).expect("a header value");
        sent.headers_mut().insert("x-user", value);
        sent
    };
    for (key, by_header) in [("httpHeaderName: x-user", true), ("useSourceIp: true", false)] {
        let policy = format!("{{loadBalancer: {{consistentHash: {{{key}}}}}}}");
        let mesh = Mirrored::start_with(ALL, &policy, &["second copy", "third copy"]).await;
        for user in 0..3 * USERS {
            let reply = mesh.sidecar.send(by_user(user % USERS, "first")).await;
            assert_eq!((reply.status, &*reply.text()), (200, "first"));
        }
        mesh.wait_for("answered", 3.0 * USERS as f64).await;
        let places: Vec<HashSet<String>> = std::iter::once(&mesh.copy)
            .chain(&mesh.others)
            .map(|upstream| {
                let seen = upstream.seen().into_iter();
                seen.map(|seen| seen.headers["x-user"].to_str().expect("text").to_owned())
                    .collect()
            })
            .collect();
        let users: usize = places.iter().map(HashSet::len).sum();
        assert_eq!(users, USERS, "a user's copies stay together: {places:?}");
        let used = places.iter().filter(|users| !users.is_empty()).count();
        assert_eq!(used > 1, by_header, "{key}: {places:?}");
        // Where the user's own requests go.
        for user in 0..USERS {
            let reply = mesh.sidecar.send(by_user(user, "copy")).await.text();
            let index = ["copy", "second copy", "third copy"]
                .iter()
                .position(|name| *name == reply);
            let index = index.unwrap_or_else(|| panic!("{reply} answered"));
            assert!(
                places[index].contains(&format!("user-{user}")),
                "{key}: {user} at {reply}"
            );
        }
    }
}
