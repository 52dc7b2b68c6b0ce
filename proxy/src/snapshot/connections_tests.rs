//! Tests of where connections go: by port, subnet, client and name, drawn by weight.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tsunagi_proto::model::Source;
use tsunagi_proto::wire::mesh;

use super::*;
use crate::snapshot::{Publisher, Shared, Update};
use crate::telemetry::Telemetry;
use crate::upstream::Registry;

const FQDN: &str = "db.default.svc.cluster.local";

fn to(subset: &str, weight: u32) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: FQDN.to_owned(),
        subset: subset.to_owned(),
        weight,
        ..Default::default()
    }
}

fn rule(matches: Vec<mesh::ConnectionMatch>, route: Vec<mesh::WeightedDestination>) -> mesh::ConnectionRule {
    mesh::ConnectionRule {
        matches,
        route,
        origin: None,
    }
}

fn sni(name: &str) -> mesh::ConnectionMatch {
    mesh::ConnectionMatch {
        sni_hosts: vec![name.to_owned()],
        ..Default::default()
    }
}

/// A host with a port of each protocol: 1 TCP, 2 TLS, 3 undeclared, 4 HTTP, and the subsets v1 and v2 of each.
fn host(tls: Vec<mesh::ConnectionRule>, tcp: Vec<mesh::ConnectionRule>, labels: &[(&str, &str)]) -> Arc<Host> {
    use mesh::Protocol::{Http1, Tcp, Tls, Unspecified};
    let ports = [(1, Tcp), (2, Tls), (3, Unspecified), (4, Http1)];
    let cluster = |port: u32, subset: &str| mesh::Cluster {
        host: FQDN.to_owned(),
        port,
        subset: subset.to_owned(),
        ..Default::default()
    };
    let wire = mesh::Host {
        fqdn: FQDN.to_owned(),
        ports: ports
            .map(|(number, protocol)| mesh::Port {
                number,
                protocol: protocol.into(),
                ..Default::default()
            })
            .into(),
        routes: Some(mesh::RouteTable {
            namespace: "default".to_owned(),
            name: "db".to_owned(),
            tls,
            tcp,
            ..Default::default()
        }),
        clusters: ports
            .iter()
            .flat_map(|(port, _)| ["", "v1", "v2"].map(|subset| cluster(*port, subset)))
            .collect(),
        ..Default::default()
    };
    let telemetry = Telemetry::new("test");
    let shared = Shared::new("default");
    let source = Source {
        namespace: "default".to_owned(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    let registry = Registry::new(telemetry.clone(), 1);
    let mut publisher = Publisher::new(registry, telemetry, Arc::clone(&shared)).for_source(source);
    publisher.apply(Update {
        hosts: vec![(FQDN.to_owned(), Some(Arc::new(wire.try_into().unwrap())))],
        ..Update::default()
    });
    shared.current().known(FQDN).unwrap()
}

/// The subset and the rule, `own` or `nowhere`.
fn goes(host: &Host, port: u16, seen: &SeenConnection<'_>, random: u64) -> String {
    match host.route_connection(host.port(port).unwrap(), seen, random) {
        ConnectionRoute::Rule(destination) => {
            let subset = destination
                .cluster
                .as_ref()
                .map_or("nobody", |cluster| &cluster.told.key.subset);
            format!("{subset} by {}", destination.route)
        }
        ConnectionRoute::Own => "own".to_owned(),
        ConnectionRoute::Nowhere => "nowhere".to_owned(),
    }
}

fn hello(name: &str) -> ClientHello {
    ClientHello {
        server_name: Some(name.into()),
    }
}

fn to_address(address: &str) -> SeenConnection<'static> {
    SeenConnection {
        destination: Some(address.parse().unwrap()),
        ..SeenConnection::default()
    }
}

const UNSEEN: SeenConnection<'static> = SeenConnection {
    destination: None,
    source: None,
    hello: None,
};

#[test]
fn tcp_rules_are_for_ports_of_tcp_and_of_no_declared_protocol_in_their_order() {
    let only_port_three = mesh::ConnectionMatch {
        port: 3,
        ..Default::default()
    };
    let tcp = vec![
        rule(vec![only_port_three], vec![to("v2", 0)]),
        rule(vec![], vec![to("v1", 0)]),
    ];
    let host = host(vec![], tcp, &[]);
    assert_eq!(goes(&host, 1, &UNSEEN, 0), "v1 by db.default/tcp/1");
    assert_eq!(goes(&host, 2, &UNSEEN, 0), "own");
    assert_eq!(goes(&host, 3, &UNSEEN, 0), "v2 by db.default/tcp/0");
    assert_eq!(goes(&host, 4, &UNSEEN, 0), "own");
    // The name that a client asks for changes nothing.
    let hello = hello("db");
    let seen = SeenConnection {
        hello: Some(&hello),
        ..UNSEEN
    };
    assert_eq!(goes(&host, 2, &seen, 0), "own");
    assert_eq!(goes(&host, 3, &seen, 0), "v2 by db.default/tcp/0");
}

#[test]
fn what_no_tcp_rule_matches_goes_to_the_ports_own_cluster() {
    let subnet = mesh::ConnectionMatch {
        destination_subnets: vec!["10.1.0.0/16".to_owned(), "fd00::7".to_owned()],
        ..Default::default()
    };
    let host = host(vec![], vec![rule(vec![subnet], vec![to("v2", 0)])], &[]);
    for (address, expected) in [
        ("10.1.255.1:1", "v2 by db.default/tcp/0"),
        ("[::ffff:10.1.0.1]:1", "v2 by db.default/tcp/0"),
        ("10.2.0.1:1", "own"),
        ("[fd00::7]:1", "v2 by db.default/tcp/0"),
        ("[fd00::8]:1", "own"),
    ] {
        assert_eq!(goes(&host, 1, &to_address(address), 0), expected, "{address}");
    }
    assert_eq!(goes(&host, 1, &UNSEEN, 0), "own", "it was not redirected");
}

#[test]
fn a_rule_for_some_clients_is_for_no_others() {
    let labelled = mesh::ConnectionMatch {
        source_labels: vec![mesh::Label {
            key: "app".to_owned(),
            value: "front".to_owned(),
        }],
        ..Default::default()
    };
    let near = mesh::ConnectionMatch {
        source_subnet: "10.3.0.0/16".to_owned(),
        ..Default::default()
    };
    let tcp = vec![
        rule(vec![labelled], vec![to("v2", 0)]),
        rule(vec![near], vec![to("v1", 0)]),
    ];
    let front = host(vec![], tcp.clone(), &[("app", "front"), ("x", "y")]);
    let other = host(vec![], tcp, &[("app", "back")]);
    let from = |address: &str| SeenConnection {
        source: Some(address.parse().unwrap()),
        ..UNSEEN
    };
    assert_eq!(goes(&front, 1, &from("10.3.0.1:9"), 0), "v2 by db.default/tcp/0");
    assert_eq!(goes(&other, 1, &from("10.3.0.1:9"), 0), "v1 by db.default/tcp/1");
    assert_eq!(goes(&other, 1, &from("10.4.0.1:9"), 0), "own");
}

#[test]
fn tls_rules_decide_by_name_alone_on_a_tls_port_and_first_where_nothing_is_declared() {
    let tls = vec![
        rule(vec![sni("a.example.com")], vec![to("v1", 0)]),
        rule(vec![sni("*.example.com")], vec![to("v2", 0)]),
    ];
    let host = host(tls, vec![rule(vec![], vec![to("v1", 0)])], &[]);
    for (name, tls, undeclared) in [
        ("a.example.com", "v1 by db.default/tls/0", "v1 by db.default/tls/0"),
        ("b.example.com", "v2 by db.default/tls/1", "v2 by db.default/tls/1"),
        ("example.com", "nowhere", "v1 by db.default/tcp/0"),
    ] {
        let hello = hello(name);
        let seen = SeenConnection {
            hello: Some(&hello),
            ..UNSEEN
        };
        assert_eq!(goes(&host, 2, &seen, 0), tls, "{name}");
        assert_eq!(goes(&host, 3, &seen, 0), undeclared, "{name}");
        assert_eq!(goes(&host, 1, &seen, 0), "v1 by db.default/tcp/0", "{name}");
    }
    // No TLS, or no name.
    let nameless = ClientHello { server_name: None };
    let nameless = SeenConnection {
        hello: Some(&nameless),
        ..UNSEEN
    };
    for seen in [UNSEEN, nameless] {
        assert_eq!(goes(&host, 2, &seen, 0), "nowhere");
        assert_eq!(goes(&host, 3, &seen, 0), "v1 by db.default/tcp/0");
    }
}

#[test]
fn tls_rules_for_other_ports_leave_a_port_as_it_is() {
    let elsewhere = mesh::ConnectionMatch {
        port: 3,
        ..sni("a.example.com")
    };
    let host = host(vec![rule(vec![elsewhere], vec![to("v1", 0)])], vec![], &[]);
    assert!(!host.port(2).unwrap().connections.by_server_name());
    assert!(host.port(3).unwrap().connections.by_server_name());
    assert_eq!(goes(&host, 2, &UNSEEN, 0), "own");
}

#[test]
fn a_destination_that_does_not_exist_is_one_without_a_cluster() {
    let host = host(vec![], vec![rule(vec![], vec![to("v3", 0)])], &[]);
    assert_eq!(goes(&host, 1, &UNSEEN, 0), "nobody by db.default/tcp/0");
}

#[test]
fn connections_are_drawn_by_weight() {
    let host = host(vec![], vec![rule(vec![], vec![to("v1", 90), to("v2", 10)])], &[]);
    let mut random = StdRng::seed_from_u64(11);
    let drawn = (0..10_000).filter(|_| goes(&host, 1, &UNSEEN, random.next_u64()).starts_with("v2"));
    let count = drawn.count();
    // Five standard deviations of 30 each.
    assert!((850..=1150).contains(&count), "{count} of 10,000");
}
