//! `tcp` rules for connections that the packet filter redirects, and for those through a tunnel: whom they reach, how they
//! are split, counted and logged.

#[path = "connections/mesh.rs"]
mod mesh;
#[path = "interception/plane.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod plane;
#[path = "connections/told.rs"]
mod told;
#[path = "interception/world.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mesh::{Mesh, entry, subsets};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::{JoinSet, block_in_place};
use told::{Service, label, rule};
use tsunagi_proto::wire::mesh::{ConnectionMatch, ConnectionPool, Protocol};
use tsunagi_tests::{LIMIT, Pod, RawConnection, Sidecar, SidecarOptions, binomial_bounds, eventually, within};
use world::{World, is_reset};

const FQDN: &str = "db.default.svc.cluster.local";
const PORT: u16 = 5432;
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 1, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 2, 2));

/// Says its name to whoever connects, and ends.
struct Greeter {
    address: SocketAddr,
    _serving: JoinSet<()>,
}

impl Greeter {
    fn in_pod(pod: &Pod, name: &'static str) -> Greeter {
        let listener = block_in_place(|| pod.listen(0));
        listener.set_nonblocking(true).expect("a socket");
        let listener = TcpListener::from_std(listener).expect("a runtime runs");
        Greeter::over(listener, name, pod.address())
    }

    fn over(listener: TcpListener, name: &'static str, ip: IpAddr) -> Greeter {
        let port = listener.local_addr().expect("bound").port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move { stream.write_all(name.as_bytes()).await });
            }
        });
        Greeter {
            address: SocketAddr::new(ip, port),
            _serving: serving,
        }
    }
}

/// The service with one port at both addresses, a greeter in each subset.
fn service(protocol: Protocol, v1: &Greeter, v2: &Greeter) -> Service {
    Service {
        fqdn: FQDN.to_owned(),
        ports: vec![(PORT, protocol)],
        addresses: vec![FIRST, SECOND],
        endpoints: vec![("v1", v1.address), ("v2", v2.address)],
        ..Service::default()
    }
}

async fn greeting(world: &World, address: IpAddr) -> String {
    let mut client = world.connect(SocketAddr::new(address, PORT)).await;
    String::from_utf8(client.read_to_end().await).expect("text")
}

/// Until what was told is in force, which connections ask for.
async fn eventually_greeted(world: &World, address: IpAddr, name: &str) {
    eventually("the rules are in force", LIMIT, async || {
        (greeting(world, address).await == name).then_some(())
    })
    .await;
}

async fn counted(sidecar: &Sidecar, subset: &str, flags: &str) -> f64 {
    let labels = [
        ("destination_service", FQDN),
        ("destination_subset", subset),
        ("response_flags", flags),
    ];
    sidecar.metrics().await.sum("tsunagi_tcp_connections_total", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_split_by_weight_and_counted_and_logged_by_destination() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Greeter::in_pod(&world.server, "v1"),
        Greeter::in_pod(&world.server, "v2"),
    );
    let mut service = service(Protocol::Tcp, &v1, &v2);
    service.tcp = vec![rule(vec![], vec![service.to("v1", 80), service.to("v2", 20)])];
    service.tell(&world.plane);
    const COUNT: u64 = 500;
    let mut seconds = 0;
    for _ in 0..COUNT {
        match greeting(&world, FIRST).await.as_str() {
            "v1" => {}
            "v2" => seconds += 1,
            other => unreachable!("{other:?}"),
        }
    }
    let (low, high) = binomial_bounds(COUNT, 0.2, 1e-6);
    assert!(
        (low..=high).contains(&seconds),
        "{seconds} of {COUNT}: not in {low}..={high}"
    );
    eventually("all are counted", LIMIT, async || {
        let counts = (
            counted(&world.sidecar, "v1", "").await,
            counted(&world.sidecar, "v2", "").await,
        );
        (counts == ((COUNT - seconds) as f64, seconds as f64)).then_some(())
    })
    .await;
    let logged = world.sidecar.process.stdout();
    let line: serde_json::Value = serde_json::from_str(logged.last().expect("a line")).expect("JSON");
    assert_eq!(line["route_name"], "rules.default/tcp/0");
    let cluster = line["upstream_cluster"].as_str().expect("text");
    assert!(
        [format!("outbound|5432|v1|{FQDN}"), format!("outbound|5432|v2|{FQDN}")].contains(&cluster.to_owned()),
        "{cluster}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_that_a_user_writes_is_the_one_that_connections_meet() {
    let Some(mesh) = Mesh::start().await else { return };
    let (v1, v2) = (Greeter::in_pod(&mesh.server, "v1"), Greeter::in_pod(&mesh.server, "v2"));
    let to = SocketAddr::from(([240, 1, 1, 3], PORT));
    let endpoints = [("v1", v1.address), ("v2", v2.address)];
    let service = entry("db.example.com", to, "protocol: TCP", &endpoints) + &subsets("db.example.com");
    let rule = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: db}
spec:
  hosts: [db.example.com]
  tcp:
  - match: [{port: 1}]
    route: [{destination: {host: nobody.example.com}}]
  - match: [{port: 5432, destinationSubnets: [240.1.1.0/24]}]
    route:
    - {destination: {host: db.example.com, subset: v1}, weight: 80}
    - {destination: {host: db.example.com, subset: v2}, weight: 20}
";
    mesh.control.apply(&(service + rule)).await;
    const COUNT: u64 = 500;
    let mut seconds = 0;
    for _ in 0..COUNT {
        let mut client = RawConnection::over(mesh.connect(to).await);
        match client.read_to_end().await.as_slice() {
            b"v1" => {}
            b"v2" => seconds += 1,
            other => unreachable!("{other:?}"),
        }
    }
    let (low, high) = binomial_bounds(COUNT, 0.2, 1e-6);
    assert!(
        (low..=high).contains(&seconds),
        "{seconds} of {COUNT}: not in {low}..={high}"
    );
    eventually("all are counted", LIMIT, async || {
        let to = [("destination_service", "db.example.com"), ("destination_subset", "v2")];
        let metrics = mesh.sidecar.metrics().await;
        (metrics.sum("tsunagi_tcp_connections_total", &to) == seconds as f64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_rule_for_the_port_and_the_subnet_decides_and_none_means_the_service_itself() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Greeter::in_pod(&world.server, "v1"),
        Greeter::in_pod(&world.server, "v2"),
    );
    // Where nothing is declared, the server is heard although the client says nothing.
    for protocol in [Protocol::Tcp, Protocol::Unspecified] {
        let mut service = service(protocol, &v1, &v2);
        let other_port = ConnectionMatch {
            port: 1,
            ..Default::default()
        };
        let subnet = |subnet: &str| ConnectionMatch {
            destination_subnets: vec![subnet.to_owned()],
            port: PORT.into(),
            ..Default::default()
        };
        service.tcp = vec![
            rule(vec![other_port], vec![service.to("nobody", 0)]),
            rule(vec![subnet("10.255.1.0/24")], vec![service.to("v1", 0)]),
            rule(vec![subnet("10.255.2.2")], vec![service.to("v2", 0)]),
        ];
        service.tell(&world.plane);
        eventually_greeted(&world, FIRST, "v1").await;
        for _ in 0..8 {
            assert_eq!(greeting(&world, FIRST).await, "v1", "{protocol:?}");
            assert_eq!(greeting(&world, SECOND).await, "v2", "{protocol:?}");
        }
        service.tcp.truncate(2);
        service.tell(&world.plane);
        // Both of its endpoints, by turns that chance takes.
        for name in ["v1", "v2"] {
            eventually_greeted(&world, SECOND, name).await;
        }
        assert_eq!(greeting(&world, FIRST).await, "v1", "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_with_source_labels_is_for_clients_that_have_them() {
    for (labels, expected) in [("app=front,zone=a", "v2"), ("app=back", "v1")] {
        let options = SidecarOptions {
            args: vec![format!("--labels={labels}")],
            ..SidecarOptions::default()
        };
        let Some(world) = World::start_with(&options).await else {
            return;
        };
        let (v1, v2) = (
            Greeter::in_pod(&world.server, "v1"),
            Greeter::in_pod(&world.server, "v2"),
        );
        let mut service = service(Protocol::Tcp, &v1, &v2);
        let front = ConnectionMatch {
            source_labels: vec![label("app", "front")],
            ..Default::default()
        };
        service.tcp = vec![
            rule(vec![front], vec![service.to("v2", 0)]),
            rule(vec![], vec![service.to("v1", 0)]),
        ];
        service.tell(&world.plane);
        for _ in 0..8 {
            assert_eq!(greeting(&world, FIRST).await, expected, "{labels}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_does_not_exist_resets_and_limits_of_the_subset_hold() {
    let Some(world) = World::start().await else { return };
    let mut held = world.listen().await;
    let mut service = Service {
        fqdn: FQDN.to_owned(),
        ports: vec![(PORT, Protocol::Tcp)],
        addresses: vec![FIRST, SECOND],
        endpoints: vec![("v1", held.address)],
        pool: ConnectionPool {
            max_connections: 1,
            ..Default::default()
        },
        ..Service::default()
    };
    let second = ConnectionMatch {
        destination_subnets: vec![SECOND.to_string()],
        ..Default::default()
    };
    service.tcp = vec![
        rule(vec![second], vec![service.to("v3", 0)]),
        rule(vec![], vec![service.to("v1", 0)]),
    ];
    service.tell(&world.plane);
    assert!(world.is_refused(SocketAddr::new(SECOND, PORT), b"x").await);
    assert_eq!(counted(&world.sidecar, "v3", "NC").await, 1.0);

    let to = SocketAddr::new(FIRST, PORT);
    let mut client = world.connect(to).await;
    client.write("x").await;
    let mut server = held.accept().await;
    assert_eq!(server.read_exact(1).await, b"x");
    assert!(world.is_refused(to, b"x").await);
    assert_eq!(counted(&world.sidecar, "v1", "UO").await, 1.0);
    assert!(held.is_quiet());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_hold_for_a_tunnel() {
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let plane = plane::Plane::start(local).await;
    let mut greeters = Vec::new();
    for name in ["v1", "v2"] {
        let listener = TcpListener::bind((local, 0)).await.expect("a free port");
        greeters.push(Greeter::over(listener, name, local));
    }
    let mut service = service(Protocol::Tcp, &greeters[0], &greeters[1]);
    service.tcp = vec![rule(vec![], vec![service.to("v2", 0)])];
    service.tell(&plane);
    let sidecar = Sidecar::start_with(plane.address, &SidecarOptions::default())
        .ready()
        .await;
    let connect = async || {
        let mut client = RawConnection::open(sidecar.outbound).await;
        client
            .write(format!("CONNECT db:{PORT} HTTP/1.1\r\nHost: db:{PORT}\r\n\r\n"))
            .await;
        (client.head_response().await.status, client)
    };
    for _ in 0..8 {
        let (status, mut client) = connect().await;
        assert_eq!((status, client.read_to_end().await), (200, b"v2".to_vec()));
    }
    eventually("it is counted", LIMIT, async || {
        (counted(&sidecar, "v2", "").await == 8.0).then_some(())
    })
    .await;
    service.tcp = vec![rule(vec![], vec![service.to("v3", 0)])];
    service.tell(&plane);
    eventually("the rule is in force", LIMIT, async || {
        (connect().await.0 == 503).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_passes_through_a_rule_as_an_abort() {
    let Some(world) = World::start().await else { return };
    let mut listening = world.listen().await;
    let mut service = Service {
        fqdn: FQDN.to_owned(),
        ports: vec![(PORT, Protocol::Tcp)],
        addresses: vec![FIRST],
        endpoints: vec![("v1", listening.address)],
        ..Service::default()
    };
    service.tcp = vec![rule(vec![], vec![service.to("v1", 0)])];
    service.tell(&world.plane);
    let client = world.connect(SocketAddr::new(FIRST, PORT)).await;
    let mut server = listening.accept().await;
    client.stream.set_zero_linger().expect("a socket");
    drop(client);
    assert!(within("an ending", LIMIT, is_reset(&mut server)).await);
}
