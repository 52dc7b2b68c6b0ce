//! Upgrades at their edges: what comes and goes byte by byte, how each side's end and abort arrive at the other, endpoints
//! that say no or something that nobody has asked for, and event streams, which are no upgrades but as patient.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tsunagi_tests::{Connection, LIMIT, RawConnection, RawUpstream, Version, body, eventually, request, within};

use crate::limits;
use crate::peers::{HANDSHAKE, Mesh, SWITCHED};

pub(crate) const AGAIN: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts:
  - echo
  http:
  - retries:
      attempts: 3
      retryOn: 5xx,reset,connect-failure,refused-stream
    route:
    - destination:
        host: echo
";

/// A mesh whose endpoint the test plays itself.
struct Played {
    mesh: Mesh,
    listener: TcpListener,
}

impl Played {
    async fn start(rules: &str) -> Played {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mesh = Mesh::start("http", &[("v1", address)], rules).await;
        Played { mesh, listener }
    }

    async fn accept(&self) -> RawConnection {
        let (stream, _) = within("a connection", LIMIT, self.listener.accept())
            .await
            .expect("the listener lives");
        RawConnection::over(stream)
    }

    /// An upgrade, and its other end.
    async fn upgrade(&self) -> (RawConnection, RawConnection) {
        let mut client = self.mesh.connect().await;
        client.write(HANDSHAKE).await;
        let mut server = self.accept().await;
        within("the handshake", LIMIT, server.read_head()).await;
        server.write(SWITCHED).await;
        let answer = within("the answer", LIMIT, client.read_head()).await;
        assert_eq!(answer, SWITCHED);
        (client, server)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_at_once_behind_either_head_arrives() {
    let played = Played::start("").await;
    let mut client = played.mesh.connect().await;
    client.write(format!("{HANDSHAKE}early client")).await;
    let mut server = played.accept().await;
    let head = within("the handshake", LIMIT, server.read_head()).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    for field in [
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
    assert_eq!(head.to_ascii_lowercase().matches("\r\nconnection:").count(), 1);
    server.write(format!("{SWITCHED}early server")).await;
    assert_eq!(
        within("to the server", LIMIT, server.read_exact(12)).await,
        b"early client"
    );
    assert_eq!(within("the answer", LIMIT, client.read_head()).await, SWITCHED);
    assert_eq!(
        within("to the client", LIMIT, client.read_exact(12)).await,
        b"early server"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_of_one_side_is_an_abort_of_the_other() {
    let played = Played::start("").await;
    for (client_aborts, flags) in [(true, "DC"), (false, "UC")] {
        let (client, server) = played.upgrade().await;
        let (aborting, mut other) = if client_aborts {
            (client, server)
        } else {
            (server, client)
        };
        aborting.stream.set_zero_linger().expect("a socket");
        drop(aborting);
        let read = within("an ending", LIMIT, other.stream.read(&mut [0; 64])).await;
        let error = read.expect_err("an abort is no end");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{flags}");
        let labels = [("status_code", "101"), ("response_flags", flags)];
        played.mesh.counted(&played.mesh.sidecar, &labels, 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_an_end_and_the_other_direction_goes_on() {
    let played = Played::start("").await;
    for client_ends in [true, false] {
        let (mut client, mut server) = played.upgrade().await;
        let (ending, other) = if client_ends {
            (&mut client, &mut server)
        } else {
            (&mut server, &mut client)
        };
        ending.write("last words").await;
        ending.stream.shutdown().await.expect("open");
        assert_eq!(other.read_to_end().await, b"last words");
        other.write("and mine").await;
        other.stream.shutdown().await.expect("open");
        let read = within("the rest", LIMIT, ending.stream.read(&mut [0; 64])).await;
        assert_eq!(read.expect("no abort"), 8);
        assert_eq!(ending.stream.read(&mut [0; 64]).await.expect("no abort"), 0);
    }
    let labels = [("status_code", "101"), ("response_flags", "")];
    played.mesh.counted(&played.mesh.sidecar, &labels, 2.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_the_last_connection_hears_that_it_was_upgraded() {
    let played = Played::start(&limits("      tcp:\n        maxConnections: 1\n")).await;
    let mut client = played.mesh.connect().await;
    client.write(HANDSHAKE).await;
    let mut server = played.accept().await;
    within("the handshake", LIMIT, server.read_head()).await;
    let mut second = played.mesh.connect().await;
    second.write("GET / HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    eventually("the second waits", LIMIT, async || {
        let metrics = played.mesh.sidecar.metrics().await;
        (metrics.sum("tsunagi_upstream_pending_requests", &[]) == 1.0).then_some(())
    })
    .await;
    server.write(SWITCHED).await;
    let refused = second.response().await;
    assert_eq!(
        (refused.status, refused.header("x-tsunagi-response-flags")),
        (503, Some("UO"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_says_no_has_answered_a_request_and_the_connections_go_on() {
    let upstream =
        RawUpstream::start(b"HTTP/1.1 403 Forbidden\r\nUpgrade: h2c\r\nContent-Length: 4\r\n\r\nno!\n").await;
    let mesh = Mesh::start("http", &[("v1", upstream.address)], "").await;
    let mut client = mesh.connect().await;
    for _ in 0..2 {
        client.write(HANDSHAKE).await;
        let response = client.response().await;
        assert_eq!((response.status, &*response.text()), (403, "no!\n"));
        assert_eq!(response.header("upgrade"), None);
    }
    client.write("GET / HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    assert_eq!(client.response().await.status, 403);
    let heads = upstream.heads();
    assert_eq!(heads.len(), 3);
    assert!(!heads[2].to_ascii_lowercase().contains("upgrade"), "{}", heads[2]);
    let metrics = mesh.sidecar.metrics().await;
    assert_eq!(metrics.sum("tsunagi_upstream_connections", &[]), 1.0, "one for all");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_goes_on_in_nothing_that_was_not_asked_for() {
    let upstream =
        RawUpstream::start(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n").await;
    let mesh = Mesh::start("http", &[("v1", upstream.address)], "").await;
    let both = HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c, TLS/1.2, websocket");
    let body = HANDSHAKE.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\nhi");
    let old = HANDSHAKE.replace("HTTP/1.1", "HTTP/1.0");
    for (sent, passed_on) in [
        (HANDSHAKE, Some("Upgrade: websocket")),
        (&both, Some("Upgrade: websocket")),
        (&body, None),
        (&old, None),
        ("GET / HTTP/1.1\r\nHost: echo\r\nUpgrade: websocket\r\n\r\n", None),
        (
            "GET / HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: TLS/1.2\r\n\r\n",
            None,
        ),
    ] {
        let response = RawConnection::exchange(mesh.sidecar.outbound, sent).await;
        assert_eq!(response.status, 502, "{sent}: {}", response.head);
        let head = upstream.heads().pop().expect("it was asked");
        match passed_on {
            Some(field) => assert!(head.contains(&format!("\r\n{field}\r\n")), "{sent}: {head}"),
            None => assert!(!head.to_ascii_lowercase().contains("upgrade"), "{sent}: {head}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_protocols_than_websocket_pass_too() {
    let played = Played::start("").await;
    let mut client = played.mesh.connect().await;
    let sent = "POST /containers/x/attach HTTP/1.1\r\nHost: echo\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    client.write(sent).await;
    let mut server = played.accept().await;
    let head = within("the request", LIMIT, server.read_head()).await;
    assert!(head.contains("\r\nUpgrade: tcp\r\n"), "{head}");
    server
        .write("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
        .await;
    let answer = within("the answer", LIMIT, client.read_head()).await;
    assert_eq!(
        answer,
        "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    );
    server.write([0, 255]).await;
    assert_eq!(within("bytes", LIMIT, client.read_exact(2)).await, [0, 255]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_was_sent_is_repeated_as_the_rule_says_and_without_one_never() {
    let asked = Arc::new(AtomicU32::new(0));
    for answer in ["", UNAVAILABLE] {
        let upstream = refusing(answer, &asked).await;
        for (rules, tries) in [(AGAIN, 4), ("", 1)] {
            let mesh = Mesh::start("http", &[("v1", upstream.address)], rules).await;
            let response = RawConnection::exchange(mesh.sidecar.outbound, HANDSHAKE).await;
            let asked = asked.swap(0, Ordering::Relaxed);
            assert_eq!((response.status, asked), (503, tries), "{answer:?} {rules}");
        }
    }
}

pub(crate) const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

/// An endpoint that answers so, and closes; `-`: that is silent.
pub(crate) async fn refusing(answer: &'static str, asked: &Arc<AtomicU32>) -> RawUpstream {
    let asked = Arc::clone(asked);
    RawUpstream::serving(move |mut connection| {
        let asked = Arc::clone(&asked);
        async move {
            connection.read_head().await;
            asked.fetch_add(1, Ordering::Relaxed);
            if answer == "-" {
                connection.read_to_end().await;
            } else {
                connection.write(answer).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_goes_elsewhere_from_an_endpoint_that_refuses_it_and_what_follows_it_arrives_there() {
    let accepting = RawUpstream::serving(async |mut connection| {
        connection.read_head().await;
        connection.write(SWITCHED).await;
        let early = connection.read_exact(5).await;
        connection.write(early).await;
        connection.read_to_end().await;
    })
    .await;
    let limited = AGAIN.replace("attempts: 3", "attempts: 3\n      perTryTimeout: 300ms");
    for answer in ["", UNAVAILABLE, "-"] {
        let asked = Arc::new(AtomicU32::new(0));
        let refusing = refusing(answer, &asked).await;
        let endpoints = [("v1", refusing.address), ("v2", accepting.address)];
        let mesh = Mesh::start("http", &endpoints, &limited).await;
        for _ in 0..8 {
            let mut client = mesh.connect().await;
            client.write(format!("{HANDSHAKE}early")).await;
            assert_eq!(
                within("the answer", LIMIT, client.read_head()).await,
                SWITCHED,
                "{answer:?}"
            );
            assert_eq!(within("what was said", LIMIT, client.read_exact(5)).await, b"early");
        }
        assert!(asked.load(Ordering::Relaxed) > 0, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_goes_elsewhere_from_an_endpoint_that_is_not_there() {
    let mut endpoints = Vec::new();
    let upstream = RawUpstream::start(SWITCHED.as_bytes()).await;
    endpoints.push(("v1", upstream.address));
    for _ in 0..2 {
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        endpoints.push(("dead", closed.local_addr().expect("bound")));
    }
    let mesh = Mesh::start("http", &endpoints, AGAIN).await;
    for _ in 0..8 {
        let mut client = mesh.connect().await;
        client.write(HANDSHAKE).await;
        assert_eq!(within("the answer", LIMIT, client.read_head()).await, SWITCHED);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_a_stream_arrive_one_by_one_over_either_protocol() {
    let next = Arc::new(Notify::new());
    let told = Arc::clone(&next);
    let upstream = RawUpstream::serving(move |mut connection| {
        let next = Arc::clone(&told);
        async move {
            connection.read_head().await;
            connection
                .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            for number in 0..5 {
                connection.write(format!("9\r\ndata: {number}\n\n\r\n")).await;
                next.notified().await;
            }
            connection.write("0\r\n\r\n").await;
        }
    })
    .await;
    let mesh = Mesh::start("http", &[("v1", upstream.address)], "").await;
    for version in [Version::Http1, Version::Http2] {
        let mut client = Connection::open(mesh.sidecar.outbound, version).await;
        let started = client.start(request("GET", "echo", "/events").map(|_| body(""))).await;
        let mut events = started.expect("an answer").into_body();
        for number in 0..5 {
            // The next is only said when this one was heard.
            let frame = http_body_util::BodyExt::frame(&mut events);
            let frame = within("an event", LIMIT, frame).await.expect("an event").expect("data");
            let data = frame.into_data().expect("data");
            assert_eq!(data, format!("data: {number}\n\n"), "{version:?}");
            next.notify_one();
        }
        let end = within("the end", LIMIT, http_body_util::BodyExt::frame(&mut events)).await;
        assert!(end.is_none_or(|frame| frame.is_ok_and(|it| it.into_data().is_ok_and(|data| data.is_empty()))));
    }
}
