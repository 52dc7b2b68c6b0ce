//! Which VirtualService is in force for a host, for whom: exportTo, wildcards, precedence, gateways.

use super::*;
use crate::config::{ConnectionMatch, ConnectionRule, ExportTo, Mirror, Spec, VirtualService, WeightedDestination};

const PLACES: &str = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: c, namespace: other}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
";
pub(super) const A: &str = "a.shop.svc.cluster.local";
const B: &str = "b.shop.svc.cluster.local";
pub(super) const C: &str = "c.other.svc.cluster.local";

/// A VirtualService for these hosts, whose one rule has its own name and leads to `a`; the rest is `change`d.
pub(super) fn rule(
    name: &str,
    namespace: &str,
    hosts: &[&str],
    change: impl FnOnce(&mut VirtualService),
) -> Arc<Document> {
    let text = format!(
        "{{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{hosts: [x.y], http: [{{name: {name}, route: [{{destination: {{host: {A}}}}}]}}]}}}}"
    );
    let mut document = Document::clone(&documents(&text)[0]);
    let Spec::VirtualService(spec) = &mut document.spec else {
        panic!("it is one")
    };
    spec.hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
    change(spec);
    Arc::new(document)
}

pub(super) fn to(namespaces: &[&str]) -> impl FnOnce(&mut VirtualService) {
    let export_to = ExportTo::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect());
    move |spec| spec.export_to = export_to
}

pub(super) fn everyone(_: &mut VirtualService) {}

pub(super) fn aged(document: Arc<Document>, day: i64) -> Arc<Document> {
    let mut document = Document::clone(&document);
    document.created = Some(crate::config::Created {
        seconds: day * 86_400,
        nanoseconds: 0,
    });
    Arc::new(document)
}

pub(super) fn with(rules: Vec<Arc<Document>>) -> World {
    let world = World::build(documents(PLACES).into_iter().chain(rules), 1, None);
    assert_eq!(world.problems(), []);
    world
}

/// The rules that clients of a namespace meet; `None`: they know no such host; an alias is what it stands for.
pub(super) fn met(world: &World, fqdn: &str, client: &str) -> Option<Vec<String>> {
    world.host(fqdn, client)?;
    let host = host_for(world, fqdn, client);
    if !host.alias_of.is_empty() {
        assert!(
            world.reaches(fqdn, client).is_empty(),
            "an alias reaches nothing itself"
        );
        return met(world, &host.alias_of, client);
    }
    let routes = host.routes.unwrap_or_default();
    Some(routes.http.into_iter().map(|rule| rule.name).collect())
}

fn is(world: &World, fqdn: &str, client: &str, expected: &str) {
    let expected = match expected {
        "nobody" => None,
        "plain" => Some(Vec::new()),
        name => Some(vec![name.to_owned()]),
    };
    assert_eq!(met(world, fqdn, client), expected, "{fqdn} for {client}");
}

#[test]
fn a_rule_is_for_the_clients_of_the_namespaces_that_it_is_exported_to() {
    let world = with(vec![
        rule("own", "shop", &[A], to(&["shop"])),
        rule("named", "shop", &[B], to(&["other", "third"])),
        rule("nobody", "shop", &[C], to(&[])),
        rule("front", "shop", &["front.example.com"], to(&["shop"])),
    ]);
    is(&world, A, "shop", "own");
    is(&world, A, "other", "plain");
    is(&world, B, "shop", "plain");
    is(&world, B, "other", "named");
    is(&world, B, "third", "named");
    is(&world, C, "shop", "plain");
    is(&world, "front.example.com", "shop", "front");
    is(&world, "front.example.com", "other", "nobody");
    assert_eq!(
        *world.reaches("front.example.com", "shop"),
        [A.to_owned(), "front.example.com".to_owned()]
    );
    assert!(world.reaches("front.example.com", "other").is_empty());
    let nobody = "VirtualService/shop/nobody: spec.exportTo: exported to nobody: no sidecar uses it";
    assert!(world.warnings().contains(&nobody.to_owned()), "{:?}", world.warnings());
}

#[test]
fn the_clients_own_rule_goes_before_one_exported_to_it_and_that_before_one_for_everyone() {
    let (public, named, own) = (
        aged(rule("public", "shop", &[A], everyone), 1),
        aged(rule("named", "shop", &[A], to(&["other", "third"])), 2),
        aged(rule("own", "other", &[A], to(&["other"])), 3),
    );
    let world = with(vec![public, named, own, aged(rule("late", "shop", &[A], everyone), 4)]);
    is(&world, A, "shop", "public");
    is(&world, A, "third", "named");
    is(&world, A, "other", "own");
    let hidden: Vec<String> = world
        .warnings()
        .into_iter()
        .filter(|warning| warning.contains(A))
        .collect();
    assert_eq!(
        hidden,
        [
            format!(
                "VirtualService/shop/late: spec.hosts: VirtualService/other/own comes first for clients of namespace other and is in force for {A}: this one is not"
            ),
            format!(
                "VirtualService/shop/late: spec.hosts: VirtualService/shop/named comes first for clients of namespace third and is in force for {A}: this one is not"
            ),
            format!(
                "VirtualService/shop/late: spec.hosts: VirtualService/shop/public is older and in force for {A}: this one is not"
            ),
            format!(
                "VirtualService/shop/named: spec.hosts: VirtualService/other/own comes first for clients of namespace other and is in force for {A}: this one is not"
            ),
            format!(
                "VirtualService/shop/public: spec.hosts: VirtualService/other/own comes first for clients of namespace other and is in force for {A}: this one is not"
            ),
            format!(
                "VirtualService/shop/public: spec.hosts: VirtualService/shop/named comes first for clients of namespace third and is in force for {A}: this one is not"
            ),
        ]
    );
}

#[test]
fn the_most_specific_host_counts_before_whose_rule_it_is() {
    let world = with(vec![
        aged(rule("exact", "shop", &[A], everyone), 3),
        aged(rule("shop", "other", &["*.shop.svc.cluster.local"], to(&["other"])), 2),
        aged(rule("all", "shop", &["*.svc.cluster.local"], everyone), 1),
    ]);
    is(&world, A, "other", "exact");
    is(&world, B, "other", "shop");
    is(&world, B, "shop", "all");
    is(&world, C, "other", "all");
    // What is more specific hides nothing: that is what a wildcard is for.
    assert_eq!(world.warnings(), [] as [String; 0]);
}

#[test]
fn a_wildcard_covers_names_that_no_service_has_but_none_of_the_cluster() {
    let world = with(vec![
        rule("wide", "shop", &["*.example.com", "*.svc.cluster.local"], everyone),
        rule("eu", "shop", &["*.eu.example.com"], to(&["shop"])),
        rule("part", "shop", &["*-x.example.com"], everyone),
    ]);
    is(&world, "a.example.com", "shop", "wide");
    is(&world, "a.b.example.com", "shop", "wide");
    is(&world, "a.eu.example.com", "shop", "eu");
    is(&world, "a.eu.example.com", "other", "wide");
    is(&world, "a-x.example.com", "other", "part");
    is(&world, "example.com", "shop", "nobody");
    is(&world, "nobody.shop.svc.cluster.local", "shop", "nobody");
    is(&world, "10.0.0.1", "shop", "nobody");
    let alias = host_for(&world, "a.example.com", "shop");
    let only = mesh::Host {
        fqdn: "a.example.com".into(),
        alias_of: "*.example.com".into(),
        ..Default::default()
    };
    assert_eq!(alias, only);
    let wildcard = host_for(&world, "*.example.com", "shop");
    assert_eq!(wildcard.ports.len(), 1, "those of its destination");
    assert_eq!(cluster_names(&wildcard), ["80||a"]);
    assert!(model::Host::try_from(alias).is_ok() && model::Host::try_from(wildcard).is_ok());
}

#[test]
fn a_wildcard_that_comes_and_goes_changes_what_it_covers() {
    let first = with(Vec::new());
    let build = |rules: Vec<Arc<Document>>, previous: &World| {
        let revision = previous.revision() + 1;
        World::build(documents(PLACES).into_iter().chain(rules), revision, Some(previous))
    };
    let second = build(
        vec![rule("wide", "shop", &["*.shop.svc.cluster.local"], everyone)],
        &first,
    );
    let (host_a, host_b) = (format!("host/{A}"), format!("host/{B}"));
    is(&second, A, "shop", "wide");
    is(&second, C, "shop", "plain");
    assert!(second.changed().contains(&host_a) && second.changed().contains(&host_b));
    assert!(!second.changed().contains(&format!("host/{C}")));
    let third = build(
        vec![
            rule("wide", "shop", &["*.shop.svc.cluster.local"], everyone),
            rule("exact", "shop", &[A], everyone),
        ],
        &second,
    );
    is(&third, A, "shop", "exact");
    assert_eq!(third.changed().join(" "), host_a);
    let concerned = third.concerns(&rule("wide", "shop", &["*.shop.svc.cluster.local"], everyone));
    assert_eq!(concerned, ["*.shop.svc.cluster.local", A, B]);
    let fourth = build(Vec::new(), &third);
    is(&fourth, B, "shop", "plain");
    assert!(fourth.changed().contains(&host_a) && fourth.changed().contains(&host_b));
}

#[test]
fn a_rule_for_gateways_only_is_in_force_nowhere_and_its_author_is_told() {
    let gateways = |names: &'static [&'static str]| {
        move |spec: &mut VirtualService| spec.gateways = names.iter().map(|name| (*name).to_owned()).collect()
    };
    let world = with(vec![
        rule("edge", "shop", &[A, "front.example.com"], gateways(&["edge"])),
        rule("both", "shop", &[B], gateways(&["edge", "mesh"])),
    ]);
    is(&world, A, "shop", "plain");
    is(&world, B, "shop", "both");
    is(&world, "front.example.com", "shop", "nobody");
    assert_eq!(
        world.warnings(),
        ["VirtualService/shop/edge: spec.gateways: is for gateways only, `mesh` is not among them: no sidecar uses it"]
    );
}

fn destination(host: &str) -> WeightedDestination {
    WeightedDestination {
        host: host.to_owned(),
        port: None,
        subset: String::new(),
        weight: 1,
        weight_is_given: true,
        headers: crate::config::Headers::default(),
        authority: String::new(),
    }
}

#[test]
fn requests_and_connections_of_a_host_may_be_ruled_by_two_documents() {
    let world = with(vec![
        aged(
            rule("connections", "shop", &[A], |spec| {
                spec.http.clear();
                spec.tcp = vec![ConnectionRule {
                    matches: Vec::new(),
                    route: vec![destination(C)],
                }];
            }),
            1,
        ),
        aged(rule("requests", "other", &[A], everyone), 2),
    ]);
    assert_eq!(world.warnings(), [] as [String; 0]);
    let host = host(&world, A);
    let routes = host.routes.clone().unwrap();
    assert_eq!(
        (routes.name.as_str(), routes.http.len(), routes.tcp.len()),
        ("connections", 1, 1)
    );
    let origin = routes.http[0].origin.clone().unwrap();
    assert_eq!(
        (origin.namespace.as_str(), origin.name.as_str(), origin.index),
        ("other", "requests", 0)
    );
    assert_eq!(routes.tcp[0].origin, None);
    assert_eq!(cluster_names(&host), ["80||a", "80||c"]);
    assert_eq!(*world.reaches(A, "shop"), [A.to_owned(), C.to_owned()]);
}

#[test]
fn where_mirrors_and_connections_go_are_clusters_and_what_is_not_there_is_warned_of() {
    let mirror = |host: &str, subset: &str, per_million| Mirror {
        host: host.to_owned(),
        port: None,
        subset: subset.to_owned(),
        per_million,
    };
    let world = with(vec![rule("r", "shop", &[A], |spec| {
        spec.http[0].mirrors = vec![
            mirror(B, "", 1_000_000),
            mirror("nobody.mesh", "", 1),
            mirror(B, "v9", 1),
            mirror("never.mesh", "", 0),
        ];
        let leads = |host: &str| ConnectionRule {
            matches: Vec::new(),
            route: vec![destination(host)],
        };
        spec.tls = vec![leads("secret.mesh")];
        spec.tls[0].matches = vec![ConnectionMatch {
            sni_hosts: vec![A.to_owned()],
            ..ConnectionMatch::default()
        }];
        spec.tcp = vec![leads(C)];
    })]);
    let host = host(&world, A);
    assert_eq!(cluster_names(&host), ["80||a", "80||b", "80||c"]);
    assert_eq!(*world.reaches(A, "shop"), [A.to_owned(), B.to_owned(), C.to_owned()]);
    assert_eq!(
        world.warnings(),
        [
            "VirtualService/shop/r: spec.http[0].mirrors[1].destination: no service has the host nobody.mesh: requests are not mirrored",
            &format!(
                "VirtualService/shop/r: spec.http[0].mirrors[2].destination: {B} has no subset v9 (no DestinationRule names a subset of it): requests are not mirrored"
            ),
            "VirtualService/shop/r: spec.tls[0].route[0].destination: no service has the host secret.mesh: such connections are reset",
        ]
    );
}

#[test]
fn clients_with_the_same_rules_share_what_they_are_told() {
    let world = with(vec![rule("named", "shop", &[A], to(&["other", "third"]))]);
    let told = |client| world.host(A, client).unwrap();
    assert!(Arc::ptr_eq(&told("other"), &told("third")));
    assert!(!Arc::ptr_eq(&told("other"), &told("shop")));
}

#[test]
fn a_change_of_one_rule_among_many_services_rebuilds_that_one_host() {
    let services: String = (0..2_000)
        .map(|n| format!("{{apiVersion: v1, kind: Service, metadata: {{name: s{n}, namespace: many}}, spec: {{ports: [{{port: 80}}]}}}}\n---\n"))
        .collect();
    let services = documents(&services);
    let wide = rule("wide", "many", &["*.example.com"], everyone);
    let build = |change: &str, previous: Option<&World>| {
        let target = change.to_owned();
        let own = rule("own", "many", &["s7.many.svc.cluster.local"], |spec| {
            spec.http[0].name = target
        });
        let all = services.iter().cloned().chain([wide.clone(), own]);
        World::build(all, 1, previous)
    };
    let first = build("one", None);
    let second = build("two", Some(&first));
    assert_eq!(*second.changed(), ["host/s7.many.svc.cluster.local"]);
    for other in ["s8.many.svc.cluster.local", "*.example.com"] {
        assert!(Arc::ptr_eq(
            &first.host(other, "x").unwrap(),
            &second.host(other, "x").unwrap()
        ));
    }
}
