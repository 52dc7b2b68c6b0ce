//! A world made step by step from its predecessors is byte for byte the world made at once, in whatever order the
//! documents come; and a step costs what it changes.

use std::collections::BTreeSet;

use super::*;
use crate::config::{ExportTo, Spec};

/// Everything that a world tells, by resource name and client.
fn told(world: &World) -> BTreeMap<String, (String, Vec<String>)> {
    let mut told = BTreeMap::new();
    let names = world.host_names().into_iter();
    let names: BTreeSet<String> = names.chain(NAMES.map(str::to_owned)).collect();
    for fqdn in &names {
        for client in ["default", "shop", "tsunagi-system", "other"] {
            let Some(host) = world.host(fqdn, client) else { continue };
            told.insert(
                format!("{} {client}", host.name),
                (host.version.clone(), world.reaches(fqdn, client).to_vec()),
            );
        }
    }
    // Also of hosts that only some clients know.
    let spaces = ["default", "shop", "tsunagi-system"];
    let services = spaces.map(|space| ["a", "b", "c", "d"].map(|name| format!("{name}.{space}.svc.cluster.local")));
    for fqdn in names.into_iter().chain(services.into_iter().flatten()) {
        if let Some(endpoints) = world.endpoints(&fqdn) {
            told.insert(endpoints.name.clone(), (endpoints.version.clone(), Vec::new()));
        }
    }
    for address in ADDRESSES {
        if let Some(alias) = world.host(address, "default") {
            told.insert(alias.name.clone(), (alias.version.clone(), Vec::new()));
        }
    }
    told.insert("warnings".into(), (String::new(), world.warnings()));
    told
}

/// That only some clients know, or only by a wildcard.
const NAMES: [&str; 5] = [
    "x.example.com",
    "front.example.com",
    "x.mesh",
    "f.mesh",
    "*.example.com",
];

/// Is it among the changed resources, or a name under a changed wildcard?
fn is_noticed(world: &World, resource: &str) -> bool {
    let under = |name: &String| {
        name.strip_prefix("host/*")
            .is_some_and(|ending| resource.ends_with(ending))
    };
    world.changed().iter().any(|name| name == resource || under(name))
}

const ADDRESSES: [&str; 2] = ["10.96.0.1", "10.96.0.2"];

/// Proxies in every namespace, and what they are told of themselves.
fn told_to_proxies(world: &World) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for namespace in ["default", "shop", "tsunagi-system", "other"] {
        for (node_id, app) in [("a", "b"), ("b", "c"), ("x", "a")] {
            let node = Node {
                namespace: namespace.into(),
                node_id: node_id.into(),
                labels: BTreeMap::from([("app".into(), app.into())]),
                addresses: vec!["10.0.0.1".parse().unwrap(), "10.1.0.1".parse().unwrap()],
                ..Node::default()
            };
            told.push((namespace.to_owned(), world.workload(&node).version.clone()));
        }
    }
    told
}

fn pick<'a>(random: &mut StdRng, from: &[&'a str]) -> &'a str {
    from[random.random_range(0..from.len())]
}

/// One random document out of a small world in which everything meets everything.
fn random_document(random: &mut StdRng) -> Arc<Document> {
    let names = ["a", "b", "c", "d"];
    let spaces = ["default", "shop", "tsunagi-system"];
    let (name, namespace) = (pick(random, &names), pick(random, &spaces));
    let mut some = |from: &[&str]| pick(random, from).to_owned();
    let host = format!("{}.{}.svc.cluster.local", some(&names), some(&spaces));
    let port = some(&[
        "{name: http, port: 80}",
        "{name: http, port: 80}, {name: grpc, port: 81}",
        "{name: x, port: 82, targetPort: web}",
    ]);
    let value = some(&["1", "2", "3"]);
    let day = some(&["1", "2", "3"]);
    let (kind, spec) = match some(&["s", "se", "vs", "vs", "dr", "dr", "we", "we", "sc"]).as_str() {
        "s" => (
            "Service",
            format!(
                "{{selector: {{app: {}}}, clusterIP: {}, ports: [{port}]}}",
                some(&names),
                some(&["None", "10.96.0.1", "10.96.0.2"])
            ),
        ),
        "se" => {
            let target = some(&[
                "endpoints: [{address: 10.1.0.1}]",
                "workloadSelector: {labels: {app: a, v: '1'}}",
            ]);
            let hosts = some(&["e.mesh", "f.mesh", "e.mesh, short"]);
            (
                "ServiceEntry",
                format!(
                    "{{hosts: [{hosts}], addresses: [10.96.0.1], resolution: STATIC, ports: [{{number: 80, name: http}}], {target}}}"
                ),
            )
        }
        "vs" => {
            let destination = some(&[host.as_str(), "e.mesh", "a"]);
            let own = some(&[
                "hosts: [a],",
                "hosts: [b],",
                "hosts: [f.mesh],",
                "hosts: [front.example.com],",
                "hosts: [a, '*.shop.svc.cluster.local', '*.mesh'],",
                "hosts: ['*.default.svc.cluster.local', '*.example.com'],",
                "hosts: ['*.cluster.local'],",
                "gateways: [edge], hosts: [f.mesh],",
                "",
            ]);
            let weight = some(&["0", "5"]);
            let scope = some(&[
                "",
                "",
                "exportTo: [.],",
                "exportTo: [shop, default],",
                "exportTo: ['~'],",
            ]);
            let delegating = match own.as_str() {
                "" => String::new(),
                _ => some(&["", "", "{delegate: {name: a, namespace: shop}}, {delegate: {name: b}},"]),
            };
            (
                "VirtualService",
                format!(
                    "{{{own} {scope} http: [{delegating} {{route: [{{destination: {{host: {destination}, subset: v{value}}}, weight: {weight}}}, {{destination: {{host: c}}, weight: {value}}}]}}]}}"
                ),
            )
        }
        "dr" => (
            "DestinationRule",
            format!(
                "{{host: {host}, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {value}}}}}}}, subsets: [{{name: v{value}, labels: {{v: '{value}'}}}}]}}"
            ),
        ),
        "sc" => (
            "Sidecar",
            some(&[
                "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}",
                "{workloadSelector: {labels: {app: a}}, inboundConnectionPool: {tcp: {maxConnections: 3}}}",
                "{workloadSelector: {labels: {app: b}}}",
            ]),
        ),
        _ => (
            "WorkloadEntry",
            format!(
                "{{address: 10.0.0.{value}, labels: {{app: {}, v: '{value}'}}, ports: {{web: 9}}}}",
                some(&names)
            ),
        ),
    };
    let version = if kind == "Service" {
        "v1"
    } else {
        "networking.istio.io/v1"
    };
    let text = format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {spec}\n"
    );
    for_some(documents(&text).remove(0), random)
}

/// A DestinationRule for other hosts, clients or workloads than it says, some of the time.
fn for_some(mut document: Arc<Document>, random: &mut StdRng) -> Arc<Document> {
    let changed = Arc::make_mut(&mut document);
    if let Spec::DestinationRule(rule) = &mut changed.spec {
        let wildcards = ["*", "*.mesh", "*.local", "*.shop.svc.cluster.local", "*.example.com"];
        if random.random_ratio(1, 2) {
            rule.host = pick(random, &wildcards).to_owned();
        }
        if random.random_ratio(1, 3) {
            let spaces = ["default", "shop", "tsunagi-system", "other"];
            let names = [pick(random, &spaces).to_owned(), pick(random, &spaces).to_owned()];
            rule.exports = ExportTo::Namespaces(names.into());
        }
        if random.random_ratio(1, 4) {
            rule.workload_selector
                .insert("app".into(), pick(random, &["a", "b"]).into());
        }
    }
    document
}

#[test]
fn a_world_made_step_by_step_is_the_world_made_at_once() {
    let mut random = StdRng::seed_from_u64(11);
    let mut stored = BTreeMap::new();
    let mut world = World::default();
    let mut hosts = 0;
    for step in 0..400 {
        for _ in 0..random.random_range(1..4) {
            let document = random_document(&mut random);
            if random.random_ratio(1, 3) {
                stored.remove(&document.key);
            } else {
                stored.insert(document.key.clone(), document);
            }
        }
        let next = World::build(stored.values().cloned(), step, Some(&world));
        let mut shuffled: Vec<_> = stored.values().cloned().collect();
        shuffled.shuffle(&mut random);
        let at_once = World::build(shuffled.into_iter(), step, None);
        assert_eq!(told(&next), told(&at_once), "step {step}");
        assert_eq!(next.problems(), []);
        assert_eq!(told_to_proxies(&next), told_to_proxies(&at_once), "step {step}");
        for ((namespace, version), (_, before)) in told_to_proxies(&next).iter().zip(told_to_proxies(&world)) {
            assert!(
                *version == before || next.workload_revision(namespace) == step,
                "a workload of {namespace} changed unnoticed in step {step}"
            );
        }
        let (before, after) = (told(&world), told(&next));
        for (name, (version, _)) in &after {
            let resource = name.split(' ').next().unwrap_or_default().to_owned();
            let differs = before.get(name).map(|(version, _)| version) != Some(version);
            assert!(
                !differs || is_noticed(&next, &resource),
                "{name} changed unnoticed in step {step}"
            );
        }
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            assert!(
                is_noticed(&next, name.split(' ').next().unwrap_or_default()),
                "{name} went unnoticed"
            );
        }
        hosts = hosts.max(next.host_names().len());
        world = next;
    }
    assert!(hosts > 8, "{hosts}");
    let empty = World::build([].into_iter(), 999, Some(&world));
    assert_eq!(told(&empty), told(&World::default()));
}

#[test]
fn what_did_not_change_is_the_same_allocation() {
    let text = format!("{SERVICE}{RULES}");
    let first = World::build(documents(&text).into_iter(), 1, None);
    // Read again from the text: equal, not the same.
    let more =
        format!("{text}apiVersion: v1\nkind: Service\nmetadata: {{name: new}}\nspec: {{ports: [{{port: 80}}]}}\n");
    let second = World::build(documents(&more).into_iter(), 2, Some(&first));
    assert!(Arc::ptr_eq(
        &first.host(USER, "x").unwrap(),
        &second.host(USER, "x").unwrap()
    ));
    assert!(Arc::ptr_eq(
        &first.endpoints(USER).unwrap(),
        &second.endpoints(USER).unwrap()
    ));
    let new = "new.default.svc.cluster.local";
    assert_eq!(*second.changed(), [format!("host/{new}"), format!("endpoints/{new}")]);
    assert_eq!((first.revision(), second.revision()), (1, 2));
    assert!(first.host(new, "x").is_none());
}

#[test]
fn a_stored_document_makes_the_same_world_as_its_text() {
    let from_text = documents(&format!("{SERVICE}{RULES}"));
    let stored = from_text
        .iter()
        .map(|document| Arc::new(from_stored(&document.object).unwrap()));
    assert_eq!(
        told(&World::build(stored, 1, None)),
        told(&World::build(from_text.iter().cloned(), 1, None))
    );
}
