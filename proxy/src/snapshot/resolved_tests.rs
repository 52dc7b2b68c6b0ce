//! Tests of what becomes of endpoints that are names.

use std::net::Ipv4Addr;
use std::time::Duration;

use tsunagi_proto::model;
use tsunagi_proto::wire::mesh;

use super::*;
use crate::dns::Outcome;

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn named(id: &str, name: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        hostname: Some(name.to_owned()),
        weight: 3,
        ..Endpoint::new(id, NOWHERE, vec![(80, 8080)])
    })
}

fn set(upserts: Vec<mesh::Endpoint>) -> EndpointSet {
    let checksum = model::endpoints_checksum(&upserts);
    let wire = mesh::Endpoints {
        upserts,
        checksum,
        ..mesh::Endpoints::default()
    };
    EndpointSet::whole(wire).unwrap()
}

fn named_on_the_wire(name: &str) -> mesh::Endpoint {
    mesh::Endpoint {
        id: name.to_owned(),
        hostname: name.to_owned(),
        ..mesh::Endpoint::default()
    }
}

fn addresses(last: &[u8]) -> Outcome {
    Outcome::Addresses {
        addresses: last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect(),
        ttl: Duration::from_secs(60),
    }
}

fn absent() -> Outcome {
    Outcome::Absent {
        ttl: None,
        reason: "NXDOMAIN".to_owned(),
    }
}

fn expanded(book: &Book, discovery: Discovery, endpoints: &[Arc<Endpoint>]) -> (Vec<(String, u32)>, Resolved) {
    let key = model::ClusterKey {
        host: "names.com".to_owned(),
        port: 80,
        subset: String::new(),
    };
    let cluster = Cluster {
        discovery,
        ..Cluster::new(key, model::Protocol::Http1)
    };
    let expanded = Expanded::of(endpoints.iter().cloned(), &cluster, book);
    let shown = |endpoint: &Arc<Endpoint>| (endpoint.address.to_string(), endpoint.weight);
    (expanded.endpoints.iter().map(shown).collect(), expanded.state)
}

#[test]
fn every_address_of_a_name_is_an_endpoint_with_what_the_name_has() {
    let book = Book::new();
    book.want("a");
    let told = [
        named("1", "a"),
        Arc::new(Endpoint::new("2", [10, 9, 9, 9].into(), vec![(80, 8080)])),
    ];
    let both = expanded(&book, Discovery::Dns, &told);
    assert_eq!(
        both,
        (vec![("10.9.9.9".into(), 1)], Resolved::Known),
        "one serves meanwhile"
    );
    assert_eq!(expanded(&book, Discovery::Dns, &told[..1]), (vec![], Resolved::Pending));
    book.learn("a", addresses(&[1, 2]));
    let (endpoints, state) = expanded(&book, Discovery::Dns, &told[..1]);
    assert_eq!(endpoints, [("10.0.0.1".into(), 3), ("10.0.0.2".into(), 3)]);
    assert_eq!(state, Resolved::Known);
}

#[test]
fn a_name_that_is_gone_has_no_endpoints_and_one_that_is_an_endpoint_itself_stays() {
    let book = Book::new();
    book.want("a");
    book.learn("a", addresses(&[1]));
    book.learn("a", absent());
    let told = [named("1", "a")];
    let (endpoints, state) = expanded(&book, Discovery::Dns, &told);
    assert!(endpoints.is_empty());
    assert!(matches!(state, Resolved::Failed(reason) if reason.contains("the name a") && reason.contains("NXDOMAIN")));
    let (endpoints, state) = expanded(&book, Discovery::DnsRoundRobin, &told);
    assert_eq!((endpoints, state), (vec![("0.0.0.0".into(), 3)], Resolved::Known));
}

#[test]
fn a_lookup_that_fails_takes_no_endpoint_away() {
    let book = Book::new();
    book.want("a");
    book.learn("a", addresses(&[1]));
    book.learn("a", Outcome::Failed("no answer".to_owned()));
    let (endpoints, _) = expanded(&book, Discovery::Dns, &[named("1", "a")]);
    assert_eq!(endpoints.len(), 1);
}

#[test]
fn names_that_have_one_address_are_one_endpoint_there() {
    let book = Book::new();
    for (name, last) in [("a", [1, 2]), ("b", [2, 3])] {
        book.want(name);
        book.learn(name, addresses(&last));
    }
    let listed = Arc::new(Endpoint::new("3", [10, 0, 0, 3].into(), vec![(80, 8080)]));
    let other_port = Arc::new(Endpoint::new("4", [10, 0, 0, 3].into(), vec![(80, 8081)]));
    let told = [named("1", "a"), named("2", "b"), listed, other_port];
    let (endpoints, _) = expanded(&book, Discovery::Dns, &told);
    let addresses: Vec<&str> = endpoints.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.3"]);
    let twice = [named("1", "a"), named("2", "a")];
    assert_eq!(expanded(&book, Discovery::DnsRoundRobin, &twice).0.len(), 1);
}

#[test]
fn a_name_is_looked_up_as_long_as_a_service_has_it() {
    let mut named_endpoints = NamedEndpoints::new(Book::new());
    let with = set(vec![named_on_the_wire("a")]);
    named_endpoints.take("one", Some(&with));
    named_endpoints.take("two", Some(&with));
    assert_eq!(named_endpoints.services_of(&["a".into()]).len(), 2);
    named_endpoints.take("one", Some(&set(Vec::new())));
    assert_eq!(named_endpoints.book.lines().len(), 1);
    named_endpoints.take("two", None);
    assert!(named_endpoints.book.lines().is_empty());
    assert!(named_endpoints.services_of(&["a".into()]).is_empty());
}

#[test]
fn what_dns_says_of_each_name_of_a_service_is_seen_once_there_is_an_answer() {
    let mut named_endpoints = NamedEndpoints::new(Book::new());
    assert!(named_endpoints.is_empty());
    let with = set(vec![named_on_the_wire("a")]);
    named_endpoints.take("one", Some(&with));
    named_endpoints.take("two", Some(&with));
    let seen = |named: &NamedEndpoints, most| {
        let (seen, omitted) = named.seen(&HashSet::from(["two"]), most);
        let line = |seen: &SeenName| {
            let failure = seen.failure.as_deref().unwrap_or("-");
            format!(
                "{} {} {} {failure} {}",
                seen.host,
                seen.name,
                seen.addresses.len(),
                seen.in_turns
            )
        };
        (seen.iter().map(line).collect::<Vec<_>>(), omitted)
    };
    assert_eq!(seen(&named_endpoints, 9), (vec![], 0), "nothing has been looked up");
    let book = &named_endpoints.book;
    book.learn("a", addresses(&[1, 2]));
    let expected = ["one a 2 - false", "two a 2 - true"];
    assert_eq!(seen(&named_endpoints, 9), (expected.map(str::to_owned).into(), 0));
    // What takes turns keeps its last addresses.
    book.learn("a", absent());
    let expected = ["one a 0 NXDOMAIN false", "two a 2 NXDOMAIN true"];
    assert_eq!(seen(&named_endpoints, 9), (expected.map(str::to_owned).into(), 0));
    assert_eq!(seen(&named_endpoints, 1).1, 1);
}
