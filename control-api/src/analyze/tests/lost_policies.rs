//! What of a policy is not in force, by what hides it and by what stands beside it, and what cannot act.

use super::*;

const SEVERAL: &str = "several.default.svc.cluster.local";

fn limited(namespace: &str, name: &str, host: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{host: '{host}', {rest}}}\n---\n"
    )
}

fn says(text: &str, what: &str) -> Option<Finding> {
    let all = findings_in(&format!("{MESH}{text}"));
    all.into_iter().find(|it| it.what.contains(what))
}

const POOL: &str = "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}";

#[test]
fn a_rule_of_the_clients_namespace_hides_the_blocks_that_it_does_not_have() {
    let owners = limited("default", "o", SEVERAL, POOL);
    let told = "for clients of namespace web this hides DestinationRule/default/o: its connectionPool is not in force for them";
    let of_clients = |rest: &str| format!("{owners}{}", limited("web", "c", SEVERAL, rest));
    let outlier = "trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}";
    let found = says(&of_clients(outlier), told).expect("found");
    assert_eq!(
        (found.code, found.name.as_str(), found.field.as_str()),
        ("TSU-RULE-HIDDEN", "c", "spec.host")
    );
    assert_eq!(says(&of_clients(POOL), "is not in force for them"), None);
    // What is for neither's clients is hidden from nobody.
    let private = owners.replace("host: '", "exportTo: [.], host: '");
    let own = limited("web", "c", SEVERAL, outlier);
    assert_eq!(says(&format!("{private}{own}"), "is not in force for them"), None);
}

#[test]
fn rules_for_different_workloads_do_not_hide_each_other() {
    let of = |name: &str, labels: &str| {
        let rest = format!("workloadSelector: {{matchLabels: {{{labels}}}}}, {POOL}");
        limited("default", name, SEVERAL, &rest)
    };
    let hides = |one: &str, two: &str| says(&format!("{}{}", of("a", one), of("b", two)), "is for the same host");
    assert!(hides("app: shop", "app: shop").is_some());
    assert_eq!(hides("app: shop", "version: v1"), None);
}

#[test]
fn a_wildcard_for_some_workloads_or_for_others_gives_nothing_that_could_be_lost() {
    let specific = limited("default", "s", SEVERAL, "subsets: [{name: a}]");
    let wide = |rest: &str| limited("default", "w", "*.default.svc.cluster.local", rest);
    let lost =
        |wide: &str| says(&format!("{specific}{wide}"), "of which nothing is inherited").filter(|it| it.name == "s");
    assert!(lost(&wide(POOL)).is_some());
    assert_eq!(
        lost(&wide(&format!(
            "workloadSelector: {{matchLabels: {{app: shop}}}}, {POOL}"
        ))),
        None
    );
    assert_eq!(lost(&wide(&format!("exportTo: [web], {POOL}"))), None);
}

#[test]
fn an_outlier_detection_of_a_subset_inherits_nothing_of_the_hosts() {
    let with = |top: &str| {
        let subset = "subsets: [{name: a, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}}]";
        limited("default", "p", SEVERAL, &format!("trafficPolicy: {{{top}}}, {subset}"))
    };
    let what = "what it does not say has its default";
    let found = says(&with("outlierDetection: {interval: 5s}"), what).expect("found");
    let field = "spec.subsets[0].trafficPolicy.outlierDetection";
    assert_eq!((found.code, found.field.as_str()), ("TSU-POLICY-REPLACED", field));
    assert_eq!(says(&with("connectionPool: {tcp: {maxConnections: 3}}"), what), None);
}

fn http_pool(rest: &str) -> String {
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n---\n";
    let rest = format!("trafficPolicy: {{connectionPool: {{{rest}}}}}");
    service.to_owned() + &limited("default", "p", "web.default.svc.cluster.local", &rest)
}

fn at(field: &str) -> String {
    format!("spec.trafficPolicy.connectionPool.{field}")
}

#[test]
fn http2_max_requests_is_no_limit_of_connections() {
    let limit = "http: {http2MaxRequests: 3}";
    has(&http_pool(limit), "TSU-POOL", &at("http.http2MaxRequests"));
    has_not(&http_pool(&format!("{limit}, tcp: {{maxConnections: 3}}")), "TSU-POOL");
}

#[test]
fn what_the_clients_protocol_or_http_1_leaves_without_effect_is_named() {
    let both = "http: {useClientProtocol: true, h2UpgradePolicy: DO_NOT_UPGRADE}";
    has(&http_pool(both), "TSU-POOL", &at("http.h2UpgradePolicy"));
    has_not(&http_pool("http: {useClientProtocol: true}"), "TSU-POOL");
    let probing = "http: {http2KeepAlive: {interval: 10s, timeout: 1s}}";
    has(&http_pool(probing), "TSU-POOL", &at("http.http2KeepAlive"));
    has_not(
        &http_pool(&probing.replace("{http2", "{h2UpgradePolicy: UPGRADE, http2")),
        "TSU-POOL",
    );
}

#[test]
fn a_pool_of_which_all_but_one_may_be_ejected_is_pointed_out() {
    let with = |rest: &str| {
        let outlier = format!("outlierDetection: {{consecutive5xxErrors: 3, maxEjectionPercent: 100{rest}}}");
        limited("default", "p", SEVERAL, &format!("trafficPolicy: {{{outlier}}}"))
    };
    let what = "every endpoint but the last may be ejected at once";
    let found = says(&with(""), what).expect("found");
    assert_eq!(found.field, "spec.trafficPolicy.outlierDetection.maxEjectionPercent");
    assert_eq!(says(&with(", minHealthPercent: 30"), what), None);
}

#[test]
fn limits_and_outlier_detection_that_surprise_are_explained() {
    let with = |block: &str| policy("p", &format!("host: several, trafficPolicy: {{{block}}}"));
    let outlier = "spec.trafficPolicy.outlierDetection";
    has(
        &with("outlierDetection: {consecutive5xxErrors: 0}"),
        "TSU-OUTLIER",
        outlier,
    );
    has(
        &with("outlierDetection: {consecutiveGatewayErrors: 3}"),
        "TSU-OUTLIER",
        &format!("{outlier}.consecutiveGatewayErrors"),
    );
    has_not(&with("outlierDetection: {consecutive5xxErrors: 3}"), "TSU-OUTLIER");
    let pool = "spec.trafficPolicy.connectionPool.http";
    has(
        &with("connectionPool: {http: {maxRequestsPerConnection: 1}}"),
        "TSU-POOL",
        &format!("{pool}.maxRequestsPerConnection"),
    );
    has(
        &with("connectionPool: {http: {http1MaxPendingRequests: 1}}"),
        "TSU-POOL",
        &format!("{pool}.http1MaxPendingRequests"),
    );
    has_not(
        &with("connectionPool: {http: {http1MaxPendingRequests: 10}}"),
        "TSU-POOL",
    );
}

#[test]
fn what_hides_a_rule_is_the_one_that_is_in_force() {
    let rule = |name: &str| {
        let rest = "host: several, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}, subsets: [{name: a, labels: {version: v1}}]";
        policy(name, rest)
    };
    let all = findings_in(&format!("{MESH}{}{}{}", rule("a"), rule("b"), rule("c")));
    let hidden = all.iter().filter(|it| it.code == "TSU-RULE-HIDDEN");
    let by: Vec<_> = hidden
        .map(|it| {
            (
                it.name.as_str(),
                it.field.as_str(),
                it.what.contains("DestinationRule/default/a "),
            )
        })
        .collect();
    let (policy, subset) = ("spec.trafficPolicy", "spec.subsets[0]");
    assert_eq!(
        by,
        [
            ("b", policy, true),
            ("b", subset, true),
            ("c", policy, true),
            ("c", subset, true)
        ]
    );
}

#[test]
fn a_whole_name_that_nobody_has_is_not_told_to_be_written_as_one() {
    let advice = |host: &str| {
        let all = findings_in(&format!("{MESH}{}", policy("p", &format!("host: '{host}'"))));
        let found = all.iter().find(|it| it.code == "IST0174").expect("found");
        found.instead.clone()
    };
    for whole in ["ratings.prod.svc.cluster.local", "example.com", "*.foo.com"] {
        assert_eq!(advice(whole), "a Service or a ServiceEntry of that name");
    }
    assert!(advice("ratings").contains("a short name means one of the rule's own namespace"));
}
