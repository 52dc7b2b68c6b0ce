//! Rules: destinations, ports, weights, and what a rule does that its author may not have meant.

use super::*;

const TWO: &str = "
apiVersion: v1
kind: Service
metadata: {name: user-service}
spec: {clusterIP: None, ports: [{name: http, port: 80}, {name: admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: two}
spec: {clusterIP: None, ports: [{name: http, port: 80}, {name: x, port: 82}]}
---
apiVersion: v1
kind: Service
metadata: {name: sole}
spec: {clusterIP: None, ports: [{name: grpc, port: 7}]}
---
";

fn rule(name: &str, host: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [{host}]\n  http: {http}\n---\n"
    )
}

fn to(destination: &str) -> String {
    format!("[{{route: [{{destination: {{{destination}}}}}]}}]")
}

fn clusters(destination: &str) -> Vec<String> {
    let world = world(&format!("{TWO}{}", rule("r", "user-service", &to(destination))));
    cluster_names(&host(&world, USER))
        .into_iter()
        .filter(|name| !name.ends_with("|user-service"))
        .collect()
}

#[test]
fn a_destination_without_a_port_means_the_sole_one_else_the_clients() {
    assert_eq!(clusters("host: sole"), ["7||sole"]);
    assert_eq!(clusters("host: two"), ["80||two"]);
    assert_eq!(clusters("host: two, port: {number: 82}"), ["82||two"]);
    assert_eq!(clusters("host: two, port: {number: 99}"), [""; 0]);
    assert_eq!(clusters("host: two, subset: nobody"), [""; 0]);
    assert_eq!(clusters("host: nobody"), [""; 0]);
}

#[test]
fn the_plain_clusters_of_every_port_are_always_there() {
    let world = world(&format!("{TWO}{}", rule("r", "user-service", &to("host: sole"))));
    let host = host(&world, USER);
    assert_eq!(
        cluster_names(&host),
        ["7||sole", "80||user-service", "81||user-service"]
    );
    assert_eq!(cluster(&host, "sole", "").protocol(), mesh::Protocol::Http2);
    assert_eq!(
        *world.reaches(USER, "x"),
        ["sole.default.svc.cluster.local".to_owned(), USER.to_owned()]
    );
}

#[test]
fn a_destination_that_is_not_there_is_a_warning_and_no_cluster() {
    for (destination, warning) in [
        (
            "host: nobody",
            "no service has the host nobody.default.svc.cluster.local: such requests get 503 NC",
        ),
        (
            "host: two, subset: v9",
            "has no subset v9 (no DestinationRule names a subset of it)",
        ),
        ("host: two, port: {number: 9}", "has no port 9 (it has 80, 82)"),
    ] {
        let world = world(&format!("{TWO}{}", rule("r", "user-service", &to(destination))));
        assert_eq!(world.problems(), []);
        let warnings = world.warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with("VirtualService/default/r: spec.http[0].route[0].destination: "),
            "{warnings:?}"
        );
        assert!(warnings[0].contains(warning), "{warnings:?}");
    }
}

#[test]
fn destinations_that_get_nothing_are_left_out() {
    let weights = |route: &str| {
        let world = world(&format!(
            "{TWO}{}",
            rule("r", "user-service", &format!("[{{route: [{route}]}}]"))
        ));
        assert_eq!(world.problems(), []);
        let host = host(&world, USER);
        let weights: Vec<u32> = host.routes.as_ref().unwrap().http[0]
            .route
            .iter()
            .map(|to| to.weight)
            .collect();
        (weights, cluster_names(&host).len() - 2)
    };
    assert_eq!(weights("{destination: {host: sole}, weight: 0}"), (vec![100], 1));
    assert_eq!(
        weights("{destination: {host: sole}, weight: 7}, {destination: {host: two}, weight: 0}"),
        (vec![100], 1)
    );
    assert_eq!(
        weights("{destination: {host: sole}, weight: 7}, {destination: {host: two}, weight: 14}"),
        (vec![7, 14], 2)
    );
}

#[test]
fn of_two_rules_for_a_host_the_oldest_is_in_force() {
    let aged = |name: &str, created: &str, target: &str| {
        rule(name, "user-service", &to(target)).replace("}\nspec", &format!(", creationTimestamp: {created}}}\nspec"))
    };
    let text = format!(
        "{TWO}{}{}{}",
        aged("a", "2026-01-02T00:00:00Z", "host: two"),
        aged("b", "2026-01-01T23:59:59.5Z", "host: sole"),
        rule("_".replace('_', "c").as_str(), "user-service", &to("host: two")),
    );
    let world = world(&text);
    assert_eq!(host(&world, USER).routes.unwrap().name, "b");
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].starts_with("VirtualService/default/a: spec.hosts: VirtualService/default/b is older"));
}

#[test]
fn a_rule_behind_one_that_takes_everything_is_a_warning() {
    for (first, hidden) in [
        ("{route: [{destination: {host: sole}}]}", true),
        (
            "{match: [{uri: {prefix: /}}], route: [{destination: {host: sole}}]}",
            true,
        ),
        (
            "{match: [{method: {exact: GET}}, {uri: {regex: '.*'}}], route: [{destination: {host: sole}}]}",
            true,
        ),
        (
            "{match: [{uri: {prefix: /a}}], route: [{destination: {host: sole}}]}",
            false,
        ),
        (
            "{match: [{uri: {prefix: /}, headers: {a: {}}}], route: [{destination: {host: sole}}]}",
            false,
        ),
    ] {
        let http = format!("[{first}, {{route: [{{destination: {{host: two}}}}]}}]");
        let world = world(&format!("{TWO}{}", rule("r", "user-service", &http)));
        let warned = world
            .warnings()
            .iter()
            .any(|warning| warning.contains("spec.http[1]: hidden by spec.http[0]"));
        assert_eq!(warned, hidden, "{first}");
    }
}

#[test]
fn a_host_that_only_a_rule_knows_is_routed_with_the_ports_of_its_destination() {
    let world = world(&format!("{TWO}{}", rule("r", "front.example.com", &to("host: two"))));
    let host = host(&world, "front.example.com");
    assert_eq!(host.ports.iter().map(|port| port.number).collect::<Vec<_>>(), [80, 82]);
    assert_eq!(cluster_names(&host), ["80||two", "82||two"]);
    assert_eq!((host.namespace.as_str(), host.routes.is_some()), ("default", true));
    assert!(endpoints_of(&world, "front.example.com").upserts.is_empty());
    assert_eq!(
        *world.reaches("front.example.com", "x"),
        [
            "front.example.com".to_owned(),
            "two.default.svc.cluster.local".to_owned()
        ]
    );
    assert_eq!(
        world.warnings(),
        ["VirtualService/default/r: spec.hosts: no service has the host front.example.com"]
    );
    assert!(model::Host::try_from(host).is_ok());
}

#[test]
fn everything_a_rule_can_say_passes_the_judge() {
    let http = "
  - name: all
    match:
    - name: m
      uri: {prefix: /A}
      ignoreUriCase: true
      method: {exact: GET}
      authority: {regex: 'user.*'}
      headers: {b: {}, a: {exact: ''}}
      withoutHeaders: {c: {prefix: x}}
      queryParams: {q: {exact: '1'}}
      port: 80
    route:
    - destination: {host: sole}
      headers: {response: {add: {x-a: b}}}
    timeout: 1.5s
    retries: {attempts: 2, perTryTimeout: 200ms, retryOn: '5xx,503', backoff: 10ms, retryIgnorePreviousHosts: false}
    headers: {request: {set: {x: '1%%'}, remove: [y]}}
";
    let world = world(&format!("{TWO}{}", rule("r", "user-service", http)));
    assert_eq!(
        (world.problems(), world.warnings()),
        (Vec::<Problem>::new(), Vec::<String>::new())
    );
    let rule = host(&world, USER).routes.unwrap().http.remove(0);
    assert_eq!(
        rule.timeout,
        Some(prost_types::Duration {
            seconds: 1,
            nanos: 500_000_000
        })
    );
    assert_eq!(
        rule.matches[0]
            .headers
            .iter()
            .map(|header| header.name.as_str())
            .collect::<Vec<_>>(),
        ["a", "b"]
    );
    let retries = rule.retries.unwrap();
    assert_eq!(
        (retries.attempts, retries.retry_on, retries.ignore_previous_hosts),
        (2, vec!["503".into(), "5xx".into()], Some(false))
    );
    assert_eq!(rule.request_headers.unwrap().set[0].value, "1%%");
    assert_eq!(rule.route[0].response_headers.clone().unwrap().add[0].name, "x-a");
}

#[test]
fn a_warning_names_some_of_many_subsets() {
    let subsets: String = (0..500).map(|n| format!("{{name: v{n:03}}}, ")).collect();
    let text = format!(
        "{SERVICE}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: user-service}}
spec: {{hosts: [user-service], http: [{{route: [{{destination: {{host: user-service, subset: w}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: user-service}}
spec: {{host: user-service, subsets: [{subsets}]}}
"
    );
    let mut warnings = world(&text).warnings();
    warnings.retain(|warning| warning.starts_with("VirtualService/"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("it has v000, v001"), "{warnings:?}");
    assert!(
        warnings[0].contains("v009 and 490 more, by DestinationRule"),
        "{warnings:?}"
    );
}
