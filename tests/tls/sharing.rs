//! Services that share an address: the name that a client asks for decides among them, and nothing else does.

use std::net::SocketAddr;

use tsunagi_proto::wire::mesh::Protocol;
use tsunagi_tests::{LIMIT, RawConnection, eventually};

use crate::endpoint::{Answer, Crumbs, Endpoint, Trust};
use crate::mesh::{Mesh, entry, subsets};
use crate::world::{Listening, World};
use crate::{ADDRESS, FQDN, PORT, connect, counted, named, service};

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: secure}
spec:
  hosts: [secure.example.com]
  tls:
  - match: [{port: 443, sniHosts: [secure.example.com]}]
    route: [{destination: {host: secure.example.com, subset: v2}}]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_hosts_at_one_address_the_one_that_is_asked_for_is_reached_by_its_rules() {
    let Some(mesh) = Mesh::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&mesh.server, "v1"),
        Endpoint::in_pod(&mesh.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    let at = SocketAddr::from(([240, 1, 1, 2], 443));
    let endpoints = [("v1", v1.address), ("v2", v2.address)];
    let hosts = "secure.example.com, other.example.com";
    // The rules of the one whose name comes first lead nowhere else.
    let other = subsets("other.example.com") + &RULE.replace("secure", "other").replace("subset: v2", "subset: v1");
    let secure = subsets("secure.example.com") + RULE;
    for others in [true, false] {
        if !others {
            let deleted = mesh.control.cli(&["delete", "vs", "other"]).await;
            assert_eq!(deleted.code, 0, "{}", deleted.stderr);
        }
        for protocol in ["protocol: TLS", ""] {
            let rules = if others { &other } else { "" };
            let written = entry(hosts, at, protocol, &endpoints) + &secure + "---\n" + rules;
            mesh.control.apply(&written).await;
            for _ in 0..8 {
                let answer = trust.ask(mesh.connect(at).await, "secure.example.com").await;
                assert_eq!(answer, Answer::Said("v2".to_owned()), "{protocol:?} {others}");
                let answer = trust.ask(mesh.connect(at).await, "other.example.com").await;
                let expected = answer == Answer::Said("v1".to_owned()) || !others;
                assert!(expected, "{answer:?} {protocol:?}");
            }
            let answer = trust.ask(Crumbs(mesh.connect(at).await), "SECURE.example.com").await;
            assert_eq!(answer, Answer::Said("v2".to_owned()), "{protocol:?} {others} in crumbs");
        }
        let other = if others { "v1" } else { "" };
        eventually("each is counted as itself", LIMIT, async || {
            let secure = counted(&mesh.sidecar, "secure.example.com", "v2", "").await;
            let other = counted(&mesh.sidecar, "other.example.com", other, "").await;
            (secure == if others { 18.0 } else { 36.0 } && other == 16.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_a_host_elsewhere_changes_nothing() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    // Without the address, without the port, and with a port that speaks something else.
    named("a.example.com", PORT, Protocol::Tls, &v1).tell(&world.plane);
    for (fqdn, port, protocol) in [
        ("b.example.com", PORT + 1, Protocol::Tls),
        ("c.example.com", PORT, Protocol::Http1),
    ] {
        let mut other = named(fqdn, port, protocol, &v1);
        other.addresses = vec![ADDRESS];
        other.tell(&world.plane);
    }
    for protocol in [Protocol::Tls, Protocol::Unspecified] {
        // Told last, the address is its own.
        service(protocol, &v1, &v2).tell(&world.plane);
        for name in ["a.example.com", "b.example.com", "c.example.com"] {
            let answer = trust
                .ask(connect(&world, SocketAddr::new(ADDRESS, PORT)).await, name)
                .await;
            assert_eq!(answer, Answer::Said("v2".to_owned()), "{name} {protocol:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_a_server_that_speaks_first_is_heard_and_requests_are_bytes() {
    let Some(world) = World::start().await else { return };
    let endpoint = Endpoint::in_pod(&world.server, "unused");
    let mut listening = Listening::in_pod(&world.server, 0);
    let mut service = service(Protocol::Tls, &endpoint, &endpoint);
    service.tls.clear();
    service.endpoints = vec![("v1", listening.address)];
    service.tell(&world.plane);
    let to = SocketAddr::new(ADDRESS, PORT);

    let mut client = RawConnection::over(connect(&world, to).await);
    let mut server = listening.accept().await;
    server.write("220 hello").await;
    assert_eq!(client.read_exact(9).await, b"220 hello");

    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut client = RawConnection::over(connect(&world, to).await);
    client.write(request).await;
    let mut server = listening.accept().await;
    assert_eq!(server.read_exact(request.len()).await, request);
    drop((client, server));
    eventually("they are counted", LIMIT, async || {
        (counted(&world.sidecar, FQDN, "", "").await >= 1.0).then_some(())
    })
    .await;
}
