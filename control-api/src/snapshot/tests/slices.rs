//! What EndpointSlices say of a proxy itself: the ports that lead to its Pod, and that it is DRAINING once it leaves.

use std::collections::BTreeMap;

use super::*;
use crate::config::{EndpointSlice, Key, Origin, PodState, SliceEndpoint, Spec};

/// Its target port has a name, so only the slices know the numbers.
const NAMED: &str = "apiVersion: v1
kind: Service
metadata: {name: user-service}
spec: {selector: {app: u}, ports: [{name: http, port: 80, targetPort: web}, {name: admin, port: 81, targetPort: admin}]}
";

fn slice(name: &str, ports: &[(&str, u16)], pods: &[(&str, &str, PodState)]) -> Arc<Document> {
    let endpoint = |(pod, address, state): &(&str, &str, PodState)| SliceEndpoint {
        pod: (*pod).into(),
        address: address.parse().unwrap(),
        state: *state,
        labels: BTreeMap::new(),
        service_account: String::new(),
        node_name: String::new(),
        locality: String::new(),
        ready_since: 0,
    };
    let spec = EndpointSlice {
        service: "user-service".into(),
        ports: ports.iter().map(|(name, port)| ((*name).into(), *port)).collect(),
        endpoints: pods.iter().map(endpoint).collect(),
    };
    let key = Key {
        kind: crate::config::Kind::EndpointSlice,
        namespace: "default".into(),
        name: name.into(),
    };
    Arc::new(Document {
        key,
        object: serde_json::Value::Null,
        spec: Spec::EndpointSlice(spec),
        origin: Origin::default(),
        labels: BTreeMap::new(),
        created: None,
        remarks: Vec::new(),
    })
}

/// Two Pods in one slice, and a third whose port of the same name is another.
fn slices() -> Vec<Arc<Document>> {
    let ready = PodState::Ready;
    vec![
        slice(
            "a",
            &[("http", 8080), ("admin", 9000)],
            &[("u-1", "10.0.0.1", ready), ("u-2", "10.0.0.2", ready)],
        ),
        slice("b", &[("http", 8081)], &[("u-3", "10.0.0.3", ready)]),
        slice("c", &[("http", 8080)], &[("u-1", "fd00::1", ready)]),
    ]
}

fn built(slices: Vec<Arc<Document>>, previous: Option<&World>) -> World {
    let revision = previous.map_or(1, |previous| previous.revision() + 1);
    World::build(documents(NAMED).into_iter().chain(slices), revision, previous)
}

fn node(node_id: &str, addresses: &[&str]) -> Node {
    Node {
        namespace: "default".into(),
        node_id: node_id.into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Node::default()
    }
}

/// Port there, and port of the service.
fn inbound(world: &World, node: &Node) -> Vec<(u32, u32)> {
    let Kind::Workload(workload) = decoded(&world.workload(node)) else {
        panic!()
    };
    let ports = workload.inbound_ports.iter();
    ports.map(|port| (port.port, port.service_port)).collect()
}

fn health(world: &World) -> Vec<(String, mesh::Health)> {
    let endpoints = endpoints_of(world, USER).upserts.into_iter();
    endpoints
        .map(|endpoint| (endpoint.address.clone(), endpoint.health()))
        .collect()
}

#[test]
fn the_inbound_ports_of_a_pod_are_those_of_its_slices_by_its_name_and_by_its_address() {
    let world = built(slices(), None);
    for one in [node("u-1", &[]), node("x", &["10.0.0.1"]), node("u-2", &["10.0.0.2"])] {
        assert_eq!(inbound(&world, &one), [(8080, 80), (9000, 81)], "{one:?}");
    }
    assert_eq!(inbound(&world, &node("u-3", &[])), [(8081, 80)]);
    // By the labels alone nobody knows where a named port is.
    let selected = Node {
        labels: BTreeMap::from([("app".to_owned(), "u".to_owned())]),
        ..node("u-9", &[])
    };
    assert!(inbound(&world, &selected).is_empty());
    let elsewhere = Node {
        namespace: "shop".into(),
        ..node("u-1", &["10.0.0.1"])
    };
    assert!(inbound(&world, &elsewhere).is_empty());
}

#[test]
fn a_new_slice_is_news_to_the_proxies_of_its_namespace() {
    let before = built(Vec::new(), None);
    let after = built(slices(), Some(&before));
    assert_eq!(
        (before.workload_revision("default"), after.workload_revision("default")),
        (1, 2)
    );
    let gone = built(Vec::new(), Some(&after));
    assert!(inbound(&gone, &node("u-1", &["10.0.0.1"])).is_empty());
    assert_eq!(gone.workload_revision("default"), 3);
}

#[test]
fn a_pod_whose_proxy_leaves_is_draining_and_the_others_of_its_slice_are_not() {
    let before = built(slices(), None);
    let after = before.passed(&[Passage::Leaves(node("u-1", &[]))], 2).unwrap();
    let told = |first: mesh::Health| {
        let healthy = mesh::Health::Healthy;
        let all = [("10.0.0.1", first), ("10.0.0.2", healthy), ("10.0.0.3", healthy)];
        all.map(|(address, health)| (address.to_owned(), health))
    };
    assert_eq!(health(&after), told(mesh::Health::Draining));
    assert_eq!(after.leaving_since("default", "u-1"), Some(2));
    // Its slice may be written again meanwhile.
    let mut later = slices();
    later[1] = slice("b", &[("http", 8081)], &[("u-3", "10.0.0.3", PodState::NotReady)]);
    let later = built(later, Some(&after));
    assert_eq!(health(&later)[0].1, mesh::Health::Draining);
    let back = after.passed(&[Passage::Returns(node("u-1", &[]))], 3).unwrap();
    assert_eq!(health(&back), told(mesh::Health::Healthy));
}

#[test]
fn whoever_gets_the_address_of_a_pod_that_left_does_not_inherit_its_mark() {
    let before = built(slices(), None);
    let leaving = before.passed(&[Passage::Leaves(node("u-3", &[]))], 2).unwrap();
    assert_eq!(health(&leaving)[2].1, mesh::Health::Draining);
    let mut next = slices();
    next[1] = slice("b", &[("http", 8081)], &[("u-4", "10.0.0.3", PodState::Ready)]);
    let next = built(next, Some(&leaving));
    assert_eq!(health(&next)[2].1, mesh::Health::Healthy);
    assert_eq!(next.leaving_since("default", "u-3"), None);
}
