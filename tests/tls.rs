//! TLS that is passed on by the name that its client asks for: redirected by the packet filter to a service, to addresses
//! that nobody knows, and straight to the sidecar. Clients check the certificate: nothing on the way ends TLS.

#[path = "tls/endpoint.rs"]
mod endpoint;
#[path = "connections/mesh.rs"]
mod mesh;
#[path = "interception/plane.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod plane;
#[path = "tls/sharing.rs"]
mod sharing;
#[path = "connections/told.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod told;
#[path = "interception/world.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use endpoint::{Answer, Endpoint, Trust};
use plane::Plane;
use tokio::net::TcpStream;
use told::{Service, rule};
use tsunagi_proto::wire::mesh::{ConnectionMatch, ConnectionRule, OutboundTrafficPolicy, Protocol};
use tsunagi_tests::{LIMIT, RawConnection, Sidecar, SidecarOptions, eventually};
use world::World;

const FQDN: &str = "secure.default.svc.cluster.local";
const PORT: u16 = 8443;
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 255, 3, 3));
/// Of nobody whom the mesh knows.
const UNRECOGNIZED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];

fn by_name(service: &Service, name: &str, subset: &str) -> ConnectionRule {
    let item = ConnectionMatch {
        sni_hosts: vec![name.to_owned()],
        ..Default::default()
    };
    rule(vec![item], vec![service.to(subset, 0)])
}

/// `one.example.com` is v1, the rest of `*.example.com` v2.
fn service(protocol: Protocol, v1: &Endpoint, v2: &Endpoint) -> Service {
    let mut service = Service {
        fqdn: FQDN.to_owned(),
        ports: vec![(PORT, protocol)],
        addresses: vec![ADDRESS],
        endpoints: vec![("v1", v1.address), ("v2", v2.address)],
        ..Service::default()
    };
    service.tls = vec![
        by_name(&service, "one.example.com", "v1"),
        by_name(&service, "*.example.com", "v2"),
    ];
    service
}

/// A host that is known by its name only.
fn named(fqdn: &str, port: u16, protocol: Protocol, endpoint: &Endpoint) -> Service {
    Service {
        fqdn: fqdn.to_owned(),
        ports: vec![(port, protocol)],
        endpoints: vec![("v1", endpoint.address)],
        ..Service::default()
    }
}

async fn connect(world: &World, to: SocketAddr) -> TcpStream {
    world.connect(to).await.stream
}

async fn counted(sidecar: &Sidecar, service: &str, subset: &str, flags: &str) -> f64 {
    let labels = [
        ("destination_service", service),
        ("destination_subset", subset),
        ("response_flags", flags),
    ];
    sidecar.metrics().await.sum("tsunagi_tcp_connections_total", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_decides_on_ports_of_tls_and_where_nothing_is_declared() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    let to = SocketAddr::new(ADDRESS, PORT);
    for protocol in [Protocol::Tls, Protocol::Unspecified] {
        service(protocol, &v1, &v2).tell(&world.plane);
        for (name, expected) in [("one.example.com", "v1"), ("TWO.example.com", "v2")] {
            for _ in 0..6 {
                let answer = trust.ask(connect(&world, to).await, name).await;
                assert_eq!(answer, Answer::Said(expected.to_owned()), "{name} {protocol:?}");
            }
        }
    }
    eventually("all are counted", LIMIT, async || {
        (counted(&world.sidecar, FQDN, "v2", "").await == 12.0).then_some(())
    })
    .await;
    let logged = eventually("they are logged", LIMIT, async || {
        let lines = world.sidecar.process.stdout();
        lines.into_iter().find(|line| line.contains("rules.default/tls/1"))
    })
    .await;
    let line: serde_json::Value = serde_json::from_str(&logged).expect("JSON");
    assert_eq!(line["requested_server_name"], "two.example.com");
    assert_eq!(line["upstream_cluster"], format!("outbound|{PORT}|v2|{FQDN}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_in_crumbs_is_one_hello() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    for protocol in [Protocol::Tls, Protocol::Unspecified] {
        service(protocol, &v1, &v2).tell(&world.plane);
        let client = connect(&world, SocketAddr::new(ADDRESS, PORT)).await;
        let answer = trust.ask(endpoint::Crumbs(client), "one.example.com").await;
        assert_eq!(answer, Answer::Said("v1".to_owned()), "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_of_a_tls_port_is_for_goes_where_it_was_headed_if_it_may() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    let mut service = service(Protocol::Tls, &v1, &v2);
    service.tls.truncate(1);
    service.tell(&world.plane);
    // Past all rules it goes where it was headed.
    service.addresses = vec![v2.address.ip()];
    service.ports[0].0 = v2.address.port();
    service.tell(&world.plane);
    let to_v2 = v2.address;
    for (name, expected) in [("one.example.com", "v1"), ("two.example.com", "v2")] {
        let answer = trust.ask(connect(&world, to_v2).await, name).await;
        assert_eq!(answer, Answer::Said(expected.to_owned()), "{name}");
    }
    let mut client = RawConnection::over(connect(&world, to_v2).await);
    client.write("no TLS at all").await;
    assert_eq!(client.read_to_end().await.first(), Some(&21), "an alert of v2");
    eventually("what passed through is counted", LIMIT, async || {
        (counted(&world.sidecar, "PassthroughCluster", "", "").await >= 1.0).then_some(())
    })
    .await;
    // Unless nothing may go out that is not registered.
    world.plane.workload(OutboundTrafficPolicy::RegistryOnly);
    eventually("it is refused", LIMIT, async || {
        let answer = trust.ask(connect(&world, to_v2).await, "two.example.com").await;
        (answer == Answer::Reset).then_some(())
    })
    .await;
    let answer = trust.ask(connect(&world, to_v2).await, "one.example.com").await;
    assert_eq!(answer, Answer::Said("v1".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_rules_everything_on_a_tls_port_goes_to_the_service() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    let to = SocketAddr::new(ADDRESS, PORT);
    let mut service = service(Protocol::Tls, &v1, &v2);
    service.tls.clear();
    service.endpoints.truncate(1);
    service.tell(&world.plane);
    eventually("the service itself is reached", LIMIT, async || {
        let answer = trust.ask(connect(&world, to).await, "two.example.com").await;
        (answer == Answer::Said("v1".to_owned())).then_some(())
    })
    .await;
    // What is no TLS is the endpoint's to judge.
    let mut client = RawConnection::over(connect(&world, to).await);
    client.write("no TLS at all").await;
    assert_eq!(
        client.read_to_end().await.first(),
        Some(&21),
        "an alert of the endpoint"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_an_address_that_nobody_knows_the_name_leads_to_a_host_of_the_mesh_or_the_address_does() {
    let Some(world) = World::start().await else { return };
    let (v1, v2) = (
        Endpoint::in_pod(&world.server, "v1"),
        Endpoint::in_pod(&world.server, "v2"),
    );
    let trust = Trust::of(&[&v1, &v2]);
    // The address is v2's own; the name of a host without an address is v1's.
    let to = v2.address;
    named("api.example.com", to.port(), Protocol::Tls, &v1).tell(&world.plane);
    named("other-port.example.com", 1, Protocol::Tls, &v1).tell(&world.plane);
    named("http.example.com", to.port(), Protocol::Http1, &v1).tell(&world.plane);
    for (name, expected) in [
        ("api.example.com", "v1"),
        ("other-port.example.com", "v2"),
        ("http.example.com", "v2"),
        ("nobody.example.com", "v2"),
    ] {
        let answer = trust.ask(connect(&world, to).await, name).await;
        assert_eq!(answer, Answer::Said(expected.to_owned()), "{name}");
    }
    eventually("they are counted", LIMIT, async || {
        let to_host = counted(&world.sidecar, "api.example.com", "", "").await;
        let passed_through = counted(&world.sidecar, "PassthroughCluster", "", "").await;
        (to_host == 1.0 && passed_through == 3.0).then_some(())
    })
    .await;

    world.plane.workload(OutboundTrafficPolicy::RegistryOnly);
    eventually("nobody gets out by address", LIMIT, async || {
        let answer = trust.ask(connect(&world, to).await, "nobody.example.com").await;
        (answer == Answer::Reset).then_some(())
    })
    .await;
    let answer = trust.ask(connect(&world, to).await, "api.example.com").await;
    assert_eq!(answer, Answer::Said("v1".to_owned()));
}

/// A sidecar whose connections nobody redirects, and the service on loopback.
struct Direct {
    sidecar: Sidecar,
    v1: Endpoint,
    v2: Endpoint,
    _plane: Plane,
}

impl Direct {
    async fn start() -> Direct {
        let plane = Plane::start(Ipv4Addr::LOCALHOST.into()).await;
        let (v1, v2) = (Endpoint::start("v1").await, Endpoint::start("v2").await);
        let mut service = named("two.example.com", 443, Protocol::Tls, &v2);
        service.ports.insert(0, (80, Protocol::Http1));
        service.tell(&plane);
        named("one.example.com", PORT, Protocol::Unspecified, &v1).tell(&plane);
        named("http.example.com", 80, Protocol::Http1, &v1).tell(&plane);
        let sidecar = Sidecar::start_with(plane.address, &SidecarOptions::default());
        Direct {
            sidecar: sidecar.ready().await,
            v1,
            v2,
            _plane: plane,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.sidecar.outbound).await.expect("it listens")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redirection_the_name_leads_to_its_first_tls_port() {
    let direct = Direct::start().await;
    let trust = Trust::of(&[&direct.v1, &direct.v2]);
    for (name, expected) in [
        ("one.example.com", Answer::Said("v1".to_owned())),
        ("two.example.com", Answer::Said("v2".to_owned())),
        ("http.example.com", Answer::UnrecognizedName),
        ("nobody.example.com", Answer::UnrecognizedName),
    ] {
        assert_eq!(trust.ask(direct.connect().await, name).await, expected, "{name}");
        let crumbs = endpoint::Crumbs(direct.connect().await);
        assert_eq!(trust.ask(crumbs, name).await, expected, "{name} in crumbs");
    }
    assert_eq!(counted(&direct.sidecar, "", "", "NR").await, 4.0);
    // The alert is all that comes, and then an end.
    let mut client = RawConnection::over(direct.connect().await);
    client.write(endpoint::hello_for("nobody.example.com")).await;
    assert_eq!(client.read_to_end().await, UNRECOGNIZED_NAME);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_begins_like_tls_is_answered_as_a_bad_request() {
    let direct = Direct::start().await;
    let mut client = RawConnection::over(direct.connect().await);
    client.write(b"\x16\x03\x01\x00\x00 and more\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_reaches_a_service_by_its_name() {
    if !has_curl() {
        return;
    }
    let direct = Direct::start().await;
    let outbound = direct.sidecar.outbound;
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--insecure", "--connect-to"])
        .arg(format!("::{outbound}"))
        .arg("https://two.example.com/")
        .output()
        .expect("curl starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "v2", "{said}");
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--insecure", "--connect-to"])
        .arg(format!("::{outbound}"))
        .arg("https://nobody.example.com/")
        .output()
        .expect("curl starts");
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && said.contains("unrecognized name"), "{said}");
}

/// Whether this machine has it. If not, the test says so, or fails where nothing may be skipped.
fn has_curl() -> bool {
    let there = Command::new("curl").arg("--version").output().is_ok();
    if !there {
        assert!(
            std::env::var_os("TSUNAGI_TESTS_REQUIRE_TOOLS").is_none(),
            "the Debian package curl is missing"
        );
        eprintln!("NOT RUN: the Debian package curl is missing");
    }
    there
}
