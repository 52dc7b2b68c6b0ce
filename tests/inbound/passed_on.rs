//! What a redirected inbound connection may be besides plain requests: a tunnel through the application, which is the
//! application's own; a request that goes on in another protocol; and calls to the sidecar's own ports, which are nobody's.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::block_in_place;
use tsunagi_tests::{Bridge, LIMIT, Pod, RawConnection, Sidecar, SidecarOptions, eventually, require_root, within};

use crate::redirected::redirect;
use crate::told::{NODE, Told};

/// Of another program of the pod, which the redirected must not reach.
const OTHER_PORT: u16 = 8099;
const CONNECT: &str = "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: elsewhere.example:443\r\n\r\n";
const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: user\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

struct Callee {
    pod: Pod,
    sidecar: Sidecar,
    app: TcpListener,
    other: TcpListener,
    _told: Told,
    _bridge: Bridge,
}

impl Callee {
    async fn start() -> Option<Callee> {
        if !require_root() {
            return None;
        }
        let bridge = Bridge::new();
        let pod = block_in_place(|| bridge.pod("user"));
        redirect(&pod, "iptables", &[8080, 15001, 15006]);
        let told = Told::start(bridge.address(), Vec::new()).await;
        let listen = |address| {
            let listener = block_in_place(|| pod.listen_on(address)).expect("a free port");
            listener.set_nonblocking(true).expect("a socket");
            TcpListener::from_std(listener).expect("a runtime runs")
        };
        let app = listen(SocketAddr::from(([0, 0, 0, 0], 8080)));
        let loopback = SocketAddr::from(([127, 0, 0, 1], OTHER_PORT));
        let other = listen(loopback);
        let options = SidecarOptions {
            node_id: NODE.into(),
            app: Some(loopback),
            args: ["--inbound-addr", "0.0.0.0:15006", "--outbound-addr", "127.0.0.1:15001"]
                .map(String::from)
                .to_vec(),
            ..SidecarOptions::default()
        };
        let sidecar = block_in_place(|| Sidecar::start_in(&pod, told.address, &options));
        Some(Callee {
            sidecar: sidecar.ready().await,
            pod,
            app,
            other,
            _told: told,
            _bridge: bridge,
        })
    }

    async fn call(&self, port: u16, bytes: &str) -> RawConnection {
        let mut client = RawConnection::open(SocketAddr::new(self.pod.address(), port)).await;
        client.write(bytes).await;
        client
    }

    async fn accept(&self) -> RawConnection {
        let (stream, _) = within("a connection", LIMIT, self.app.accept())
            .await
            .expect("a socket");
        RawConnection::over(stream)
    }

    /// Nobody has connected to the other program.
    async fn other_is_alone(&self) -> bool {
        let accepted = std::future::poll_fn(|cx| std::task::Poll::Ready(self.other.poll_accept(cx).is_ready()));
        !accepted.await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_the_applications_own_and_an_upgrade_a_request_to_it() {
    let Some(callee) = Callee::start().await else { return };
    for (sent, answer) in [
        (CONNECT, "HTTP/1.1 200 Connection established\r\n\r\n"),
        (
            UPGRADE,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
    ] {
        let mut client = callee.call(8080, sent).await;
        let mut server = callee.accept().await;
        let head = within("the head", LIMIT, server.read_head()).await;
        if sent == CONNECT {
            assert_eq!(head, sent);
        } else {
            assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
        }
        server.write(answer).await;
        assert_eq!(within("the answer", LIMIT, client.read_head()).await, answer);
        for frame in [&[0x81, 0x00][..], &[0x16, 3, 1, 0]] {
            client.write(frame).await;
            assert_eq!(
                within("to the server", LIMIT, server.read_exact(frame.len())).await,
                frame
            );
            server.write(frame).await;
            assert_eq!(
                within("to the client", LIMIT, client.read_exact(frame.len())).await,
                frame
            );
        }
    }
    let labels = [("direction", "inbound")];
    let switched = [labels[0], ("status_code", "101")];
    eventually("one is counted as TCP, one as a request", LIMIT, async || {
        let metrics = callee.sidecar.metrics().await;
        let counted = (
            metrics.sum("tsunagi_tcp_connections_total", &labels),
            metrics.sum("http_requests_total", &labels),
            metrics.sum("http_requests_total", &switched),
        );
        (counted == (1.0, 1.0, 1.0)).then_some(())
    })
    .await;
    assert!(callee.other_is_alone().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_behind_a_request_is_refused_and_http_1_0_needs_no_name() {
    let Some(callee) = Callee::start().await else { return };
    let mut client = callee
        .call(8080, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        .await;
    let mut server = callee.accept().await;
    let head = within("the request", LIMIT, server.read_head())
        .await
        .to_ascii_lowercase();
    assert!(
        head.contains(&format!("\r\nhost: {}:8080\r\n", callee.pod.address())),
        "{head}"
    );
    server.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.text(), "ok");

    client.write(CONNECT).await;
    assert_eq!(client.response().await.status, 501);
    assert!(client.read_to_end().await.is_empty(), "and closed");
    assert!(callee.other_is_alone().await);
    let mut nameless = callee.call(8080, "GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(nameless.response().await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sidecars_own_ports_lead_nowhere_from_outside() {
    let Some(callee) = Callee::start().await else { return };
    // From here on the sidecar knows that what means the application is redirected.
    let _client = callee.call(8080, UPGRADE).await;
    callee.accept().await;
    for port in [15001, 15006] {
        // It may be reset before it knows that it is connected.
        let address = SocketAddr::new(callee.pod.address(), port);
        if let Ok(stream) = TcpStream::connect(address).await {
            let mut client = RawConnection::over(stream);
            client.write("GET / HTTP/1.1\r\nHost: user\r\n\r\n").await;
            let answer = within("the end", LIMIT, client.next_head()).await;
            assert_eq!(answer, None, "port {port}");
        }
    }
    assert!(callee.other_is_alone().await);
}
