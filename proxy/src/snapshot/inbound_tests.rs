//! The application's addresses: what each is, what they share, that a push changes it in place, and that there is an end to
//! them.

use tsunagi_proto::model::{ConnectionPool, InboundPort, OutboundTrafficPolicy, Protocol};

use super::*;
use crate::snapshot::{Cluster, Port};

const LISTENER: u16 = 15006;

fn pool(max_requests: u32) -> ConnectionPool {
    ConnectionPool {
        max_requests,
        ..ConnectionPool::default()
    }
}

/// Port 8080 of `user` and 9000 of `grpc`, with these limits; 5 for any other port.
fn workload(ports: &[(u16, &str, u32)]) -> Arc<Workload> {
    let port = |(port, service, max_requests): &(u16, &str, u32)| InboundPort {
        port: *port,
        service: (*service).to_owned(),
        service_port: 80,
        protocol: Protocol::Http1,
        connection_pool: pool(*max_requests),
    };
    Arc::new(Workload {
        namespace: "default".to_owned(),
        node_id: "user-1".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        inbound_ports: ports.iter().map(port).collect(),
        inbound_connection_pool: pool(5),
        outbound_traffic_policy: OutboundTrafficPolicy::default(),
        locality: String::new(),
        node_name: String::new(),
        peers: Vec::new(),
    })
}

struct Fixture {
    inbound: Arc<Inbound>,
    registry: Arc<Registry>,
    /// Of two workers.
    readers: [InboundReader; 2],
}

fn fixture() -> Fixture {
    let telemetry = Telemetry::new("user");
    let registry = Registry::new(telemetry.clone(), 2);
    let inbound = Inbound::new(Arc::clone(&registry), telemetry, address("127.0.0.1:8080"));
    let reader = || InboundReader::new(Arc::clone(&inbound), LISTENER);
    Fixture {
        registry,
        readers: [reader(), reader()],
        inbound,
    }
}

impl Fixture {
    fn told(ports: &[(u16, &str, u32)]) -> Self {
        let fixture = fixture();
        fixture.inbound.apply(&workload(ports));
        fixture
    }

    fn host(&self, called: &str) -> Arc<Host> {
        self.readers[0].host(Some(address(called)))
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn port(host: &Host) -> &Port {
    host.ports.first().unwrap()
}

fn cluster(host: &Host) -> &Cluster {
    port(host).plain.destinations[0].cluster.as_deref().unwrap()
}

/// Where it leads, and from where.
fn reached(host: &Host) -> (String, Option<String>) {
    let members = &cluster(host).members.list;
    assert_eq!(members.len(), 1);
    let endpoint = &members[0].endpoint;
    (
        endpoint.address.to_string(),
        endpoint.source.map(|source| source.to_string()),
    )
}

#[test]
fn a_declared_port_is_its_services_and_is_reached_where_it_was_called() {
    let fixture = Fixture::told(&[(8080, "user.default.svc.cluster.local", 7), (9000, "grpc.default", 3)]);
    let host = fixture.host("10.0.0.5:8080");
    assert_eq!(reached(&host), ("10.0.0.5:8080".into(), Some("127.0.0.6".into())));
    assert_eq!(host.told.fqdn, "user.default.svc.cluster.local");
    assert_eq!(cluster(&host).learned.name, "inbound|8080||");
    assert_eq!(cluster(&host).learned.requests.maximum(), 7);
    assert_eq!(port(&host).protocol, Protocol::Http1);
    assert_eq!(port(&host).plain.destinations[0].series.route(), "inbound");

    let v6 = fixture.host("[fd00::5]:8080");
    assert_eq!(reached(&v6), ("[fd00::5]:8080".into(), Some("::6".into())));
    assert!(
        Arc::ptr_eq(&cluster(&host).learned, &cluster(&v6).learned),
        "both addresses of a port have its limits together"
    );
    assert_eq!(reached(&fixture.host("[::ffff:10.0.0.5]:8080")), reached(&host));

    let other = fixture.host("10.0.0.5:9000");
    assert_eq!(
        (other.told.fqdn.as_str(), reached(&other).0),
        ("grpc.default", "10.0.0.5:9000".into())
    );
    assert_eq!(cluster(&other).learned.requests.maximum(), 3);
    assert!(Arc::ptr_eq(
        &fixture.readers[1].host(Some(address("10.0.0.5:8080"))),
        &host
    ));
}

#[test]
fn ports_that_no_service_leads_to_are_one_cluster() {
    let fixture = Fixture::told(&[(8080, "user", 7)]);
    let (one, two) = (fixture.host("10.0.0.5:1234"), fixture.host("10.0.0.5:1235"));
    assert_eq!(cluster(&one).learned.name, "InboundPassthroughCluster");
    assert_eq!(one.told.fqdn, "InboundPassthroughCluster");
    assert_eq!(port(&one).protocol, Protocol::Detect);
    assert_eq!(cluster(&one).learned.requests.maximum(), 5);
    assert!(Arc::ptr_eq(&cluster(&one).learned, &cluster(&two).learned));
    assert_eq!(reached(&one), ("10.0.0.5:1234".into(), Some("127.0.0.6".into())));
    assert_eq!(reached(&two).0, "10.0.0.5:1235");
}

#[test]
fn what_was_not_redirected_or_would_come_back_goes_to_app_addr() {
    let fixture = fixture();
    let app = fixture.readers[0].host(None);
    assert_eq!(reached(&app), ("127.0.0.1:8080".into(), None));
    assert_eq!(app.told.fqdn, "");
    assert_eq!(cluster(&app).learned.name, "inbound|8080||");
    assert!(Arc::ptr_eq(&app, &fixture.host(&format!("10.0.0.5:{LISTENER}"))));
}

#[test]
fn app_addr_has_the_limits_of_its_port_without_losing_its_own_way() {
    let fixture = Fixture::told(&[(8080, "user", 7)]);
    let app = fixture.readers[0].host(None);
    let redirected = fixture.host("127.0.0.1:8080");
    assert_eq!(reached(&app), ("127.0.0.1:8080".into(), None));
    assert_eq!(
        reached(&redirected),
        ("127.0.0.1:8080".into(), Some("127.0.0.6".into()))
    );
    assert!(Arc::ptr_eq(&cluster(&app).learned, &cluster(&redirected).learned));
    assert!(!is_given_up(&app) && !is_given_up(&redirected));
}

#[test]
fn a_push_changes_limits_in_place_and_what_was_learned_stays() {
    let fixture = Fixture::told(&[(8080, "user", 1)]);
    let before = fixture.host("10.0.0.5:8080");
    let learned = &cluster(&before).learned;
    let endpoint = &cluster(&before).members.list[0].endpoint;
    let permit = learned.requests.acquire();
    assert!(permit.is_some() && learned.requests.acquire().is_none());

    fixture.inbound.apply(&workload(&[(8080, "user", 2)]));
    assert!(learned.requests.acquire().is_some(), "before anybody calls again");
    for reader in &fixture.readers {
        let after = reader.host(Some(address("10.0.0.5:8080")));
        assert!(!Arc::ptr_eq(&before, &after));
        assert!(Arc::ptr_eq(&cluster(&after).learned, learned));
        assert!(Arc::ptr_eq(&cluster(&after).members.list[0].endpoint, endpoint));
        assert_eq!(cluster(&after).told.connection_pool, pool(2));
    }
    assert!(!endpoint.is_retired());
    assert_eq!(learned.requests.current(), 1, "what was in flight is counted on");
}

#[test]
fn a_port_that_a_service_begins_or_ceases_to_lead_to_is_another_cluster() {
    let fixture = Fixture::told(&[]);
    let undeclared = fixture.host("10.0.0.5:8080");
    let kept = fixture.host("10.0.0.5:1234");
    fixture.inbound.apply(&workload(&[(8080, "user", 7)]));
    let declared = fixture.host("10.0.0.5:8080");
    assert_eq!(cluster(&declared).learned.name, "inbound|8080||");
    assert!(is_given_up(&undeclared) && !is_given_up(&kept) && !is_given_up(&declared));

    fixture.inbound.apply(&workload(&[(8080, "other", 7)]));
    let renamed = fixture.host("10.0.0.5:8080");
    assert_eq!(renamed.told.fqdn, "other");
    assert!(is_given_up(&declared), "its counts are shown under the old name");

    fixture.inbound.apply(&workload(&[]));
    assert!(is_given_up(&renamed));
    assert_eq!(fixture.host("10.0.0.5:8080").told.fqdn, "InboundPassthroughCluster");
}

#[test]
fn a_scan_of_every_port_displaces_itself_and_leaves_nothing_behind() {
    let fixture = Fixture::told(&[(8080, "user", 7)]);
    let declared = fixture.host("10.0.0.5:8080");
    let used = fixture.host("10.0.0.5:1");
    for port in 2..500u16 {
        used.touch();
        for reader in &fixture.readers {
            reader.host(Some(SocketAddr::new([10, 0, 0, 5].into(), port)));
        }
    }
    let table = fixture.inbound.table();
    assert_eq!(table.hosts.len(), MAX_UNDECLARED + 1);
    assert_eq!(table.clusters.len(), 2);
    drop(table);
    let cached = |reader: &InboundReader| reader.cached.lock().unwrap().hosts.len();
    for reader in &fixture.readers {
        assert!(cached(reader) <= MAX_UNDECLARED + MAX_DECLARED, "{}", cached(reader));
    }
    assert_eq!(fixture.registry.clusters().len(), 2);
    let (_, members) = cluster(&used).learned.told();
    assert_eq!(members.list.len(), MAX_UNDECLARED);
    assert!(!is_given_up(&declared) && !is_given_up(&used));
    assert!(Arc::ptr_eq(&fixture.host("10.0.0.5:1"), &used));
    // One that gave its place up is made again.
    assert_eq!(reached(&fixture.host("10.0.0.5:300")).0, "10.0.0.5:300");
}
