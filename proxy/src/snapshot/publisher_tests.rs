//! Tests of what is kept of names that clients think up.

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
        most = most.max(publisher.hosts.len());
        assert_eq!(publisher.hosts.len(), publisher.told.len());
    }
    assert!(most <= MOST_ALIASES && most > MOST_ALIASES / 2, "{most}");
    let one = telemetry.request_series(Direction::Outbound, "", "*.example.com", "");
    let shared = publisher
        .hosts
        .values()
        .flatten()
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
