//! Every trap is found at its field, and is not found where it is not.

use std::sync::Arc;

use super::{Finding, Input, Report, Surroundings, WorkloadLabels, analyze, locate};

mod any_address;
mod destination_rules;
mod endpoints;
mod idle;
mod lost_policies;
mod remarks;
mod report;
mod root_namespace;
mod rule_ports;
mod shared_names;
mod subsets;
mod virtual_services;

/// A service with two versions, as the rules below have it.
const MESH: &str = r"
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: several}
spec: {selector: {app: shop}, ports: [{name: http, port: 80}, {name: grpc, port: 81}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-v1}
spec: {template: {metadata: {labels: {app: shop, version: v1}}}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-v2, labels: {app: shop, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
";

fn findings_in(text: &str) -> Vec<Finding> {
    findings_with(&[], text)
}

/// Where these are connected.
fn findings_with(clients: &[WorkloadLabels], text: &str) -> Vec<Finding> {
    let mut input = Input::default();
    input.read("a.yaml", text, "default");
    assert_eq!(input.refused, [], "{text}");
    let documents: Vec<_> = input.documents.into_iter().map(Arc::new).collect();
    let mut report = Report::default();
    let surroundings = Surroundings {
        workloads: &input.workloads,
        clients,
        ..Surroundings::default()
    };
    analyze(&documents, surroundings, &mut report);
    let mut findings = report.into_findings();
    locate(&mut findings, "a.yaml", text);
    findings
}

fn rule(name: &str, http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  hosts: [shop]\n  http:\n{http}\n---\n"
    )
}

fn policy(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {{{rest}}}\n---\n"
    )
}

/// In the mesh, with routes that name both subsets, so that nothing else is to be said.
fn found(text: &str) -> Vec<(String, String)> {
    let findings = findings_in(&format!("{MESH}{text}"));
    findings.into_iter().map(|it| (it.code.to_owned(), it.field)).collect()
}

#[track_caller]
fn has(text: &str, code: &str, field: &str) {
    let all = found(text);
    assert!(
        all.iter().any(|(of, at)| of == code && at == field),
        "{code} at {field} is not among {all:?}\n{text}"
    );
}

#[track_caller]
fn has_not(text: &str, code: &str) {
    let all = found(text);
    assert!(all.iter().all(|(of, _)| of != code), "{code} is among {all:?}\n{text}");
}

const GOOD: &str = "  - {match: [{uri: {prefix: /a/}}], route: [{destination: {host: shop, subset: v1}}]}\n  - route: [{destination: {host: shop, subset: v1}, weight: 90}, {destination: {host: shop, subset: v2}, weight: 10}]";

#[test]
fn rules_that_do_what_they_say_are_passed_over_in_silence() {
    assert_eq!(found(&rule("good", GOOD)), []);
}

#[test]
fn a_place_that_is_not_there_is_named_with_what_is_there() {
    let to = |destination: &str| rule("r", &format!("  - route: [{{destination: {{{destination}}}}}]"));
    has(&to("host: shpo"), "IST0101", "spec.http[0].route[0].destination.host");
    has(
        &to("host: shop, subset: v3"),
        "IST0101",
        "spec.http[0].route[0].destination.subset",
    );
    has(
        &to("host: shop, port: {number: 81}"),
        "IST0101",
        "spec.http[0].route[0].destination.port",
    );
    has(&to("host: several"), "IST0112", "spec.http[0].route[0].destination");
    has_not(&to("host: several, port: {number: 81}"), "IST0112");
    has_not(&to("host: shop, subset: v1"), "IST0101");
    let all = findings_in(&format!("{MESH}{}", to("host: shpo")));
    let typo = all.iter().find(|it| it.code == "IST0101").expect("found");
    assert_eq!(typo.instead, "did you mean shop.default.svc.cluster.local?");
}

#[test]
fn the_line_is_that_of_the_field() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: r}\nspec:\n  hosts:\n  - shop\n  http:\n  - route:\n    - destination:\n        host: shop\n        subset: v9\n";
    let all = findings_in(text);
    assert_eq!(
        all.iter().map(|it| (it.code, it.line)).collect::<Vec<_>>(),
        [("IST0101", 11)]
    );
}

#[test]
fn a_rule_behind_a_broader_one_is_never_met() {
    let to = "route: [{destination: {host: shop}}]";
    let broad_first =
        format!("  - {{match: [{{uri: {{prefix: /a}}}}], {to}}}\n  - {{match: [{{uri: {{exact: /ab}}}}], {to}}}");
    has(&rule("r", &broad_first), "IST0130", "spec.http[1]");
    let narrow_first =
        format!("  - {{match: [{{uri: {{exact: /ab}}}}], {to}}}\n  - {{match: [{{uri: {{prefix: /a}}}}], {to}}}");
    has_not(&rule("r", &narrow_first), "IST0130");
    let catch_all = format!("  - {{{to}}}\n  - {{match: [{{uri: {{exact: /ab}}}}], {to}}}");
    has(&rule("r", &catch_all), "IST0130", "spec.http[1]");
    let one_of_two = format!(
        "  - {{match: [{{uri: {{prefix: /a}}}}], {to}}}\n  - {{match: [{{uri: {{exact: /ab}}}}, {{uri: {{exact: /x}}}}], {to}}}"
    );
    has(&rule("r", &one_of_two), "IST0131", "spec.http[1].match[0]");
}

#[test]
fn two_rules_for_one_host_are_not_merged() {
    let two = rule("one", GOOD) + &rule("two", GOOD);
    has(&two, "IST0109", "spec.hosts");
    has_not(&rule("one", GOOD), "IST0109");
}

#[test]
fn a_host_without_a_service_is_named() {
    let text = rule("r", GOOD).replace("hosts: [shop]", "hosts: [shop, nobody]");
    has(&text, "TSU-HOST", "spec.hosts[1]");
}

#[test]
fn requests_that_no_rule_is_for_are_pointed_out() {
    let to = "route: [{destination: {host: shop}}]";
    has(
        &rule("r", &format!("  - {{match: [{{uri: {{prefix: /a/}}}}], {to}}}")),
        "TSU-NO-DEFAULT",
        "spec.http",
    );
    has_not(&rule("r", GOOD), "TSU-NO-DEFAULT");
}

#[test]
fn a_match_that_means_another_thing_than_it_seems_is_explained() {
    let matching = |item: &str| {
        rule(
            "r",
            &format!("  - {{match: [{{{item}}}], route: [{{destination: {{host: shop}}}}]}}"),
        )
    };
    let at = |field: &str| format!("spec.http[0].match[0].{field}");
    has(&matching("uri: {prefix: /foo}"), "TSU-PREFIX", &at("uri.prefix"));
    has_not(&matching("uri: {prefix: /foo/}"), "TSU-PREFIX");
    has(&matching("uri: {exact: '/foo?a=b'}"), "TSU-URI-QUERY", &at("uri.exact"));
    has(&matching("uri: {exact: foo}"), "TSU-NEVER-MATCHES", &at("uri.exact"));
    has(&matching("uri: {regex: /api}"), "TSU-REGEX", &at("uri.regex"));
    has(&matching("uri: {regex: 'v[0-9]+'}"), "TSU-REGEX", &at("uri.regex"));
    has_not(&matching("uri: {regex: '/v[0-9]+/.*'}"), "TSU-REGEX");
    has(
        &matching("withoutHeaders: {x-a: {regex: '.*'}}"),
        "TSU-NEVER-MATCHES",
        &at("withoutHeaders.x-a"),
    );
    has_not(&matching("withoutHeaders: {x-a: {}}"), "TSU-NEVER-MATCHES");
    has(
        &matching("headers: {cookie: {exact: user=jason}}"),
        "TSU-REGEX",
        &at("headers.cookie.exact"),
    );
    has(
        &matching("authority: {exact: shop}"),
        "TSU-AUTHORITY",
        &at("authority.exact"),
    );
}

#[test]
fn weights_that_surprise_are_explained() {
    let routed = |route: &str| rule("r", &format!("  - route: [{route}]"));
    let (v1, v2) = (
        "destination: {host: shop, subset: v1}",
        "destination: {host: shop, subset: v2}",
    );
    has(
        &routed(&format!("{{{v1}, weight: 90}}, {{{v2}}}")),
        "TSU-WEIGHTS",
        "spec.http[0].route[1]",
    );
    has(
        &routed(&format!("{{{v1}, weight: 1}}, {{{v2}, weight: 2}}")),
        "TSU-WEIGHTS",
        "spec.http[0].route",
    );
    has(
        &routed(&format!("{{{v1}, weight: 10}}")),
        "TSU-WEIGHTS",
        "spec.http[0].route[0].weight",
    );
    has_not(
        &routed(&format!("{{{v1}, weight: 90}}, {{{v2}, weight: 10}}")),
        "TSU-WEIGHTS",
    );
}

#[test]
fn retries_that_repeat_writes_are_a_warning() {
    let retried = |rest: &str, on: &str| {
        rule(
            "r",
            &format!(
                "  - {{{rest}route: [{{destination: {{host: shop}}}}], retries: {{attempts: 3, retryOn: '{on}'}}}}"
            ),
        )
    };
    let field = "spec.http[0].retries.retryOn";
    has(&retried("", "5xx,reset"), "TSU-RETRY-WRITES", field);
    has(
        &retried("match: [{method: {exact: POST}}], ", "503"),
        "TSU-RETRY-WRITES",
        field,
    );
    has_not(&retried("", "connect-failure,refused-stream"), "TSU-RETRY-WRITES");
    has_not(&retried("match: [{method: {exact: GET}}], ", "5xx"), "TSU-RETRY-WRITES");
    has(&retried("", "503"), "TSU-RETRY-STATUS", field);
    has_not(&retried("", "503,connect-failure"), "TSU-RETRY-STATUS");
}

#[test]
fn times_that_do_not_fit_each_other_are_found() {
    let timed = |timeout: &str, per_try: &str| {
        rule(
            "r",
            &format!(
                "  - {{route: [{{destination: {{host: shop}}}}], timeout: {timeout}, retries: {{attempts: 2, perTryTimeout: {per_try}, retryOn: connect-failure}}}}"
            ),
        )
    };
    has(&timed("1s", "2s"), "TSU-TIMEOUT", "spec.http[0].retries.perTryTimeout");
    has(&timed("5s", "2s"), "TSU-TIMEOUT", "spec.http[0].timeout");
    has_not(&timed("6s", "2s"), "TSU-TIMEOUT");
}

#[test]
fn faults_cors_mirrors_and_rewrites_that_surprise_are_explained() {
    let with = |rest: &str| {
        rule(
            "r",
            &format!("  - {{route: [{{destination: {{host: shop, subset: v1}}}}], {rest}}}"),
        )
    };
    let at = |field: &str| format!("spec.http[0].{field}");
    has(
        &with("fault: {abort: {httpStatus: 500, percentage: {value: 100}}}"),
        "TSU-FAULT",
        &at("fault.abort"),
    );
    has_not(
        &with("fault: {abort: {httpStatus: 500, percentage: {value: 10}}}"),
        "TSU-FAULT",
    );
    has(
        &with("corsPolicy: {allowOrigins: [{exact: '*'}], allowCredentials: true}"),
        "TSU-CORS",
        &at("corsPolicy.allowCredentials"),
    );
    has(
        &with("corsPolicy: {allowOrigins: [{prefix: 'https://a.example'}]}"),
        "TSU-CORS",
        &at("corsPolicy.allowOrigins"),
    );
    has_not(
        &with("corsPolicy: {allowOrigins: [{exact: 'https://a.example'}]}"),
        "TSU-CORS",
    );
    has(
        &with("mirror: {host: shpo}"),
        "IST0101",
        &at("mirrors[0].destination.host"),
    );
    has(
        &with("mirror: {host: shop, subset: v1}"),
        "TSU-MIRROR-SELF",
        &at("mirrors[0]"),
    );
    has(
        &with("mirror: {host: shop, subset: v2}"),
        "TSU-MIRROR-WRITES",
        &at("mirror"),
    );
    has_not(
        &with("match: [{method: {exact: GET}}], mirror: {host: shop, subset: v2}"),
        "TSU-MIRROR-WRITES",
    );
    has(
        &with("match: [{uri: {prefix: /a/}}], rewrite: {uri: /b}"),
        "TSU-REWRITE",
        &at("rewrite.uri"),
    );
    has_not(
        &with("match: [{uri: {prefix: /a/}}], rewrite: {uri: /b/}"),
        "TSU-REWRITE",
    );
}

#[test]
fn delegates_that_are_missing_or_for_nobody_are_named() {
    let delegating = rule(
        "root",
        "  - {match: [{uri: {prefix: /a/}}], delegate: {name: part, namespace: default}}",
    );
    has(&delegating, "IST0101", "spec.http[0].delegate");
    let part = rule("part", GOOD).replace("  hosts: [shop]\n", "");
    has_not(&(delegating.clone() + &part), "IST0101");
    has_not(&(delegating + &part), "TSU-DELEGATE");
    has(&part, "TSU-DELEGATE", "spec");
}

#[test]
fn rules_for_gateways_and_for_clients_that_are_not_there_are_pointed_out() {
    let text = rule("r", GOOD).replace("  hosts:", "  gateways: [edge]\n  hosts:");
    has(&text, "TSU-GATEWAY-ONLY", "spec.gateways");
    let sourced = |rest: &str| {
        rule(
            "r",
            &format!("  - {{match: [{{{rest}}}], route: [{{destination: {{host: shop}}}}]}}"),
        )
    };
    let at = |field: &str| format!("spec.http[0].match[0].{field}");
    has(&sourced("sourceLabels: {app: nobody}"), "IST0127", &at("sourceLabels"));
    has_not(&sourced("sourceLabels: {app: shop}"), "IST0127");
    has(
        &sourced("gateways: [mesh], sourceLabels: {app: shop}"),
        "TSU-SOURCE-IGNORED",
        &at("gateways"),
    );
    let exported = rule("r", GOOD).replace("  hosts:", "  exportTo: [nowhere]\n  hosts:");
    has(&exported, "TSU-EXPORT", "spec.exportTo");
}

#[test]
fn rules_for_connections_are_judged_as_those_for_requests() {
    let connections = |rules: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: c}}\nspec: {{hosts: [shop], tcp: [{rules}]}}\n---\n"
        )
    };
    let to = "route: [{destination: {host: shop}}]";
    let hidden = format!("{{{to}}}, {{match: [{{port: 80}}], {to}}}");
    has(&connections(&hidden), "IST0130", "spec.tcp[1]");
    let ordered = format!("{{match: [{{port: 80}}], {to}}}, {{{to}}}");
    has_not(&connections(&ordered), "IST0130");
    has(
        &connections("{route: [{destination: {host: shop, subset: v9}}]}"),
        "IST0101",
        "spec.tcp[0].route[0].destination.subset",
    );
}

#[test]
fn of_plain_prefixes_the_first_is_pointed_out_with_how_many_more_there_are() {
    let item = |path: &str| {
        format!("  - {{match: [{{uri: {{prefix: {path}}}}}], route: [{{destination: {{host: shop, subset: v1}}}}]}}\n")
    };
    let text = rule("r", &(item("/a") + &item("/b") + &item("/c/")));
    let all = findings_in(&format!("{MESH}{text}"));
    let prefixes: Vec<_> = all.iter().filter(|it| it.code == "TSU-PREFIX").collect();
    assert_eq!(prefixes.len(), 1);
    assert!(
        prefixes[0].what.ends_with("(1 more like it here)"),
        "{}",
        prefixes[0].what
    );
}

#[test]
fn a_destination_rule_without_effect_says_why() {
    has(&policy("p", "host: shpo"), "IST0174", "spec.host");
    has_not(&policy("p", "host: several"), "IST0174");
    let subset = |labels: &str| {
        policy(
            "p",
            &format!("host: several, subsets: [{{name: x, labels: {{{labels}}}}}]"),
        )
    };
    has(&subset("version: v9"), "IST0173", "spec.subsets[0].labels");
    has(&subset("version: v1"), "TSU-SUBSET-UNUSED", "spec.subsets[0]");
    has_not(&subset("version: v1"), "IST0173");
    has(
        &policy("shop-again", "host: shop, subsets: [{name: v1, labels: {a: b}}]"),
        "TSU-RULE-HIDDEN",
        "spec.subsets[0]",
    );
}

#[test]
fn a_rule_of_the_clients_namespace_hides_the_owners_subsets() {
    let text = policy("mine", "host: shop.default.svc.cluster.local")
        .replace("{name: mine}", "{name: mine, namespace: client}");
    has(&text, "TSU-RULE-HIDDEN", "spec.host");
}

#[test]
fn a_subsets_block_replaces_the_whole_block() {
    let with = |own: &str| {
        policy(
            "p",
            &format!(
                "host: several, trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 9}}}}}}, subsets: [{{name: x, trafficPolicy: {{connectionPool: {{{own}}}}}}}]"
            ),
        )
    };
    let field = "spec.subsets[0].trafficPolicy.connectionPool";
    has(&with("http: {http2MaxRequests: 3}"), "TSU-POLICY-REPLACED", field);
    has_not(&with("tcp: {maxConnections: 3}"), "TSU-POLICY-REPLACED");
}

#[test]
fn a_service_without_endpoints_or_protocol_is_named() {
    let service =
        |rest: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: other}}\nspec: {{{rest}}}\n---\n");
    has(
        &service("selector: {app: gone}, ports: [{name: http, port: 80}]"),
        "IST0127",
        "spec.selector",
    );
    has(
        &service("selector: {app: shop}, ports: [{name: web, port: 80}]"),
        "IST0118",
        "spec.ports[0]",
    );
    has_not(
        &service("selector: {app: shop}, ports: [{name: http, port: 80}]"),
        "IST0127",
    );
}

#[test]
fn rules_alone_are_not_blamed_for_services_that_nobody_showed() {
    let alone = findings_in(&(rule("r", GOOD) + &policy("p", "host: shop, subsets: [{name: v1}, {name: v2}]")));
    assert_eq!(alone, []);
}

#[test]
fn what_is_no_document_of_ours_or_is_refused_keeps_nothing_back() {
    let mut input = Input::default();
    input.read("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {}\n---\nkind: Service\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{name: http, port: 80}]}\n", "default");
    assert_eq!(input.documents.len(), 1);
    assert!(!input.refused.is_empty() && input.refused.iter().all(|it| it.code == "IST0106" && it.line == 6));
}
