//! The overlay of proxies that leave: whose endpoints are DRAINING, from when, and until when.

use super::*;

const WORLD: &str = "apiVersion: v1
kind: Service
metadata: {name: user-service}
spec: {selector: {app: u}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: u-1}
spec: {address: 10.0.0.1, labels: {app: u}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: u-2}
spec: {address: 10.0.0.2, labels: {app: u}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: u-1, namespace: shop}
spec: {address: 10.0.0.1, labels: {app: u}}
---
";

fn node(node_id: &str, addresses: &[&str]) -> Node {
    Node {
        namespace: "default".into(),
        node_id: node_id.into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Node::default()
    }
}

/// Addresses that are not healthy.
fn draining(world: &World) -> Vec<String> {
    let endpoints = endpoints_of(world, USER);
    let leaving = endpoints
        .upserts
        .iter()
        .filter(|endpoint| endpoint.health() == mesh::Health::Draining);
    leaving.map(|endpoint| endpoint.address.clone()).collect()
}

fn leaves(world: &World, node: Node) -> World {
    world.passed(&[Passage::Leaves(node)], world.revision() + 1).unwrap()
}

#[test]
fn the_endpoints_of_a_proxy_that_leaves_stay_and_are_draining() {
    let before = world(WORLD);
    assert_eq!(draining(&before), Vec::<String>::new());
    let after = leaves(&before, node("u-1", &[]));
    assert_eq!(draining(&after), ["10.0.0.1"]);
    assert_eq!(endpoints_of(&after, USER).upserts.len(), 2);
    assert_eq!((after.revision(), after.leaving_since("default", "u-1")), (2, Some(2)));
    assert_eq!(*after.changed(), [format!("endpoints/{USER}")]);
    // What travels is that one endpoint.
    let change = after.endpoints(USER).unwrap().change.clone().unwrap();
    let change = mesh::Resource::decode(change.bytes).unwrap().kind.unwrap();
    let Kind::Endpoints(change) = change else { panic!() };
    assert_eq!(
        (change.change, change.upserts.len(), change.removals.len()),
        (true, 1, 0)
    );
    // Said again it is nothing new.
    assert!(after.passed(&[Passage::Leaves(node("u-1", &[]))], 3).is_none());
    let back = after.passed(&[Passage::Returns(node("u-1", &[]))], 3).unwrap();
    assert_eq!((draining(&back).len(), back.leaving_since("default", "u-1")), (0, None));
    assert_eq!(
        back.endpoints(USER).unwrap().version,
        before.endpoints(USER).unwrap().version
    );
}

#[test]
fn a_proxy_leaves_by_its_address_too_and_several_at_once_are_one_world() {
    let passages = [
        Passage::Leaves(node("pod-a", &["10.0.0.1"])),
        Passage::Leaves(node("pod-b", &["10.0.0.2", "fd00::2"])),
        Passage::Leaves(node("caller", &["10.0.0.77"])),
    ];
    let after = world(WORLD).passed(&passages, 2).unwrap();
    assert_eq!(draining(&after), ["10.0.0.1", "10.0.0.2"]);
    // Whoever has no endpoint is not remembered.
    assert_eq!(after.leaving_since("default", "caller"), None);
    assert!(
        world(WORLD)
            .passed(&[Passage::Leaves(node("caller", &[]))], 2)
            .is_none()
    );
    assert!(world(WORLD).passed(&[Passage::Returns(node("u-1", &[]))], 2).is_none());
}

#[test]
fn an_endpoint_that_two_have_is_back_only_when_both_are() {
    let passages = [
        Passage::Leaves(node("u-1", &[])),
        Passage::Leaves(node("twin", &["10.0.0.1"])),
    ];
    let both = world(WORLD).passed(&passages, 2).unwrap();
    let one = both.passed(&[Passage::Returns(node("u-1", &[]))], 3).unwrap();
    assert_eq!(draining(&one), ["10.0.0.1"]);
    let none = one.passed(&[Passage::Returns(node("twin", &[]))], 4).unwrap();
    assert_eq!(draining(&none), Vec::<String>::new());
}

#[test]
fn a_mark_lives_through_other_changes_and_ends_with_its_document() {
    let marked = leaves(&world(WORLD), node("u-1", &["10.0.0.1"]));
    let other = WORLD.replace("10.0.0.2", "10.0.0.3");
    let changed = World::build(documents(&other).into_iter(), 3, Some(&marked));
    assert_eq!(draining(&changed), ["10.0.0.1"]);
    let relabelled = other.replacen(
        "address: 10.0.0.1, labels: {app: u}",
        "address: 10.0.0.1, labels: {app: u, v: x}",
        1,
    );
    let changed = World::build(documents(&relabelled).into_iter(), 4, Some(&changed));
    assert_eq!(
        (draining(&changed).len(), changed.leaving_since("default", "u-1")),
        (1, Some(2))
    );
    let without = WORLD.replacen("name: u-1}", "name: u-9}", 1);
    let gone = World::build(documents(&without).into_iter(), 5, Some(&changed));
    assert_eq!(gone.leaving_since("default", "u-1"), None);
    // Neither whoever gets the address, nor whoever gets the name, inherits it.
    assert_eq!(draining(&gone), Vec::<String>::new());
    let again = World::build(documents(WORLD).into_iter(), 6, Some(&gone));
    assert_eq!(draining(&again), Vec::<String>::new());
}

fn from(peer: &str, node: Node) -> Node {
    Node {
        peer: Some(peer.parse().unwrap()),
        ..node
    }
}

#[test]
fn only_who_is_at_the_endpoints_address_can_say_that_it_leaves() {
    let before = world(WORLD);
    let marked = |node: Node| before.passed(&[Passage::Leaves(node)], 2).map(|after| draining(&after));
    // Neither by another's name nor by another's address.
    assert_eq!(marked(from("10.0.0.66", node("u-1", &["10.0.0.1"]))), None);
    assert_eq!(marked(from("10.0.0.66", node("x", &["10.0.0.1"]))), None);
    for peer in ["10.0.0.1", "127.0.0.1", "::1"] {
        for own in [node("u-1", &[]), node("x", &["10.0.0.1"])] {
            assert_eq!(marked(from(peer, own)), Some(vec!["10.0.0.1".to_owned()]), "{peer}");
        }
    }
    // Nor does whoever claims the name end another's mark.
    let after = leaves(&before, from("10.0.0.1", node("u-1", &[])));
    assert!(
        after
            .passed(&[Passage::Leaves(from("10.0.0.66", node("u-1", &[])))], 3)
            .is_none()
    );
}

#[test]
fn who_has_the_name_is_the_endpoint_and_an_address_of_two_documents_is_nobodys() {
    // Its machine is another's too.
    let own = leaves(&world(WORLD), node("u-1", &["10.0.0.1", "10.0.0.2"]));
    assert_eq!(draining(&own), ["10.0.0.1"]);
    let shared = WORLD.replace("10.0.0.2", "10.0.0.1");
    assert!(
        world(&shared)
            .passed(&[Passage::Leaves(node("x", &["10.0.0.1"]))], 2)
            .is_none()
    );
    let named = leaves(&world(&shared), node("u-1", &["10.0.0.1"]));
    assert_eq!(named.leaving_since("default", "u-1"), Some(2));
}

#[test]
fn whoever_comes_to_serve_at_the_address_ends_the_mark() {
    let marked = leaves(&world(WORLD), from("10.0.0.1", node("u-1", &[])));
    let back = |node: Node| {
        assert_eq!(
            marked.waits_for(&node),
            marked.passed(&[Passage::Returns(node.clone())], 3).is_some()
        );
        marked.waits_for(&node)
    };
    assert!(back(from("10.0.0.1", node("with-a-new-id", &[]))));
    assert!(back(from("127.0.0.1", node("with-a-new-id", &["10.0.0.1"]))));
    assert!(!back(from("10.0.0.9", node("liar", &["10.0.0.1"]))));
    assert!(!back(from("127.0.0.1", node("with-a-new-id", &["10.0.0.2"]))));
    // Two in one turn: the second is of the same place.
    let both = [
        Passage::Leaves(from("10.0.0.2", node("u-2", &[]))),
        Passage::Returns(from("10.0.0.2", node("new", &[]))),
    ];
    assert_eq!(draining(&marked.passed(&both, 3).unwrap()), ["10.0.0.1"]);
}

#[test]
fn a_mark_expires_and_a_later_one_does_not_with_it() {
    let marked = leaves(&world(WORLD), node("u-1", &[]));
    let expires = |since| marked.passed(&[Passage::Expires(node("u-1", &[]), since)], 3);
    assert!(expires(Some(1)).is_none());
    for since in [Some(2), None] {
        assert_eq!(draining(&expires(since).unwrap()), Vec::<String>::new());
    }
}
