//! Tests of what a change costs, and of what is kept of names that clients think up.

use tsunagi_proto::shards::Shards;
use tsunagi_proto::wire::mesh;

use super::*;
use crate::telemetry::Direction;

fn alias(name: &str) -> (String, Option<Arc<model::Host>>) {
    let told = model::Host {
        fqdn: name.to_owned(),
        namespace: String::new(),
        ports: Vec::new(),
        routes: None,
        clusters: Vec::new(),
        addresses: Vec::new(),
        ranges: Vec::new(),
        alias_of: Some("*.example.com".to_owned()),
    };
    (name.to_owned(), Some(Arc::new(told)))
}

fn publisher() -> (Publisher, Telemetry) {
    let telemetry = Telemetry::new("test");
    let registry = Registry::new(telemetry.clone(), 1);
    (
        Publisher::new(registry, telemetry.clone(), Shared::new("default")),
        telemetry,
    )
}

#[test]
fn a_flood_of_names_under_a_wildcard_leaves_only_so_many_and_no_series() {
    let (mut publisher, telemetry) = publisher();
    let mut most = 0;
    for batch in 0..50 {
        let hosts = (0..200).map(|number| alias(&format!("n{batch}-{number}.example.com")));
        publisher.apply(Update {
            hosts: hosts.collect(),
            ..Update::default()
        });
        let surplus = publisher.surplus_aliases();
        publisher.forget(&surplus);
        most = most.max(publisher.naming.hosts().iter().count());
        assert_eq!(publisher.naming.hosts().iter().count(), publisher.told.hosts.len());
    }
    assert!(most <= MOST_ALIASES && most > MOST_ALIASES / 2, "{most}");
    let one = telemetry.request_series(Direction::Outbound, "", "*.example.com", "");
    let shared = publisher
        .naming
        .hosts()
        .iter()
        .filter_map(|(_, host)| host.as_ref())
        .all(|host| Arc::ptr_eq(&host.unrouted, &one));
    assert!(shared, "all names under a wildcard count where the wildcard does");
}

#[test]
fn services_are_never_surplus() {
    let (mut publisher, _) = publisher();
    let service = |number: usize| {
        let (name, host) = alias(&format!("s{number}.mesh"));
        let mut host = Arc::unwrap_or_clone(host.unwrap());
        host.alias_of = None;
        (name, Some(Arc::new(host)))
    };
    publisher.apply(Update {
        hosts: (0..MOST_ALIASES + 10)
            .map(service)
            .chain([alias("a.example.com")])
            .collect(),
        ..Update::default()
    });
    assert_eq!(publisher.surplus_aliases(), [] as [String; 0]);
}

const SERVICES: usize = 1000;

fn service(number: usize) -> (String, Option<Arc<model::Host>>) {
    let fqdn = format!("s{number}.shop.svc.cluster.local");
    let key = ClusterKey {
        host: fqdn.clone(),
        port: 80,
        subset: String::new(),
    };
    let told = model::Host {
        fqdn: fqdn.clone(),
        namespace: "shop".to_owned(),
        ports: Vec::new(),
        routes: None,
        clusters: vec![model::Cluster::new(key, model::Protocol::Http1)],
        addresses: Vec::new(),
        ranges: Vec::new(),
        alias_of: None,
    };
    (fqdn, Some(Arc::new(told)))
}

fn endpoints(fqdn: &str, count: u32) -> (String, Option<Arc<EndpointSet>>) {
    let endpoint = |number: u32| mesh::Endpoint {
        id: number.to_string(),
        address: std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string(),
        ports: vec![mesh::EndpointPort {
            service_port: 80,
            port: 8080,
        }],
        ..mesh::Endpoint::default()
    };
    let upserts: Vec<_> = (1..=count).map(endpoint).collect();
    let wire = mesh::Endpoints {
        fqdn: fqdn.to_owned(),
        checksum: model::endpoints_checksum(&upserts),
        upserts,
        ..mesh::Endpoints::default()
    };
    (fqdn.to_owned(), Some(Arc::new(EndpointSet::whole(wire).unwrap())))
}

#[test]
fn a_changed_endpoint_makes_anew_what_reaches_it_and_nothing_else() {
    let (mut publisher, _) = publisher();
    let hosts: Vec<_> = (0..SERVICES).map(service).collect();
    let sets = hosts.iter().map(|(fqdn, _)| endpoints(fqdn, 10)).collect();
    let shared = Arc::clone(&publisher.shared);
    publisher.apply(Update {
        hosts: hosts.clone(),
        endpoints: sets,
        ..Update::default()
    });
    let before = shared.current();
    let changed = &hosts[SERVICES / 2].0;
    publisher.apply(Update {
        endpoints: vec![endpoints(changed, 11)],
        ..Update::default()
    });
    let after = shared.current();
    assert_eq!(after.hosts.shared_with(&before.hosts), Shards::<()>::PARTS - 1);
    // Its own name and two short ones.
    assert!(after.names.shared_with(&before.names) >= Shards::<()>::PARTS - 3);
    let host = |snapshot: &Snapshot, fqdn: &str| Arc::clone(snapshot.hosts.get(fqdn).unwrap().as_ref().unwrap());
    for (fqdn, _) in &hosts {
        let same = Arc::ptr_eq(&host(&before, fqdn), &host(&after, fqdn));
        assert_eq!(same, fqdn != changed, "{fqdn}");
    }
    let registry = &publisher.compiler.registry;
    assert_eq!(registry.awake(), 0, "nobody has called any of the {SERVICES} clusters");
}

#[test]
fn a_cluster_goes_with_the_last_host_that_reaches_it() {
    let (mut publisher, _) = publisher();
    let (fqdn, told) = service(0);
    let mut other = Arc::unwrap_or_clone(told.clone().unwrap());
    other.fqdn = "other".to_owned();
    publisher.apply(Update {
        hosts: vec![(fqdn.clone(), told), ("other".to_owned(), Some(Arc::new(other)))],
        ..Update::default()
    });
    publisher.forget(&[fqdn]);
    assert_eq!(publisher.clusters.len(), 1, "the other one still reaches it");
    publisher.forget(&["other".to_owned()]);
    assert!(publisher.clusters.is_empty());
    let Told { hosts, reached, uses } = &publisher.told;
    assert!(hosts.is_empty() && reached.is_empty() && uses.is_empty());
}

#[tokio::test]
async fn what_dns_says_of_a_name_is_compiled_for_the_hosts_that_reach_it_alone() {
    let (publisher, _) = publisher();
    let book = crate::dns::Book::new();
    let mut publisher = publisher.with_book(Arc::clone(&book));
    let (fqdn, host) = service(1);
    let mut told = Arc::unwrap_or_clone(host.unwrap());
    told.clusters[0].discovery = model::Discovery::Dns;
    let key = told.clusters[0].key.clone();
    let (other, other_host) = service(2);
    let endpoint = mesh::Endpoint {
        id: "one".to_owned(),
        hostname: "db.example.com".to_owned(),
        ports: vec![mesh::EndpointPort {
            service_port: 80,
            port: 5432,
        }],
        ..mesh::Endpoint::default()
    };
    let wire = mesh::Endpoints {
        fqdn: fqdn.clone(),
        checksum: model::endpoints_checksum(std::slice::from_ref(&endpoint)),
        upserts: vec![endpoint],
        ..mesh::Endpoints::default()
    };
    publisher.apply(Update {
        endpoints: vec![(fqdn.clone(), Some(Arc::new(EndpointSet::whole(wire).unwrap())))],
        hosts: vec![(fqdn, Some(Arc::new(told))), (other.clone(), other_host)],
        ..Update::default()
    });
    let compiled = |publisher: &Publisher, name: &str| {
        let key = ClusterKey {
            host: name.to_owned(),
            ..key.clone()
        };
        Arc::clone(&publisher.clusters[&key])
    };
    let (before, beside) = (compiled(&publisher, &key.host), compiled(&publisher, &other));
    assert!(!before.is_located() && before.members.list.is_empty());
    let addresses = vec![[10, 0, 0, 7].into(), [10, 0, 0, 8].into()];
    let ttl = std::time::Duration::from_secs(60);
    book.learn("db.example.com", crate::dns::Outcome::Addresses { addresses, ttl });
    publisher.resolved(&["db.example.com".into(), "nobody".into()]);
    let after = compiled(&publisher, &key.host);
    let found = |cluster: &Cluster| {
        let list = cluster.members.list.iter();
        list.map(|member| member.endpoint.address.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&after), ["10.0.0.7:5432", "10.0.0.8:5432"]);
    // A request that took the snapshot before has the addresses all the same.
    assert!(!before.is_located());
    let located = before.locate(None, std::time::Duration::ZERO).await.unwrap();
    assert_eq!(found(&located), found(&after));
    assert!(after.is_located() && Arc::ptr_eq(&after.learned, &before.learned));
    assert!(
        Arc::ptr_eq(&beside, &compiled(&publisher, &other)),
        "it has no such name"
    );
}
