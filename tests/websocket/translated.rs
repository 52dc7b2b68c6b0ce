//! WebSocket over HTTP/2 (RFC 8441) on either side of a sidecar or on both: what only one of the two protocols has is
//! supplied, and ends and aborts stay what they are.

use std::future::pending;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Method, Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tsunagi_tests::{LIMIT, RawConnection, RawUpstream, eventually, within};

use crate::edges::{AGAIN, UNAVAILABLE, refusing};
use crate::peers::{ACCEPT, Echo, Ended, HANDSHAKE, Mesh, StreamBytes, closes, echo, says};

const LARGE_BYTES: usize = 1024 * 1024;

fn extended_connect(protocol: &str) -> Request<()> {
    let built = Request::builder()
        .method(Method::CONNECT)
        .uri("http://echo/chat")
        .header("sec-websocket-version", "13")
        .extension(Protocol::from(protocol));
    built.body(()).expect("a test writes valid requests")
}

/// The answer to an extended CONNECT, and the stream's bytes.
async fn ask(mesh: &Mesh, protocol: &str) -> Result<(Response<()>, StreamBytes), h2::Error> {
    let mut client = mesh.http2().await;
    let (answer, send) = client.send_request(extended_connect(protocol), false)?;
    let (head, receive) = within("an answer", LIMIT, answer).await?.into_parts();
    Ok((Response::from_parts(head, ()), StreamBytes::new(send, receive)))
}

/// An endpoint that speaks HTTP/2 and does with each stream what it is told. It ends with the test's runtime.
async fn endpoint<A>(
    connect_protocol: bool,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Clone + Send + 'static,
) -> SocketAddr
where
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, connect_protocol, serve.clone()));
        }
    });
    address
}

async fn serve_connection<A>(
    stream: TcpStream,
    connect_protocol: bool,
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> A,
) where
    A: Future<Output = ()> + Send + 'static,
{
    let mut server = h2::server::Builder::new();
    if connect_protocol {
        server.enable_connect_protocol();
    }
    let Ok(mut connection) = server.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve(request, respond));
    }
}

/// One that says everything twice, and shows what it was asked.
async fn echoing() -> (SocketAddr, Arc<Mutex<Vec<Request<()>>>>) {
    let seen = Arc::<Mutex<Vec<Request<()>>>>::default();
    let shown = Arc::clone(&seen);
    let address = endpoint(true, move |request, mut respond| {
        let (head, receive) = request.into_parts();
        shown.lock().expect("no poison").push(Request::from_parts(head, ()));
        async move {
            let send = respond.send_response(Response::new(()), false).expect("an open stream");
            let bytes = StreamBytes::new(send, receive);
            let mut socket = WebSocketStream::from_raw_socket(bytes, Role::Server, None).await;
            echo(&mut socket).await;
            // The library leaves that to others, and a stream that is dropped is cancelled.
            socket.get_mut().shutdown().await.ok();
        }
    })
    .await;
    (address, seen)
}

async fn converse(bytes: StreamBytes) {
    let mut socket = WebSocketStream::from_raw_socket(bytes, Role::Client, None).await;
    for message in [
        Message::text("one"),
        Message::binary(vec![9; LARGE_BYTES]),
        Message::text("two"),
    ] {
        says(&mut socket, message).await;
    }
    closes(socket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http_2_speaks_with_an_endpoint_over_http_1() {
    let echo = Echo::start("v1").await;
    let mesh = Mesh::start("http", &[("v1", echo.address)], "").await;
    let (answer, bytes) = ask(&mesh, "websocket").await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-version"], "v1");
    for hop in ["connection", "upgrade"] {
        assert!(!answer.headers().contains_key(hop), "{hop}");
    }
    converse(bytes).await;
    echo.ended(&[Ended::Closed]).await;
    let request = echo.requests().pop().expect("it was asked");
    assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/chat"));
    // The library refuses a handshake without a key; each has its own.
    let key = request.headers()["sec-websocket-key"].clone();
    ask(&mesh, "websocket").await.expect("an answer");
    let other = echo.requests().pop().expect("it was asked");
    assert_ne!(other.headers()["sec-websocket-key"], key);
    let labels = [("status_code", "101"), ("method", "GET"), ("response_flags", "")];
    mesh.counted(&mesh.sidecar, &labels, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http_2_speaks_with_an_endpoint_over_http_2() {
    for port_name in ["http2", "unknown"] {
        let (address, seen) = echoing().await;
        let mesh = Mesh::start(port_name, &[("v1", address)], "").await;
        let (answer, bytes) = ask(&mesh, "websocket").await.expect("an answer");
        assert_eq!(answer.status(), 200);
        converse(bytes).await;
        let seen = seen.lock().expect("no poison");
        let request = seen.first().expect("it was asked");
        let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
        assert_eq!((request.method(), protocol), (&Method::CONNECT, Some("websocket")));
        assert_eq!(request.uri().path(), "/chat");
        assert!(!request.headers().contains_key("sec-websocket-key"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_over_http_1_speaks_with_an_endpoint_over_http_2() {
    let (address, seen) = echoing().await;
    let mesh = Mesh::start("http2", &[("v1", address)], "").await;
    // The library refuses an answer that does not accept its key.
    let (mut socket, _) = mesh.open(&[]).await.expect("an upgrade");
    says(&mut socket, Message::binary(vec![9; LARGE_BYTES])).await;
    closes(socket).await;
    let labels = [("status_code", "101"), ("response_flags", "")];
    mesh.counted(&mesh.sidecar, &labels, 1.0).await;
    assert_eq!(seen.lock().expect("no poison").len(), 1);

    let mut client = mesh.connect().await;
    client.write(HANDSHAKE).await;
    let answer = within("the answer", LIMIT, client.read_head()).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    let accept = format!("sec-websocket-accept: {ACCEPT}\r\n");
    assert!(answer.contains(&accept), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_is_an_abort_and_so_is_its_other_side() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mesh = Mesh::start("http", &[("v1", listener.local_addr().expect("bound"))], "").await;
    let mut sessions = Vec::new();
    for _ in 0..3 {
        let asking = ask(&mesh, "websocket");
        let answering = async {
            let (stream, _) = listener.accept().await.expect("the listener lives");
            let mut server = RawConnection::over(stream);
            let head = server.read_head().await;
            server.write(switched(&head)).await;
            server
        };
        let (asked, server) = tokio::join!(asking, answering);
        sessions.push((asked.expect("an answer").1, server));
    }
    // The client cancels its stream, also behind its end.
    for ended in [false, true] {
        let (mut bytes, mut server) = sessions.remove(0);
        if ended {
            bytes.shutdown().await.expect("an open stream");
            let read = within("an end", LIMIT, server.stream.read(&mut [0; 64])).await;
            assert_eq!(read.expect("no abort yet"), 0);
        }
        bytes.send.send_reset(Reason::CANCEL);
        if ended {
            // Nothing is said any more, in either direction, and it is heard all the same.
            eventually("an abort", LIMIT, async || {
                server.stream.take_error().expect("a socket")
            })
            .await;
        } else {
            let read = within("an ending", LIMIT, server.stream.read(&mut [0; 64])).await;
            assert_eq!(read.expect_err("an abort is no end").kind(), ErrorKind::ConnectionReset);
        }
    }
    let (mut bytes, server) = sessions.remove(0);
    server.stream.set_zero_linger().expect("a socket");
    drop(server);
    assert_eq!(bytes.reset().await, Some(Reason::CANCEL));
    for (flags, count) in [("DC", 2.0), ("UC", 1.0)] {
        let labels = [("status_code", "101"), ("response_flags", flags)];
        mesh.counted(&mesh.sidecar, &labels, count).await;
    }
}

/// The answer to a handshake with any key.
fn switched(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|line| line.strip_prefix("sec-websocket-key: "))
        .expect("a key");
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_over_http_2_is_an_end_over_http_1_and_the_other_way_round() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mesh = Mesh::start("http", &[("v1", listener.local_addr().expect("bound"))], "").await;
    let answering = async {
        let (stream, _) = listener.accept().await.expect("the listener lives");
        let mut server = RawConnection::over(stream);
        let head = server.read_head().await;
        server.write(switched(&head)).await;
        server
    };
    let (asked, mut server) = tokio::join!(ask(&mesh, "websocket"), answering);
    let mut bytes = asked.expect("an answer").1;
    bytes.write_all(b"last words").await.expect("an open stream");
    bytes.shutdown().await.expect("an open stream");
    assert_eq!(server.read_to_end().await, b"last words");
    server.write("and mine").await;
    drop(server);
    let mut rest = Vec::new();
    within("the rest", LIMIT, bytes.read_to_end(&mut rest))
        .await
        .expect("no abort");
    assert_eq!(rest, b"and mine");
    let labels = [("status_code", "101"), ("response_flags", "")];
    mesh.counted(&mesh.sidecar, &labels, 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_over_http_2_may_abort_or_say_no() {
    let address = endpoint(true, |request, mut respond| async move {
        match request.headers().get("x-want").map(|want| want.as_bytes()) {
            Some(b"no") => {
                let no = Response::builder().status(403).body(()).expect("a valid response");
                let mut send = respond.send_response(no, false).expect("an open stream");
                send.send_data(Bytes::from_static(b"no!"), true)
                    .expect("an open stream");
                pending().await
            }
            _ => {
                let send = respond.send_response(Response::new(()), false);
                let mut bytes = StreamBytes::new(send.expect("an open stream"), request.into_body());
                bytes.read_exact(&mut [0; 5]).await.expect("a word");
                bytes.send.send_reset(Reason::CANCEL);
            }
        }
    })
    .await;
    let mesh = Mesh::start("http2", &[("v1", address)], "").await;
    let refused = HANDSHAKE.replace("\r\n\r\n", "\r\nX-Want: no\r\n\r\n");
    let response = RawConnection::exchange(mesh.sidecar.outbound, refused).await;
    assert_eq!((response.status, &*response.text()), (403, "no!"));
    let mut client = mesh.connect().await;
    client.write(HANDSHAKE).await;
    let answer = within("the answer", LIMIT, client.read_head()).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    client.write("abort").await;
    let read = within("an ending", LIMIT, client.stream.read(&mut [0; 64])).await;
    assert_eq!(read.expect_err("an abort is no end").kind(), ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_allows_no_such_streams_is_not_asked_and_not_blamed() {
    let address = endpoint(false, |_, mut respond| async move {
        respond.send_response(Response::new(()), true).ok();
    })
    .await;
    let rules = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    outlierDetection:
      consecutive5xxErrors: 1
      maxEjectionPercent: 100
";
    let mesh = Mesh::start("http2", &[("v1", address)], rules).await;
    for _ in 0..3 {
        let (answer, _) = ask(&mesh, "websocket").await.expect("an answer");
        assert_eq!(answer.status(), 502);
        assert_eq!(answer.headers()["x-tsunagi-response-flags"], "UPE");
        let response = RawConnection::exchange(mesh.sidecar.outbound, HANDSHAKE).await;
        assert_eq!(response.status, 502);
        assert!(response.text().contains("RFC 8441"), "{}", response.text());
    }
    assert_eq!(mesh.sidecar.get("echo", "/").await.status, 200);
    let metrics = mesh.sidecar.metrics().await;
    assert_eq!(metrics.sum("tsunagi_outlier_ejections_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_cannot_become_is_refused_and_reaches_nobody() {
    let upstream = RawUpstream::start(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let mesh = Mesh::start("http", &[("v1", upstream.address)], "").await;
    for protocol in [
        "h2c",
        "TLS/1.2",
        "",
        "a, b",
        "x\r\nInjected: yes",
        "x\r\n\r\nGET /smuggled HTTP/1.1",
    ] {
        match ask(&mesh, protocol).await {
            Ok((answer, _)) => assert_eq!(answer.status(), 400, "{protocol}"),
            Err(error) => assert!(error.is_reset(), "{protocol}: {error}"),
        }
    }
    assert_eq!(upstream.heads(), Vec::<String>::new());
    // One that does not answer the key was no WebSocket endpoint.
    let liar = RawUpstream::start(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
    )
    .await;
    let mesh = Mesh::start("http", &[("v1", liar.address)], "").await;
    let (answer, _) = ask(&mesh, "websocket").await.expect("an answer");
    assert_eq!(answer.status(), 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_an_upgrade_that_is_refused_is_tried_elsewhere_as_the_rule_says() {
    let asked = Arc::new(AtomicU32::new(0));
    let (busy, echo) = (refusing(UNAVAILABLE, &asked).await, Echo::start("v1").await);
    let endpoints = [("busy", busy.address), ("v1", echo.address)];
    let mesh = Mesh::start("http", &endpoints, AGAIN).await;
    for _ in 0..8 {
        let (answer, bytes) = ask(&mesh, "websocket").await.expect("an answer");
        assert_eq!(answer.status(), 200);
        converse(bytes).await;
    }
    assert!(asked.swap(0, Ordering::Relaxed) > 0);

    let counted = Arc::clone(&asked);
    let busy = endpoint(true, move |_, mut respond| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let unavailable = Response::builder().status(503).body(()).expect("a valid answer");
            respond.send_response(unavailable, true).expect("an open stream");
        }
    })
    .await;
    let (echo, _) = echoing().await;
    let mesh = Mesh::start("http2", &[("busy", busy), ("v1", echo)], AGAIN).await;
    for _ in 0..8 {
        let (answer, bytes) = ask(&mesh, "websocket").await.expect("an answer");
        assert_eq!(answer.status(), 200);
        converse(bytes).await;
    }
    assert!(asked.load(Ordering::Relaxed) > 0);
}
