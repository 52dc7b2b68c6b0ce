//! VirtualServices that delegate, and what they stand for.

use super::scope::{A, C, aged, everyone, met, rule, to, with};
use super::*;
use crate::config::{Delegate, HttpMatch, HttpRule, Spec, StringMatch, VirtualService};

fn delegate(name: &str) -> Option<Delegate> {
    Some(Delegate {
        name: name.to_owned(),
        namespace: "team".to_owned(),
    })
}

fn prefix(path: &str) -> Vec<HttpMatch> {
    vec![HttpMatch {
        uri: Some(StringMatch::Prefix(path.to_owned())),
        ..HttpMatch::default()
    }]
}

/// Delegates what begins with `/team` and keeps the rest.
fn root() -> Arc<Document> {
    rule("root", "shop", &["front.example.com"], |spec| {
        let own = spec.http[0].clone();
        let delegating = HttpRule {
            name: "outer".into(),
            matches: prefix("/team"),
            timeout: Some(std::time::Duration::from_secs(3)),
            delegate: delegate("inner"),
            ..HttpRule::default()
        };
        spec.http = vec![delegating, own];
    })
}

fn inner(change: impl FnOnce(&mut VirtualService)) -> Arc<Document> {
    rule("inner", "team", &[], |spec| {
        let mut first = spec.http[0].clone();
        first.matches = prefix("/team/a");
        first.route[0].host = C.to_owned();
        let mut second = first.clone();
        (second.name, second.matches) = (String::new(), Vec::new());
        spec.http = vec![first, second];
        change(spec);
    })
}

fn rules(world: &World) -> Vec<mesh::HttpRule> {
    host_for(world, "front.example.com", "x")
        .routes
        .unwrap_or_default()
        .http
}

fn names(world: &World) -> Vec<String> {
    rules(world).into_iter().map(|rule| rule.name).collect()
}

#[test]
fn the_rules_of_a_delegate_stand_where_they_were_delegated() {
    let world = with(vec![root(), inner(everyone)]);
    assert_eq!(
        world.warnings(),
        ["VirtualService/shop/root: spec.hosts: no service has the host front.example.com"]
    );
    let rules = rules(&world);
    assert_eq!(names(&world), ["outer-inner", "outer", "root"]);
    let uri = |rule: &mesh::HttpRule| rule.matches[0].uri.clone().unwrap().kind.unwrap();
    use mesh::string_match::Kind::Prefix;
    assert_eq!(
        (uri(&rules[0]), uri(&rules[1])),
        (Prefix("/team/a".into()), Prefix("/team".into()))
    );
    assert!(rules[0].timeout.is_some() && rules[1].timeout.is_some() && rules[2].timeout.is_none());
    let origins: Vec<_> = rules
        .iter()
        .map(|rule| {
            rule.origin
                .clone()
                .map(|origin| (origin.namespace, origin.name, origin.index))
        })
        .collect();
    let of = |namespace: &str, name: &str, index| Some((namespace.to_owned(), name.to_owned(), index));
    assert_eq!(
        origins,
        [of("team", "inner", 0), of("team", "inner", 1), of("shop", "root", 1)]
    );
    assert_eq!(
        *world.reaches("front.example.com", "x"),
        [A.to_owned(), C.to_owned(), "front.example.com".to_owned()]
    );
    assert!(model::Host::try_from(host_for(&world, "front.example.com", "x")).is_ok());
}

#[test]
fn a_delegate_that_comes_changes_or_goes_changes_the_hosts_of_its_roots() {
    let build = |rules: Vec<Arc<Document>>, previous: Option<&World>| World::build(rules.into_iter(), 1, previous);
    let first = build(vec![root()], None);
    let missing = "VirtualService/shop/root: spec.http[0].delegate: there is no VirtualService team/inner without hosts: the rule is left out";
    assert_eq!(names(&first), ["root"]);
    assert!(first.warnings().contains(&missing.to_owned()), "{:?}", first.warnings());
    let second = build(vec![root(), inner(everyone)], Some(&first));
    assert_eq!(names(&second), ["outer-inner", "outer", "root"]);
    assert_eq!(*second.changed(), ["host/front.example.com"]);
    assert!(!second.warnings().contains(&missing.to_owned()));
    assert_eq!(second.concerns(&inner(everyone)), ["front.example.com"]);
    let third = build(vec![root(), inner(|spec| spec.http.truncate(1))], Some(&second));
    assert_eq!(names(&third), ["outer-inner", "root"]);
    // A service that only the delegate leads to concerns the root's host.
    let services = documents(
        "{apiVersion: v1, kind: Service, metadata: {name: c, namespace: other}, spec: {ports: [{port: 80}]}}",
    );
    let fourth = World::build([root(), inner(everyone)].into_iter().chain(services), 1, Some(&third));
    assert_eq!(cluster_names(&host_for(&fourth, "front.example.com", "x")), ["80||c"]);
    let fifth = build(vec![root()], Some(&fourth));
    assert_eq!(names(&fifth), ["root"]);
    let alone = build(vec![inner(everyone)], Some(&fifth));
    let idle = "VirtualService/team/inner: spec.hosts: has none, and no VirtualService delegates to this one: no sidecar uses it";
    assert_eq!(alone.warnings(), [idle]);
}

#[test]
fn a_delegate_must_be_exported_to_the_namespace_of_its_root() {
    for (namespaces, expected) in [(&["shop"][..], 3), (&["team", "other"], 1), (&[], 1)] {
        let world = with(vec![root(), inner(to(namespaces))]);
        assert_eq!(names(&world).len(), expected, "{namespaces:?}");
        let said = world.warnings().contains(
            &"VirtualService/shop/root: spec.http[0].delegate: VirtualService/team/inner is not exported to namespace shop: the rule is left out".to_owned(),
        );
        assert_eq!(said, expected == 1, "{:?}", world.warnings());
    }
}

#[test]
fn a_rule_that_conflicts_with_its_root_is_left_out_and_both_authors_are_told() {
    let world = with(vec![root(), inner(|spec| spec.http[0].matches = prefix("/other"))]);
    assert_eq!(names(&world), ["outer", "root"]);
    let warnings = world.warnings();
    for expected in [
        "VirtualService/shop/root: spec.http[0].match[0].uri: takes no request that spec.http[0].match[0].uri of its delegate VirtualService/team/inner takes, as far as can be told: that rule is left out",
        "VirtualService/team/inner: spec.http[0].match[0].uri: is not within spec.http[0].match[0].uri of VirtualService/shop/root, which delegates to it: the rule is left out there",
    ] {
        assert!(warnings.contains(&expected.to_owned()), "{warnings:?}");
    }
}

#[test]
fn a_delegate_does_not_delegate_in_turn() {
    let world = with(vec![
        root(),
        inner(|spec| {
            spec.http[1].route.clear();
            spec.http[1].delegate = delegate("inner");
        }),
    ]);
    assert_eq!(names(&world), ["outer-inner", "root"]);
    let about = |key: &str| {
        world
            .warnings()
            .iter()
            .any(|warning| warning.starts_with(key) && warning.contains("in turn"))
    };
    assert!(
        about("VirtualService/shop/root: ") && about("VirtualService/team/inner: "),
        "{:?}",
        world.warnings()
    );
}

#[test]
fn a_root_with_nothing_left_is_as_if_it_were_not_there() {
    let only_delegates = |day| {
        let mut document = Document::clone(&root());
        let Spec::VirtualService(spec) = &mut document.spec else {
            panic!("it is one")
        };
        spec.hosts = vec![A.to_owned()];
        spec.http.truncate(1);
        aged(Arc::new(document), day)
    };
    let world = with(vec![only_delegates(1)]);
    assert_eq!(met(&world, A, "x"), Some(Vec::new()));
    let world = with(vec![only_delegates(1), aged(rule("next", "shop", &[A], everyone), 2)]);
    assert_eq!(met(&world, A, "x"), Some(vec!["next".to_owned()]));
}

#[test]
fn a_short_root_with_long_delegates_does_not_grow_without_bound() {
    let many = |path: &str| (0..1_000).flat_map(|_| prefix(path)).collect::<Vec<_>>();
    let root = rule("root", "shop", &["front.example.com"], |spec| {
        spec.http[0].route.clear();
        spec.http[0].matches = many("/");
        spec.http[0].delegate = delegate("inner");
    });
    let inner = rule("inner", "team", &[], |spec| spec.http[0].matches = many("/a"));
    let world = with(vec![root, inner]);
    assert!(world.host("front.example.com", "x").is_none());
    let said = |warning: &String| warning.contains("together with its delegates it has too many matches");
    assert!(world.warnings().iter().any(said), "{:?}", world.warnings());
}
