//! A connection that died unused fails no request that can be sent again safely: against nginx, which closes after a moment
//! or a few requests, and against endpoints that say 408 or GOAWAY when they close.

use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tsunagi_tests::{
    Connection, ControlPlane, LIMIT, Process, RawConnection, RawUpstream, Sidecar, SidecarOptions, Version, Workload,
    body, eventually, request, require_tools, service,
};

use crate::one_worker;

struct Mesh {
    _control: ControlPlane,
    sidecar: Sidecar,
}

impl Mesh {
    async fn start(port_name: &str, address: std::net::SocketAddr, rules: &str) -> Mesh {
        let control = ControlPlane::start();
        let echo = service("echo", port_name, &[Workload { version: "v1", address }]);
        control.apply(&format!("{echo}---\n{rules}")).await;
        let options = SidecarOptions {
            workers: 2,
            ..SidecarOptions::default()
        };
        let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
        Mesh {
            _control: control,
            sidecar,
        }
    }
}

/// No retries of the user's: what is repeated here is nobody's second attempt.
const NO_RETRIES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: echo
spec:
  hosts: [echo]
  http:
  - retries: {attempts: 0}
    route: [{destination: {host: echo}}]
";

struct Nginx {
    _process: Process,
    _folder: TempDir,
    address: std::net::SocketAddr,
}

impl Nginx {
    /// One that closes a connection after so many milliseconds or requests.
    async fn start(idle: &str, requests: u32) -> Nginx {
        let folder = TempDir::new().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = free.local_addr().expect("bound");
        drop(free);
        let path = folder.path().display();
        let config = format!(
            "daemon off; master_process off; worker_processes 1; pid {path}/pid; error_log stderr;
events {{ worker_connections 512; }}
http {{
  access_log off;
  client_body_temp_path {path}; proxy_temp_path {path}; fastcgi_temp_path {path}; uwsgi_temp_path {path};
  scgi_temp_path {path};
  keepalive_timeout {idle}; keepalive_requests {requests};
  server {{ listen {address}; location / {{ return 200 'ok'; }} }}
}}
"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a temporary folder");
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file);
        let process = Process::start("nginx", &mut command);
        eventually("nginx listens", LIMIT, async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        Nginx {
            _process: process,
            _folder: folder,
            address,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_that_closes_connections_all_the_time_fails_no_request() {
    if !require_tools(&[("nginx", &["nginx", "-v"])]) {
        return;
    }
    for (idle, requests) in [("40ms", 1000), ("10s", 7), ("15ms", 3)] {
        let nginx = Nginx::start(idle, requests).await;
        let mesh = Mesh::start("http", nginx.address, "").await;
        let outbound = mesh.sidecar.outbound;
        let started = Instant::now();
        let mut clients = JoinSet::new();
        for number in 0..16_u64 {
            clients.spawn(async move {
                let mut connection = Connection::open(outbound, Version::Http1).await;
                let mut count = 0;
                // In step with nothing: around the time when nginx closes what is idle.
                let mut pace = tokio::time::interval(Duration::from_millis(11 + number * 3));
                while started.elapsed() < Duration::from_secs(3) {
                    let reply = connection.get("echo", "/").await;
                    assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                    count += 1;
                    pace.tick().await;
                }
                count
            });
        }
        let served: u64 = clients.join_all().await.into_iter().sum();
        assert!(served > 500, "{served}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_408_that_only_says_farewell_is_no_answer_to_the_next_request() {
    // The answer to the second request of a connection was under way before that came.
    let upstream = RawUpstream::serving(|mut connection| async move {
        connection.read_head().await;
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        connection.read_head().await;
        connection
            .write("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await;
    })
    .await;
    let mesh = Mesh::start("http", upstream.address, NO_RETRIES).await;
    for _ in 0..6 {
        let mut sent = request("POST", "echo", "/");
        *sent.body_mut() = body("");
        let reply = mesh.sidecar.send(sent).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_408_on_a_new_connection_is_an_answer() {
    let farewell = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let upstream = RawUpstream::start(farewell).await;
    let mesh = Mesh::start("http", upstream.address, "").await;
    assert_eq!(mesh.sidecar.get("echo", "/").await.status, 408);
    assert_eq!(upstream.heads().len(), 1);
}

/// Frames of HTTP/2 (RFC 9113, 6): settings of which there are none, an answer (`:status: 200`), and GOAWAY behind stream 1.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const ANSWER: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11];

/// Answers the first request of its connection; of the second it says that it has not looked at it.
async fn leaving(mut connection: RawConnection) -> Option<()> {
    connection.stream.read_exact(&mut [0; 24]).await.ok()?;
    connection.write(SETTINGS).await;
    loop {
        let mut head = [0; 9];
        connection.stream.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, .., stream] = head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        connection.stream.read_exact(&mut vec![0; length as usize]).await.ok()?;
        match (kind, stream) {
            (1, 1) => connection.write(ANSWER).await,
            (1, _) => {
                connection.write(GOAWAY).await;
                return Some(());
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_cross_a_goaway_go_out_again_at_once_whatever_its_reason() {
    let upstream =
        RawUpstream::serving(|connection| async move { leaving(connection).await.unwrap_or_default() }).await;
    let mesh = Mesh::start("http2", upstream.address, NO_RETRIES).await;
    let mut connection = Connection::open(mesh.sidecar.outbound, Version::Http1).await;
    for _ in 0..20 {
        let reply = connection.send(request("POST", "echo", "/")).await;
        assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_starts_anew_between_two_requests_fails_none_not_even_without_retries() {
    for port_name in ["http", "http2"] {
        let mut sample = one_worker(port_name, NO_RETRIES).await;
        for _ in 0..10 {
            let mut sent = request("POST", "echo", "/");
            *sent.body_mut() = body("once");
            let reply = sample.sidecar.send(sent).await;
            assert_eq!(reply.status, 200, "{port_name} {} {}", reply.flags(), reply.text());
            let address = sample.upstream().address;
            sample.upstreams.clear();
            sample.upstreams.push(again(address).await);
        }
    }
}

/// The same port, once the one before has let go of it.
async fn again(address: std::net::SocketAddr) -> tsunagi_tests::Upstream {
    eventually("the port is free", LIMIT, async || {
        TcpListener::bind(address).await.ok().map(drop)
    })
    .await;
    tsunagi_tests::Upstream::start_at("v1", address).await
}
