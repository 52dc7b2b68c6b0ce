//! What a proxy is told of itself: the ports that services lead to, limits, and what its Sidecar says; and which virtual
//! address belongs to whom.

use super::*;

fn node(node_id: &str, labels: &[(&str, &str)], addresses: &[&str]) -> Node {
    Node {
        namespace: "default".into(),
        node_id: node_id.into(),
        labels: labels
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Node::default()
    }
}

fn workload(world: &World, node: &Node) -> mesh::Workload {
    match decoded(&world.workload(node)) {
        Kind::Workload(workload) => {
            let checked = tsunagi_proto::model::Workload::try_from(workload.clone());
            checked.unwrap_or_else(|error| panic!("{error}"));
            workload
        }
        other => panic!("{other:?}"),
    }
}

/// `port>service:port` of each, and its connection limit.
fn inbound(world: &World, node: &Node) -> Vec<String> {
    let shown = |port: &mesh::InboundPort| {
        let service = port.service.replace(".svc.cluster.local", "");
        let limit = port.connection_pool.as_ref().map(|pool| pool.max_connections);
        let limit = limit.map(|limit| format!(" {limit}")).unwrap_or_default();
        format!("{}>{service}:{}{limit}", port.port, port.service_port)
    };
    workload(world, node).inbound_ports.iter().map(shown).collect()
}

fn document(kind: &str, name: &str, day: u8, spec: &str) -> String {
    let version = if kind == "Service" {
        "v1"
    } else {
        "networking.istio.io/v1"
    };
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {spec}\n---\n"
    )
}

#[test]
fn a_proxy_is_told_who_it_is() {
    let node = Node {
        namespace: "shop".into(),
        ..node("pod-1", &[], &[])
    };
    let encoded = world("").workload(&node);
    assert_eq!(encoded.name, "workload/shop/pod-1");
    let workload = workload(&world(""), &node);
    assert_eq!(
        (workload.namespace.as_str(), workload.node_id.as_str()),
        ("shop", "pod-1")
    );
    assert_eq!(workload.cluster_domain, "cluster.local");
    assert_eq!(
        (workload.inbound_ports.len(), workload.inbound_connection_pool),
        (0, None)
    );
}

#[test]
fn the_ports_of_an_application_are_those_to_which_its_endpoints_lead() {
    let ports = "[{name: http, port: 80, targetPort: 8080}, {name: grpc, port: 81, targetPort: web}]";
    let text = [
        document(
            "Service",
            "user",
            1,
            &format!("{{selector: {{app: u}}, ports: {ports}}}"),
        ),
        document(
            "WorkloadEntry",
            "u-1",
            1,
            "{address: 10.0.0.1, labels: {app: u}, ports: {web: 9001}}",
        ),
        document(
            "WorkloadEntry",
            "u-2",
            1,
            "{address: 10.0.0.2, labels: {app: u}, ports: {http: 7000}}",
        ),
        document(
            "WorkloadEntry",
            "other/u-1",
            1,
            "{address: 10.0.0.1, labels: {app: u}, ports: {http: 1}}",
        ),
    ]
    .concat();
    let world = world(&text);
    // By its name, and by its address.
    assert_eq!(
        inbound(&world, &node("u-1", &[], &[])),
        ["8080>user.default:80", "9001>user.default:81"]
    );
    assert_eq!(
        inbound(&world, &node("x", &[], &["10.0.0.2"])),
        ["7000>user.default:80"]
    );
    // No endpoint yet: what its labels will make it, as far as that has a number.
    assert_eq!(
        inbound(&world, &node("u-9", &[("app", "u")], &[])),
        ["8080>user.default:80"]
    );
    assert!(inbound(&world, &node("u-9", &[("app", "v")], &["10.0.0.9"])).is_empty());
    let protocols: Vec<i32> = workload(&world, &node("u-1", &[], &[]))
        .inbound_ports
        .iter()
        .map(|port| port.protocol)
        .collect();
    assert_eq!(protocols, [mesh::Protocol::Http1 as i32, mesh::Protocol::Http2 as i32]);
}

#[test]
fn the_oldest_service_has_the_port_and_an_entry_lists_its_endpoints_itself() {
    let young = document(
        "Service",
        "a-young",
        3,
        "{selector: {app: u}, ports: [{name: tcp, port: 1, targetPort: 8080}]}",
    );
    let old = document(
        "Service",
        "z-old",
        2,
        "{selector: {app: u}, ports: [{name: http, port: 80, targetPort: 8080}]}",
    );
    let listed = document(
        "ServiceEntry",
        "listed",
        1,
        "{hosts: [users.mesh], resolution: STATIC, ports: [{number: 90, name: http}], endpoints: [{address: 10.0.0.1, ports: {http: 9090}}, {address: 10.0.0.3}]}",
    );
    let entry = document("WorkloadEntry", "u-1", 1, "{address: 10.0.0.1, labels: {app: u}}");
    let world = world(&[young, old, listed, entry].concat());
    let one = node("u-1", &[], &["10.0.0.1"]);
    assert_eq!(inbound(&world, &one), ["8080>z-old.default:80", "9090>users.mesh:90"]);
    // A listed endpoint has no name.
    assert_eq!(inbound(&world, &node("listed", &[], &[])), Vec::<String>::new());
    assert_eq!(inbound(&world, &node("x", &[], &["10.0.0.3"])), ["90>users.mesh:90"]);
}

fn sidecar(name: &str, day: u8, spec: &str) -> String {
    document("Sidecar", name, day, spec)
}

#[test]
fn the_sidecars_limits_go_before_those_of_the_services_rule() {
    let service = document(
        "Service",
        "user",
        1,
        "{selector: {app: u}, ports: [{name: http, port: 80, targetPort: 8080}]}",
    );
    let rule = document(
        "DestinationRule",
        "user",
        1,
        "{host: user, trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}}",
    );
    let foreign = document(
        "DestinationRule",
        "shop/user",
        1,
        "{host: user.default.svc.cluster.local, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}",
    );
    let own = sidecar(
        "own",
        1,
        "{inboundConnectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 4}}}",
    );
    let node = node("u-1", &[("app", "u")], &[]);
    let without = world(&format!("{service}{foreign}"));
    assert_eq!(inbound(&without, &node), ["8080>user.default:80"]);
    let by_rule = world(&format!("{service}{foreign}{rule}"));
    assert_eq!(inbound(&by_rule, &node), ["8080>user.default:80 7"]);
    assert_eq!(workload(&by_rule, &node).inbound_connection_pool, None);
    let by_sidecar = world(&format!("{service}{rule}{own}"));
    assert_eq!(inbound(&by_sidecar, &node), ["8080>user.default:80 3"]);
    let pool = workload(&by_sidecar, &node).inbound_connection_pool.unwrap();
    assert_eq!((pool.max_connections, pool.max_pending_requests), (3, 4));
}

#[test]
fn a_sidecar_that_selects_goes_before_the_namespaces_and_that_before_the_roots() {
    let policy = |text: &str, labels: &[(&str, &str)]| {
        workload(&world(text), &node("u-1", labels, &[])).outbound_traffic_policy == 1
    };
    let only = "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let any = "{outboundTrafficPolicy: {mode: ALLOW_ANY}}";
    let selecting = |mode: &str| {
        format!(
            "{{workloadSelector: {{labels: {{app: u}}}}, {}",
            mode.trim_start_matches('{')
        )
    };
    let root = sidecar("tsunagi-system/all", 1, only);
    let namespace = sidecar("all", 1, any);
    let selected = sidecar("u", 1, &selecting(only));
    let user = [("app", "u"), ("version", "v1")];
    assert!(!policy("", &user));
    assert!(policy(&root, &user));
    assert!(!policy(&format!("{root}{namespace}"), &user));
    assert!(policy(&format!("{root}{namespace}{selected}"), &user));
    assert!(!policy(&format!("{root}{namespace}{selected}"), &[("app", "v")]));
    // In the root namespace only one without a selector is for others; one of another namespace is nobody else's.
    assert!(!policy(&sidecar("tsunagi-system/u", 1, &selecting(only)), &user));
    assert!(!policy(&sidecar("shop/all", 1, only), &user));
    let other_root = World::build(
        documents(&sidecar("mesh/all", 1, only)).into_iter(),
        1,
        Some(&World::empty("mesh")),
    );
    assert_eq!(workload(&other_root, &node("u-1", &[], &[])).outbound_traffic_policy, 1);
}

#[test]
fn of_two_sidecars_for_the_same_workloads_the_older_is_in_force_and_the_other_is_named() {
    let only = "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}";
    let text = sidecar("a-young", 2, "{}") + &sidecar("z-old", 1, only);
    let both = world(&text);
    assert_eq!(workload(&both, &node("u", &[], &[])).outbound_traffic_policy, 1);
    assert_eq!(
        both.warnings(),
        [
            "Sidecar/default/a-young: spec.workloadSelector: Sidecar/default/z-old is older and in force for workloads that both are meant for"
        ]
    );
    let selecting = |labels: &str| format!("{{workloadSelector: {{labels: {{{labels}}}}}}}");
    let warnings = |one: &str, other: &str| {
        let text = sidecar("a", 1, &selecting(one)) + &sidecar("b", 2, &selecting(other)) + &sidecar("c", 3, "{}");
        world(&text).warnings().len()
    };
    assert_eq!(warnings("app: u", "app: v"), 0);
    assert_eq!(warnings("app: u", "app: u, version: v1"), 1);
}

fn alias(world: &World, address: &str) -> Option<String> {
    let encoded = world.host(address, "x")?;
    assert_eq!(encoded.name, format!("host/{address}"));
    let Kind::Host(host) = decoded(&encoded) else { panic!() };
    let whole = mesh::Host {
        fqdn: address.into(),
        alias_of: host.alias_of.clone(),
        ..Default::default()
    };
    assert_eq!(host, whole);
    Some(host.alias_of)
}

#[test]
fn an_address_is_the_service_that_has_it() {
    let service = |name: &str, day: u8, address: &str| {
        document(
            "Service",
            name,
            day,
            &format!("{{clusterIP: '{address}', ports: [{{port: 80}}]}}"),
        )
    };
    let entry = document(
        "ServiceEntry",
        "e",
        1,
        "{hosts: [db], addresses: [10.99.0.1, 'FD00:0::5'], resolution: STATIC, ports: [{number: 1, name: tcp}], endpoints: [{address: 10.0.0.9}]}",
    );
    let one = world(&(service("old", 2, "10.96.0.10") + &service("none", 1, "None") + &entry));
    assert_eq!(one.warnings(), Vec::<String>::new());
    assert_eq!(
        alias(&one, "10.96.0.10").as_deref(),
        Some("old.default.svc.cluster.local")
    );
    assert_eq!(
        alias(&one, "10.99.0.1").as_deref(),
        Some("db.default.svc.cluster.local")
    );
    assert_eq!(alias(&one, "fd00::5").as_deref(), Some("db.default.svc.cluster.local"));
    // An endpoint is no service.
    assert_eq!((alias(&one, "10.0.0.9"), alias(&one, "10.96.0.11")), (None, None));
    assert!(one.reaches("10.96.0.10", "x").is_empty() && !one.host_names().contains(&"10.96.0.10".to_owned()));

    let older = service("older", 1, "10.96.0.10");
    let text = service("old", 2, "10.96.0.10") + &older;
    let two = World::build(documents(&text).into_iter(), 2, Some(&one));
    assert_eq!(
        alias(&two, "10.96.0.10").as_deref(),
        Some("older.default.svc.cluster.local")
    );
    assert!(two.changed().contains(&"host/10.96.0.10".to_owned()));
    assert_eq!(
        two.warnings(),
        [
            "Service/default/old: spec.clusterIP: Service/default/older has 10.96.0.10 too and is older: connections to it go to older.default.svc.cluster.local, not to old.default.svc.cluster.local"
        ]
    );
    let gone = World::build([].into_iter(), 3, Some(&two));
    assert_eq!(alias(&gone, "10.96.0.10"), None);
    assert!(gone.changed().contains(&"host/10.96.0.10".to_owned()));
}

#[test]
fn a_workload_is_looked_at_again_only_when_something_of_its_namespace_changed() {
    let service = document(
        "Service",
        "user",
        1,
        "{selector: {app: u}, ports: [{name: http, port: 80, targetPort: 8080}]}",
    );
    let policy = |name: &str| document("DestinationRule", name, 1, "{host: user.default.svc.cluster.local}");
    let (stranger, own) = (policy("shop/user"), policy("user"));
    let one = World::build(documents(&service).into_iter(), 1, None);
    assert_eq!(
        (one.workload_revision("default"), one.workload_revision("shop")),
        (1, 0)
    );
    let elsewhere = document("Service", "shop/cart", 1, "{ports: [{port: 80}]}");
    let two = World::build(documents(&format!("{service}{elsewhere}")).into_iter(), 2, Some(&one));
    assert_eq!(
        (two.workload_revision("default"), two.workload_revision("shop")),
        (1, 2)
    );
    // A rule of another namespace is for what that one calls, not for what this one takes in.
    let text = format!("{service}{elsewhere}{stranger}");
    let two = World::build(documents(&text).into_iter(), 2, Some(&two));
    assert_eq!(two.workload_revision("default"), 1);
    let text = format!("{text}{own}");
    let three = World::build(documents(&text).into_iter(), 3, Some(&two));
    assert_eq!(
        (three.workload_revision("default"), three.workload_revision("shop")),
        (3, 2)
    );
    let text = format!("{text}{}", sidecar("tsunagi-system/all", 1, "{}"));
    let four = World::build(documents(&text).into_iter(), 4, Some(&three));
    assert_eq!(
        (four.workload_revision("default"), four.workload_revision("other")),
        (4, 4)
    );
}
