//! DestinationRules: whose is in force, how rules are merged, what a subset inherits.

use super::*;

const HOST: &str = "
apiVersion: v1
kind: Service
metadata: {name: user-service}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: r}
spec:
  hosts: [user-service]
  http: [{route: [{destination: {host: user-service, subset: v1}}]}]
---
";

fn destination_rule(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  host: {USER}\n  {spec}\n---\n"
    )
}

fn limit(value: u32) -> String {
    format!("trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {value}}}}}}}\n  subsets: [{{name: v1}}]")
}

fn limit_for(world: &World, client: &str) -> u32 {
    let host = host_for(world, USER, client);
    cluster(&host, "user-service", "v1")
        .connection_pool
        .map(|pool| pool.max_connections)
        .unwrap_or_default()
}

#[test]
fn the_clients_namespace_goes_before_the_services_and_that_before_the_root() {
    let root = destination_rule("tsunagi-system", "root", &limit(1));
    let service = destination_rule("default", "service", &limit(2));
    let client = destination_rule("shop", "client", &limit(3));
    let limits = |text: String| {
        let world = world(&text);
        assert_eq!(
            (world.problems(), world.warnings()),
            (Vec::<Problem>::new(), Vec::<String>::new()),
            "{text}"
        );
        ["default", "shop", "other", "tsunagi-system"].map(|client| limit_for(&world, client))
    };
    assert_eq!(limits(format!("{HOST}{root}")), [1, 1, 1, 1]);
    assert_eq!(limits(format!("{HOST}{root}{service}")), [2, 2, 2, 2]);
    assert_eq!(limits(format!("{HOST}{root}{service}{client}")), [2, 3, 2, 2]);
    assert_eq!(limits(format!("{HOST}{root}{client}")), [1, 3, 1, 1]);
}

#[test]
fn only_namespaces_with_a_rule_of_their_own_get_a_resource_of_their_own() {
    let service = destination_rule("default", "service", &limit(2));
    let same = destination_rule("same", "client", &limit(2));
    let shop = destination_rule("shop", "client", &limit(3));
    let world = world(&format!("{HOST}{service}{same}{shop}"));
    let of = |client: &str| world.host(USER, client).unwrap();
    assert!(Arc::ptr_eq(&of("default"), &of("other")));
    assert!(Arc::ptr_eq(&of("default"), &of("same")));
    assert_ne!(of("default").version, of("shop").version);
}

#[test]
fn a_clients_rule_hides_the_subsets_of_the_owner() {
    let owner = destination_rule("default", "owner", &limit(2));
    let client = destination_rule("shop", "client", "subsets: [{name: v9}]");
    let world = world(&format!("{HOST}{owner}{client}"));
    assert_eq!(
        cluster_names(&host_for(&world, USER, "default")),
        ["80||user-service", "80|v1|user-service"]
    );
    assert_eq!(cluster_names(&host_for(&world, USER, "shop")), ["80||user-service"]);
    let warnings = world.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("no subset v1 (it has v9, by DestinationRule/shop/client)"),
        "{warnings:?}"
    );
    assert!(
        warnings[0].ends_with("503 NC for clients of namespace shop"),
        "{warnings:?}"
    );
}

#[test]
fn a_subset_inherits_block_by_block() {
    let spec = "trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {maxRetries: 7}}
    loadBalancer: {simple: RANDOM}
    outlierDetection: {consecutive5xxErrors: 2}
  subsets:
  - name: v1
    trafficPolicy:
      connectionPool: {http: {http2MaxRequests: 9}}
      outlierDetection: {}";
    let world = world(&format!("{HOST}{}", destination_rule("default", "d", spec)));
    let host = host(&world, USER);
    let v1 = cluster(&host, "user-service", "v1");
    let pool = v1.connection_pool.unwrap();
    assert_eq!((pool.max_connections, pool.max_retries, pool.max_requests), (0, 0, 9));
    assert_eq!(v1.load_balancer(), mesh::LoadBalancer::Random);
    assert_eq!(v1.outlier_detection.as_ref().unwrap().consecutive_5xx, 5);
    let plain = cluster(&host, "user-service", "");
    assert_eq!(plain.connection_pool.unwrap().max_connections, 1);
    assert_eq!(plain.outlier_detection.as_ref().unwrap().consecutive_5xx, 2);
    assert!(plain.labels.is_empty());
}

/// A block as the whole host has it, and as its subset does.
const BLOCKS: [[&str; 2]; 6] = [
    [
        "connectionPool: {tcp: {maxConnections: 3}}",
        "connectionPool: {http: {maxRetries: 7}}",
    ],
    ["loadBalancer: {simple: RANDOM}", "loadBalancer: {simple: ROUND_ROBIN}"],
    [
        "outlierDetection: {consecutive5xxErrors: 2}",
        "outlierDetection: {interval: 3s}",
    ],
    [
        "tls: {mode: SIMPLE, sni: a.example}",
        "tls: {mode: SIMPLE, subjectAltNames: [b.example]}",
    ],
    ["proxyProtocol: {version: V1}", "proxyProtocol: {version: V2}"],
    ["retryBudget: {percent: 7}", "retryBudget: {minRetryConcurrency: 4}"],
];

/// The policy of the subset, of a host with this one.
fn of_subset(top: &[&str], own: &[&str]) -> mesh::Cluster {
    let policy = |blocks: &[&str]| match blocks {
        [] => String::new(),
        blocks => format!("trafficPolicy: {{{}}}", blocks.join(", ")),
    };
    let spec = format!("{}\n  subsets: [{{name: v1, {}}}]", policy(top), policy(own));
    let world = world(&format!("{HOST}{}", destination_rule("default", "d", &spec)));
    cluster(&host(&world, USER), "user-service", "v1").clone()
}

#[test]
fn each_block_of_the_host_is_its_subsets_unless_the_subset_has_its_own() {
    let all = BLOCKS.map(|[top, _]| top);
    let mut wrong = Vec::new();
    for (index, [top, own]) in BLOCKS.into_iter().enumerate() {
        let mut replaced = all;
        replaced[index] = own;
        let another = BLOCKS[(index + 1) % BLOCKS.len()][1];
        for (what, found, expected) in [
            ("of the whole", of_subset(&[top], &[]), of_subset(&[], &[top])),
            (
                "inherited",
                of_subset(&[top], &[another]),
                of_subset(&[], &[top, another]),
            ),
            ("its own", of_subset(&[top], &[own]), of_subset(&[], &[own])),
            ("beside others", of_subset(&all, &[own]), of_subset(&[], &replaced)),
        ] {
            if found != expected || found == of_subset(&[], &[]) {
                wrong.push(format!("{what}: {top}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn rules_of_one_host_and_namespace_are_merged_the_oldest_first() {
    let aged = |name: &str, day: u32, spec: &str| {
        destination_rule("default", name, spec).replace(
            "namespace: default",
            &format!("namespace: default, creationTimestamp: '2026-01-0{day}T00:00:00Z'"),
        )
    };
    let text = format!(
        "{HOST}{}{}{}",
        aged(
            "a",
            3,
            "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}\n  subsets: [{name: v1, labels: {v: late}}, {name: v3}]"
        ),
        aged("b", 1, "subsets: [{name: v1, labels: {v: early}}]"),
        aged("c", 2, "trafficPolicy: {connectionPool: {tcp: {maxConnections: 2}}}"),
    );
    let world = world(&text);
    let host = host(&world, USER);
    let v1 = cluster(&host, "user-service", "v1");
    assert_eq!(v1.labels[0].value, "early");
    assert_eq!(v1.connection_pool.unwrap().max_connections, 2);
    assert_eq!(
        world.warnings(),
        [
            "DestinationRule/default/a: spec.trafficPolicy: hidden by the one of DestinationRule/default/c",
            "DestinationRule/default/a: subset v1: hidden by the one of an older rule",
        ]
    );
}

#[test]
fn a_policy_of_another_host_goes_along_with_the_rule_that_reaches_it() {
    let text = format!(
        "{HOST}
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: front}}
spec:
  hosts: [front.example.com]
  http: [{{route: [{{destination: {{host: user-service, subset: v1}}}}]}}]
---
{}",
        destination_rule("shop", "client", &limit(3))
    );
    let world = world(&text);
    let of = |client| host_for(&world, "front.example.com", client);
    assert_eq!(cluster_names(&of("default")), [""; 0]);
    assert_eq!(cluster_names(&of("shop")), ["80|v1|user-service"]);
}

#[test]
fn a_rule_for_a_host_that_is_not_there_is_a_warning() {
    let text = destination_rule("default", "d", &limit(1));
    assert_eq!(
        world(&text).warnings(),
        [format!(
            "DestinationRule/default/d: spec.host: no service has the host {USER}"
        )]
    );
    assert!(world(&text).host(USER, "default").is_none());
    assert!(world(&text).host_names().is_empty());
}

/// What is said where the sole rule for v1 is this one.
fn unseen_in(namespace: &str, more: &str) -> Vec<UnseenSubset> {
    let rule = destination_rule(namespace, "d", &format!("subsets: [{{name: v1}}]\n  {more}"));
    let world = world(&format!("{HOST}{rule}"));
    let unseen = world.unseen_subsets();
    let told: Vec<String> = unseen.iter().map(ToString::to_string).collect();
    assert!(told.iter().all(|text| world.warnings().contains(text)), "{told:?}");
    unseen
}

#[test]
fn who_lacks_a_subset_that_is_exported_to_others_is_told_by_whose_rule_and_why() {
    let private = unseen_in("default", "exportTo: ['.']");
    assert_eq!(
        private.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "VirtualService/default/r: spec.http[0].route[0].destination: user-service.default.svc.cluster.local has no subset v1 for clients outside namespace default: DestinationRule/default/d, which defines v1, is exported to `.` only: such requests get 503 NC"
        ]
    );
    assert_eq!(private[0].defined_by[0].to_string(), "DestinationRule/default/d");
    for (namespace, more, clients, because) in [
        (
            "default",
            "exportTo: ['.', shop]",
            "clients outside namespaces default, shop",
            "is exported to `.`, `shop` only",
        ),
        (
            "tsunagi-system",
            "exportTo: [shop]",
            "clients outside namespace shop",
            "is exported to `shop` only",
        ),
        (
            "shop",
            "exportTo: ['*']",
            "clients outside namespace shop",
            "is in namespace shop, where only its own clients look for rules",
        ),
        (
            "shop",
            "workloadSelector: {matchLabels: {app: web}}",
            "clients outside namespace shop",
            "is for workloads of namespace shop that it selects only",
        ),
    ] {
        let mut unseen = unseen_in(namespace, more);
        // Of those that the selector leaves out `clients` has a test.
        unseen.retain(|it| !it.is_of_some);
        assert_eq!(unseen.len(), 1, "{unseen:?}");
        assert_eq!(unseen[0].clients, clients);
        assert!(unseen[0].because.ends_with(because), "{:?}", unseen[0].because);
    }
    assert_eq!(unseen_in("default", "exportTo: ['*']"), []);
    assert_eq!(unseen_in("tsunagi-system", ""), []);
}

#[test]
fn of_a_rule_for_one_namespace_its_clients_are_told_what_they_do_not_see() {
    let hidden = destination_rule("default", "d", "subsets: [{name: v1}]\n  exportTo: ['.']");
    let shop = HOST.replace("hosts: [user-service]", "hosts: [user-service]\n  exportTo: [shop]");
    let unseen = world(&format!("{shop}{hidden}")).unseen_subsets();
    let clients: Vec<&str> = unseen.iter().map(|it| it.clients.as_str()).collect();
    assert_eq!(clients, ["clients outside namespace default"]);
    // The clients of shop have a rule of their own.
    let own = destination_rule("shop", "own", "subsets: [{name: v2}]");
    let unseen = world(&format!("{shop}{hidden}{own}")).unseen_subsets();
    let clients: Vec<&str> = unseen.iter().map(|it| it.clients.as_str()).collect();
    assert_eq!(clients, ["clients of namespace shop"]);
}
