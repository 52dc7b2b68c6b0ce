//! Whoever waits leaves at its timeout or with its client, limits that are lowered under load hold, and a retry budget
//! counts.

use std::time::Duration;

use tokio::task::JoinSet;
use tsunagi_tests::{
    Behaviour, BlackHole, Connection, ControlPlane, Group, LIMIT, Reply, Sample, Sidecar, SidecarOptions, Upstream,
    Version, Workload, eventually, service,
};

use crate::{policy, pool};

const TIMEOUT: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - timeout: 500ms
    route: [{destination: {host: echo}}]
";

async fn pending(sample: &Sample, wanted: f64) {
    eventually(&format!("{wanted} requests wait"), LIMIT, async || {
        let metrics = sample.sidecar.metrics().await;
        (metrics.sum("tsunagi_upstream_pending_requests", &[]) == wanted).then_some(())
    })
    .await;
}

fn get(sample: &Sample) -> impl Future<Output = Reply> + Send + use<> {
    let outbound = sample.sidecar.outbound;
    async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await }
}

const TRIES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - retries: {attempts: 2, perTryTimeout: 700ms, retryOn: 5xx}
    route: [{destination: {host: echo}}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_time_of_a_try_does_not_run_while_it_waits_for_its_turn() {
    for port_name in ["http", "http2"] {
        let upstream = Upstream::start_with_streams("v1", 1).await;
        let rules = pool("tcp: {maxConnections: 1}");
        let options = SidecarOptions::default();
        let sample = Sample::of(port_name, vec![upstream], &["v1"], &rules, &options).await;
        sample.control.apply(TRIES).await;
        sample.upstream().set(Behaviour::Delay(Duration::from_millis(300)));
        let replies: JoinSet<Reply> = (0..5).map(|_| get(&sample)).collect();
        for reply in replies.join_all().await {
            assert_eq!(reply.status, 200, "{port_name}: {} {}", reply.flags(), reply.text());
        }
        assert_eq!(sample.upstream().requests(), 5, "{port_name}: none was broken off");
        // At the endpoint it does.
        sample.upstream().set(Behaviour::Hold);
        let late = get(&sample).await;
        assert_eq!((late.status, late.flags()), (504, "URX,UT"), "{port_name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_leaves_the_queue_at_its_timeout_and_with_its_client() {
    for port_name in ["http", "http2"] {
        let upstream = Upstream::start_with_streams("v1", 1).await;
        let rules = pool("tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 2}");
        let options = SidecarOptions::default();
        let sample = Sample::of(port_name, vec![upstream], &["v1"], &rules, &options).await;
        sample.upstream().set(Behaviour::Hold);
        let first = tokio::spawn(get(&sample));
        eventually("it is there", LIMIT, async || {
            (sample.upstream().live_requests() == 1).then_some(())
        })
        .await;
        let second = tokio::spawn(get(&sample));
        pending(&sample, 1.0).await;
        second.abort();
        pending(&sample, 0.0).await;

        sample.control.apply(TIMEOUT).await;
        let reply = get(&sample).await;
        assert_eq!((reply.status, reply.flags()), (504, "UT"), "{port_name}");
        assert!((450..5000).contains(&reply.elapsed.as_millis()), "{:?}", reply.elapsed);
        pending(&sample, 0.0).await;
        sample.upstream().set(Behaviour::Answer);
        assert_eq!(first.await.expect("it is answered").status, 200);
        assert_eq!(get(&sample).await.status, 200);
        assert_eq!(sample.upstream().requests(), 2, "{port_name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_lowered_and_raised_under_load_holds_and_fails_nobody() {
    for port_name in ["http", "http2"] {
        let group = Group::default();
        let upstreams = vec![
            Upstream::start_in(&group, "a").await,
            Upstream::start_in(&group, "b").await,
        ];
        let limit = |count: u32| {
            let streams = if port_name == "http2" {
                ", http: {maxConcurrentStreams: 1}"
            } else {
                ""
            };
            pool(&format!("tcp: {{maxConnections: {count}}}{streams}"))
        };
        let options = SidecarOptions::default();
        let sample = Sample::of(port_name, upstreams, &["a", "b"], &limit(8), &options).await;
        for upstream in &sample.upstreams {
            upstream.set(Behaviour::Delay(Duration::from_millis(2)));
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let mut clients = JoinSet::new();
        for _ in 0..16 {
            let mut connection = sample.connect(Version::Http1).await;
            let stopped = stopped.clone();
            clients.spawn(async move {
                let mut count = 0;
                while !*stopped.borrow() {
                    let reply = connection.get("echo", "/").await;
                    assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                    count += 1;
                }
                count
            });
        }
        eventually("all that are allowed are open", LIMIT, async || {
            (group.live_connections() == 8).then_some(())
        })
        .await;
        for count in [2_usize, 5, 1] {
            sample.control.apply(&limit(count as u32)).await;
            eventually("no more are open", LIMIT, async || {
                (group.live_connections() <= count).then_some(())
            })
            .await;
            for _ in 0..30 {
                let before = sample.requests();
                let served = async || (sample.requests() > before).then_some(());
                eventually("requests are served", LIMIT, served).await;
                let live = group.live_connections();
                assert!(live <= count, "{port_name}: {live} of {count}");
            }
        }
        assert_eq!(group.peak_connections(), 8);
        stop.send_replace(true);
        let served: usize = clients.join_all().await.into_iter().sum();
        assert!(served > 100, "{served}");
        pending(&sample, 0.0).await;
    }
}

/// Each has to wait for a connection of its own, because those that are open lead elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_whose_keys_lead_to_different_endpoints_share_few_places_in_turn() {
    const NAMES: [&str; 3] = ["a", "b", "c"];
    for (port_name, places) in [("http", 1), ("http2", 1), ("http", 2), ("http2", 2)] {
        let group = Group::default();
        let mut upstreams = Vec::new();
        for name in NAMES {
            upstreams.push(Upstream::start_in(&group, name).await);
        }
        let rules = policy(&format!(
            "connectionPool: {{tcp: {{maxConnections: {places}}}}}, \
             loadBalancer: {{consistentHash: {{httpQueryParameterName: key}}}}"
        ));
        let options = SidecarOptions::default();
        let sample = Sample::of(port_name, upstreams, &NAMES, &rules, &options).await;
        let mut clients = JoinSet::new();
        for client in 0..8 {
            let mut connection = sample.connect(Version::Http1).await;
            clients.spawn(async move {
                for turn in 0..8 {
                    let reply = connection.get("echo", &format!("/?key={client}-{turn}")).await;
                    assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                }
            });
        }
        clients.join_all().await;
        assert!(sample.upstreams.iter().all(|upstream| upstream.requests() > 0));
        assert_eq!(
            (sample.requests(), group.peak_connections()),
            (64, places),
            "{port_name}"
        );
        pending(&sample, 0.0).await;
    }
}

/// One attempt after the other, each for all who wait at that time, and not one for each of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_answers_those_who_wait_for_a_connection_fail_with_the_first() {
    let hole = BlackHole::start().await;
    let control = ControlPlane::start();
    let workload = Workload {
        version: "v1",
        address: hole.address,
    };
    let limits = pool("tcp: {maxConnections: 1, connectTimeout: 300ms}");
    for port_name in ["http", "http2"] {
        let echo = service("echo", port_name, &[workload]);
        control.apply(&format!("{echo}---\n{limits}")).await;
        let sidecar = Sidecar::start(&control).ready().await;
        let mut clients = JoinSet::new();
        for _ in 0..12 {
            let mut connection = Connection::open(sidecar.outbound, Version::Http1).await;
            clients.spawn(async move { connection.get("echo", "/").await });
        }
        for reply in clients.join_all().await {
            let (status, flags, said) = (reply.status, reply.flags(), reply.text());
            assert!(status == 503 && flags.contains("UF"), "{status} {flags} {said}");
            // Three attempts at most; by itself each request would have had its turn after 3.9 to 8.1 s.
            assert!(
                reply.elapsed < Duration::from_secs(3),
                "{port_name}: {:?}",
                reply.elapsed
            );
            assert_eq!(flags.contains("UO"), said.contains("retryBudget"), "{flags}: {said}");
        }
    }
}

const RETRIED: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - retries: {attempts: 1, retryOn: 5xx}
    route: [{destination: {host: echo}}]
---
";

/// Ten requests; the first attempts of some fail, and their retries stay: how many of those there are at once, and how
/// many were refused.
async fn retries_at_once(limits: &str) -> (u64, u64) {
    let rules = format!(
        "{RETRIED}{}",
        policy(&format!("loadBalancer: {{simple: ROUND_ROBIN}}, {limits}"))
    );
    let options = SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    };
    let sample = Sample::with("http", &["fails", "holds"], &rules, &options).await;
    let (fails, holds) = (&sample.upstreams[0], &sample.upstreams[1]);
    fails.set(Behaviour::Status(500));
    holds.set(Behaviour::Hold);
    let mut replies = JoinSet::new();
    (0..10).for_each(|_| drop(replies.spawn(get(&sample))));
    let mut refused = 0;
    let settled = async || {
        while let Some(reply) = replies.try_join_next() {
            let reply = reply.expect("a reply");
            assert_eq!((reply.status, reply.flags()), (500, "UO"), "{}", reply.text());
            refused += 1;
        }
        (refused + holds.live_requests() == 10).then_some(refused)
    };
    let refused = eventually("each stays or was refused a retry", LIMIT, settled).await;
    let metrics = sample.sidecar.metrics().await;
    let counted = metrics.sum("tsunagi_upstream_overflow_total", &[("limit", "retries")]);
    assert_eq!(counted, refused as f64);
    let failed = fails.requests();
    assert!(failed >= 3, "{failed} first attempts failed");
    (failed - refused, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_budget_bounds_the_retries_at_once_whatever_max_retries_says() {
    let (at_once, refused) =
        retries_at_once("connectionPool: {http: {maxRetries: 100}}, retryBudget: {percent: 0, minRetryConcurrency: 1}")
            .await;
    assert_eq!(at_once, 1);
    assert!(refused > 0);
    let (at_once, refused) = retries_at_once(
        "connectionPool: {http: {maxRetries: 1}}, retryBudget: {percent: 100, minRetryConcurrency: 100}",
    )
    .await;
    assert!(at_once > 1 && refused == 0, "{at_once} {refused}");
    let (at_once, refused) = retries_at_once("connectionPool: {http: {maxRetries: 1}}").await;
    assert_eq!(at_once, 1);
    assert!(refused > 0);
}

/// Twenty at once: the first attempts of ten fail together, while the others stay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_budget_is_a_share_of_the_requests_in_flight() {
    for (percent, at_least, at_most) in [(40, 6, 8), (10, 1, 2)] {
        let rules = format!(
            "{RETRIED}{}",
            policy(&format!(
                "loadBalancer: {{simple: ROUND_ROBIN}}, retryBudget: {{percent: {percent}, minRetryConcurrency: 1}}"
            ))
        );
        let options = SidecarOptions {
            workers: 1,
            ..SidecarOptions::default()
        };
        let sample = Sample::with("http", &["fails", "holds"], &rules, &options).await;
        let (fails, holds) = (&sample.upstreams[0], &sample.upstreams[1]);
        fails.set(Behaviour::Hold);
        holds.set(Behaviour::Hold);
        let mut replies = JoinSet::new();
        (0..20).for_each(|_| drop(replies.spawn(get(&sample))));
        eventually("each has ten", LIMIT, async || {
            (fails.live_requests() == 10 && holds.live_requests() == 10).then_some(())
        })
        .await;
        fails.set(Behaviour::Status(500));
        let mut refused = 0;
        eventually("each of ten was refused a retry or stays", LIMIT, async || {
            while let Some(reply) = replies.try_join_next() {
                let reply = reply.expect("a reply");
                assert_eq!((reply.status, reply.flags()), (500, "UO"), "{}", reply.text());
                refused += 1;
            }
            (refused + holds.live_requests() == 20).then_some(())
        })
        .await;
        let retried = 10 - refused;
        assert!((at_least..=at_most).contains(&retried), "{percent} %: {retried}");
        assert_eq!(fails.requests(), 10, "who has failed is not asked again");
        holds.set(Behaviour::Answer);
        assert!(replies.join_all().await.iter().all(|reply| reply.status == 200));
    }
}
