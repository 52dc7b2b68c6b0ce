//! Where a redirected connection was headed is where it goes, though its service has endpoints (`PASSTHROUGH`) or is known by
//! a wildcard of TLS names only (resolution `NONE`): by the real packet filter in network namespaces.

use std::time::Duration;

use tsunagi_tests::{Connection, LIMIT, RawConnection, Reply, Upstream, Version, Workload, eventually, service};

use crate::endpoint::{Answer, Endpoint, Trust};
use crate::is_refused;
use crate::mesh::Mesh;
use crate::world::Listening;

const FQDN: &str = "echo.default.svc.cluster.local";

async fn counted(mesh: &Mesh, metric: &str, service: &str) -> f64 {
    let metrics = mesh.sidecar.metrics().await;
    metrics.sum(metric, &[("destination_service", service)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_passes_through_sends_requests_where_they_were_headed_with_the_services_policy() {
    let Some(mesh) = Mesh::start().await else { return };
    let known = Upstream::start_in_pod("known", &mesh.server, 0).await;
    let other = Upstream::start_in_pod("other", &mesh.server, 0).await;
    let address = known.address;
    let endpoints = [Workload { version: "v1", address }];
    mesh.control.apply(&service("echo", "http", &endpoints)).await;
    let get = async || -> Reply {
        let mut connection = Connection::open_in(&mesh.app, other.address, Version::Http1).await;
        connection.get("echo", "/").await
    };
    eventually("by name it is the service", LIMIT, async || {
        (get().await.text() == "known").then_some(())
    })
    .await;
    let (before, headed) = (other.requests(), known.requests());
    let passing = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  trafficPolicy:
    loadBalancer: {simple: PASSTHROUGH}
    connectionPool: {http: {maxRequestsPerConnection: 1}}
";
    mesh.control.apply(passing).await;
    let as_service = counted(&mesh, "http_requests_total", FQDN).await;
    let mut connection = Connection::open_in(&mesh.app, other.address, Version::Http1).await;
    for _ in 0..10 {
        let reply = connection.get("echo", "/").await;
        assert_eq!((reply.status, &*reply.text()), (200, "other"), "{}", reply.flags());
    }
    assert_eq!((other.requests() - before, known.requests()), (10, headed));
    let mut used: Vec<u64> = other.seen().iter().rev().take(10).map(|seen| seen.connection).collect();
    used.dedup();
    assert_eq!(used.len(), 10, "a connection each, as the rule has it");
    assert_eq!(counted(&mesh, "http_requests_total", FQDN).await - as_service, 10.0);

    // Who was not redirected was headed nowhere.
    let mut direct = Connection::open_in(&mesh.app, mesh.sidecar.outbound, Version::Http1).await;
    let reply = direct.get("echo", "/").await;
    assert_eq!((reply.status, reply.flags()), (503, "UH"), "{}", reply.text());
    assert!(reply.text().contains("was not redirected"), "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_that_passes_through_holds_for_tcp_too() {
    let Some(mesh) = Mesh::start().await else { return };
    let mut listening = Listening::in_pod(&mesh.server, 0);
    let mut endpoint = Listening::in_pod(&mesh.server, 0);
    let entry = format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: database}}
spec:
  hosts: [database.test]
  addresses: [{ip}]
  resolution: STATIC
  ports: [{{number: {port}, name: tcp}}]
  endpoints: [{{address: {ip}, ports: {{tcp: {endpoint}}}}}]
",
        ip = listening.address.ip(),
        port = listening.address.port(),
        endpoint = endpoint.address.port(),
    );
    mesh.control.apply(&entry).await;
    let address = listening.address;
    let connect = async || {
        let mut client = RawConnection::over(mesh.connect(address).await);
        client.write("hello").await;
        client
    };
    // At first it may not be known yet whose address that is.
    eventually("the service's endpoint is reached", LIMIT, async || {
        drop(connect().await);
        (!endpoint.is_quiet()).then_some(())
    })
    .await;
    eventually("no connection is open", LIMIT, async || {
        // Whoever was accepted ends.
        while !listening.is_quiet() || !endpoint.is_quiet() {}
        let metrics = mesh.sidecar.metrics().await;
        let open = metrics.sum("active_connections", &[("direction", "outbound")]);
        (open == 0.0).then_some(())
    })
    .await;
    let passing = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: database}
spec:
  host: database.test
  trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}, connectionPool: {tcp: {maxConnections: 1}}}
";
    mesh.control.apply(passing).await;
    let _first = connect().await;
    let mut accepted = listening.accept().await;
    assert_eq!(accepted.read_exact(5).await, *b"hello");
    // One connection is what the service's policy allows.
    assert!(is_refused(&mesh.app, address, LIMIT).await);
    assert!(endpoint.is_quiet() && listening.is_quiet());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_name_below_a_wildcard_goes_where_it_was_headed_and_other_names_do_not() {
    let Some(mesh) = Mesh::start().await else { return };
    let endpoint = Endpoint::in_pod(&mesh.server, "v1");
    let trust = Trust::of(&[&endpoint]);
    let rules = format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default}}
spec: {{outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: wildcard}}
spec:
  hosts: ['*.example.com']
  location: MESH_EXTERNAL
  resolution: NONE
  ports: [{{number: {}, name: tls, protocol: TLS}}]
",
        endpoint.address.port()
    );
    mesh.control.apply(&rules).await;
    eventually("the wildcard is known", LIMIT, async || {
        let answer = trust.ask(mesh.connect(endpoint.address).await, "one.example.com").await;
        (answer == Answer::Said("v1".to_owned())).then_some(())
    })
    .await;
    for name in ["two.example.com", "deep.two.example.com"] {
        let answer = trust.ask(mesh.connect(endpoint.address).await, name).await;
        // The certificate is for one label only: the deeper name arrives, and its client minds.
        match answer {
            Answer::Said(said) => assert_eq!((said.as_str(), name), ("v1", "two.example.com")),
            Answer::Other(error) => assert!(
                name.starts_with("deep") && error.contains("not valid for name"),
                "{error}"
            ),
            other => panic!("{name}: {other:?}"),
        }
    }
    for name in ["example.com", "one.example.org"] {
        let answer = trust.ask(mesh.connect(endpoint.address).await, name).await;
        assert!(
            matches!(answer, Answer::Reset | Answer::UnrecognizedName),
            "{name} is in no registry: {answer:?}"
        );
    }
    eventually("the connections are counted", LIMIT, async || {
        let count = counted(&mesh, "tsunagi_tcp_connections_total", "*.example.com").await;
        (count == 3.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_service_without_an_address_has_its_port_wherever_connections_head_that_are_for_nobody_else() {
    let Some(mesh) = Mesh::start().await else { return };
    let mut database = Listening::in_pod(&mesh.server, 0);
    let mut mail = Listening::in_pod(&mesh.server, 0);
    let web = Upstream::start_in_pod("web", &mesh.server, 0).await;
    let (port, other_port) = (database.address.port(), mail.address.port());
    // Whom a connection is for could only be guessed of the second.
    let entries = format!(
        "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default}}
spec: {{outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: database}}
spec:
  hosts: [database.test]
  ports: [{{number: {port}, name: mongo}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: mail}}
spec:
  hosts: [mail.test]
  resolution: STATIC
  ports: [{{number: {other_port}, name: tcp}}]
  endpoints: [{{address: {ip}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: web}}
spec:
  hosts: [web.test]
  resolution: STATIC
  ports: [{{number: {port}, name: http}}]
  endpoints: [{{address: {ip}, ports: {{http: {}}}}}]
",
        web.address.port(),
        ip = mesh.server.address(),
    );
    let applied = mesh.control.cli_with_input(&["apply", "-f", "-"], &entries).await;
    let said = format!("{}{}", applied.stdout, applied.stderr);
    assert_eq!(applied.code, 0, "{said}");
    assert!(
        said.contains("ServiceEntry/default/mail: spec.ports: connections of a TCP port"),
        "{said}"
    );
    assert!(!said.contains("default/database:"), "{said}");

    let connected = async || {
        let mut client = RawConnection::over(mesh.connect(database.address).await);
        client.write("hello").await;
        (!client.is_closed_within(Duration::from_secs(2)).await).then_some(client)
    };
    let client = eventually("the service and the policy are known", LIMIT, connected).await;
    assert_eq!(database.accept().await.read_exact(5).await, *b"hello");
    eventually("nothing else is let out", LIMIT, async || {
        is_refused(&mesh.app, mail.address, Duration::from_secs(2))
            .await
            .then_some(())
    })
    .await;
    while !mail.is_quiet() {}
    assert!(is_refused(&mesh.app, mail.address, LIMIT).await && mail.is_quiet());
    // Who names a service is for that one.
    let mut connection = Connection::open_in(&mesh.app, database.address, Version::Http1).await;
    let reply = connection.get("web.test", "/").await;
    assert_eq!((reply.status, &*reply.text()), (200, "web"), "{}", reply.flags());

    drop(client);
    eventually("connections are counted for their service", LIMIT, async || {
        (counted(&mesh, "tsunagi_tcp_connections_total", "database.test").await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(mesh.control.cli(&["delete", "serviceentry", "database"]).await.code, 0);
    eventually("the port is nobody's again", LIMIT, async || {
        is_refused(&mesh.app, database.address, Duration::from_secs(2))
            .await
            .then_some(())
    })
    .await;
}
