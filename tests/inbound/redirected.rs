//! Redirected connections, in a namespace with the packet filter's rules: port and address are kept, and what the control
//! plane says of a port is in force there.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};

use tokio::task::block_in_place;
use tsunagi_proto::wire::mesh;
use tsunagi_tests::{
    Behaviour, Bridge, Connection, LIMIT, Pod, Sidecar, SidecarOptions, Upstream, Version, eventually, request,
    require_root,
};

use crate::told::{NODE, Told};

const USER: &str = "user.default.svc.cluster.local";
const STATS: &str = "stats.default.svc.cluster.local";

fn port(number: u32, service: &str, pool: mesh::ConnectionPool) -> mesh::InboundPort {
    mesh::InboundPort {
        port: number,
        service: service.into(),
        service_port: 80,
        protocol: mesh::Protocol::Http1.into(),
        connection_pool: Some(pool),
    }
}

fn redirect(pod: &Pod, tool: &str, ports: &[u16]) {
    for port in ports {
        let mut command = pod.command(tool);
        command.args([
            "-t",
            "nat",
            "-A",
            "PREROUTING",
            "-p",
            "tcp",
            "--dport",
            &port.to_string(),
        ]);
        let output = block_in_place(|| command.args(["-j", "REDIRECT", "--to-ports", "15006"]).output());
        let output = output.expect("the packet filter's tool starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

async fn sidecar(pod: &Pod, told: &Told, inbound: &str) -> Sidecar {
    let options = SidecarOptions {
        node_id: NODE.into(),
        args: vec!["--inbound-addr".into(), inbound.into()],
        ..SidecarOptions::default()
    };
    block_in_place(|| Sidecar::start_in(pod, told.address, &options))
        .ready()
        .await
}

/// Answers every connection's one request with the address that it came from.
fn shows_source(listener: TcpListener) {
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = listener.accept() {
            let (mut head, mut part) = (Vec::new(), [0; 1024]);
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(length @ 1..) => head.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            let source = from.ip().to_canonical().to_string();
            let length = source.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{source}"
            )
            .ok();
        }
    });
}

async fn get(address: IpAddr, port: u16) -> tsunagi_tests::Reply {
    let mut connection = Connection::open(SocketAddr::new(address, port), Version::Http1).await;
    connection.get("whatever", "/").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_port_of_the_application_is_reached_as_itself_and_counted_as_its_service() {
    if !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let pod = block_in_place(|| bridge.pod("user"));
    redirect(&pod, "iptables", &[8080, 9090, 7070, 6060]);
    let none = mesh::ConnectionPool::default;
    let ports = vec![port(8080, USER, none()), port(9090, STATS, none())];
    let told = Told::start(bridge.address(), ports).await;
    let user = Upstream::start_in_pod("user", &pod, 8080).await;
    let _stats = Upstream::start_in_pod("stats", &pod, 9090).await;
    let _other = Upstream::start_in_pod("other", &pod, 7070).await;
    shows_source(block_in_place(|| pod.listen(6060)));
    let sidecar = sidecar(&pod, &told, "0.0.0.0:15006").await;
    for (port, name) in [(8080, "user"), (9090, "stats"), (7070, "other"), (6060, "127.0.0.6")] {
        let reply = get(pod.address(), port).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, name), "port {port}");
    }
    assert_eq!(user.requests(), 1);

    let metrics = sidecar.metrics().await;
    for (service, requests) in [(USER, 1.0), (STATS, 1.0), ("InboundPassthroughCluster", 2.0)] {
        let labels = [
            ("direction", "inbound"),
            ("route", "inbound"),
            ("destination_service", service),
            ("status_code", "200"),
        ];
        assert_eq!(
            metrics.sum("http_requests_total", &labels),
            requests,
            "{}",
            metrics.text
        );
    }
    let connections = [("direction", "inbound"), ("destination_service", USER)];
    assert_eq!(metrics.sum("tsunagi_upstream_connections", &connections), 1.0);
    let address = pod.address();
    let wanted = [
        ("inbound|8080||", 8080),
        ("inbound|9090||", 9090),
        ("InboundPassthroughCluster", 7070),
    ];
    eventually("the access log names cluster and host", LIMIT, async || {
        let lines = sidecar.process.stdout();
        let logged = |(cluster, port): &(&str, u16)| {
            let parts = [
                format!("\"upstream_cluster\":\"{cluster}\""),
                format!("\"upstream_host\":\"{address}:{port}\""),
                "\"route_name\":\"inbound\"".to_owned(),
            ];
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        wanted.iter().all(logged).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn limits_hold_and_a_push_changes_them_under_the_connections_that_are_there() {
    if !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let pod = block_in_place(|| bridge.pod("user"));
    redirect(&pod, "iptables", &[8080]);
    let limited = |connections, pending| mesh::ConnectionPool {
        max_connections: connections,
        max_pending_requests: pending,
        ..Default::default()
    };
    let told = Told::start(bridge.address(), vec![port(8080, USER, limited(1, 1))]).await;
    let app = Upstream::start_in_pod("user", &pod, 8080).await;
    let sidecar = sidecar(&pod, &told, "0.0.0.0:15006").await;
    app.set(Behaviour::Hold);

    let at = SocketAddr::new(pod.address(), 8080);
    let ask = || {
        tokio::spawn(async move {
            let mut connection = Connection::open(at, Version::Http1).await;
            (connection.get("user", "/").await, connection)
        })
    };
    let first = ask();
    eventually("one is with the application", LIMIT, async || {
        (app.live_requests() == 1).then_some(())
    })
    .await;
    let second = ask();
    let pending = async |wanted: f64| {
        eventually("one waits", LIMIT, async || {
            let waiting = sidecar.metrics().await.sum("tsunagi_upstream_pending_requests", &[]);
            (waiting == wanted).then_some(())
        })
        .await;
    };
    pending(1.0).await;
    let (third, mut third_connection) = ask().await.unwrap();
    assert_eq!((third.status, third.flags()), (503, "UO"));
    assert_eq!(third.header("x-envoy-overloaded"), Some("true"));
    assert_eq!(
        third.header("x-tsunagi-unprocessed"),
        None,
        "the application was not down"
    );

    // Nobody asks anew: the one that waits gets what is allowed from now on.
    told.push(vec![port(8080, USER, limited(2, 1))]).await;
    eventually("two are with the application", LIMIT, async || {
        (app.live_requests() == 2).then_some(())
    })
    .await;
    app.set(Behaviour::Answer);
    for held in [first, second] {
        let (reply, mut connection) = held.await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "user"));
        assert_eq!(connection.send(request("GET", "user", "/")).await.status, 200);
    }
    assert_eq!(third_connection.get("user", "/").await.status, 200);
    assert_eq!(app.peak_connections(), 2);
    let overflown = [
        ("direction", "inbound"),
        ("destination_service", USER),
        ("limit", "pending_requests"),
    ];
    assert_eq!(
        sidecar
            .metrics()
            .await
            .sum("tsunagi_upstream_overflow_total", &overflown),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6_the_source_is_6_and_without_it_nobody_is_reached() {
    if !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let pod = block_in_place(|| bridge.pod("user"));
    if !pod.has_ipv6() {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "this machine has no IPv6"
        );
        eprintln!("NOT RUN: this machine has no IPv6");
        return;
    }
    redirect(&pod, "ip6tables", &[8080]);
    let told = Told::start(bridge.address(), Vec::new()).await;
    shows_source(block_in_place(|| pod.listen(8080)));
    let sidecar = sidecar(&pod, &told, "[::]:15006").await;
    for _ in 0..2 {
        let reply = get(pod.address_v6(), 8080).await;
        assert_eq!((reply.status, reply.flags()), (503, "UF"));
        let called = format!("1 [{}]:8080", pod.address_v6());
        assert_eq!(reply.header("x-tsunagi-unprocessed"), Some(&*called));
        assert!(reply.text().contains("::6"), "{}", reply.text());
    }
    let told_so = sidecar.process.log().matches("cannot be reached from ::6").count();
    assert_eq!(told_so, 1, "{}", sidecar.process.log());

    let mut command = pod.command("ip");
    let added = block_in_place(|| command.args(["-6", "addr", "add", "::6/128", "dev", "lo"]).output());
    assert!(added.is_ok_and(|output| output.status.success()));
    eventually("the address may be used", LIMIT, async || {
        let reply = get(pod.address_v6(), 8080).await;
        (reply.status == 200 && reply.text() == "::6").then_some(())
    })
    .await;
}
