//! Connections that are not for everybody: certificates that are revoked while they are in use, and connections that belong
//! to one client where fewer are allowed than there are clients.

use tokio::task::JoinSet;
use tsunagi_tests::{Connection, LIMIT, Version, eventually};

use crate::has_nginx;
use crate::mesh::{Files, Mesh};
use crate::nginx::Nginx;
use crate::pki::{REVOKED, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_refused_from_when_it_is_on_the_list_until_it_is_no_more() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    // The endpoint's own connections tell nothing: each is for one request.
    let once = format!("{} keepalive_requests 1;", files.served("revoked"));
    let nginx = Nginx::start(&[("ssl", once)]).await;
    let mesh = Mesh::single("http", nginx.listener(0)).await;
    let list = |serials: &[u64]| write(files.path(), "list.pem", &files.authority.revoke(serials));
    list(&[REVOKED + 1]);
    let (ca, crl) = (files.named("ca.pem"), files.named("list.pem"));
    mesh.policy(&format!(
        "{{tls: {{mode: SIMPLE, caCertificates: {ca}, caCrl: {crl}}}}}"
    ))
    .await;
    mesh.seen().await;
    list(&[REVOKED]);
    let reason = eventually("it is revoked", LIMIT, async || {
        let reply = mesh.get().await;
        (reply.status == 503).then(|| reply.text())
    })
    .await;
    assert!(reason.contains("was revoked"), "{reason}");
    assert!(mesh.failures("revoked").await >= 1.0);
    list(&[]);
    eventually("it is good again", LIMIT, async || {
        (mesh.get().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_a_connection_each_share_fewer_places_in_turn() {
    if !has_nginx() {
        return;
    }
    let files = Files::new();
    let listens = [
        ("ssl proxy_protocol", files.served("server")),
        ("ssl http2 proxy_protocol", files.served("server")),
    ];
    let nginx = Nginx::start(&listens).await;
    let ca = files.named("ca.pem");
    for (index, places) in [(0, 1), (1, 1), (1, 2)] {
        let mesh = Mesh::single("http", nginx.listener(index)).await;
        mesh.policy(&format!(
            "{{tls: {{mode: SIMPLE, caCertificates: {ca}}}, proxyProtocol: {{version: V1}}, \
             connectionPool: {{tcp: {{maxConnections: {places}}}}}}}"
        ))
        .await;
        let mut clients = JoinSet::new();
        for _ in 0..5 {
            let stream = tokio::net::TcpStream::connect(mesh.sidecar.outbound).await;
            let stream = stream.expect("the sidecar listens");
            let own = format!("peer={} ", stream.local_addr().expect("it is connected"));
            clients.spawn(async move {
                let mut client = Connection::over(stream, Version::Http1).await;
                for _ in 0..6 {
                    let reply = client.get("echo", "/").await;
                    assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
                    assert!(reply.text().contains(&own), "{} has none of {own}", reply.text());
                }
            });
        }
        clients.join_all().await;
    }
}
