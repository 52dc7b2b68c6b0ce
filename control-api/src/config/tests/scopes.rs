//! Whom a VirtualService and its matches are for: hosts, gateways, exportTo, clients; and the rules for connections.

use super::*;

/// `spec` is YAML in flow style, on line 5.
fn document(spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: user, namespace: shop}}\n\nspec: {{{spec}}}\n"
    )
}

const HTTP: &str = "http: [{route: [{destination: {host: user}}]}]";
const ROUTE: &str = "route: [{destination: {host: db}}]";

fn read(spec: &str) -> VirtualService {
    let Spec::VirtualService(rule) = one(&document(spec)).spec else {
        panic!()
    };
    rule
}

#[track_caller]
fn assert_no(spec: &str, field: &str, reason: &str) {
    assert_refused(&document(spec), 5, &format!("spec.{field}"), reason);
}

#[test]
fn hosts_are_names_wildcards_and_addresses() {
    let hosts = |list: &str| read(&format!("hosts: {list}, {HTTP}")).hosts;
    assert_eq!(
        hosts("[User, '*.Example.com', 10.0.0.1, 'FD00::1', a.b.]"),
        [
            "user.shop.svc.cluster.local",
            "*.example.com",
            "10.0.0.1",
            "fd00::1",
            "a.b"
        ]
    );
    // One service under two names is one.
    assert_eq!(hosts("[user, user.shop.svc.cluster.local]").len(), 1);
    for (list, field, reason) in [
        ("['*']", "hosts[0]", "for gateways only"),
        ("['*.']", "hosts[0]", "not a host name"),
        ("['*-a.b']", "hosts[0]", "a part of a label"),
        ("[a, a]", "hosts[1]", "is there twice"),
        ("['*.com', a.b.com]", "hosts", "\"a.b.com\" is covered by \"*.com\""),
        ("['*.b.com', '*.com']", "hosts", "\"*.b.com\" is covered by \"*.com\""),
    ] {
        assert_no(&format!("hosts: {list}, {HTTP}"), field, reason);
    }
    assert_eq!(hosts("['*.com', com, '*.b.org', '*.org.a']").len(), 4);
}

#[test]
fn what_is_for_gateways_only_is_taken_and_concerns_no_sidecar() {
    let gateways = |list: &str| read(&format!("hosts: [user], gateways: {list}, {HTTP}")).concerns_sidecars();
    for (list, concerns) in [
        ("[]", true),
        ("[mesh]", true),
        ("[edge, mesh]", true),
        ("[edge]", false),
        ("[istio-system/edge, Edge]", false),
        ("[edge.istio-system.svc.cluster.local]", false),
    ] {
        assert_eq!(gateways(list), concerns, "{list}");
    }
    let any = read(&format!("hosts: ['*'], gateways: [edge], {HTTP}"));
    assert_eq!(any.hosts, ["*"]);
    let claims =
        "http: [{match: [{headers: {'@request.auth.claims.x': {exact: y}}}], route: [{destination: {host: user}}]}]";
    assert!(
        read(&format!("hosts: [user], gateways: [edge], {claims}")).http[0].matches[0]
            .headers
            .is_empty()
    );
    let at = "http[0].match[0].headers[@request.auth.claims.x]";
    assert_no(
        &format!("hosts: [user], gateways: [edge, mesh], {claims}"),
        at,
        "at gateways only",
    );
    for (list, field, reason) in [
        ("['']", "gateways[0]", "must not be empty"),
        ("[a/b/c]", "gateways[0]", "not a gateway"),
        ("[/a]", "gateways[0]", "not a gateway"),
        ("mesh", "gateways", "must be a list"),
    ] {
        assert_no(&format!("hosts: [user], gateways: {list}, {HTTP}"), field, reason);
    }
}

#[test]
fn export_to_names_namespaces_everyone_or_nobody() {
    let export = |list: &str| read(&format!("hosts: [user], exportTo: {list}, {HTTP}")).export_to;
    let namespaces = |names: &[&str]| ExportTo::Namespaces(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(
        (export("[]"), export("['*']")),
        (ExportTo::Everyone, ExportTo::Everyone)
    );
    assert_eq!(export("[b, ., a]"), namespaces(&["a", "b", "shop"]));
    assert_eq!(export("['~']"), namespaces(&[]));
    for (list, field, reason) in [
        ("[a, a]", "exportTo[1]", "twice"),
        ("[., shop]", "exportTo[1]", "twice"),
        ("[a, '*']", "exportTo[1]", "contradicts"),
        ("['~', a]", "exportTo[0]", "contradicts"),
        ("[A]", "exportTo[0]", "the name of a namespace"),
        ("['a/b']", "exportTo[0]", "the name of a namespace"),
    ] {
        assert_no(&format!("hosts: [user], exportTo: {list}, {HTTP}"), field, reason);
    }
}

#[test]
fn without_hosts_it_is_a_delegate_and_only_that() {
    assert!(read(HTTP).is_delegate() && read(&format!("hosts: [], {HTTP}, exportTo: [.]")).is_delegate());
    assert!(!read(&format!("hosts: [user], {HTTP}")).is_delegate());
    for (rest, field, reason) in [
        ("gateways: [mesh]", "gateways", "one that others delegate to"),
        (
            "tcp: [{route: [{destination: {host: a}}]}]",
            "tcp",
            "one that others delegate to",
        ),
    ] {
        assert_no(&format!("{HTTP}, {rest}"), field, reason);
    }
    assert_no("exportTo: [.]", "http", "is required");
    assert_no("http: [{delegate: {name: a}}]", "http[0].delegate", "cannot delegate");
}

#[test]
fn a_match_asks_for_the_client_the_scheme_and_a_name_in_statistics() {
    let item = "{scheme: {exact: https}, sourceLabels: {app: web}, sourceNamespace: front, gateways: [mesh], statPrefix: api, headers: {':method': {exact: PUT}, ':authority': {prefix: a}}}";
    let rule = read(&format!("hosts: [user], http: [{{match: [{item}], {ROUTE}}}]"));
    let item = &rule.http[0].matches[0];
    assert_eq!(item.scheme, Some(StringMatch::Exact("https".into())));
    assert_eq!(item.source.labels.get("app").map(String::as_str), Some("web"));
    assert_eq!(
        (item.source.namespace.as_deref(), item.stat_prefix.as_str()),
        (Some("front"), "api")
    );
    assert_eq!(item.source.gateways, ["mesh"]);
    // Envoy's pseudo-headers are these fields.
    assert_eq!(item.method, Some(StringMatch::Exact("PUT".into())));
    assert_eq!(item.authority, Some(StringMatch::Prefix("a".into())));
    assert!(item.headers.is_empty());
    let at = |item: &str| format!("hosts: [user], http: [{{match: [{item}], {ROUTE}}}]");
    let long = format!("{{statPrefix: {}}}", "x".repeat(254));
    for (item, field, reason) in [
        (
            "{method: {exact: PUT}, headers: {':method': {exact: PUT}}}",
            "headers",
            "`method` matches already",
        ),
        (
            "{withoutHeaders: {':method': {exact: PUT}}}",
            "withoutHeaders",
            "pseudo-headers",
        ),
        (long.as_str(), "statPrefix", "longer than 253"),
    ] {
        assert_no(&at(item), &format!("http[0].match[0].{field}"), reason);
    }
    let any = read(&at("{uri: {prefix: ''}, headers: {':scheme': {}}}"))
        .http
        .remove(0)
        .matches
        .remove(0);
    assert_eq!((any.uri, any.scheme), (Some(StringMatch::Prefix(String::new())), None));
}

#[test]
fn tls_rules_go_by_name_and_tcp_rules_by_place() {
    let rule = read(&format!(
        "hosts: [db, '*.example.com'], tls: [{{match: [{{sniHosts: [A.example.com, '*.b.example.com', db, db.shop.svc.cluster.local, 10.0.0.1], port: 443, destinationSubnets: [10.1.0.0/16, 10.0.0.1], sourceLabels: {{a: b}}, sourceNamespace: c, gateways: [mesh]}}], {ROUTE}}}], tcp: [{{match: [{{port: 5432, source_subnet: 10.0.0.0/8, destinationSubnets: ['fd00::/8']}}], route: [{{destination: {{host: db, subset: v1}}, weight: 1}}, {{destination: {{host: db, subset: v2}}, weight: 3}}]}}, {{{ROUTE}}}]"
    ));
    assert!(rule.http.is_empty());
    let tls = &rule.tls[0].matches[0];
    assert_eq!(
        tls.sni_hosts,
        [
            "a.example.com",
            "*.b.example.com",
            "db",
            "db.shop.svc.cluster.local",
            "10.0.0.1"
        ]
    );
    assert_eq!(tls.destination_subnets, ["10.0.0.1", "10.1.0.0/16"]);
    assert_eq!((tls.port, tls.source.namespace.as_deref()), (Some(443), Some("c")));
    let [first, second] = rule.tcp.as_slice() else { panic!() };
    assert_eq!(first.matches[0].source_subnet.as_deref(), Some("10.0.0.0/8"));
    assert_eq!(first.route.iter().map(|to| to.weight).collect::<Vec<_>>(), [1, 3]);
    assert!(second.matches.is_empty() && second.route[0].host == "db.shop.svc.cluster.local");
}

#[test]
fn what_istio_refuses_of_rules_for_connections_is_refused() {
    for (rest, field, reason) in [
        (format!("tls: [{{{ROUTE}}}]"), "tls[0].match", "is required"),
        (format!("tls: [{{match: [], {ROUTE}}}]"), "tls[0].match", "is required"),
        (
            format!("tls: [{{match: [{{}}], {ROUTE}}}]"),
            "tls[0].match[0].sniHosts",
            "is required",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: []}}], {ROUTE}}}]"),
            "tls[0].match[0].sniHosts",
            "must not be empty",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [other]}}], {ROUTE}}}]"),
            "tls[0].match[0].sniHosts[0]",
            "nor covered by one",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: ['*']}}], {ROUTE}}}]"),
            "tls[0].match[0].sniHosts[0]",
            "nor covered by one",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [db], sourceSubnet: 10.0.0.0/8}}], {ROUTE}}}]"),
            "tls[0].match[0].sourceSubnet",
            "unknown field",
        ),
        (
            "tls: [{match: [{sniHosts: [db]}]}]".into(),
            "tls[0].route",
            "is required",
        ),
        ("tcp: [{route: []}]".into(), "tcp[0].route", "must not be empty"),
        ("tcp: [{}]".into(), "tcp[0].route", "is required"),
        (
            "tcp: [{route: [{destination: {host: a}, headers: {}}]}]".into(),
            "tcp[0].route[0].headers",
            "unknown field",
        ),
        (
            "tcp: [{route: [{destination: {host: a}}, {destination: {host: b}}]}]".into(),
            "tcp[0].route",
            "weight = 0",
        ),
        (
            format!("tcp: [{{match: [{{destinationSubnets: [10.0.0.0/33]}}], {ROUTE}}}]"),
            "tcp[0].match[0].destinationSubnets[0]",
            "neither a CIDR",
        ),
        (
            format!("tcp: [{{match: [{{sourceSubnet: a}}], {ROUTE}}}]"),
            "tcp[0].match[0].sourceSubnet",
            "neither a CIDR",
        ),
        (
            format!("tcp: [{{match: [{{sniHosts: [db]}}], {ROUTE}}}]"),
            "tcp[0].match[0].sniHosts",
            "unknown field",
        ),
        (
            format!("tcp: [{{match: [{{port: 0}}], {ROUTE}}}]"),
            "tcp[0].match[0].port",
            "out of range",
        ),
        (
            format!("tcp: [{{match: [null], {ROUTE}}}]"),
            "tcp[0].match[0]",
            "must be a mapping",
        ),
        (
            "http: [], tls: [], tcp: []".into(),
            "http",
            "is required, or `tls` or `tcp`",
        ),
    ] {
        assert_no(&format!("hosts: [db], {rest}"), field, reason);
    }
}

#[test]
fn many_names_and_subnets_of_a_rule_count_against_the_limits() {
    let names = (0..50_001).map(|n| format!("a{n}.x")).collect::<Vec<_>>().join(", ");
    let text = format!("hosts: ['*.x', y], tls: [{{match: [{{sniHosts: [{names}]}}], {ROUTE}}}]");
    assert_no(&text, "hosts", "2 hosts times 50002 matches and destinations");
}

#[test]
fn a_field_has_its_name_in_protobuf_too() {
    let written = "hosts: [user], export_to: [.], http: [{match: [{ignore_uri_case: true, uri: {prefix: /a}, without_headers: {x_y: {}}, query_params: {a_b: {}}, source_labels: {a_b: c}, source_namespace: d, stat_prefix: e}], route: [{destination: {host: user}}], retries: {attempts: 1, per_try_timeout: 1s, retry_on: 5xx, retry_remote_localities: true}, cors_policy: {allow_credentials: true}, mirror_percentage: {value: 1}, mirror: {host: m}}]";
    let camel = written
        .replace("export_to", "exportTo")
        .replace("ignore_uri_case", "ignoreUriCase")
        .replace("without_headers", "withoutHeaders")
        .replace("query_params", "queryParams")
        .replace("source_labels", "sourceLabels")
        .replace("source_namespace", "sourceNamespace")
        .replace("stat_prefix", "statPrefix")
        .replace("per_try_timeout", "perTryTimeout")
        .replace("retry_on", "retryOn")
        .replace("retry_remote_localities", "retryRemoteLocalities")
        .replace("cors_policy", "corsPolicy")
        .replace("allow_credentials", "allowCredentials")
        .replace("mirror_percentage", "mirrorPercentage");
    let read_written = read(written);
    assert_eq!(read_written, read(&camel));
    // Names of people's own are no fields.
    let item = &read_written.http[0].matches[0];
    assert_eq!(item.without_headers[0].0, "x_y");
    assert!(item.query_params[0].0 == "a_b" && item.source.labels.contains_key("a_b"));
    let both = written.replace("mirror: {host: m}", "mirror: {host: m}, mirrorPercentage: {value: 2}");
    assert_no(&both, "http[0].mirror_percentage", "is there already");
}
