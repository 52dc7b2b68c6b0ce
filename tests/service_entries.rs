//! ServiceEntry end to end: endpoints that are names, with a name server of the test's own, and services whose endpoints are
//! where the client connects to, by the real packet filter in network namespaces.

#[path = "tls/endpoint.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod endpoint;
#[path = "connections/mesh.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod mesh;
#[path = "service_entries/name_server.rs"]
mod name_server;
#[path = "interception/plane.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod plane;
#[path = "service_entries/redirected.rs"]
mod redirected;
#[path = "service_entries/shown.rs"]
mod shown;
#[path = "interception/world.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use name_server::NameServer;
use tokio::task::block_in_place;
use tsunagi_tests::{
    Behaviour, Bridge, Connection, ControlPlane, LIMIT, Pod, RawConnection, Sidecar, SidecarOptions, Upstream, Version,
    eventually, request, require_root,
};
use world::{Listening, redirect, to_tokio};

const NAME: &str = "api.example.test";
const ONE_A_CONNECTION: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: external}
spec:
  host: api.example.test
  trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}
";
/// A name server that is gone is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    control: ControlPlane,
    sidecar: Sidecar,
    names: NameServer,
    /// On one port of several addresses.
    upstreams: Vec<Upstream>,
}

impl World {
    /// Upstreams of these names, and a service that has them by what `names` is made to say.
    async fn start(upstreams: &[&str]) -> World {
        let names = NameServer::start().await;
        let mut started: Vec<Upstream> = Vec::new();
        for (number, name) in (11..).zip(upstreams) {
            let port = started.first().map_or(0, |first| first.address.port());
            let address = SocketAddr::from(([127, 0, 0, number], port));
            started.push(Upstream::start_at(name, address).await);
        }
        let control = ControlPlane::start();
        let options = SidecarOptions {
            workers: 1,
            args: vec![format!("--dns-resolver={}", names.address)],
            ..SidecarOptions::default()
        };
        let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
        World {
            control,
            sidecar,
            names,
            upstreams: started,
        }
    }

    fn port(&self) -> u16 {
        self.upstreams[0].address.port()
    }

    fn addresses(&self, which: &[usize]) -> Vec<SocketAddr> {
        which.iter().map(|index| self.upstreams[*index].address).collect()
    }

    /// The service `NAME`, whose port 80 is the upstreams' port.
    async fn serve(&self, resolution: &str) {
        self.control
            .apply(&format!(
                "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: external}}
spec:
  hosts: [{NAME}]
  location: MESH_EXTERNAL
  resolution: {resolution}
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: {}}}]
",
                self.port()
            ))
            .await;
    }

    /// Who answers.
    async fn answer(&self) -> String {
        let reply = self.sidecar.get(NAME, "/").await;
        assert_eq!(reply.status, 200, "{} {}", reply.flags(), reply.text());
        reply.text()
    }

    async fn wait_for_page(&self, line: &str) {
        eventually(line, PATIENCE, async || {
            let page = self.sidecar.admin("GET", "/clusters").await.text();
            page.contains(line).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_of_a_name_gets_requests_and_when_they_change_no_request_fails() {
    let world = World::start(&["v1", "v2", "v3"]).await;
    world.names.say(NAME, &world.addresses(&[0, 1]), 1);
    world.serve("DNS").await;
    // The very first request waits for the name.
    world.answer().await;
    let both = async || {
        world.answer().await;
        let [v1, v2] = [0, 1].map(|index| world.upstreams[index].requests());
        (v1 > 0 && v2 > 0).then_some(())
    };
    eventually("both addresses have requests", LIMIT, both).await;
    assert_eq!(world.upstreams[2].requests(), 0);

    world.names.say(NAME, &world.addresses(&[2]), 1);
    // Each answer is checked: none fails on the way.
    let moved = async || (world.answer().await == "v3").then_some(());
    eventually("requests go to the new address", PATIENCE, moved).await;
    for _ in 0..20 {
        assert_eq!(world.answer().await, "v3");
    }
    let page = world.sidecar.admin("GET", "/clusters").await.text();
    assert!(page.contains(&format!("dns::{NAME}::addresses::127.0.0.13")), "{page}");
    assert!(page.contains(&format!("dns::{NAME}::age_seconds::")), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_server_that_fails_or_is_gone_leaves_the_last_good_addresses() {
    let mut world = World::start(&["v1"]).await;
    world.names.say(NAME, &world.addresses(&[0]), 1);
    world.serve("DNS").await;
    world.answer().await;
    let failures = async |world: &World, least: f64| {
        eventually("lookups fail", PATIENCE, async || {
            let metrics = world.sidecar.metrics().await;
            world.answer().await;
            let failed = metrics.sum("tsunagi_dns_lookups_total", &[("result", "failed")]);
            (failed >= least).then_some(failed)
        })
        .await
    };
    world.names.fail();
    let failed = failures(&world, 1.0).await;
    // Nobody listens there any more.
    world.names = NameServer::start().await;
    failures(&world, failed + 1.0).await;
    assert_eq!(world.answer().await, "v1");
    let metrics = world.sidecar.metrics().await;
    assert!(metrics.sum("tsunagi_dns_lookups_total", &[("result", "resolved")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_not_there_is_said_and_one_that_goes_takes_its_endpoints_along() {
    let world = World::start(&["v1"]).await;
    world.serve("DNS").await;
    let refused = async || {
        let reply = world.sidecar.get(NAME, "/").await;
        (reply.status == 503).then_some((reply.flags().to_owned(), reply.text()))
    };
    let (flags, text) = refused().await.expect("there is no such name");
    assert_eq!(flags, "UH,DF");
    assert!(text.contains("no healthy upstream") && text.contains(NAME), "{text}");

    let there = World::start(&["v1"]).await;
    there.names.say(NAME, &there.addresses(&[0]), 1);
    there.serve("DNS").await;
    there.answer().await;
    there.names.forget(NAME);
    let gone = async || {
        let reply = there.sidecar.get(NAME, "/").await;
        (reply.flags() == "UH,DF").then_some(())
    };
    eventually("the name has no endpoint", PATIENCE, gone).await;
    let metrics = there.sidecar.metrics().await;
    assert!(metrics.sum("tsunagi_dns_lookups_total", &[("result", "absent")]) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_too_long_for_udp_is_asked_for_over_tcp() {
    let world = World::start(&["v1"]).await;
    world.names.say_at_length(NAME, &world.addresses(&[0]), 60);
    world.serve("DNS").await;
    assert_eq!(world.answer().await, "v1");
    assert!(world.names.tcp_questions() >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_round_robin_name_an_address_where_nobody_listens_fails_no_request() {
    let world = World::start(&["v1"]).await;
    let dead = SocketAddr::from(([127, 0, 0, 12], world.port()));
    world.names.say(NAME, &[world.upstreams[0].address, dead], 1);
    world.serve("DNS_ROUND_ROBIN").await;
    let no_retries = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: external}
spec:
  hosts: [api.example.test]
  http:
  - route: [{destination: {host: api.example.test}}]
    retries: {attempts: 0}
";
    world.control.apply(&format!("{ONE_A_CONNECTION}---{no_retries}")).await;
    for _ in 0..10 {
        assert_eq!(world.answer().await, "v1");
    }
    let page = world.sidecar.admin("GET", "/clusters").await.text();
    assert!(!page.contains(&format!("::{dead}::")), "nothing was ever there: {page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_robin_name_is_one_endpoint_whose_connections_take_turns_and_stay() {
    let world = World::start(&["v1", "v2", "v3"]).await;
    world.names.say(NAME, &world.addresses(&[0, 1]), 1);
    world.serve("DNS_ROUND_ROBIN").await;
    world.control.apply(ONE_A_CONNECTION).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        answers.push(world.answer().await);
    }
    assert!(
        answers.windows(2).all(|pair| pair[0] != pair[1]),
        "one after the other: {answers:?}"
    );
    let output = world.control.cli(&["delete", "dr", "external"]).await;
    assert_eq!(output.code, 0, "{}", output.stderr);
    eventually("connections are kept", LIMIT, async || {
        let [first, second] = [world.answer().await, world.answer().await];
        (first == second).then_some(())
    })
    .await;
    let kept = world.answer().await;
    world.names.say(NAME, &world.addresses(&[2]), 1);
    world
        .wait_for_page(&format!("dns::{NAME}::addresses::127.0.0.13\n"))
        .await;
    for _ in 0..5 {
        assert_eq!(world.answer().await, kept, "its connection is still open");
    }
    assert_eq!(world.upstreams[2].requests(), 0);
    let open = world
        .upstreams
        .iter()
        .filter(|upstream| upstream.live_connections() > 0);
    assert_eq!(open.count(), 1);
    // Once it is closed the next one goes to the new address.
    let kept = if kept == "v1" { 0 } else { 1 };
    world.upstreams[kept].set(Behaviour::Close);
    let moved = async || (world.sidecar.get(NAME, "/").await.text() == "v3").then_some(());
    eventually("the next connection", LIMIT, moved).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_are_names_have_labels_and_are_in_subsets() {
    let world = World::start(&["v1", "v2"]).await;
    world.names.say("one.example.test", &world.addresses(&[0]), 60);
    world.names.say("two.example.test", &world.addresses(&[1]), 60);
    let port = world.port();
    world
        .control
        .apply(&format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: external}}
spec:
  hosts: [{NAME}]
  resolution: DNS
  ports: [{{number: 80, name: http}}]
  endpoints:
  - {{address: one.example.test, labels: {{version: v1}}, ports: {{http: {port}}}}}
  - {{address: two.example.test, labels: {{version: v2}}, ports: {{http: {port}}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: external}}
spec: {{host: {NAME}, subsets: [{{name: v1, labels: {{version: v1}}}}, {{name: v2, labels: {{version: v2}}}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: external}}
spec:
  hosts: [{NAME}]
  http:
  - match: [{{headers: {{to: {{exact: v2}}}}}}]
    route: [{{destination: {{host: {NAME}, subset: v2}}}}]
  - route: [{{destination: {{host: {NAME}, subset: v1}}}}]
"
        ))
        .await;
    for _ in 0..5 {
        assert_eq!(world.answer().await, "v1");
        let mut other = request("GET", NAME, "/");
        other.headers_mut().insert("to", "v2".parse().unwrap());
        assert_eq!(world.sidecar.send(other).await.text(), "v2");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redirection_a_service_of_no_resolution_is_called_by_address() {
    let world = World::start(&["v1"]).await;
    let address = world.upstreams[0].address;
    world
        .control
        .apply(&format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: external}}
spec:
  hosts: [{NAME}]
  addresses: [127.0.0.0/28]
  ports: [{{number: {}, name: http}}]
",
            address.port()
        ))
        .await;
    let reply = world.sidecar.get(&address.to_string(), "/").await;
    assert_eq!((reply.status, &*reply.text()), (200, "v1"), "{}", reply.flags());
    let reply = world.sidecar.get(&format!("{NAME}:{}", address.port()), "/").await;
    assert_eq!((reply.status, reply.flags()), (503, "UH"));
    assert!(reply.text().contains("was not redirected"), "{}", reply.text());
    let metrics = world.sidecar.metrics().await;
    let labels = [("destination_service", NAME), ("status_code", "200")];
    assert_eq!(metrics.sum("http_requests_total", &labels), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redirected_traffic_of_a_service_of_no_resolution_goes_where_it_was_headed_with_its_policy() {
    if !require_root() {
        return;
    }
    let bridge = Bridge::new();
    let (app, server) = (bridge.pod("app"), bridge.pod("server"));
    let control = block_in_place(|| ControlPlane::start_on(bridge.address()));
    block_in_place(|| redirect(&app));
    let upstream = Upstream::start_in_pod("v1", &server, 0).await;
    let mut listening = Listening::in_pod(&server, 0);
    let range = range_around(server.address());
    // Nothing else is let out.
    control
        .apply(&format!(
            "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default}}
spec: {{outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web}}
spec:
  hosts: ['*.example.test']
  ports: [{{number: {}, name: http}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: database}}
spec:
  hosts: [database.test]
  addresses: ['{range}']
  ports: [{{number: {}, name: tcp}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: database}}
spec: {{host: database.test, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 1}}}}}}}}
",
            upstream.address.port(),
            listening.address.port()
        ))
        .await;
    let sidecar = block_in_place(|| Sidecar::start_in(&app, control.grpc, &SidecarOptions::default()))
        .ready()
        .await;

    let mut connection = Connection::open_in(&app, upstream.address, Version::Http1).await;
    // On a redirected connection nobody waits long for the control plane.
    eventually("the wildcard is known", LIMIT, async || {
        let reply = connection.get(NAME, "/").await;
        ((reply.status, &*reply.text()) == (200, "v1")).then_some(())
    })
    .await;
    let reply = connection.get("nobody.test", "/").await;
    assert_eq!(reply.status, 502, "it is in no registry");

    let connect = |to: SocketAddr| {
        let stream = block_in_place(|| app.connect(to)).expect("the sidecar accepts");
        RawConnection::over(to_tokio(stream))
    };
    let mut first = connect(listening.address);
    first.write("hello").await;
    let mut accepted = listening.accept().await;
    assert_eq!(accepted.read_exact(5).await, *b"hello");
    // One connection is what its policy allows.
    assert!(is_refused(&app, listening.address, LIMIT).await);
    drop((first, accepted));
    let metrics = sidecar.metrics().await;
    assert!(metrics.sum("http_requests_total", &[("destination_service", "*.example.test")]) >= 1.0);
    let refused = [("destination_service", "database.test"), ("response_flags", "UO")];
    assert_eq!(
        metrics.sum("tsunagi_tcp_connections_total", &refused),
        1.0,
        "{}",
        metrics.text
    );
}

/// The end can come before the connect has returned.
async fn is_refused(app: &Pod, to: SocketAddr, limit: Duration) -> bool {
    match block_in_place(|| app.connect(to)) {
        Ok(stream) => RawConnection::over(to_tokio(stream)).is_closed_within(limit).await,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

/// `10.1.2.0/24` of 10.1.2.3.
fn range_around(address: std::net::IpAddr) -> String {
    let text = address.to_string();
    let (network, _) = text.rsplit_once('.').expect("an IPv4 address");
    format!("{network}.0/24")
}
