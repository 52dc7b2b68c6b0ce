//! The PROXY protocol, as nginx and haproxy read it: whose bytes a connection carries, over IPv4 and IPv6, requests and bytes
//! of a TCP port; and that a client's own connections go with it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tsunagi_tests::{Connection, LIMIT, RawConnection, SidecarOptions, Version, eventually};

use crate::haproxy::{Haproxy, has_haproxy};
use crate::has_nginx;
use crate::mesh::{Files, Mesh};
use crate::nginx::Nginx;

/// A client, and the address that it has.
async fn client(mesh: &Mesh) -> (Connection, SocketAddr) {
    let stream = TcpStream::connect(mesh.sidecar.outbound).await;
    let stream = stream.expect("the sidecar listens");
    let address = stream.local_addr().expect("it is connected");
    (Connection::over(stream, Version::Http1).await, address)
}

/// As haproxy says it.
fn said(client: SocketAddr, mesh: &Mesh) -> String {
    let to = mesh.sidecar.outbound;
    format!("peer={}:{} to={}:{}", client.ip(), client.port(), to.ip(), to.port())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_endpoint_hears_whose_requests_a_connection_carries() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let listens = [
        ("proxy_protocol", String::new()),
        ("ssl proxy_protocol", files.served("server")),
        ("ssl http2 proxy_protocol", files.served("server")),
    ];
    let nginx = Nginx::start(&listens).await;
    let ca = files.named("ca.pem");
    let tls = format!("tls: {{mode: SIMPLE, caCertificates: {ca}}}");
    for (index, policy) in [
        (0, "{proxyProtocol: {version: V1}}".to_owned()),
        (0, "{proxyProtocol: {version: V2}}".to_owned()),
        (1, format!("{{proxyProtocol: {{version: V2}}, {tls}}}")),
        (2, format!("{{proxyProtocol: {{version: V1}}, {tls}}}")),
    ] {
        let mesh = Mesh::single("http", nginx.listener(index)).await;
        mesh.policy(&policy).await;
        let mut clients = [client(&mesh).await, client(&mesh).await];
        for nth in 1..=3 {
            for (client, address) in &mut clients {
                let reply = client.get("echo", "/").await;
                assert_eq!(reply.status, 200, "{policy}: {} {}", reply.flags(), reply.text());
                let seen = reply.text();
                assert!(
                    seen.contains(&format!("peer={address} ")),
                    "{policy}: {seen}, not {address}"
                );
                assert!(
                    seen.ends_with(&format!("nth={nth}")),
                    "a client's own connection is kept: {seen}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6_too_both_versions_say_who_the_client_is() {
    if !has_haproxy() {
        return;
    }
    let haproxy = Haproxy::start([0, 0, 0, 0, 0, 0, 0, 1].into()).await;
    let options = SidecarOptions {
        args: vec!["--outbound-addr".into(), "[::1]:0".into()],
        ..SidecarOptions::default()
    };
    let mesh = Mesh::start("http", &[haproxy.address], options).await;
    for version in ["V1", "V2"] {
        mesh.policy(&format!("{{proxyProtocol: {{version: {version}}}}}")).await;
        for _ in 0..3 {
            let (mut client, address) = client(&mesh).await;
            assert!(address.is_ipv6());
            for _ in 0..2 {
                let reply = client.get("echo", "/").await;
                assert_eq!((reply.status, reply.text()), (200, said(address, &mesh)), "{version}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_tcp_port_say_whose_they_are() {
    if !has_haproxy() {
        return;
    }
    let haproxy = Haproxy::start([127, 0, 0, 1].into()).await;
    let mesh = Mesh::single("tcp", haproxy.address).await;
    for version in ["V1", "V2"] {
        mesh.policy(&format!("{{proxyProtocol: {{version: {version}}}}}")).await;
        for _ in 0..2 {
            let mut tunnel = RawConnection::open(mesh.sidecar.outbound).await;
            let address = tunnel.stream.local_addr().expect("it is connected");
            tunnel.write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n").await;
            let head = tunnel.read_head().await;
            assert!(head.starts_with("HTTP/1.1 200"), "{head}");
            tunnel.write("GET / HTTP/1.0\r\nHost: x\r\n\r\n").await;
            let answer = String::from_utf8_lossy(&tunnel.read_to_end().await).into_owned();
            assert!(answer.ends_with(&said(address, &mesh)), "{version}: {answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_connections_of_a_client_go_with_it() {
    if !has_nginx() {
        return;
    }
    let listens = [
        ("proxy_protocol", String::new()),
        ("http2 proxy_protocol", String::new()),
    ];
    let nginx = Nginx::start(&listens).await;
    for (index, port_name) in ["http", "http2"].into_iter().enumerate() {
        let mesh = Mesh::single(port_name, nginx.listener(index)).await;
        mesh.policy("{proxyProtocol: {version: V1}}").await;
        let open = async || mesh.sidecar.metrics().await.sum("tsunagi_upstream_connections", &[]);
        let mut clients = Vec::new();
        for _ in 0..20 {
            let (mut client, _) = client(&mesh).await;
            let reply = client.get("echo", "/").await;
            assert_eq!(reply.status, 200, "{port_name}: {} {}", reply.flags(), reply.text());
            clients.push(client);
        }
        eventually("each has one of its own", LIMIT, async || {
            (open().await == 20.0).then_some(())
        })
        .await;
        let mut last = clients.pop().expect("there are twenty");
        drop(clients);
        // Sooner than they would expire.
        eventually("theirs are closed", Duration::from_secs(5), async || {
            (open().await == 1.0).then_some(())
        })
        .await;
        let reply = last.get("echo", "/").await;
        assert!(reply.text().ends_with("nth=2"), "{port_name}: {}", reply.text());
    }
}
