//! The traps of DestinationRules: whom one is for and what hides it, what a port or a subset loses, what cannot act.

use super::*;

fn in_namespace(namespace: &str, name: &str, rest: &str) -> String {
    policy(name, rest).replace(
        &format!("metadata: {{name: {name}}}"),
        &format!("metadata: {{name: {name}, namespace: {namespace}}}"),
    )
}

const SEVERAL: &str = "several.default.svc.cluster.local";

/// Of one finding with this code.
#[track_caller]
fn says(text: &str, code: &str, what: &str) -> Finding {
    let all = findings_in(&format!("{MESH}{text}"));
    let found = all.iter().find(|it| it.code == code && it.what.contains(what));
    found
        .cloned()
        .unwrap_or_else(|| panic!("no {code} with {what:?} among {all:#?}"))
}

#[test]
fn a_host_that_nobody_has_and_a_subset_without_endpoints_have_istios_codes() {
    has(&policy("p", "host: shpo"), "IST0174", "spec.host");
    has(&policy("p", "host: '*.nowhere.example'"), "IST0174", "spec.host");
    has_not(&policy("p", "host: '*.default.svc.cluster.local'"), "IST0174");
    has_not(&policy("p", "host: '*'"), "IST0174");
    let subset = "host: several, subsets: [{name: v9, labels: {version: v9}}]";
    has(&policy("p", subset), "IST0173", "spec.subsets[0].labels");
}

#[test]
fn a_selector_that_selects_no_client_of_the_namespace_is_named_at_its_line() {
    let selecting = |labels: &str| {
        policy(
            "p",
            &format!("host: several, workloadSelector: {{matchLabels: {{{labels}}}}}"),
        )
    };
    has(&selecting("app: nobody"), "IST0127", "spec.workloadSelector");
    has_not(&selecting("app: shop"), "IST0127");
    let elsewhere = in_namespace(
        "web",
        "p",
        &format!("host: {SEVERAL}, workloadSelector: {{matchLabels: {{app: shop}}}}"),
    );
    says(
        &elsewhere,
        "IST0127",
        "workloads of other namespaces are never selected",
    );
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: p}\nspec:\n  host: several\n  workloadSelector:\n    matchLabels: {app: nobody}\n";
    let all = findings_in(&format!("{MESH}{text}"));
    let line = u32::try_from(MESH.lines().count() + 6).expect("few lines");
    assert!(all.iter().any(|it| (it.code, it.line) == ("IST0127", line)), "{all:?}");
}

#[test]
fn a_connected_sidecar_is_a_client_that_a_selector_can_select_and_no_endpoint() {
    let sidecar = |namespace: &str| WorkloadLabels {
        namespace: namespace.to_owned(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
    };
    let selecting = policy("p", "host: several, workloadSelector: {matchLabels: {app: web}}");
    let endpoints = policy("q", "host: several, subsets: [{name: x, labels: {app: web}}]");
    let text = format!("{MESH}{selecting}{endpoints}");
    let found = |clients: &[WorkloadLabels], code: &str| findings_with(clients, &text).iter().any(|it| it.code == code);
    assert!(found(&[], "IST0127"));
    assert!(!found(&[sidecar("default")], "IST0127"));
    assert!(found(&[sidecar("web")], "IST0127"));
    assert!(found(&[sidecar("default")], "IST0173"));
    // Nothing but sidecars is known.
    let alone = |labels: &str| {
        policy(
            "p",
            &format!("host: several, workloadSelector: {{matchLabels: {{{labels}}}}}"),
        )
    };
    let is_told = |labels: &str| {
        findings_with(&[sidecar("default")], &alone(labels))
            .iter()
            .any(|it| it.code == "IST0127")
    };
    assert!(is_told("app: nobody") && !is_told("app: web"));
}

#[test]
fn a_rule_that_is_exported_where_nobody_looks_is_named() {
    let exported =
        |namespace: &str, to: &str| in_namespace(namespace, "p", &format!("host: {SEVERAL}, exportTo: [{to}]"));
    let field = "spec.exportTo";
    has(&exported("web", "default"), "TSU-EXPORT", field);
    has(&exported("default", "nowhere"), "TSU-EXPORT", field);
    has_not(&exported("web", "."), "TSU-EXPORT");
    has_not(&exported("default", "."), "TSU-EXPORT");
    has_not(&exported("tsunagi-system", "default"), "TSU-EXPORT");
}

#[test]
fn what_hides_a_rule_and_what_of_it_is_named() {
    let aged = |name: &str, day: u8, rest: &str| {
        policy(name, rest).replace(
            &format!("{{name: {name}}}"),
            &format!("{{name: {name}, creationTimestamp: '2026-01-0{day}T00:00:00Z'}}"),
        )
    };
    let code = "TSU-RULE-HIDDEN";
    let limits = "trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}";
    // Exported otherwise: the younger one alone.
    let two = aged("old", 1, "host: several") + &aged("new", 2, "host: several, exportTo: [.]");
    let hidden = says(&two, code, "younger and exported otherwise");
    assert_eq!((hidden.name.as_str(), hidden.field.as_str()), ("old", "spec.exportTo"));
    // Merged: the second policy and the second subset of a name.
    let same = format!("host: several, {limits}, subsets: [{{name: a}}]");
    let two = aged("old", 1, &same) + &aged("new", 2, &same);
    has(&two, code, "spec.trafficPolicy");
    has(&two, code, "spec.subsets[0]");
    // For some workloads.
    let selected = "host: shop, workloadSelector: {matchLabels: {app: shop}}";
    let found = says(&policy("p", selected), code, "its subsets v1, v2 do not exist for them");
    assert_eq!(found.field, "spec.workloadSelector");
    assert_eq!(found.name, "p");
    // And the policy of the other, which is not put together with its own.
    let of_all = policy("all", &format!("host: several, {limits}"));
    let for_some = |rest: &str| {
        of_all.clone()
            + &policy(
                "some",
                &format!("host: several, workloadSelector: {{matchLabels: {{app: shop}}}}{rest}"),
            )
    };
    let what = "hides DestinationRule/default/all: its connectionPool is not in force for them";
    let found = says(&for_some(""), code, what);
    assert_eq!(
        (found.name.as_str(), found.field.as_str()),
        ("some", "spec.workloadSelector")
    );
    let exported = |text: &str| text.replace("host: several, ", "host: several, exportTo: [.], ");
    let silent = |text: &str| {
        findings_in(&format!("{MESH}{text}"))
            .iter()
            .all(|it| !it.what.contains("is not in force for them"))
    };
    // Exported alike, what it does not say is taken over.
    assert!(silent(&exported(&for_some(""))));
    says(
        &exported(&for_some(", trafficPolicy: {loadBalancer: {simple: RANDOM}}")),
        code,
        what,
    );
    assert!(silent(&for_some(&format!(", {limits}"))));
    // A wildcard of the clients' namespace.
    let wide = in_namespace("web", "p", &format!("host: '*.local', {limits}"));
    let found = says(
        &wide,
        code,
        "for clients of namespace web this hides DestinationRule/default/shop",
    );
    assert!(found.what.contains("v1, v2"), "{found:?}");
    // One that is the owner's alone is hidden from nobody.
    let private = policy("q", "host: several, exportTo: [.], subsets: [{name: a}]");
    let wide = in_namespace("web", "p", &format!("host: {SEVERAL}"));
    has_not(&(private + &wide), code);
}

#[test]
fn nothing_is_inherited_from_a_wildcard_and_one_that_is_met_by_no_service_is_named() {
    let code = "TSU-RULE-HIDDEN";
    let wide = policy(
        "wide",
        "host: '*.default.svc.cluster.local', trafficPolicy: {outlierDetection: {consecutive5xxErrors: 3}}",
    );
    let found = says(&wide, code, "its outlierDetection is not in force here");
    assert_eq!((found.name.as_str(), found.field.as_str()), ("shop", "spec.host"));
    assert!(!found_never_met(&wide));
    assert!(found_never_met(&(wide.clone() + &policy("q", "host: several"))));
    let own = policy(
        "q",
        "host: several, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 4}}",
    );
    let all = findings_in(&format!("{MESH}{wide}{own}"));
    assert!(
        all.iter()
            .all(|it| it.name != "q" || !it.what.contains("not in force here")),
        "{all:?}"
    );
}

fn found_never_met(text: &str) -> bool {
    let all = findings_in(&format!("{MESH}{text}"));
    all.iter()
        .any(|it| it.name == "wide" && it.what.starts_with("every service that it covers"))
}

#[test]
fn settings_of_a_port_are_checked_against_the_service_and_what_stands_beside_them() {
    let with = |settings: &str| {
        policy(
            "p",
            &format!(
                "host: several, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 3}}, retryBudget: {{percent: 20}}, portLevelSettings: [{settings}]}}"
            ),
        )
    };
    let at = |index: usize| format!("spec.trafficPolicy.portLevelSettings[{index}]");
    let pool = "connectionPool: {tcp: {maxConnections: 3}}";
    let two = with(&format!(
        "{{port: {{number: 81}}, {pool}}}, {{port: {{number: 8080}}, {pool}}}"
    ));
    has(&two, "TSU-PORT", &format!("{}.port", at(1)));
    has(&two, "TSU-POLICY-REPLACED", &at(0));
    says(
        &two,
        "TSU-POLICY-REPLACED",
        "outlierDetection, retryBudget is lost there",
    );
    has_not(&with(&format!("{{port: {{number: 81}}, {pool}}}")), "TSU-PORT");
    let subset = policy(
        "p",
        &format!(
            "host: several, subsets: [{{name: a, trafficPolicy: {{portLevelSettings: [{{port: {{number: 9}}, {pool}}}]}}}}]"
        ),
    );
    has(
        &subset,
        "TSU-PORT",
        "spec.subsets[0].trafficPolicy.portLevelSettings[0].port",
    );
    has_not(&subset, "TSU-POLICY-REPLACED");
}

#[test]
fn failover_without_outlier_detection_is_inert() {
    let with = |rest: &str| {
        policy(
            "p",
            &format!(
                "host: several, trafficPolicy: {{loadBalancer: {{localityLbSetting: {{failover: [{{from: eu, to: us}}]}}}}{rest}}}"
            ),
        )
    };
    let field = "spec.trafficPolicy.loadBalancer.localityLbSetting";
    has(&with(""), "TSU-LOCALITY-INERT", field);
    has_not(
        &with(", outlierDetection: {consecutive5xxErrors: 3}"),
        "TSU-LOCALITY-INERT",
    );
    // A subset has the host's; a port has not.
    let balancer = "loadBalancer: {localityLbSetting: {failover: [{from: eu, to: us}]}}";
    let inheriting = |place: &str| {
        policy(
            "p",
            &format!("host: several, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 3}}}}, {place}"),
        )
    };
    has_not(
        &inheriting(&format!("subsets: [{{name: a, trafficPolicy: {{{balancer}}}}}]")),
        "TSU-LOCALITY-INERT",
    );
    let port = format!("portLevelSettings: [{{port: {{number: 81}}, {balancer}}}]");
    has(
        &inheriting(&format!("subsets: [{{name: a, trafficPolicy: {{{port}}}}}]")),
        "TSU-LOCALITY-INERT",
        "spec.subsets[0].trafficPolicy.portLevelSettings[0].loadBalancer.localityLbSetting",
    );
}

#[test]
fn warmup_and_hashing_that_cannot_do_what_they_say_are_explained() {
    let with = |host: &str, balancer: &str| {
        policy(
            "p",
            &format!("host: {host}, trafficPolicy: {{loadBalancer: {{{balancer}}}}}"),
        )
    };
    let at = |field: &str| format!("spec.trafficPolicy.loadBalancer.{field}");
    let hash = "consistentHash: {httpHeaderName: x-user}";
    let slow = format!("{hash}, warmup: {{duration: 30s}}");
    has(&with("several", &slow), "TSU-WARMUP", &at("warmup"));
    has(
        &with("several", "simple: RANDOM, warmupDurationSecs: 30s"),
        "TSU-WARMUP",
        &at("warmupDurationSecs"),
    );
    has_not(
        &with("several", "simple: ROUND_ROBIN, warmup: {duration: 30s}"),
        "TSU-WARMUP",
    );
    has_not(&with("several", hash), "TSU-HASH");
    // Where a route splits or repeats requests.
    let routed = |rest: &str| {
        rule("r", "  - route: [ROUTE]REST")
            .replace("hosts: [shop]", "hosts: [several]")
            .replace("REST", rest)
    };
    let both = "{destination: {host: several, port: {number: 80}, subset: a}, weight: 1}, {destination: {host: several, port: {number: 80}, subset: b}, weight: 1}";
    let one = "{destination: {host: several, port: {number: 80}}}";
    let split = routed("").replace("ROUTE", both) + &with("several", hash);
    says(&split, "TSU-HASH", "splits requests by weight");
    let retried = routed("\n    retries: {attempts: 2, retryOn: connect-failure}").replace("ROUTE", one);
    says(&(retried + &with("several", hash)), "TSU-HASH", "has retries");
    has_not(&(routed("").replace("ROUTE", one) + &with("several", hash)), "TSU-HASH");
    let tcp = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{name: tcp-db, port: 5432}]}\n---\n";
    let text = format!("{tcp}{}", with("db", hash));
    has(&text, "TSU-HASH", &at("consistentHash"));
    let source = format!("{tcp}{}", with("db", "consistentHash: {useSourceIp: true}"));
    has_not(&source, "TSU-HASH");
}

#[test]
fn limits_that_cannot_act_are_named() {
    let with = |host: &str, pool: &str| {
        policy(
            "p",
            &format!("host: {host}, trafficPolicy: {{connectionPool: {{http: {{{pool}}}}}}}"),
        )
    };
    let at = |field: &str| format!("spec.trafficPolicy.connectionPool.{field}");
    let services = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{name: tcp-db, port: 5432}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{name: http, port: 80}]}\n---\n";
    let mesh = |rest: String| format!("{services}{rest}");
    has(&mesh(with("db", "http2MaxRequests: 3")), "TSU-POOL", &at("http"));
    let streams = "maxConcurrentStreams: 3";
    has(
        &mesh(with("web", streams)),
        "TSU-POOL",
        &at("http.maxConcurrentStreams"),
    );
    has_not(&mesh(with("several", streams)), "TSU-POOL");
    let upgraded = format!("{streams}, h2UpgradePolicy: UPGRADE");
    has_not(&mesh(with("web", &upgraded)), "TSU-POOL");
    let budgeted =
        "host: several, trafficPolicy: {retryBudget: {percent: 20}, connectionPool: {http: {maxRetries: 3}}}";
    has(&policy("p", budgeted), "TSU-POOL", &at("http.maxRetries"));
    // A port's settings beside it have removed the budget, at the sole port or at one of two.
    let removed = |host: &str| {
        let beside =
            "retryBudget: {percent: 33}, portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]";
        let subset =
            "subsets: [{name: s, labels: {version: v1}, trafficPolicy: {connectionPool: {http: {maxRetries: 5}}}}]";
        policy("p", &format!("host: {host}, trafficPolicy: {{{beside}}}, {subset}"))
    };
    has_not(&removed("shop"), "TSU-POOL");
    has_not(&removed("several"), "TSU-POOL");
    let field = "spec.subsets[0].trafficPolicy.connectionPool.http.maxRetries";
    has(
        &removed("several").replace("number: 80", "number: 82"),
        "TSU-POOL",
        field,
    );
}

#[test]
fn outlier_detection_is_weighed_against_the_pool_that_it_is_for() {
    let with = |host: &str, rest: &str| {
        policy(
            "p",
            &format!("host: {host}, trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 3, {rest}}}}}"),
        )
    };
    let at = |field: &str| format!("spec.trafficPolicy.outlierDetection.{field}");
    has(
        &with("several", "maxEjectionPercent: 60, minHealthPercent: 50"),
        "TSU-OUTLIER",
        &at("maxEjectionPercent"),
    );
    has_not(
        &with("several", "maxEjectionPercent: 50, minHealthPercent: 50"),
        "TSU-OUTLIER",
    );
    has(
        &with("several", "interval: 60s, baseEjectionTime: 30s"),
        "TSU-OUTLIER",
        &at("interval"),
    );
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [e.mesh], resolution: STATIC, ports: [{number: 80, name: http}], endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}, {address: 10.0.0.3}]}\n---\n";
    let small = format!("{entry}{}", with("e.mesh", "maxEjectionPercent: 30"));
    has(&small, "TSU-OUTLIER", &at("maxEjectionPercent"));
    says(&small, "TSU-OUTLIER", "one is ejected all the same");
    let enough = format!("{entry}{}", with("e.mesh", "maxEjectionPercent: 34"));
    has_not(&enough, "TSU-OUTLIER");
}

#[test]
fn tls_in_tls_and_certificates_that_nobody_verifies_are_warned_of() {
    let with = |host: &str, rest: &str| policy("p", &format!("host: {host}, trafficPolicy: {{{rest}}}"));
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: api}\nspec: {ports: [{name: https, port: 443}, {name: http, port: 80}]}\n---\n";
    let simple = "tls: {mode: SIMPLE, sni: a.example.com}";
    let text = format!("{service}{}", with("api", simple));
    has(&text, "TSU-TLS", "spec.trafficPolicy.tls.mode");
    // At the port for plaintext alone.
    let at_port = format!("portLevelSettings: [{{port: {{number: 80}}, {simple}}}]");
    has_not(&format!("{service}{}", with("api", &at_port)), "TSU-TLS");
    has_not(&with("several", simple), "TSU-TLS");
    // Where a rule leads requests to the port for TLS, as in Istio's sample of egress, it is what they need.
    let severity = |text: &str| {
        let all = findings_in(&format!("{MESH}{text}"));
        all.iter().find(|it| it.code == "TSU-TLS").map(|it| it.severity)
    };
    assert_eq!(severity(&text), Some(super::super::Severity::Warning));
    let led = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec: {hosts: [api], http: [{route: [{destination: {host: api, port: {number: 443}}}]}]}\n";
    assert_eq!(severity(&format!("{text}{led}")), Some(super::super::Severity::Info));
    has(
        &with("several", "tls: {mode: SIMPLE, insecureSkipVerify: true}"),
        "TSU-TLS",
        "spec.trafficPolicy.tls.insecureSkipVerify",
    );
}

#[test]
fn a_credential_for_the_sidecars_of_all_clients_is_a_hint() {
    let code = "TSU-TLS";
    let tls = "trafficPolicy: {tls: {mode: SIMPLE, credentialName: of-client}}";
    let for_all = policy("p", &format!("host: several, {tls}"));
    has(&for_all, code, "spec.trafficPolicy.tls.credentialName");
    let all = findings_in(&format!("{MESH}{for_all}"));
    let hint = all.iter().find(|it| it.code == code).expect("found");
    assert_eq!(hint.severity, super::super::Severity::Info);
    let selecting = format!("host: several, workloadSelector: {{matchLabels: {{app: shop}}}}, {tls}");
    has_not(&policy("p", &selecting), code);
}

#[test]
fn tls_from_a_tcp_port_to_a_host_that_is_a_wildcard_needs_a_name_to_ask_for() {
    let code = "TSU-TLS-NAME";
    let entry = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: ['*.e.test', one.f.test], resolution: NONE, ports: [{number: 80, name: http}, {number: 81, name: tcp}]}\n---\n";
    let with = |host: &str, tls: &str| {
        let rule = policy("p", &format!("host: '{host}', trafficPolicy: {{tls: {{{tls}}}}}"));
        format!("{entry}{rule}")
    };
    for host in ["*.e.test", "*.test"] {
        has(&with(host, "mode: SIMPLE"), code, "spec.trafficPolicy.tls.sni");
        has_not(&with(host, "mode: SIMPLE, sni: a.e.test"), code);
        has_not(&with(host, "mode: DISABLE"), code);
    }
    let all = findings_in(&format!("{MESH}{}", with("*.e.test", "mode: SIMPLE")));
    let found = all.iter().find(|it| it.code == code).expect("found");
    assert_eq!(found.severity, super::super::Severity::Error);
    has_not(&with("*.f.test", "mode: SIMPLE"), code);
    let hidden = policy(
        "q",
        "host: '*.e.test', trafficPolicy: {tls: {mode: SIMPLE, sni: a.e.test}}",
    );
    has_not(&format!("{}{hidden}", with("*.test", "mode: SIMPLE")), code);
    let at_port = |rest: &str| {
        let policy = policy("p", &format!("host: '*.e.test', trafficPolicy: {{{rest}}}"));
        format!("{entry}{policy}")
    };
    let of_port = |port| format!("portLevelSettings: [{{port: {{number: {port}}}, tls: {{mode: SIMPLE}}}}]");
    has(
        &at_port(&of_port(81)),
        code,
        "spec.trafficPolicy.portLevelSettings[0].tls.sni",
    );
    has_not(&at_port(&of_port(80)), code);
    let apart = "tls: {mode: SIMPLE}, portLevelSettings: [{port: {number: 81}, tls: {mode: DISABLE}}]";
    has_not(&at_port(apart), code);
}
