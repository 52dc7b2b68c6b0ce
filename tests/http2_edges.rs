//! HTTP/2 at its edges: streams that do not end where their message does, readers that stall, and messages in crumbs.
//! The peers are the `h2` crate itself, which does only what it is told.

use std::future::{Future, pending, poll_fn};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tsunagi_tests::{
    Connection, ControlPlane, LIMIT, RawConnection, RawUpstream, Sample, Sidecar, SidecarOptions, Version, Workload,
    eventually, request, service, within,
};

/// Small messages, as in a stream of events.
const MESSAGES: u64 = 20_000;
const MESSAGE: &[u8] = b"twenty bytes, a line";
/// So many of them at least come under way before anybody reads: what a stream's window has room for.
const UNREAD_MESSAGES: u64 = 12_000;

/// A sidecar with one worker, and so one connection to the only endpoint of `echo`.
struct Mesh {
    sidecar: Sidecar,
    _control: ControlPlane,
}

impl Mesh {
    async fn start(address: SocketAddr) -> Mesh {
        let control = ControlPlane::start();
        let echo = service("echo", "http2", &[Workload { version: "v1", address }]);
        control.apply(&echo).await;
        let sidecar = Sidecar::start_with(control.grpc, &one_worker()).ready().await;
        Mesh {
            sidecar,
            _control: control,
        }
    }

    async fn no_active_requests(&self) {
        eventually("no request is active", LIMIT, async || {
            let metrics = self.sidecar.metrics().await;
            (metrics.sum("tsunagi_upstream_active_requests", &[]) == 0.0).then_some(())
        })
        .await;
    }

    /// A client that reads no faster than its test takes.
    async fn client(&self) -> h2::client::SendRequest<Bytes> {
        let stream = TcpStream::connect(self.sidecar.outbound)
            .await
            .expect("the listener accepts");
        let mut client = h2::client::Builder::new();
        let handshake = client.data_frame_budget(usize::MAX).handshake(stream);
        let (sender, connection) = handshake.await.expect("it speaks HTTP/2");
        tokio::spawn(connection);
        sender
    }
}

fn one_worker() -> SidecarOptions {
    SidecarOptions {
        workers: 1,
        ..SidecarOptions::default()
    }
}

/// An upstream that does with each request what it is told. It ends with the test's runtime.
async fn upstream<A>(
    serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> A + Clone + Send + 'static,
) -> SocketAddr
where
    A: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, serve.clone()));
        }
    });
    address
}

async fn serve_connection<A>(stream: TcpStream, serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> A)
where
    A: Future<Output = Result<(), h2::Error>> + Send + 'static,
{
    // Its own patience with crumbs is not what a test is about.
    let mut server = h2::server::Builder::new();
    let server = server
        .data_frame_budget(usize::MAX)
        .initial_connection_window_size(16 * 1024 * 1024);
    let Ok(mut connection) = server.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve(request, respond));
    }
}

fn response(status: u16, fields: &[(&str, &str)]) -> Response<()> {
    let built = Response::builder().status(status);
    let built = fields
        .iter()
        .fold(built, |built, (name, value)| built.header(*name, *value));
    built.body(()).expect("a test writes valid responses")
}

fn h2_request(method: Method, path: &str) -> Request<()> {
    let built = Request::builder().method(method).uri(format!("http://echo{path}"));
    built.body(()).expect("a test writes valid requests")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_without_a_body_is_over_with_its_head_even_if_its_stream_is_not() {
    let address = upstream(|request, mut respond| async move {
        let (head, end) = match (request.method(), request.uri().path()) {
            (&Method::HEAD, _) => (response(200, &[("content-length", "7")]), false),
            (_, "/204") => (response(204, &[]), false),
            (_, "/304") => (response(304, &[]), false),
            _ => (response(200, &[]), true),
        };
        let _open = respond.send_response(head, end)?;
        pending().await
    })
    .await;
    let mesh = Mesh::start(address).await;
    let cases = [
        ("GET", "/204", 204),
        ("HEAD", "/", 200),
        ("GET", "/304", 304),
        ("GET", "/", 200),
    ];
    let mut http1 = RawConnection::open(mesh.sidecar.outbound).await;
    let mut http2 = Connection::open(mesh.sidecar.outbound, Version::Http2).await;
    for (method, path, status) in cases {
        http1
            .write(format!("{method} {path} HTTP/1.1\r\nHost: echo\r\n\r\n"))
            .await;
        let answer = if method == "HEAD" {
            http1.head_response().await
        } else {
            http1.response().await
        };
        assert_eq!(answer.status, status, "{method} {path}");
        mesh.no_active_requests().await;
        let reply = http2.send(request(method, "echo", path)).await;
        assert_eq!((reply.status, reply.body.len()), (status, 0), "{method} {path}");
        mesh.no_active_requests().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_behind_a_content_length_of_0_reach_the_client() {
    let address = upstream(|_, mut respond| async move {
        let mut stream = respond.send_response(response(200, &[("content-length", "0")]), false)?;
        let trailers = response(200, &[("grpc-status", "5")]).headers().clone();
        stream.send_trailers(trailers)
    })
    .await;
    let mesh = Mesh::start(address).await;
    let mut client = mesh.client().await;
    let (answer, _) = client
        .send_request(h2_request(Method::GET, "/"), true)
        .expect("an open connection");
    let answer = within("a head", LIMIT, answer).await.expect("a response");
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let trailers = within("trailers", LIMIT, async {
        while let Some(data) = body.data().await {
            assert!(data.expect("no error").is_empty(), "a body of no bytes");
        }
        body.trailers().await
    });
    let trailers = trailers.await.expect("no error").expect("trailers");
    assert_eq!(
        trailers.get("grpc-status").map(|value| value.as_bytes()),
        Some(&b"5"[..])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheme_that_no_request_has_is_refused_and_not_put_into_a_location() {
    const REDIRECT: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - redirect: {uri: /new}
";
    let sample = Sample::with("http2", &["v1"], REDIRECT, &one_worker()).await;
    let stream = TcpStream::connect(sample.sidecar.outbound)
        .await
        .expect("the listener accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    for (scheme, status) in [("javascript", 400), ("ftp", 400), ("http", 301), ("https", 301)] {
        let target = format!("{scheme}://echo/a");
        let request = Request::get(&target).body(()).expect("a valid request");
        let (answer, _) = client.send_request(request, true).expect("an open connection");
        let answer = within("an answer", LIMIT, answer).await.expect("a response");
        assert_eq!(answer.status(), status, "{scheme} over HTTP/2");
        let location = answer.headers().get("location").map(|it| it.as_bytes());
        let wanted = format!("{scheme}://echo/new");
        assert_eq!(location, (status == 301).then_some(wanted.as_bytes()), "{scheme}");
        let mut http1 = RawConnection::open(sample.sidecar.outbound).await;
        http1
            .write(format!("GET {target} HTTP/1.1\r\nHost: echo\r\n\r\n"))
            .await;
        assert_eq!(http1.response().await.status, status, "{scheme} over HTTP/1");
    }
}

/// Until the number has stopped growing for half a second.
async fn settled(what: &str, count: impl Fn() -> u64) {
    let mut last = (0, Instant::now());
    eventually(what, LIMIT, async || {
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_millis(500)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_readers_that_stall_do_not_keep_another_from_its_response() {
    let sample = Sample::with("http2", &["v1"], "", &one_worker()).await;
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let mut connection = sample.connect(Version::Http2).await;
        let answer = connection.start(request("GET", "echo", "/endless")).await;
        stalled.push((answer.expect("a response"), connection));
    }
    settled("the upstream waits for all of them", || sample.upstream().bytes()).await;
    for version in [Version::Http1, Version::Http2] {
        let reply = sample.connect(version).await.get("echo", "/bytes/100000").await;
        assert_eq!((reply.status, reply.body.len()), (200, 100_000), "{version:?}");
    }
    assert_eq!(sample.upstream().peak_connections(), 1);
    drop(stalled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_uploads_that_stall_do_not_keep_another_of_the_same_client_from_its_upstream() {
    let address = upstream(|request, mut respond| async move {
        let stall = request.uri().path() == "/stall";
        let mut body = request.into_body();
        if stall {
            let _unread = (body, respond);
            return pending().await;
        }
        let text = Bytes::from(read_all(&mut body).await?.to_string());
        respond.send_response(response(200, &[]), false)?.send_data(text, true)
    })
    .await;
    let mesh = Mesh::start(address).await;
    let mut client = mesh.client().await;
    let sent = Arc::new(AtomicU64::new(0));
    let mut stalled = Vec::new();
    for _ in 0..8 {
        let (answer, stream) = client
            .send_request(h2_request(Method::POST, "/stall"), false)
            .expect("an open connection");
        tokio::spawn(upload(stream, 1024 * 1024, sent.clone()));
        stalled.push(answer);
    }
    settled("all uploads wait", || sent.load(Ordering::Relaxed)).await;
    let (answer, stream) = client
        .send_request(h2_request(Method::POST, "/"), false)
        .expect("an open connection");
    tokio::spawn(upload(stream, 100_000, Arc::default()));
    let answer = within("a response", LIMIT, answer).await.expect("the connection lives");
    let text = answer.into_body().data().await.expect("a body").expect("no error");
    assert_eq!(text, "100000");
}

/// As far as the windows allow.
async fn upload(mut stream: SendStream<Bytes>, length: usize, sent: Arc<AtomicU64>) -> Result<(), h2::Error> {
    let mut left = length;
    while left > 0 {
        stream.reserve_capacity(left);
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else {
            return Ok(());
        };
        stream.send_data(Bytes::from(vec![b'x'; room]), room == left)?;
        sent.fetch_add(room as u64, Ordering::Relaxed);
        left -= room;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_tunnel_over_http_2_does_not_hold_up_the_end() {
    let options = SidecarOptions {
        args: vec!["--drain-timeout".to_owned(), "60s".to_owned()],
        ..one_worker()
    };
    let mut sample = Sample::with("http", &["v1"], "", &options).await;
    let stream = TcpStream::connect(sample.sidecar.outbound)
        .await
        .expect("the listener accepts");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    let connection = tokio::spawn(connection);
    let connect = Request::connect("echo:80").body(()).expect("a valid request");
    let (answer, _tunnel) = client.send_request(connect, false).expect("an open connection");
    let answer = within("an answer", LIMIT, answer).await.expect("a response");
    assert_eq!(answer.status(), 200);
    sample.sidecar.process.signal("TERM");
    let process = &mut sample.sidecar.process;
    let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
    within("the connection ends", LIMIT, connection)
        .await
        .expect("no panic")
        .ok();
}

/// Each message in a frame of its own, as far as the windows allow; counted as they go.
async fn send_messages(stream: &mut SendStream<Bytes>, sent: &AtomicU64) -> Result<(), h2::Error> {
    for _ in 0..MESSAGES {
        stream.reserve_capacity(MESSAGE.len());
        while stream.capacity() < MESSAGE.len() {
            if let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await {
                room?;
            } else {
                return Err(h2::Reason::STREAM_CLOSED.into());
            }
        }
        stream.send_data(Bytes::from_static(MESSAGE), false)?;
        sent.fetch_add(1, Ordering::Relaxed);
    }
    stream.send_data(Bytes::new(), true)
}

async fn read_all(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut count = 0;
    while let Some(data) = body.data().await.transpose()? {
        count += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(count)
}

async fn under_way(sent: &AtomicU64) {
    eventually("messages wait to be read", LIMIT, async || {
        (sent.load(Ordering::Relaxed) >= UNREAD_MESSAGES).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_for_an_upstream_that_reads_late_do_not_end_their_clients_connection() {
    let go = Arc::new(Notify::new());
    let wait = go.clone();
    let address = upstream(move |request, mut respond| {
        let wait = wait.clone();
        async move {
            let post = request.method() == Method::POST;
            let mut body = request.into_body();
            if post {
                wait.notified().await;
            }
            let text = Bytes::from(read_all(&mut body).await?.to_string());
            respond.send_response(response(200, &[]), false)?.send_data(text, true)
        }
    })
    .await;
    let mesh = Mesh::start(address).await;
    let mut client = mesh.client().await;
    let (answer, mut stream) = client
        .send_request(h2_request(Method::POST, "/"), false)
        .expect("an open connection");
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let sending = tokio::spawn(async move { send_messages(&mut stream, &counted).await });
    under_way(&sent).await;
    let (other, _) = client
        .send_request(h2_request(Method::GET, "/"), true)
        .expect("an open connection");
    let other = within("another request's response", LIMIT, other).await;
    assert_eq!(other.expect("the connection lives").status(), 200);
    go.notify_one();
    let answer = within("a response", LIMIT, answer).await.expect("the connection lives");
    sending.await.expect("no panic").expect("all were taken");
    let text = answer.into_body().data().await.expect("a body").expect("no error");
    assert_eq!(text, (MESSAGES as usize * MESSAGE.len()).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_messages_for_a_client_that_reads_late_do_not_end_their_upstreams_connection() {
    let (sent, more) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let (counted, wait) = (sent.clone(), more.clone());
    let address = upstream(move |request, mut respond| {
        let (counted, wait) = (counted.clone(), wait.clone());
        async move {
            let mut stream = respond.send_response(response(200, &[]), false)?;
            if request.uri().path() == "/messages" {
                return send_messages(&mut stream, &counted).await;
            }
            wait.notified().await;
            stream.send_data(Bytes::from_static(b"still here"), true)
        }
    })
    .await;
    let mesh = Mesh::start(address).await;
    let mut bodies = Vec::new();
    for path in ["/other", "/messages"] {
        let (answer, _) = mesh
            .client()
            .await
            .send_request(h2_request(Method::GET, path), true)
            .expect("an open connection");
        let answer = within("a head", LIMIT, answer).await.expect("a response");
        bodies.push(answer.into_body());
    }
    under_way(&sent).await;
    more.notify_one();
    let data = within("the other's body", LIMIT, bodies[0].data()).await;
    assert_eq!(data.expect("a body").expect("the connection lives"), "still here");
    let read = within("all messages", LIMIT, read_all(&mut bodies[1])).await;
    assert_eq!(read.expect("the connection lives"), MESSAGES as usize * MESSAGE.len());
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_http_1_upstream_sent_before_it_broke_off_reaches_an_http_2_client_too() {
    const EVENTS: &str = "5\r\nevent\r\n5\r\nevent\r\n5\r\nevent\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for apart in [true, false] {
        let upstream = RawUpstream::serving(move |mut connection| async move {
            if connection.next_head().await.is_some() {
                if apart {
                    connection.write(CHUNKED).await;
                    connection.write(EVENTS).await;
                } else {
                    connection.write([CHUNKED, EVENTS].concat()).await;
                }
            }
        })
        .await;
        let control = ControlPlane::start();
        let workload = Workload {
            version: "v1",
            address: upstream.address,
        };
        control.apply(&service("echo", "http", &[workload])).await;
        let sidecar = Sidecar::start_with(control.grpc, &one_worker()).ready().await;
        let mesh = Mesh {
            sidecar,
            _control: control,
        };
        for _ in 0..10 {
            let mut client = RawConnection::open(mesh.sidecar.outbound).await;
            client.write(GET).await;
            let received = within("a reset", LIMIT, data_before_reset(&mut client)).await;
            assert_eq!(received, "eventeventevent", "apart: {apart}");
        }
    }
}

/// Preface, empty SETTINGS, and the head `GET http://echo/` (RFC 9113, RFC 7541): byte by byte, because `h2` forgets what
/// came before a reset.
const GET: &[u8] =
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x09\x01\x05\0\0\0\x01\x82\x86\x84\x41\x04echo";

/// All DATA until RST_STREAM.
async fn data_before_reset(client: &mut RawConnection) -> String {
    let mut data = Vec::new();
    loop {
        let head = client.read_exact(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = client.read_exact(length as usize).await;
        match head[3] {
            0 => data.extend(payload),
            3 => return String::from_utf8_lossy(&data).into_owned(),
            _ => {}
        }
    }
}
