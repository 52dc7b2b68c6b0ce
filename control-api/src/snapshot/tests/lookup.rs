//! DestinationRules: whom one is for, which of several is in force, what is merged, and what is told where that depends on
//! a client's labels. Most cases are those of Istio's own tests (`TestSetDestinationRule…`, `TestMergeSubsetTrafficPolicy`).

use tsunagi_proto::model::RetryBudget;

use super::*;
use crate::config::{ConnectionPool, DestinationRule, ExportTo, PortPolicy, Spec, Subset, TrafficPolicy};
use crate::snapshot::catalog::Catalog;
use crate::snapshot::policy::Policies;

/// A rule of its namespace, `day` days old in reverse: the first day is the oldest.
pub(super) fn rule(
    namespace: &str,
    name: &str,
    day: u8,
    host: &str,
    change: impl FnOnce(&mut DestinationRule),
) -> Arc<Document> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}\nspec: {{host: a.example.com}}\n"
    );
    let mut document = Arc::unwrap_or_clone(documents(&text).remove(0));
    if let Spec::DestinationRule(rule) = &mut document.spec {
        rule.host = host.to_owned();
        change(rule);
    }
    Arc::new(document)
}

pub(super) fn to(namespaces: &[&str]) -> ExportTo {
    ExportTo::Namespaces(namespaces.iter().map(|name| (*name).to_owned()).collect())
}

pub(super) fn subset(name: &str) -> Subset {
    Subset {
        name: name.to_owned(),
        labels: labels(&[("version", name)]),
        policy: None,
    }
}

pub(super) fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(super) fn limited(max_connections: u32) -> ConnectionPool {
    ConnectionPool {
        max_connections,
        ..ConnectionPool::default()
    }
}

pub(super) fn limit(max_connections: u32) -> TrafficPolicy {
    TrafficPolicy {
        connection_pool: Some(limited(max_connections)),
        ..TrafficPolicy::default()
    }
}

fn catalog(root: &str, rules: &[Arc<Document>]) -> Catalog {
    let mut catalog = Catalog::new(root);
    rules.iter().for_each(|rule| catalog.add(rule));
    catalog
}

/// Subsets that clients with these labels have.
fn subsets(catalog: &Catalog, host: &str, service: &str, client: &str, of: &[(&str, &str)]) -> Vec<String> {
    let policies = Policies::find(catalog, host, service, Some(client));
    let names = policies.of_client(&labels(of)).subset_names();
    names.into_iter().map(str::to_owned).collect()
}

#[test]
fn rules_are_found_in_the_namespaces_and_for_the_clients_that_istio_finds_them_for() {
    let (host, root) = ("httpbin.org", "istio-system");
    let with = |namespace: &str, name: &str, host: &str, exports: ExportTo, subset_name: &str| {
        rule(namespace, name, 1, host, |rule| {
            rule.exports = exports;
            rule.subsets = vec![subset(subset_name)];
        })
    };
    let everyone = || ExportTo::Everyone;
    let rules = [
        with("test1", "rule1", host, to(&["test1", "ns1"]), "one"),
        with("test2", "rule2", host, to(&["test2", "ns1", "test1", "new"]), "two"),
        with("test3", "rule3", host, everyone(), "three"),
        with("test4", "local", host, to(&["test4"]), "four"),
        with(root, "rule4", host, everyone(), "root"),
        with(root, "rule1", host, to(&[root]), "root-local"),
        with(root, "rule2", "*.org", to(&[root]), "root-org"),
        with(root, "rule3", "*.app.org", to(&[root]), "root-app"),
        with("test5", "rule5", "api.test.com", to(&["test5", root]), "five"),
        with("test6", "rule6", "api.test.com", to(&[root]), "six"),
    ];
    let catalog = catalog(root, &rules);
    for (client, service, host, wanted) in [
        ("test1", "test1", host, "one"),
        ("test1", "test2", host, "one"),
        ("test2", "test1", host, "two"),
        ("new", "test2", host, "two"),
        ("test3", "test1", host, "three"),
        ("test5", "test4", host, "root"),
        ("ns1", "test1", host, "one"),
        ("ns1", "random", host, "root"),
        ("random", "random", host, "root"),
        ("test3", "random", host, "three"),
        (root, "random", host, "root-local"),
        (root, root, host, "root-local"),
        (root, root, "foo.app.org", "root-app"),
        (root, root, "foo.org", "root-org"),
        (root, "test5", "api.test.com", "five"),
        (root, "test6", "api.test.com", "six"),
        (root, "test7", "api.test.com", ""),
    ] {
        let found = subsets(&catalog, host, service, client, &[]);
        assert_eq!(found.concat(), wanted, "{client} calls {host} of {service}");
    }
}

#[test]
fn the_most_specific_host_counts_and_of_two_wildcards_the_longer() {
    let with = |namespace: &str, host: &str, exports: ExportTo| {
        let name = format!("for{}z", host.replace(['*', '.'], "-"));
        rule(namespace, &name, 1, host, |rule| {
            rule.exports = exports;
            rule.subsets = vec![subset(&format!("s{}", host.replace(['*', '.'], "-")))];
        })
    };
    let service = "cart.prod.svc.cluster.local";
    let all = [
        with("shop", "*", ExportTo::Everyone),
        with("shop", "*.local", ExportTo::Everyone),
        with("shop", "*.prod.svc.cluster.local", ExportTo::Everyone),
        with("shop", service, ExportTo::Everyone),
        with("prod", "*-t.prod.svc.cluster.local", ExportTo::Everyone),
    ];
    let found = |rules: &[Arc<Document>], host: &str, client: &str| {
        subsets(&catalog("root", rules), host, "prod", client, &[]).concat()
    };
    assert_eq!(found(&all, service, "shop"), "scart-prod-svc-cluster-local");
    assert_eq!(found(&all[..3], service, "shop"), "s--prod-svc-cluster-local");
    assert_eq!(found(&all[..2], service, "shop"), "s--local");
    assert_eq!(found(&all[..1], service, "shop"), "s-");
    // Of the client's namespace however wide, before one of the service's.
    assert_eq!(
        found(&all, "art.prod.svc.cluster.local", "shop"),
        "s--prod-svc-cluster-local"
    );
    assert_eq!(
        found(&all, "ca-t.prod.svc.cluster.local", "prod"),
        "s--t-prod-svc-cluster-local"
    );
    assert_eq!(found(&all, service, "prod"), "");
    // A service whose own name is a wildcard.
    let wild = [
        with("shop", "*.com", ExportTo::Everyone),
        with("shop", "a.example.com", ExportTo::Everyone),
    ];
    assert_eq!(found(&wild, "*.example.com", "shop"), "s--com");
    let own = [wild[0].clone(), with("shop", "*.example.com", ExportTo::Everyone)];
    assert_eq!(found(&own, "*.example.com", "shop"), "s--example-com");
    // One that a client does not see hides none that it sees.
    let hidden = [
        with("prod", service, to(&["other"])),
        with("prod", "*.local", ExportTo::Everyone),
    ];
    assert_eq!(found(&hidden, service, "shop"), "s--local");
    assert_eq!(found(&hidden, service, "other"), "scart-prod-svc-cluster-local");
}

#[test]
fn rules_for_the_same_clients_are_merged_and_others_are_not() {
    let with = |name: &str, day: u8, exports: ExportTo| {
        rule("prod", name, day, "a.mesh", |rule| {
            rule.exports = exports;
            rule.subsets = vec![subset(name)];
        })
    };
    let found = |rules: &[Arc<Document>], client: &str| {
        let catalog = catalog("root", rules);
        subsets(&catalog, "a.mesh", "prod", client, &[]).join(",")
    };
    let same = [
        with("a", 1, ExportTo::Everyone),
        with("b", 2, ExportTo::Everyone),
        with("c", 3, to(&["root"])),
    ];
    // Whoever is named sees the rule for it alone, as it is younger.
    assert_eq!((found(&same, "x"), found(&same, "root")), ("a,b".into(), "c".into()));
    let older = [with("a", 2, ExportTo::Everyone), with("c", 1, to(&["x"]))];
    assert_eq!((found(&older, "x"), found(&older, "y")), ("a".into(), "a".into()));
    // One for more namespaces is merged into one for some of them, and is there for the others.
    let more = [with("a", 1, to(&["x"])), with("b", 2, to(&["x", "y"]))];
    assert_eq!((found(&more, "x"), found(&more, "y")), ("a,b".into(), "b".into()));
    let fewer = [with("a", 1, to(&["x", "y"])), with("b", 2, to(&["x"]))];
    assert_eq!((found(&fewer, "x"), found(&fewer, "y")), ("b".into(), "a".into()));
    let warnings = Policies::find(&catalog("root", &fewer), "a.mesh", "prod", Some("x")).warnings;
    assert_eq!(
        warnings,
        [
            "DestinationRule/prod/a: spec.exportTo: DestinationRule/prod/b is exported otherwise and younger: it is in force for a.mesh where both are seen, this one is not"
        ]
    );
}

#[test]
fn a_rule_with_a_selector_is_for_the_clients_of_its_namespace_that_have_the_labels() {
    let app = |name: &str, day: u8, app: &str, limit_of_all: u32| {
        rule("test", name, day, "httpbin.org", |rule| {
            rule.workload_selector = labels(&[("app", app)]);
            rule.exports = to(&["test2", "test"]);
            rule.policy = Some(limit(limit_of_all));
            rule.subsets = vec![subset(name)];
        })
    };
    let plain = rule("test", "plain", 1, "httpbin.org", |rule| {
        rule.exports = to(&["test", "test2"]);
        rule.policy = Some(limit(9));
        rule.subsets = vec![subset("plain")];
    });
    let rules = [
        app("one", 2, "app1", 1),
        app("two", 3, "app2", 2),
        app("three", 4, "app2", 3),
        plain,
    ];
    let found = |client: &str, of: &[(&str, &str)]| {
        let catalog = catalog("root", &rules);
        let policies = Policies::find(&catalog, "httpbin.org", "test", Some(client));
        let policy = policies.of_client(&labels(of));
        let (_, top) = policy.of_subset("", 80).unwrap();
        let limit = top.connection_pool.unwrap().max_connections;
        (policy.subset_names().join(","), limit)
    };
    assert_eq!(
        found("test", &[("app", "app1"), ("version", "v1")]),
        ("one,plain".into(), 1)
    );
    assert_eq!(found("test", &[("app", "app2")]), ("plain,three,two".into(), 2));
    assert_eq!(found("test", &[("app", "other")]), ("plain".into(), 9));
    assert_eq!(found("test2", &[("app", "app1")]), ("plain".into(), 9));
}

#[test]
fn clients_that_a_selector_does_not_select_get_what_they_would_get_without_the_rule() {
    let own = rule("shop", "own", 1, "a.mesh", |rule| {
        rule.workload_selector = labels(&[("app", "web")]);
        rule.subsets = vec![subset("own")];
    });
    let wide = rule("shop", "wide", 1, "*", |rule| {
        rule.workload_selector = labels(&[("tier", "front")]);
        rule.subsets = vec![subset("wide")];
    });
    let owner = rule("prod", "owner", 1, "a.mesh", |rule| {
        rule.subsets = vec![subset("owner")]
    });
    // For the same workloads, but less specific.
    let never = rule("shop", "never", 1, "*", |rule| {
        rule.workload_selector = labels(&[("app", "web")]);
        rule.subsets = vec![subset("never")];
    });
    let catalog = catalog("root", &[own, wide, owner, never]);
    let policies = Policies::find(&catalog, "a.mesh", "prod", Some("shop"));
    assert_eq!(policies.selected.len(), 2);
    let found = |of: &[(&str, &str)]| subsets(&catalog, "a.mesh", "prod", "shop", of).concat();
    assert_eq!(found(&[("app", "web")]), "own");
    assert_eq!(found(&[("app", "web"), ("tier", "front")]), "own");
    assert_eq!(found(&[("tier", "front")]), "wide");
    assert_eq!(found(&[("app", "other")]), "owner");
}

#[test]
fn settings_of_a_port_stand_in_the_place_of_all_beside_them() {
    let at = |port: u16, policy: PortPolicy| BTreeMap::from([(port, policy)]);
    let budget = |percent: f64| {
        Some(RetryBudget {
            percent,
            min_retry_concurrency: 3,
            interval: None,
        })
    };
    let pool = |limit: u32| PortPolicy {
        connection_pool: Some(limited(limit)),
        ..PortPolicy::default()
    };
    let balanced = PortPolicy {
        load_balancer: Some(crate::config::LoadBalancer::default()),
        ..PortPolicy::default()
    };
    let document = rule("default", "d", 1, USER, |rule| {
        rule.policy = Some(TrafficPolicy {
            retry_budget: budget(10.0),
            port_level: at(81, pool(8)),
            ..limit(7)
        });
        let of = |name: &str, policy: Option<TrafficPolicy>| Subset { policy, ..subset(name) };
        let budgeted = TrafficPolicy {
            retry_budget: budget(30.0),
            ..TrafficPolicy::default()
        };
        let ported = TrafficPolicy {
            port_level: at(80, balanced.clone()),
            ..limit(5)
        };
        rule.subsets = vec![
            of("plain", None),
            of("budgeted", Some(budgeted)),
            of("ported", Some(ported)),
        ];
    });
    let catalog = catalog("root", &[document]);
    let policies = Policies::find(&catalog, USER, "default", Some("default"));
    let found = |subset: &str, port: u16| {
        let (_, policy) = policies.rest.of_subset(subset, port).unwrap();
        assert!(policy.port_level.is_empty());
        let limit = policy.connection_pool.map(|pool| pool.max_connections);
        let budget = policy.retry_budget.map(|budget| budget.percent);
        (limit, budget, policy.load_balancer.is_some())
    };
    assert_eq!(found("", 80), (Some(7), Some(10.0), false));
    // Of the host's own port not even the budget beside it is left.
    assert_eq!(found("", 81), (Some(8), None, false));
    assert_eq!(found("plain", 80), found("", 80));
    assert_eq!(found("plain", 81), found("", 81));
    assert_eq!(found("budgeted", 80), (Some(7), Some(30.0), false));
    assert_eq!(found("budgeted", 81), (Some(8), Some(30.0), false));
    // A subset's port takes nothing of the limits of both, but the host's budget, which ports have none of.
    assert_eq!(found("ported", 80), (None, Some(10.0), true));
    assert_eq!(found("ported", 81), (Some(5), None, false));
}
