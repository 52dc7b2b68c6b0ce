//! TCP through a tunnel (`CONNECT` to a TCP port of a service): what a redirected connection gets, without redirection.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tsunagi_tests::{ControlPlane, LIMIT, RawConnection, Sidecar, Workload, eventually, service, within};

const FQDN: &str = "echo.default.svc.cluster.local";

/// A DestinationRule for `echo` with these limits of TCP, in YAML's flow style.
fn pool(tcp: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy: {{connectionPool: {{tcp: {{{tcp}}}}}}}
"
    )
}

struct Mesh {
    _control: ControlPlane,
    sidecar: Sidecar,
    listener: TcpListener,
}

impl Mesh {
    /// The service `echo` with one port; its endpoints are a listener of the test and, before it, ports where nobody
    /// listens.
    async fn start(port_name: &str, dead: usize, rules: &str) -> Mesh {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut workloads = vec![Workload {
            version: "live",
            address: listener.local_addr().expect("bound"),
        }];
        for _ in 0..dead {
            let closed = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            workloads.push(Workload {
                version: "dead",
                address: closed.local_addr().expect("bound"),
            });
        }
        let control = ControlPlane::start();
        control
            .apply(&format!("{}---\n{rules}", service("echo", port_name, &workloads)))
            .await;
        let sidecar = Sidecar::start(&control).ready().await;
        Mesh {
            _control: control,
            sidecar,
            listener,
        }
    }

    /// The answer to a `CONNECT`, and the tunnel.
    async fn connect(&self) -> (u16, RawConnection) {
        let mut connection = RawConnection::open(self.sidecar.outbound).await;
        connection
            .write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n")
            .await;
        let status = connection.head_response().await.status;
        (status, connection)
    }

    async fn accept(&self) -> RawConnection {
        let (stream, _) = within("a connection", LIMIT, self.listener.accept())
            .await
            .expect("the listener lives");
        RawConnection::over(stream)
    }

    /// A tunnel and its other end.
    async fn tunnel(&self) -> (RawConnection, RawConnection) {
        let (status, client) = self.connect().await;
        assert_eq!(status, 200);
        (client, self.accept().await)
    }

    async fn counted(&self, flags: &str) -> f64 {
        let labels = [("destination_service", FQDN), ("response_flags", flags)];
        self.sidecar
            .metrics()
            .await
            .sum("tsunagi_tcp_connections_total", &labels)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_passes_a_half_close_on_and_the_rest_still_arrives() {
    for port_name in ["tcp", "unknown"] {
        let mesh = Mesh::start(port_name, 0, "").await;
        let (status, mut client) = mesh.connect().await;
        assert_eq!(status, 200);
        client.write([0, 1, 2, 3]).await;
        let mut server = mesh.accept().await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream)
            .await
            .expect("open");
        assert_eq!(server.read_to_end().await, [0, 1, 2, 3]);
        server.write("answer").await;
        drop(server);
        assert_eq!(client.read_to_end().await, b"answer");
        eventually("it is counted", LIMIT, async || {
            (mesh.counted("").await == 1.0).then_some(())
        })
        .await;
        let metrics = mesh.sidecar.metrics().await;
        let labels = [("destination_service", FQDN), ("direction", "outbound")];
        assert_eq!(metrics.sum("tsunagi_tcp_received_bytes_total", &labels), 4.0);
        assert_eq!(metrics.sum("tsunagi_tcp_sent_bytes_total", &labels), 6.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_passes_through_a_tunnel_both_ways_and_is_no_end() {
    let mesh = Mesh::start("tcp", 0, "").await;
    for (client_aborts, flags) in [(true, "DC"), (false, "UC")] {
        let (client, server) = mesh.tunnel().await;
        let (aborting, mut other) = if client_aborts {
            (client, server)
        } else {
            (server, client)
        };
        aborting.stream.set_zero_linger().expect("a socket");
        drop(aborting);
        let read = within("an ending", LIMIT, other.stream.read(&mut [0; 64])).await;
        let error = read.expect_err("an abort is no end");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{flags}");
        eventually("it is counted", LIMIT, async || {
            (mesh.counted(flags).await == 1.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_through_a_tunnel_to_a_port_without_a_protocol() {
    let mesh = Mesh::start("unknown", 0, "").await;
    let (mut client, mut server) = mesh.tunnel().await;
    server.write("220 ready\r\n").await;
    assert_eq!(
        within("the banner", LIMIT, client.read_exact(11)).await,
        b"220 ready\r\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_down_is_passed_over_for_another() {
    let mesh = Mesh::start("tcp", 2, "").await;
    for _ in 0..12 {
        let (mut client, mut server) = mesh.tunnel().await;
        client.write("x").await;
        assert_eq!(server.read_exact(1).await, b"x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connection_limit_holds_for_tcp() {
    let mesh = Mesh::start("tcp", 0, &pool("maxConnections: 1")).await;
    let (client, mut server) = mesh.tunnel().await;
    assert_eq!(mesh.connect().await.0, 503);
    drop(client);
    assert!(server.read_to_end().await.is_empty());
    drop(server);
    eventually("the place is free again", LIMIT, async || {
        (mesh.connect().await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_when_nothing_has_passed_for_the_idle_timeout_and_not_before() {
    const IDLE: Duration = Duration::from_millis(600);
    let mesh = Mesh::start("tcp", 0, &pool("idleTimeout: 600ms")).await;
    let (mut client, mut server) = mesh.tunnel().await;
    let began = Instant::now();
    // Bytes of either side keep it.
    while began.elapsed() < IDLE * 3 {
        server.write("x").await;
        assert_eq!(client.read_exact(1).await, b"x");
        assert!(!client.is_closed_within(IDLE / 6).await, "after {:?}", began.elapsed());
    }
    let silent = Instant::now();
    server.write("x").await;
    assert_eq!(client.read_exact(1).await, b"x");
    within("the end", LIMIT, client.read_to_end()).await;
    let lasted = silent.elapsed();
    assert!((IDLE..IDLE * 8).contains(&lasted), "{lasted:?}");
    assert!(server.is_closed_within(LIMIT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_nobody_answers_at_is_given_up_after_the_connect_timeout() {
    let mut mesh = Mesh::start("tcp", 0, &pool("connectTimeout: 300ms")).await;
    // Of the endpoint's port, whose queue is full: it answers no further connection attempt.
    let address = mesh.listener.local_addr().expect("bound");
    let socket = TcpSocket::new_v4().expect("a socket");
    mesh.listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    socket.set_reuseaddr(true).expect("a socket");
    socket.bind(address).expect("the port is free again");
    let _deaf = socket.listen(1).expect("a bound socket");
    let mut waiting = Vec::new();
    while let Ok(connected) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        waiting.push(connected.expect("the queue has room"));
    }
    let began = Instant::now();
    assert_eq!(mesh.connect().await.0, 503);
    let waited = began.elapsed();
    assert!((300..3000).contains(&waited.as_millis()), "{waited:?}");
    // The tunnel was a request, and nothing came of it.
    let labels = [("destination_service", FQDN), ("response_flags", "UF")];
    eventually("it is counted", LIMIT, async || {
        let metrics = mesh.sidecar.metrics().await;
        (metrics.sum("http_requests_total", &labels) == 1.0).then_some(())
    })
    .await;
}
