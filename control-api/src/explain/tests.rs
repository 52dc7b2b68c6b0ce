//! What a world answers, case by case; that it is what a proxy does is tested end to end.

mod connections;

use std::sync::Arc;

use super::*;
use crate::config::parse;

fn world(yaml: &str) -> World {
    let documents = parse("test.yaml", yaml, "shop").expect("valid documents");
    let world = World::build(documents.into_iter().map(Arc::new), 1, None);
    assert_eq!(world.problems(), []);
    world
}

fn ask(world: &World, json: &str) -> Answer {
    let question: Question = serde_json::from_str(json).expect("a question");
    explain(world, &question).expect("a question that makes sense")
}

/// A service with an endpoint for each (address, version).
fn service(name: &str, ports: &str, endpoints: &[(&str, &str)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: {{app: {name}}}\n  ports: [{ports}]\n"
    );
    for (index, (address, version)) in endpoints.iter().enumerate() {
        text.push_str(&format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}-{index}, namespace: shop}}\nspec:\n  address: {address}\n  labels: {{app: {name}, version: {version}}}\n"
        ));
    }
    text
}

const HTTP: &str = "{name: http, port: 80, targetPort: 8080}";

const RULES: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - name: canary
    match: [{headers: {version: {exact: v2}}}, {uri: {prefix: /new}}]
    route: [{destination: {host: user, subset: v2}}]
  - match: [{uri: {prefix: /}}]
    timeout: 2s
    route:
    - {destination: {host: user, subset: v1}, weight: 3}
    - {destination: {host: user, subset: v2}, weight: 1}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: user, namespace: shop}
spec:
  host: user
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}, outlierDetection: {consecutive5xxErrors: 3}}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

fn sample() -> World {
    let service = service(
        "user",
        HTTP,
        &[("10.0.0.1", "v1"), ("10.0.0.2", "v1"), ("10.0.0.3", "v2")],
    );
    world(&format!("{service}{RULES}"))
}

#[test]
fn the_answer_has_the_rule_its_destinations_and_why_the_rules_before_do_not_match() {
    let answer = ask(&sample(), r#"{"url": "http://user/a", "fromNamespace": "shop"}"#);
    assert_eq!(answer.host, "user.shop.svc.cluster.local");
    assert_eq!((answer.port, answer.virtual_service.as_str()), (Some(80), "shop/user"));
    let rule = answer.rule.expect("a rule");
    assert_eq!(
        (rule.name.as_str(), rule.place.as_str(), rule.item),
        ("user.shop/1", "http[1]", Some(0))
    );
    let [passed] = answer.passed_over.as_slice() else {
        panic!("{:?}", answer.passed_over)
    };
    assert_eq!(passed.rule.name, "canary");
    assert_eq!(
        passed.reasons,
        [
            "headers.version: wanted exact \"v2\", the request has none",
            "uri: wanted prefix \"/new\", the request has \"/a\""
        ]
    );
    let [v1, v2] = answer.destinations.as_slice() else {
        panic!("{:?}", answer.destinations)
    };
    assert_eq!((v1.subset.as_str(), v1.weight, v1.share), ("v1", 3, 75.0));
    assert_eq!((v2.subset.as_str(), v2.weight, v2.share), ("v2", 1, 25.0));
    assert_eq!(v1.cluster, "outbound|80|v1|user.shop.svc.cluster.local");
    assert_eq!(v1.labels["version"], "v1");
    let addresses: Vec<&str> = v1.endpoints.iter().map(|endpoint| endpoint.address.as_str()).collect();
    assert_eq!(addresses, ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(v2.endpoints[0].state, "HEALTHY");
    let policy = v1.traffic_policy.as_ref().expect("a policy");
    assert_eq!(policy.connection_pool["tcp.maxConnections"], "7");
    assert_eq!(policy.outlier_detection["consecutive5xxErrors"], "3");
    assert_eq!(policy.load_balancer, "LEAST_REQUEST");
    let policies = answer.policies.expect("policies");
    assert_eq!(policies.timeout.as_deref(), Some("2s"));
    assert!(answer.reply.is_none());
}

#[test]
fn a_name_means_what_it_means_to_the_clients_namespace() {
    let world = sample();
    let host = |json: &str| ask(&world, json).host;
    let fqdn = "user.shop.svc.cluster.local";
    assert_eq!(host(r#"{"url": "http://user/", "fromNamespace": "web"}"#), "");
    for name in [
        "user.shop",
        "user.shop.svc",
        "user.shop.svc.cluster.local.",
        "USER.shop:80",
    ] {
        let json = format!(r#"{{"url": "http://{name}/", "fromNamespace": "web"}}"#);
        assert_eq!(host(&json), fqdn, "{name}");
    }
    assert_eq!(
        host(r#"{"url": "http://10.0.0.1/", "headers": {"host": "user.shop"}}"#),
        fqdn
    );
}

#[test]
fn what_the_proxy_answers_by_itself_has_its_status_and_flag() {
    let narrow = RULES
        .replace("uri: {prefix: /}", "uri: {prefix: /only}")
        .replace("subset: v1}", "subset: v3}");
    let ports = "{name: http, port: 80}, {name: tcp-db, port: 81}";
    let world = world(&format!("{}{narrow}", service("user", ports, &[("10.0.0.1", "v1")])));
    let reply = |url: &str, namespace: &str| {
        let json = format!(r#"{{"url": "{url}", "fromNamespace": "{namespace}"}}"#);
        let reply = ask(&world, &json).reply.expect("a reply");
        (reply.status, reply.flags, reply.reason)
    };
    let expect = |status, flags: &str, reason: &str| (status, flags.to_owned(), reason.to_owned());
    let fqdn = "user.shop.svc.cluster.local";
    let no_rule = format!("no rule for {fqdn} matches the request");
    assert_eq!(reply("http://user/a", "shop"), expect(404, "NR", &no_rule));
    assert_eq!(
        reply("http://user:82/a", "shop"),
        expect(404, "NR", &format!("{fqdn} has no port 82"))
    );
    assert_eq!(
        reply("http://user:81/a", "shop"),
        expect(404, "NR", &format!("port 81 of {fqdn} does not speak HTTP"))
    );
    let unknown = "no service is called \"nobody\" in namespace \"web\"; a service of another one is nobody.NAMESPACE";
    assert_eq!(reply("http://nobody/", "web"), expect(404, "NR", unknown));
    assert_eq!(
        reply("http://user/new", "shop"),
        expect(503, "UH", "no healthy upstream")
    );
    let answer = ask(&world, r#"{"url": "http://user/only", "fromNamespace": "shop"}"#);
    let broken = answer.destinations[0].reply.as_ref().expect("no such subset");
    let reason = format!("no DestinationRule in force for this client (shop/user) defines subset v3 of {fqdn}");
    assert_eq!(
        (broken.status, broken.flags.as_str(), &broken.reason),
        (503, "NC", &reason)
    );
}

#[test]
fn an_unknown_host_is_passed_through_unless_the_sidecar_of_the_client_keeps_it() {
    let closed = "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all, namespace: closed}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let world = world(&format!("{}{closed}", service("user", HTTP, &[])));
    let notes = |namespace: &str| {
        let json = format!(r#"{{"url": "http://example.com/", "fromNamespace": "{namespace}"}}"#);
        ask(&world, &json).notes.join(" ")
    };
    assert!(notes("shop").contains("ALLOW_ANY"), "{}", notes("shop"));
    assert!(notes("closed").contains("502 (REGISTRY_ONLY)"), "{}", notes("closed"));
}

#[test]
fn without_rules_for_it_a_request_goes_to_its_service() {
    let world = world(&service("user", HTTP, &[("10.0.0.1", "v1")]));
    let answer = ask(&world, r#"{"url": "http://user/a", "fromNamespace": "shop"}"#);
    assert_eq!(answer.outcome, Outcome::DefaultRoute);
    assert_eq!(
        answer.notes,
        ["default route of the service: no VirtualService names it"]
    );
    assert_eq!(answer.destinations[0].share, 100.0);
    assert_eq!(
        answer.destinations[0].cluster,
        "outbound|80||user.shop.svc.cluster.local"
    );
}

#[test]
fn a_client_with_subsets_of_its_own_is_told_of_those() {
    let own = RULES
        .split("---\n")
        .last()
        .expect("a DestinationRule")
        .replace("namespace: shop", "namespace: web")
        .replace("host: user", "host: user.shop.svc.cluster.local")
        .replace("  - {name: v2, labels: {version: v2}}\n", "");
    let service = service("user", HTTP, &[("10.0.0.1", "v2")]);
    let world = world(&format!("{service}{RULES}---\n{own}"));
    let flags = |namespace: &str| {
        let json = format!(r#"{{"url": "http://user.shop/new", "fromNamespace": "{namespace}"}}"#);
        ask(&world, &json).reply.map(|reply| reply.flags)
    };
    assert_eq!(flags("shop"), None);
    assert_eq!(flags("web").as_deref(), Some("NC"));
}

const FAULTS: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - match: [{uri: {prefix: /all}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 500}, delay: {percentage: {value: 100}, fixedDelay: 2s}}
    corsPolicy: {allowOrigins: [{exact: 'https://shop'}]}
    timeout: 1s
    route: [{destination: {host: user}}]
  - match: [{uri: {prefix: /grpc}}]
    fault: {abort: {percentage: {value: 100}, grpcStatus: UNAVAILABLE}}
    route: [{destination: {host: user}}]
  - match: [{uri: {prefix: /some}}]
    fault: {abort: {percentage: {value: 10}, httpStatus: 500}}
    corsPolicy: {allowOrigins: [{exact: 'https://shop'}]}
    route: [{destination: {host: user}}]
  - match: [{uri: {prefix: /closed}}]
    corsPolicy: {allowOrigins: [{exact: 'https://shop'}]}
    directResponse: {status: 410}
";

/// A GET, or with `method` something else; `headers` as JSON.
fn of_faults(path: &str, method: &str, headers: &str) -> Answer {
    let world = world(&format!("{}{FAULTS}", service("user", HTTP, &[("10.0.0.1", "v1")])));
    let json = format!(
        r#"{{"url": "http://user{path}", "method": "{method}", "headers": {{{headers}}}, "fromNamespace": "shop"}}"#
    );
    ask(&world, &json)
}

const PREFLIGHT: &str = r#""origin": "https://shop", "access-control-request-method": "PUT""#;

#[test]
fn an_abort_of_every_request_is_the_answer_before_cors() {
    let reply = |path: &str, method: &str, headers: &str| {
        let answer = of_faults(path, method, headers);
        assert_eq!(answer.outcome, Outcome::FaultAbort, "{path}");
        assert_eq!(answer.destinations, [], "{path}");
        let reply = answer.reply.expect("a reply");
        (reply.status, reply.flags, reply.grpc_status)
    };
    let aborted = |status, code| (status, "FI".to_owned(), code);
    assert_eq!(reply("/all", "GET", ""), aborted(500, None));
    assert_eq!(reply("/all", "OPTIONS", PREFLIGHT), aborted(500, None));
    let grpc = r#""content-type": "application/grpc+proto""#;
    assert_eq!(reply("/grpc", "POST", grpc), aborted(200, Some(14)));
    assert_eq!(reply("/all", "POST", grpc), aborted(200, Some(2)));
    assert_eq!(reply("/grpc", "GET", ""), aborted(503, None));
    let web = r#""content-type": "application/grpc-web""#;
    assert_eq!(reply("/grpc", "POST", web), aborted(503, None));
    let policies = of_faults("/all", "GET", "").policies.expect("policies");
    assert_eq!(
        policies.faults,
        ["100 % of requests: delayed by 2s", "100 % of requests: 500 FI"]
    );
    assert_eq!(
        (policies.timeout, policies.cors, policies.retries),
        (None, None, String::new())
    );
}

#[test]
fn an_abort_of_some_requests_leaves_the_rest_as_it_is() {
    let answer = of_faults("/some", "GET", "");
    assert_eq!((answer.outcome, answer.destinations.len()), (Outcome::Route, 1));
    assert_eq!(answer.reply, None);
    let some = answer.sometimes.expect("some are aborted");
    assert_eq!(
        (some.percentage, some.reply.status, some.reply.flags.as_str()),
        (10.0, 500, "FI")
    );
    let policies = answer.policies.expect("policies");
    assert_eq!(policies.faults, ["10 % of requests: 500 FI"]);
}

#[test]
fn a_preflight_that_the_policy_answers_reaches_no_endpoint() {
    let answer = of_faults("/some", "OPTIONS", PREFLIGHT);
    assert_eq!((answer.outcome, answer.destinations.len()), (Outcome::CorsPreflight, 0));
    let reply = answer.reply.expect("a reply");
    assert_eq!(
        (reply.status, reply.flags.as_str(), reply.reason.as_str()),
        (200, "", "CORS preflight")
    );
    assert!(answer.sometimes.is_some(), "some are aborted before");
    let elsewhere = PREFLIGHT.replace("shop", "evil");
    assert_eq!(of_faults("/some", "OPTIONS", &elsewhere).outcome, Outcome::Route);
    assert_eq!(of_faults("/some", "GET", PREFLIGHT).outcome, Outcome::Route);
    // A policy is for routes alone.
    let closed = of_faults("/closed", "OPTIONS", PREFLIGHT);
    assert_eq!(
        (closed.outcome, closed.reply.expect("a reply").status),
        (Outcome::DirectResponse, 410)
    );
}

#[test]
fn a_delegated_rule_is_placed_where_it_is_written_and_its_merged_match_nowhere() {
    let root = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: user, namespace: shop}
spec:
  hosts: [user]
  http:
  - match: [{uri: {prefix: /page}}]
    delegate: {name: page, namespace: pages}
  - match: [{uri: {prefix: /}}]
    route: [{destination: {host: user}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: page, namespace: pages}
spec:
  http:
  - match: [{headers: {version: {exact: v2}}}]
    route: [{destination: {host: user.shop.svc.cluster.local}}]
  - route: [{destination: {host: user.shop.svc.cluster.local}}]
";
    let world = world(&format!("{}{root}", service("user", HTTP, &[("10.0.0.1", "v1")])));
    let rule = |path: &str| {
        let answer = ask(
            &world,
            &format!(r#"{{"url": "http://user{path}", "fromNamespace": "shop"}}"#),
        );
        assert_eq!(answer.virtual_service, "shop/user");
        let rule = answer.rule.expect("a rule");
        (rule.virtual_service, rule.place, rule.item)
    };
    let expect = |document: &str, place: &str, item| (document.to_owned(), place.to_owned(), item);
    assert_eq!(rule("/page"), expect("pages/page", "http[1]", None));
    assert_eq!(rule("/other"), expect("shop/user", "http[1]", Some(0)));
}

#[test]
fn a_destination_has_the_rules_and_the_policy_that_are_in_force_for_the_client_that_asks() {
    let policies = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec:
  host: '*.shop.svc.cluster.local'
  workloadSelector: {matchLabels: {app: web}}
  trafficPolicy:
    loadBalancer: {consistentHash: {httpHeaderName: X-User}}
    tls: {mode: SIMPLE, sni: user.example.com}
    proxyProtocol: {version: V2}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: all, namespace: shop}
spec:
  host: '*.svc.cluster.local'
  trafficPolicy:
    retryBudget: {percent: 30}
    portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]
";
    let ports = format!("{HTTP}, {{name: http-more, port: 81, targetPort: 8081}}");
    let world = world(&format!("{}{policies}", service("user", &ports, &[("10.0.0.1", "v1")])));
    let ask = |url: &str, labels: &str| {
        let question = format!(r#"{{"url": "{url}", "fromNamespace": "shop", "fromLabels": {labels}}}"#);
        let mut answer = ask(&world, &question);
        answer.destinations.remove(0)
    };
    let selected = ask("http://user/", r#"{"app": "web"}"#);
    assert_eq!(selected.destination_rules, ["shop/web"]);
    let policy = selected.traffic_policy.unwrap_or_default();
    assert_eq!(policy.load_balancer, "CONSISTENT_HASH");
    assert_eq!(policy.consistent_hash["httpHeaderName"], "x-user");
    assert_eq!(
        (policy.tls["mode"].as_str(), policy.tls["sni"].as_str()),
        ("SIMPLE", "user.example.com")
    );
    assert_eq!(policy.proxy_protocol["version"], "V2");
    assert!(policy.retry_budget.is_empty());

    let other = ask("http://user/", "{}");
    assert_eq!(other.destination_rules, ["shop/all"]);
    let policy = other.traffic_policy.unwrap_or_default();
    assert_eq!(
        (policy.load_balancer.as_str(), policy.retry_budget["percent"].as_str()),
        ("LEAST_REQUEST", "30")
    );
    let policy = ask("http://user:81/", "{}").traffic_policy.unwrap_or_default();
    assert_eq!(
        (policy.load_balancer.as_str(), policy.retry_budget.len()),
        ("RANDOM", 0)
    );
}

#[test]
fn a_subset_that_the_clients_own_rule_does_not_define_is_missing_by_the_name_of_the_rule() {
    let own = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: own, namespace: web}
spec: {host: user.shop.svc.cluster.local, workloadSelector: {matchLabels: {app: web}}}
";
    let service = service("user", HTTP, &[("10.0.0.1", "v1"), ("10.0.0.3", "v2")]);
    let world = world(&format!("{service}{RULES}{own}"));
    let ask = |labels: &str| {
        let question = format!(r#"{{"url": "http://user.shop/a", "fromNamespace": "web", "fromLabels": {labels}}}"#);
        ask(&world, &question)
    };
    let reply = ask(r#"{"app": "web"}"#).reply.expect("it goes nowhere");
    assert_eq!((reply.status, reply.flags.as_str()), (503, "NC"));
    assert_eq!(
        reply.reason,
        "no DestinationRule in force for this client (web/own) defines subset v1 of user.shop.svc.cluster.local"
    );
    assert!(ask("{}").reply.is_none());
}
