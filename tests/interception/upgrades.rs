//! Connections that begin as HTTP and go on as something else (WebSocket and its like), and requests of clients so old that
//! they name nobody: redirected, they work as they would without a sidecar. For a service they are requests, for a
//! stranger bytes.

use tsunagi_proto::wire::mesh::Protocol;
use tsunagi_tests::{LIMIT, RawConnection, Upstream, eventually, within};

use crate::world::{Port, SERVICE, World};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A masked text frame, as clients send it, and the server's unmasked one.
const CLIENT_FRAME: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
const SERVER_FRAME: [u8; 7] = [0x81, 0x05, b'H', b'e', b'l', b'l', b'o'];

fn handshake(host: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
}

/// The handshake arrives, in pieces or whole, and frames pass both ways behind it.
async fn speaks_websocket(client: &mut RawConnection, server: &mut RawConnection, host: &str) {
    let head = within("the handshake", LIMIT, server.read_head()).await;
    assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
    for field in [
        &*format!("Host: {host}"),
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
    ] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
    server.write(SWITCHED).await;
    let answer = within("the answer", LIMIT, client.read_head()).await;
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    assert!(
        answer.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );
    for _ in 0..2 {
        client.write(CLIENT_FRAME).await;
        let frame = within("the client's frame", LIMIT, server.read_exact(CLIENT_FRAME.len())).await;
        assert_eq!(frame, CLIENT_FRAME);
        server.write(SERVER_FRAME).await;
        let frame = within("the server's frame", LIMIT, client.read_exact(SERVER_FRAME.len())).await;
        assert_eq!(frame, SERVER_FRAME);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_reaches_a_service_or_a_stranger_and_frames_pass_both_ways() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    for protocol in [Protocol::Http1, Protocol::Unspecified] {
        world.tell(&Port::new(80, protocol), &[listening.address]);
        // By name from anywhere, by address whatever the name.
        for (to, host) in [
            (world.service_port(80), "user"),
            (world.service_port(80), "nobody.example"),
            (listening.address, "user:80"),
            (listening.address, "nobody.example"),
        ] {
            let sent = handshake(host);
            let mut client = world.connect(to).await;
            for piece in [&sent[..30], &sent[30..]] {
                client.write(piece).await;
            }
            let mut server = listening.accept().await;
            speaks_websocket(&mut client, &mut server, host).await;
        }
    }
    let requests = [
        ("destination_service", SERVICE),
        ("direction", "outbound"),
        ("status_code", "101"),
    ];
    eventually("they are counted, the stranger's as TCP", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        let counted = (
            metrics.sum("http_requests_total", &requests),
            metrics.sum("http_requests_total", &[]),
            metrics.sum("tsunagi_tcp_connections_total", &[]),
        );
        (counted == (6.0, 6.0, 2.0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_0_without_a_name_is_for_the_service_that_has_the_address() {
    let Some(world) = World::start().await else { return };
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    world.tell(&Port::new(80, Protocol::Http1), &[upstream.address]);
    let mut client = world.connect(world.service_port(80)).await;
    client.write("GET / HTTP/1.0\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, &*response.text()), (200, "v1"), "{}", response.head);
    let name = upstream.last().headers;
    assert_eq!(
        name.get("host").map(|name| name.as_bytes()),
        Some(&b"10.255.255.254:80"[..])
    );
    let mut client = world.connect(world.service_port(80)).await;
    client.write("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
}
