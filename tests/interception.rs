//! Connections that the packet filter redirects to the sidecar, in network namespaces with the real packet filter: to whom
//! they go, and that nothing is lost on the way.

#[path = "interception/plane.rs"]
mod plane;
#[path = "interception/upgrades.rs"]
mod upgrades;
#[path = "interception/world.rs"]
mod world;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::block_in_place;
use tsunagi_proto::wire::mesh::{ConnectionPool, OutboundTrafficPolicy, Protocol};
use tsunagi_tests::{Connection, LIMIT, RawConnection, SidecarOptions, Upstream, Version, eventually, within};
use world::{Listening, Port, SERVICE, World};

/// More than fits any buffer on the way.
const MANY_BYTES: usize = 3 << 20;

fn noise() -> Vec<u8> {
    (0..MANY_BYTES).map(|n| (n * 31 / 7) as u8).collect()
}

/// Everything that one side sends arrives at the other, then its end, and the other way round.
async fn passes_everything(client: RawConnection, server: RawConnection) {
    let both = [(client.stream, server.stream)];
    for (client, server) in both {
        let (mut client_reads, mut client_writes) = client.into_split();
        let (mut server_reads, mut server_writes) = server.into_split();
        let sent = noise();
        let up = async {
            client_writes.write_all(&sent).await.expect("open");
            client_writes.shutdown().await.expect("open");
        };
        let arrived = async {
            let mut arrived = Vec::new();
            server_reads.read_to_end(&mut arrived).await.expect("a clean end");
            assert!(arrived == sent, "{} of {} bytes", arrived.len(), sent.len());
            // The client has ended; the answer still arrives.
            server_writes.write_all(&sent).await.expect("half open");
            server_writes.shutdown().await.expect("half open");
        };
        let down = async {
            let mut arrived = Vec::new();
            client_reads.read_to_end(&mut arrived).await.expect("a clean end");
            assert!(arrived == sent, "{} of {} bytes", arrived.len(), sent.len());
        };
        within("all bytes both ways", LIMIT, async { tokio::join!(up, arrived, down) }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_is_routed_by_name_by_service_address_and_by_both_with_a_port() {
    let Some(world) = World::start().await else { return };
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    for protocol in [Protocol::Http1, Protocol::Unspecified] {
        world.tell(&Port::new(80, protocol), &[upstream.address]);
        let address = world.virtual_address().to_string();
        // A name that nobody knows means the service that has the address.
        for host in [
            "user",
            "user:80",
            SERVICE,
            &address,
            &format!("{address}:80"),
            "nobody.example",
        ] {
            let mut connection = world.connect(world.service_port(80)).await;
            for _ in 0..2 {
                connection
                    .write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                    .await;
                let response = connection.response().await;
                assert_eq!((response.status, &*response.text()), (200, "v1"), "{host} {protocol:?}");
            }
        }
        let mut http2 = Connection::open_in(&world.app, world.service_port(80), Version::Http2).await;
        for host in ["user", "nobody.example"] {
            let reply = http2.get(host, "/").await;
            assert_eq!((reply.status, &*reply.text()), (200, "v1"), "{host}");
        }
    }
    let metrics = world.sidecar.metrics().await;
    let labels = [("destination_service", SERVICE), ("status_code", "200")];
    assert_eq!(metrics.sum("http_requests_total", &labels), 28.0, "{}", metrics.text);
    assert_eq!(metrics.sum("tsunagi_tcp_connections_total", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_passes_both_ways_to_its_end_and_is_counted_and_logged() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Unspecified] {
        world.tell(&Port::new(5432, protocol), &[listening.address]);
        eventually("the port's protocol is known", LIMIT, async || {
            let mut client = world.connect(world.service_port(5432)).await;
            client.write([0x16, 3, 1, 0]).await;
            let mut server = listening.accept().await;
            (server.read_exact(4).await == [0x16, 3, 1, 0]).then_some(())
        })
        .await;
        let mut client = world.connect(world.service_port(5432)).await;
        client.write([0, 0, 0, 8]).await;
        let mut server = listening.accept().await;
        assert_eq!(server.read_exact(4).await, [0, 0, 0, 8]);
        passes_everything(client, server).await;
    }
    let labels = [("destination_service", SERVICE), ("direction", "outbound")];
    let metrics = eventually("the connections are counted", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        (metrics.sum("tsunagi_tcp_connections_total", &labels) >= 6.0).then_some(metrics)
    })
    .await;
    let expected = 3.0 * (MANY_BYTES as f64 + 8.0);
    assert_eq!(metrics.sum("tsunagi_tcp_received_bytes_total", &labels), expected);
    assert_eq!(
        metrics.sum("tsunagi_tcp_sent_bytes_total", &labels),
        3.0 * MANY_BYTES as f64
    );
    let line = eventually("a line in the access log", LIMIT, async || {
        let lines = world.sidecar.process.stdout();
        let many = format!("\"bytes_sent\":{MANY_BYTES}");
        lines.into_iter().find(|line| line.contains(&many))
    })
    .await;
    for field in [
        "\"protocol\":\"TCP\"",
        "\"method\":\"\"",
        "\"path\":\"\"",
        "\"response_flags\":\"-\"",
        &format!("\"upstream_host\":\"{}\"", listening.address),
        &format!("\"upstream_cluster\":\"outbound|5432||{SERVICE}\""),
        &format!("\"downstream_remote_address\":\"{}", world.app.address()),
    ] {
        assert!(line.contains(field), "{field} in {line}");
    }
}

/// The server says a banner first; the client only then.
async fn banner_first(world: &World, to: SocketAddr, listening: &mut Listening) {
    let mut client = world.connect(to).await;
    let mut server = listening.accept().await;
    server.write("220 ready\r\n").await;
    let banner = within("the banner", LIMIT, client.read_exact(11)).await;
    assert_eq!(banner, b"220 ready\r\n");
    // It looks like a request, and is none any more.
    client.write("GET / HTTP/1.1\r\n\r\n").await;
    let sent = within("the client's bytes", LIMIT, server.read_exact(18)).await;
    assert_eq!(sent, b"GET / HTTP/1.1\r\n\r\n");
    passes_everything(client, server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_whether_or_not_its_protocol_is_declared() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    for protocol in [Protocol::Tcp, Protocol::Unspecified] {
        world.tell(&Port::new(25, protocol), &[listening.address]);
        banner_first(&world, world.service_port(25), &mut listening).await;
    }
    let address = listening.address;
    banner_first(&world, address, &mut listening).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_only_slow_is_still_routed_and_the_spare_connection_is_closed() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    world.tell(&Port::new(80, Protocol::Unspecified), &[listening.address]);
    let mut client = world.connect(world.service_port(80)).await;
    // It has waited so long that the upstream was connected to.
    let mut spare = listening.accept().await;
    client.write("GET /late HTTP/1.1\r\nHost: user\r\n\r\n").await;
    let mut used = listening.accept().await;
    let head = used.read_head().await;
    assert!(head.starts_with("GET /late HTTP/1.1\r\n"), "{head}");
    used.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    assert!(spare.read_to_end().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_of_either_side_is_an_abort_for_the_other() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    world.tell(&Port::new(5432, Protocol::Tcp), &[listening.address]);
    for (to, client_aborts) in [
        (world.service_port(5432), true),
        (world.service_port(5432), false),
        (listening.address, true),
        (listening.address, false),
    ] {
        let mut client = world.connect(to).await;
        client.write([0, 1, 2]).await;
        let mut server = listening.accept().await;
        assert_eq!(server.read_exact(3).await, [0, 1, 2]);
        let (aborting, mut other) = if client_aborts {
            (client, server)
        } else {
            (server, client)
        };
        aborting.stream.set_zero_linger().expect("a socket");
        drop(aborting);
        assert!(world::is_reset(&mut other).await, "client aborts: {client_aborts}");
    }
    for flags in ["DC", "UC"] {
        for service in [SERVICE, "PassthroughCluster"] {
            let labels = [("destination_service", service), ("response_flags", flags)];
            eventually("the abort is counted", LIMIT, async || {
                let metrics = world.sidecar.metrics().await;
                (metrics.sum("tsunagi_tcp_connections_total", &labels) == 1.0).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_registered_is_passed_through_untouched() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    let to = listening.address;
    let request = format!("GET  /x HTTP/1.1\r\nHost: {to}\r\ncOnNeCtIoN: close, x-hop\r\nX-Hop: 1\r\n\r\n");
    let fine = "GET /x HTTP/1.1\r\nHost: nobody.example\r\ncOnNeCtIoN: close, x-hop\r\nX-Hop: 1\r\n\r\nand more";
    let long = format!(
        "POST / HTTP/1.1\r\nHost: nobody.example\r\nX-Long: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let nonsense = b"\x16\x03\x01\x02\x00\x01\x00";
    for sent in [request.as_bytes(), fine.as_bytes(), long.as_bytes(), nonsense] {
        let mut client = world.connect(to).await;
        client.write(sent).await;
        let mut server = listening.accept().await;
        let arrived = within("the bytes", LIMIT, server.read_exact(sent.len())).await;
        assert_eq!(String::from_utf8_lossy(&arrived), String::from_utf8_lossy(sent));
        passes_everything(client, server).await;
    }
    // Another port of a known address is not registered either.
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    world.tell(&Port::new(80, Protocol::Http1), &[upstream.address]);
    let mut client = world.connect(to).await;
    client.write("GET / HTTP/1.1\r\nHost: user\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(
        (response.status, &*response.text()),
        (200, "v1"),
        "a name of the mesh is routed"
    );
    assert!(listening.is_quiet());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_nobody_on_a_connection_of_the_mesh_reach_their_original_destination() {
    let Some(world) = World::start().await else { return };
    let (mesh, outside) = (
        Upstream::start_in_pod("mesh", &world.server, 0).await,
        Upstream::start_in_pod("outside", &world.server, 0).await,
    );
    world.tell(&Port::new(80, Protocol::Http1), &[mesh.address]);
    let mut http2 = Connection::open_in(&world.app, outside.address, Version::Http2).await;
    let mut http1 = Connection::open_in(&world.app, outside.address, Version::Http1).await;
    for (host, name) in [("user", "mesh"), ("nobody.example", "outside"), ("user", "mesh")] {
        for connection in [&mut http2, &mut http1] {
            let reply = connection.get(host, "/").await;
            assert_eq!((reply.status, &*reply.text()), (200, name), "{host}");
        }
    }
    let metrics = world.sidecar.metrics().await;
    let labels = [
        ("destination_service", "PassthroughCluster"),
        ("route", "passthrough"),
        ("status_code", "200"),
    ];
    assert_eq!(metrics.sum("http_requests_total", &labels), 2.0, "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registry_only_lets_nothing_else_out() {
    let Some(world) = World::start().await else { return };
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    let mut listening = world.listen().await;
    world.tell(&Port::new(80, Protocol::Http1), &[upstream.address]);
    world.plane.workload(OutboundTrafficPolicy::RegistryOnly);
    let request = "GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n";
    let response = eventually("the policy is in force", LIMIT, async || {
        let mut client = world.connect(upstream.address).await;
        client.write(request).await;
        let response = client.response().await;
        (response.status != 200).then_some(response)
    })
    .await;
    assert_eq!(response.status, 502);
    assert!(response.text().contains("REGISTRY_ONLY"), "{}", response.text());
    assert_eq!(response.header("x-tsunagi-response-flags"), None);

    let mut http2 = Connection::open_in(&world.app, upstream.address, Version::Http2).await;
    assert_eq!(http2.get("nobody.example", "/").await.status, 502);
    assert_eq!(http2.get("user", "/").await.text(), "v1");

    for sent in [&b"\x16\x03\x01"[..], b""] {
        assert!(world.is_refused(listening.address, sent).await, "{sent:?}");
    }
    assert!(listening.is_quiet());
    let metrics = world.sidecar.metrics().await;
    let blocked = [("destination_service", "BlackHoleCluster")];
    assert_eq!(metrics.sum("tsunagi_tcp_connections_total", &blocked), 2.0);
    let blocked = [blocked[0], ("route", "block_all"), ("status_code", "502")];
    assert_eq!(metrics.sum("http_requests_total", &blocked), 2.0, "{}", metrics.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_limits_hold_and_an_endpoint_that_is_down_is_passed_over() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    // Its port is free again.
    let dead = world.listen().await.address;
    let pool = ConnectionPool {
        max_connections: 1,
        ..Default::default()
    };
    let port = Port {
        pool,
        ..Port::new(5432, Protocol::Tcp)
    };
    world.tell(&port, &[dead, listening.address, dead]);
    for _ in 0..4 {
        let mut client = world.connect(world.service_port(5432)).await;
        client.write("first").await;
        let mut server = listening.accept().await;
        assert_eq!(server.read_exact(5).await, b"first");
        assert!(world.is_refused(world.service_port(5432), b"").await, "over the limit");
        drop(client);
        assert!(server.read_to_end().await.is_empty());
        drop(server);
        eventually("the place is free again", LIMIT, async || {
            let metrics = world.sidecar.metrics().await;
            let open = metrics.sum("tsunagi_upstream_connections", &[("destination_service", SERVICE)]);
            (open == 0.0).then_some(())
        })
        .await;
    }
    let metrics = world.sidecar.metrics().await;
    let labels = [("destination_service", SERVICE), ("response_flags", "UO")];
    assert_eq!(metrics.sum("tsunagi_tcp_connections_total", &labels), 4.0);
    let overflow = [("destination_service", SERVICE), ("limit", "connections")];
    assert_eq!(metrics.sum("tsunagi_upstream_overflow_total", &overflow), 4.0);

    world.tell(&port, &[dead]);
    eventually("only one endpoint is left", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        let healthy = metrics.sum("tsunagi_endpoints_healthy", &[("destination_service", SERVICE)]);
        (healthy == 1.0).then_some(())
    })
    .await;
    assert!(world.is_refused(world.service_port(5432), b"").await);
    eventually("it is counted", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        let labels = [("destination_service", SERVICE), ("response_flags", "UF")];
        (metrics.sum("tsunagi_tcp_connections_total", &labels) == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_control_plane_the_known_is_routed_and_the_unknown_passed_through_at_once() {
    let Some(mut world) = World::start().await else { return };
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    let outside = Upstream::start_in_pod("outside", &world.server, 0).await;
    world.tell(&Port::new(80, Protocol::Http1), &[upstream.address]);
    let ask = async |world: &World, to: SocketAddr, host: &str| {
        let mut client = world.connect(to).await;
        client.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        client.response().await.text()
    };
    assert_eq!(ask(&world, world.service_port(80), "user").await, "v1");
    world.plane.stop().await;
    eventually("the sidecar notices", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        (metrics.sum("tsunagi_control_plane_connected", &[]) == 0.0).then_some(())
    })
    .await;
    assert_eq!(ask(&world, world.service_port(80), "user").await, "v1");
    let started = Instant::now();
    assert_eq!(ask(&world, outside.address, "nobody.example").await, "outside");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_to_the_sidecars_own_listener_is_closed_and_leads_nowhere() {
    let Some(world) = World::start().await else { return };
    let own = SocketAddr::new(world.app.address(), 15001);
    let mut client = world.connect(own).await;
    client.write("GET / HTTP/1.1\r\nHost: nobody.example\r\n\r\n").await;
    assert!(client.read_to_end().await.is_empty());
    eventually("the log says why", LIMIT, async || {
        world
            .sidecar
            .process
            .log()
            .contains("to this proxy itself")
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_connections_find_where_they_were_headed() {
    let options = SidecarOptions {
        args: vec!["--outbound-addr=[::1]:15001".to_owned()],
        ..SidecarOptions::default()
    };
    let Some(world) = World::start_with(&options).await else {
        return;
    };
    if !world.app.has_ipv6() {
        let required = std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_some();
        assert!(!required, "this machine has no IPv6");
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    let mut listening = world.listen().await;
    let upstream = Upstream::start_in_pod("v1", &world.server, 0).await;
    let address = "fd00:7473::ffff".parse().expect("an address");
    world.tell_at(address, &Port::new(80, Protocol::Http1), &[upstream.address]);
    for host in ["user", "[fd00:7473:0::ffff]:80", "nobody.example"] {
        let mut client = world.connect(SocketAddr::new(address, 80)).await;
        client.write(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!((response.status, &*response.text()), (200, "v1"), "{host}");
    }
    let unknown = SocketAddr::new(world.server.address_v6(), listening.address.port());
    banner_first(&world, unknown, &mut listening).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inbound_connections_are_served_as_what_they_speak() {
    let Some(world) = World::start().await else { return };
    let mut listening = Listening::in_pod(&world.app, 8080);
    let to = SocketAddr::new(world.app.address(), 8080);
    // From the other pod, whose connections nobody redirects.
    let connect = || {
        RawConnection::over(world::to_tokio(
            block_in_place(|| world.server.connect(to)).expect("open"),
        ))
    };
    let mut client = connect();
    client.write("GET / HTTP/1.1\r\nHost: any\r\n\r\n").await;
    let mut server = listening.accept().await;
    assert!(server.read_head().await.starts_with("GET / HTTP/1.1\r\n"));
    server.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);

    let client = connect();
    let mut server = listening.accept().await;
    server.write("220 ready\r\n").await;
    let mut client = client;
    assert_eq!(
        within("the banner", LIMIT, client.read_exact(11)).await,
        b"220 ready\r\n"
    );
    passes_everything(client, server).await;

    let client = connect();
    let mut server = listening.accept().await;
    client.stream.set_zero_linger().expect("a socket");
    drop(client);
    assert!(world::is_reset(&mut server).await);

    let metrics = eventually("the connections are counted", LIMIT, async || {
        let metrics = world.sidecar.metrics().await;
        let inbound = [("direction", "inbound")];
        (metrics.sum("tsunagi_tcp_connections_total", &inbound) == 2.0).then_some(metrics)
    })
    .await;
    let requests = [("direction", "inbound"), ("status_code", "200")];
    assert_eq!(metrics.sum("http_requests_total", &requests), 1.0);
}
