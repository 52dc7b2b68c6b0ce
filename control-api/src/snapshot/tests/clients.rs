//! What clients are told by the DestinationRules that are in force for them: by their labels and their namespace, for
//! what they call and for what they take in; and what a change of a rule touches.

use super::lookup::{labels, limit, limited, rule, subset, to};
use super::*;
use crate::config::{DestinationRule, PortPolicy, TrafficPolicy};
use tsunagi_proto::model::Source;

const HOST: &str = "
apiVersion: v1
kind: Service
metadata: {name: user-service}
spec: {clusterIP: None, ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [user-service]
  http: [{route: [{destination: {host: user-service, subset: v1, port: {number: 80}}}]}]
---
";

fn world_with(text: &str, rules: &[Arc<Document>]) -> World {
    let all = documents(text).into_iter().chain(rules.iter().cloned());
    let world = World::build(all, 1, None);
    assert_eq!(world.problems(), []);
    world
}

/// `port|subset limit` of each cluster that a client has, decided as its proxy decides it.
fn clusters_of(world: &World, fqdn: &str, namespace: &str, of: &[(&str, &str)]) -> Vec<String> {
    let host = world.host(fqdn, namespace).and_then(|told| told.host()).unwrap();
    let source = Source {
        namespace: namespace.to_owned(),
        labels: labels(of),
    };
    let host = Arc::new(host).for_source(&source);
    let shown = |cluster: &model::Cluster| {
        let limit = cluster.connection_pool.max_connections;
        let limit = if limit == model::UNLIMITED {
            String::new()
        } else {
            format!(" {limit}")
        };
        format!("{}|{}{limit}", cluster.key.port, cluster.key.subset)
    };
    host.clusters.iter().map(shown).collect()
}

#[test]
fn a_client_has_the_clusters_of_the_rule_that_selects_it_and_lacks_those_that_it_does_not_define() {
    let selected = rule("default", "selected", 2, USER, |rule| {
        rule.workload_selector = labels(&[("app", "web")]);
        rule.policy = Some(limit(1));
    });
    let plain = rule("default", "plain", 1, USER, |rule| {
        rule.policy = Some(limit(2));
        rule.subsets = vec![subset("v1")];
    });
    let world = world_with(HOST, &[selected, plain]);
    let of = |namespace: &str, of: &[(&str, &str)]| clusters_of(&world, USER, namespace, of);
    assert_eq!(of("default", &[("app", "web")]), ["80| 1", "81| 1"]);
    assert_eq!(of("default", &[("app", "other")]), ["80| 2", "80|v1 2", "81| 2"]);
    assert_eq!(of("shop", &[("app", "web")]), ["80| 2", "80|v1 2", "81| 2"]);
    assert_eq!(
        world.warnings(),
        [
            "VirtualService/default/r: spec.http[0].route[0].destination: user-service.default.svc.cluster.local has no subset v1 for clients of namespace default with labels app=web: DestinationRule/default/selected, in force for them, does not define it: such requests get 503 NC"
        ]
    );
    let labels = labels(&[("app", "web")]);
    let names = world.destination_rules(USER, "default", &labels);
    assert_eq!(
        names.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(),
        ["selected"]
    );
    let names = world.destination_rules(USER, "default", &BTreeMap::new());
    assert_eq!(names.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["plain"]);
}

#[test]
fn a_subset_that_only_selected_clients_have_is_there_for_them_alone() {
    let selected = rule("default", "selected", 2, USER, |rule| {
        rule.workload_selector = labels(&[("app", "web")]);
        rule.subsets = vec![subset("v1")];
    });
    let world = world_with(HOST, &[selected]);
    assert_eq!(
        clusters_of(&world, USER, "default", &[("app", "web")]),
        ["80|", "80|v1", "81|"]
    );
    assert_eq!(clusters_of(&world, USER, "default", &[]), ["80|", "81|"]);
    let unseen = world.unseen_subsets();
    let clients: Vec<&str> = unseen.iter().map(|it| it.clients.as_str()).collect();
    assert_eq!(
        clients,
        [
            "clients outside namespace default",
            "clients of namespace default that no workloadSelector selects"
        ]
    );
    let because = "DestinationRule/default/selected, which defines v1, is for workloads of namespace default that it selects only";
    assert!(unseen.iter().all(|it| it.because == because), "{unseen:?}");
    // What is the same for all of them is told once.
    let host = host(&world, USER);
    assert!(cluster(&host, "user-service", "").client_labels.is_empty());
}

#[test]
fn an_application_is_limited_port_by_port_and_by_no_rule_for_some_clients() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: user-service}\nspec: {selector: {app: u}, ports: [{name: http, port: 80, targetPort: 8080}, {name: admin, port: 81, targetPort: 8081}]}\n";
    let pool = PortPolicy {
        connection_pool: Some(limited(8)),
        ..PortPolicy::default()
    };
    let with = |namespace: &str, name: &str, host: &str, change: &dyn Fn(&mut DestinationRule)| {
        rule(namespace, name, 1, host, change)
    };
    let selected = with("default", "selected", USER, &|rule| {
        rule.workload_selector = labels(&[("app", "u")]);
        rule.policy = Some(limit(1));
    });
    let private = with("default", "private", "*.local", &|rule| {
        rule.exports = to(&["default"]);
        rule.policy = Some(TrafficPolicy {
            port_level: BTreeMap::from([(81, pool.clone())]),
            ..limit(7)
        });
    });
    let of_root = with("tsunagi-system", "root", "*", &|rule| rule.policy = Some(limit(3)));
    let stranger = with("shop", "stranger", USER, &|rule| rule.policy = Some(limit(4)));
    let node = Node {
        namespace: "default".into(),
        node_id: "u".into(),
        labels: labels(&[("app", "u")]),
        ..Node::default()
    };
    let limits = |rules: &[Arc<Document>]| {
        let told = world_with(service, rules).workload(&node).workload().unwrap();
        let limits = told
            .inbound_ports
            .iter()
            .map(|port| port.connection_pool.max_connections);
        limits.collect::<Vec<u32>>()
    };
    let unlimited = model::UNLIMITED;
    assert_eq!(limits(&[selected.clone(), stranger.clone()]), [unlimited, unlimited]);
    assert_eq!(limits(&[selected.clone(), of_root.clone()]), [3, 3]);
    assert_eq!(limits(&[selected, of_root.clone(), private]), [7, 8]);
    // Each change is noticed by exactly the proxies that it may concern.
    let one = world_with(service, &[]);
    let all = |more: &Arc<Document>| documents(service).into_iter().chain([more.clone()]);
    let two = World::build(all(&stranger), 2, Some(&one));
    assert_eq!(two.workload_revision("default"), 1);
    let three = World::build(all(&of_root), 3, Some(&two));
    assert_eq!(three.workload_revision("default"), 3);
}

#[test]
fn a_wildcard_touches_the_hosts_that_it_covers_and_those_that_lead_there() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: prod}
spec: {ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: test}
spec: {ports: [{port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: front, namespace: test}
spec: {hosts: [front.example.com], http: [{route: [{destination: {host: a.prod.svc.cluster.local}}]}]}
---
";
    let (a, b, front) = (
        "a.prod.svc.cluster.local",
        "b.test.svc.cluster.local",
        "front.example.com",
    );
    let wide = |limit_of_all: u32| {
        rule("prod", "wide", 1, "*.prod.svc.cluster.local", |rule| {
            rule.policy = Some(limit(limit_of_all));
        })
    };
    let one = world_with(text, &[]);
    let with = |rule: Arc<Document>| documents(text).into_iter().chain([rule]);
    let two = World::build(with(wide(3)), 2, Some(&one));
    assert_eq!(*two.changed(), [format!("host/{a}"), format!("host/{front}")]);
    assert_eq!(two.warnings().len(), one.warnings().len(), "{:?}", two.warnings());
    assert_eq!(clusters_of(&two, a, "x", &[]), ["80| 3"]);
    assert_eq!(clusters_of(&two, front, "x", &[]), ["80| 3"]);
    assert_eq!(clusters_of(&two, b, "x", &[]), ["80|"]);
    let same = |host: &str| Arc::ptr_eq(&one.host(host, "x").unwrap(), &two.host(host, "x").unwrap());
    assert!(same(b) && !same(a));
    let concerned = two.concerns(&wide(3));
    assert_eq!(concerned, ["*.prod.svc.cluster.local", a, front]);
    // A service that comes later, and the rule's end.
    let new = format!(
        "{text}apiVersion: v1\nkind: Service\nmetadata: {{name: c, namespace: prod}}\nspec: {{ports: [{{port: 80}}]}}\n"
    );
    let three = World::build(documents(&new).into_iter().chain([wide(3)]), 3, Some(&two));
    assert_eq!(clusters_of(&three, "c.prod.svc.cluster.local", "x", &[]), ["80| 3"]);
    assert!(Arc::ptr_eq(&two.host(a, "x").unwrap(), &three.host(a, "x").unwrap()));
    let four = World::build(documents(text).into_iter(), 4, Some(&three));
    assert_eq!(clusters_of(&four, a, "x", &[]), ["80|"]);
}

#[test]
fn only_namespaces_that_see_the_host_otherwise_get_a_resource_of_their_own() {
    let exported = rule("default", "exported", 1, USER, |rule| {
        rule.exports = to(&["shop"]);
        rule.policy = Some(limit(3));
    });
    let world = world_with(HOST, &[exported]);
    let of = |client: &str| world.host(USER, client).unwrap();
    assert!(Arc::ptr_eq(&of("default"), &of("other")));
    assert_eq!(clusters_of(&world, USER, "shop", &[]), ["80| 3", "81| 3"]);
    assert_eq!(clusters_of(&world, USER, "default", &[]), ["80|", "81|"]);
    let private = rule("default", "private", 1, USER, |rule| {
        rule.exports = to(&["default"]);
        rule.policy = Some(limit(4));
    });
    let world = world_with(HOST, &[private]);
    assert_eq!(clusters_of(&world, USER, "default", &[]), ["80| 4", "81| 4"]);
    assert_eq!(clusters_of(&world, USER, "shop", &[]), ["80|", "81|"]);
}

#[test]
fn each_port_of_a_host_has_its_own_cluster_with_its_own_policy() {
    let pool = PortPolicy {
        connection_pool: Some(limited(8)),
        ..PortPolicy::default()
    };
    let rule = rule("default", "d", 1, USER, |rule| {
        rule.policy = Some(TrafficPolicy {
            port_level: BTreeMap::from([(81, pool)]),
            ..limit(7)
        });
        rule.subsets = vec![subset("v1")];
    });
    let world = world_with(HOST, &[rule]);
    assert_eq!(clusters_of(&world, USER, "default", &[]), ["80| 7", "80|v1 7", "81| 8"]);
}
