//! Bodies stream: a gigabyte through the sidecar, either way and in each protocol, costs it no memory that anybody would
//! notice. The kernel says what it held at its peak.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::task::spawn_blocking;
use tsunagi_tests::{ControlPlane, LIMIT, Sidecar, Workload, service, within};

const SIZE: u64 = 1 << 30;
const ALLOWED_BYTES: u64 = 2 << 20;
/// What a sidecar that has been in use for a moment has passed before.
const WARM_UP: u64 = 64 * 1024;
/// On a machine that is busy with other tests; alone it is a few seconds.
const PATIENCE: std::time::Duration = LIMIT.saturating_mul(3);
static ZEROS: [u8; 256 * 1024] = [0; 256 * 1024];

/// A sidecar whose service `echo` is one endpoint.
struct Mesh {
    sidecar: Sidecar,
    _control: ControlPlane,
}

impl Mesh {
    async fn start(port_name: &str, address: SocketAddr) -> Mesh {
        let control = ControlPlane::start();
        let workload = Workload { version: "v1", address };
        control.apply(&service("echo", port_name, &[workload])).await;
        let sidecar = Sidecar::start(&control).ready().await;
        Mesh {
            sidecar,
            _control: control,
        }
    }

    /// Memory at its peak during the transfer, above what it was before it.
    async fn costs<T>(&self, what: &str, transfer: impl Future<Output = T>) {
        let process = self.sidecar.process.id();
        let before = resident(process, "VmRSS:");
        // The peak begins anew.
        std::fs::write(format!("/proc/{process}/clear_refs"), "5").expect("our own child");
        within(what, PATIENCE, transfer).await;
        let cost = resident(process, "VmHWM:").saturating_sub(before);
        eprintln!("{what}: {} KiB above {} KiB", cost >> 10, before >> 10);
        assert!(cost < ALLOWED_BYTES, "{what}: {cost} bytes more than before");
    }
}

fn resident(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("our own child");
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = value.and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("the kernel says it") * 1024
}

fn write_zeros(stream: &mut TcpStream, length: u64) {
    let mut left = length;
    while left > 0 {
        let part = left.min(ZEROS.len() as u64) as usize;
        stream.write_all(&ZEROS[..part]).expect("the other side reads");
        left -= part as u64;
    }
}

fn read_past(stream: &mut TcpStream, length: u64) {
    let mut left = length;
    let mut part = vec![0; 256 * 1024];
    while left > 0 {
        let room = left.min(part.len() as u64) as usize;
        let count = stream.read(&mut part[..room]).expect("the other side writes");
        assert!(count > 0, "{left} of {length} bytes are missing");
        left -= count as u64;
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the other side writes");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).to_ascii_lowercase()
}

fn length_in(head: &str) -> u64 {
    let value = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    value.map_or(0, |value| value.trim().parse().expect("a length"))
}

/// `GET /N` is answered with so many bytes; the body of a `POST` is read. Its threads end with the test's process.
fn http1_endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback address");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                while stream.peek(&mut [0]).is_ok_and(|count| count > 0) {
                    let head = read_head(&mut stream);
                    let path = head.split(['/', ' ']).nth(2).unwrap_or_default();
                    let wanted: u64 = path.parse().unwrap_or_default();
                    read_past(&mut stream, length_in(&head));
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {wanted}\r\n\r\n").expect("the client reads");
                    write_zeros(&mut stream, wanted);
                }
            });
        }
    });
    address
}

/// One exchange: so many bytes up and so many down.
fn exchange(stream: &mut TcpStream, up: u64, down: u64) {
    let method = if up > 0 { "POST" } else { "GET" };
    write!(
        stream,
        "{method} /{down} HTTP/1.1\r\nHost: echo\r\nContent-Length: {up}\r\n\r\n"
    )
    .expect("it reads");
    write_zeros(stream, up);
    let head = read_head(stream);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(length_in(&head), down);
    read_past(stream, down);
}

/// Both ways over one connection, which is warm: first down, then up.
async fn both_ways(mesh: &Mesh, what: &str, mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    exchange(&mut stream, WARM_UP, WARM_UP);
    for (way, up, down) in [("down", 0, SIZE), ("up", SIZE, 0)] {
        let mut stream = stream.try_clone().expect("a descriptor more");
        let transfer = spawn_blocking(move || exchange(&mut stream, up, down));
        mesh.costs(&format!("{what} {way}"), async { transfer.await.expect("all bytes") })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_of_http_1_costs_no_memory() {
    let mesh = Mesh::start("http", http1_endpoint()).await;
    let stream = TcpStream::connect(mesh.sidecar.outbound).expect("it listens");
    both_ways(&mesh, "HTTP/1.1", stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_of_tcp_costs_no_memory() {
    let mesh = Mesh::start("tcp", http1_endpoint()).await;
    let mut stream = TcpStream::connect(mesh.sidecar.outbound).expect("it listens");
    write!(stream, "CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n").expect("it reads");
    let opened = read_head(&mut stream);
    assert!(opened.starts_with("http/1.1 200"), "{opened}");
    both_ways(&mesh, "TCP", stream).await;
}

async fn http2_endpoint() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback address");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = h2::server::Builder::new();
                let server = server
                    .initial_window_size(1 << 20)
                    .initial_connection_window_size(8 << 20);
                let mut connection = server.handshake(stream).await?;
                while let Some(accepted) = connection.accept().await {
                    let (request, respond) = accepted?;
                    tokio::spawn(answer(request, respond));
                }
                Ok::<(), h2::Error>(())
            });
        }
    });
    address
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let wanted: u64 = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
    read_body(request.into_body()).await?;
    let stream = respond.send_response(Response::new(()), wanted == 0)?;
    write_body(stream, wanted).await
}

async fn read_body(mut body: h2::RecvStream) -> Result<u64, h2::Error> {
    let mut length = 0;
    while let Some(data) = body.data().await.transpose()? {
        length += data.len() as u64;
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(length)
}

async fn write_body(mut stream: h2::SendStream<Bytes>, length: u64) -> Result<(), h2::Error> {
    let mut left = length;
    while left > 0 {
        stream.reserve_capacity(left.min(ZEROS.len() as u64) as usize);
        let Some(room) = poll_fn(|cx| stream.poll_capacity(cx)).await.transpose()? else {
            return Err(h2::Reason::STREAM_CLOSED.into());
        };
        let part = left.min(room as u64).min(ZEROS.len() as u64);
        left -= part;
        stream.send_data(Bytes::from_static(&ZEROS[..part as usize]), left == 0)?;
    }
    Ok(())
}

/// One exchange: so many bytes up and so many down.
async fn exchange_http2(client: &mut h2::client::SendRequest<Bytes>, up: u64, down: u64) -> Result<(), h2::Error> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://echo/{down}"));
    let request = request.body(()).expect("a valid request");
    let (answer, stream) = client.send_request(request, up == 0)?;
    write_body(stream, up).await?;
    let response = answer.await?;
    assert_eq!(response.status(), 200);
    assert_eq!(read_body(response.into_body()).await?, down);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_of_http_2_costs_no_memory() {
    let mesh = Mesh::start("http2", http2_endpoint().await).await;
    let stream = tokio::net::TcpStream::connect(mesh.sidecar.outbound)
        .await
        .expect("it listens");
    let mut client = h2::client::Builder::new();
    let client = client
        .initial_window_size(1 << 20)
        .initial_connection_window_size(8 << 20);
    let (mut client, connection) = client.handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let warm = exchange_http2(&mut client, WARM_UP, WARM_UP);
    within("the first exchange", LIMIT, warm).await.expect("an answer");
    for (way, up, down) in [("down", 0, SIZE), ("up", SIZE, 0)] {
        let transfer = async { exchange_http2(&mut client, up, down).await.expect("all bytes") };
        mesh.costs(&format!("HTTP/2 {way}"), transfer).await;
    }
}
