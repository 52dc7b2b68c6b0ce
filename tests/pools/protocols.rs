//! `h2UpgradePolicy`, `useClientProtocol`, `maxConcurrentStreams`.

use std::collections::BTreeMap;

use tokio::task::JoinSet;
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, RawConnection, RawUpstream, Sidecar, Version, Workload, eventually,
    service,
};

use crate::{one_worker, pool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_policy_http2_is_spoken_to_a_port_that_says_http1_or_nothing_whatever_the_client_speaks() {
    let cases = [
        ("http", "h2UpgradePolicy: UPGRADE", ["HTTP/2.0", "HTTP/2.0"]),
        ("unknown", "h2UpgradePolicy: UPGRADE", ["HTTP/2.0", "HTTP/2.0"]),
        ("http", "h2UpgradePolicy: DO_NOT_UPGRADE", ["HTTP/1.1", "HTTP/1.1"]),
        ("unknown", "h2UpgradePolicy: DEFAULT", ["HTTP/1.1", "HTTP/2.0"]),
        ("http", "useClientProtocol: true", ["HTTP/1.1", "HTTP/2.0"]),
        ("http2", "useClientProtocol: true", ["HTTP/1.1", "HTTP/2.0"]),
        ("http2", "h2UpgradePolicy: DO_NOT_UPGRADE", ["HTTP/2.0", "HTTP/2.0"]),
    ];
    for (port_name, http, expected) in cases {
        let sample = one_worker(port_name, &pool(&format!("http: {{{http}}}"))).await;
        for (client, expected) in [Version::Http1, Version::Http2].into_iter().zip(expected) {
            let reply = sample.connect(client).await.get("echo", "/").await;
            let seen = (reply.status, sample.upstream().last().version);
            assert_eq!(seen, (200, expected.to_owned()), "{port_name} {http} {client:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_protocol_goes_out_over_http1_where_http2_is_only_a_policy() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nhello";
    let upstream = RawUpstream::serving(move |mut connection| async move {
        let head = connection.read_head().await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        connection.write(switching).await;
        connection.read_to_end().await;
    })
    .await;
    let control = ControlPlane::start();
    let address = upstream.address;
    let echo = service("echo", "http", &[Workload { version: "v1", address }]);
    let rules = pool("http: {h2UpgradePolicy: UPGRADE}");
    control.apply(&format!("{echo}---\n{rules}")).await;
    let sidecar = Sidecar::start(&control).ready().await;
    let mut client = RawConnection::open(sidecar.outbound).await;
    client
        .write("GET / HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    let response = client.head_response().await;
    assert_eq!(response.status, 101, "{}", response.head);
    assert_eq!(client.read_exact(5).await, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_http2_connection_carries_no_more_streams_than_allowed_and_the_next_one_opens() {
    let sample = one_worker("http2", &pool("http: {maxConcurrentStreams: 2}")).await;
    let upstream = sample.upstream();
    assert_eq!(sample.get("/").await.status, 200);
    upstream.set(Behaviour::Hold);
    let outbound = sample.sidecar.outbound;
    let mut replies = JoinSet::new();
    for _ in 0..6 {
        replies.spawn(async move { Connection::open(outbound, Version::Http1).await.get("echo", "/").await });
    }
    eventually("all are there", LIMIT, async || {
        (upstream.live_requests() == 6).then_some(())
    })
    .await;
    let mut streams: BTreeMap<u64, usize> = BTreeMap::new();
    for seen in &upstream.seen()[1..] {
        *streams.entry(seen.connection).or_default() += 1;
    }
    let carried: Vec<usize> = streams.into_values().collect();
    assert_eq!(carried, [2, 2, 2]);
    upstream.set(Behaviour::Answer);
    assert!(replies.join_all().await.iter().all(|reply| reply.status == 200));
}
