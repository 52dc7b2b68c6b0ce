//! One VirtualService as proxies are told it: every action, what is left out for sidecars, and where a rule was written.

use super::*;

fn table(spec: &str) -> mesh::RouteTable {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: user, namespace: shop}}\nspec: {{hosts: [user], {spec}}}\n"
    );
    table_of(&documents(&text)[0])
}

fn http(rule: &str) -> mesh::HttpRule {
    table(&format!("http: [{{{rule}}}]")).http.remove(0)
}

fn routed(rest: &str) -> mesh::HttpRule {
    http(&format!("{ROUTE}, {rest}"))
}

const ROUTE: &str = "route: [{destination: {host: user}}]";

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[test]
fn a_redirect_and_a_direct_response_are_told_without_what_only_a_route_has() {
    use mesh::redirect::{Path, RedirectPort};
    let rule = http(
        "redirect: {uri: /a, authority: b, scheme: https, port: 8443, redirectCode: 308}, timeout: 1s, retries: {attempts: 1}, mirror: {host: m}",
    );
    let redirect = mesh::Redirect {
        path: Some(Path::Uri("/a".into())),
        authority: "b".into(),
        scheme: "https".into(),
        redirect_port: Some(RedirectPort::Port(8443)),
        code: 308,
    };
    assert_eq!(
        rule,
        mesh::HttpRule {
            redirect: Some(redirect),
            ..mesh::HttpRule::default()
        }
    );
    let rule = http("redirect: {prefixRewrite: /b, derivePort: FROM_REQUEST_PORT, redirectCode: 301}")
        .redirect
        .unwrap();
    assert_eq!(rule.path, Some(Path::PrefixRewrite("/b".into())));
    let derived = RedirectPort::DerivePort(mesh::DerivePort::FromRequestPort.into());
    assert_eq!((rule.redirect_port, rule.code), (Some(derived), 0));
    let response = http("directResponse: {status: 503, body: {bytes: YWI=}}").direct_response;
    assert_eq!(
        response,
        Some(mesh::DirectResponse {
            status: 503,
            body: b"ab".to_vec()
        })
    );
}

#[test]
fn a_rewrite_a_fault_mirrors_and_cors_go_beside_a_route() {
    use mesh::rewrite::Path;
    let rewrite = |rest: &str| routed(rest).rewrite.unwrap();
    assert_eq!(rewrite("rewrite: {uri: /b}").path, Some(Path::Uri("/b".into())));
    let regex = mesh::RegexRewrite {
        pattern: "(a)".into(),
        substitution: "\\1".into(),
    };
    assert_eq!(
        rewrite("rewrite: {uriRegexRewrite: {match: (a), rewrite: '\\1'}}").path,
        Some(Path::UriRegex(regex))
    );
    // A Host that is set is the authority, of the rule or of one destination.
    assert_eq!(rewrite("headers: {request: {set: {Host: b}}}").authority, "b");
    assert_eq!(
        rewrite("rewrite: {uri: /b}, headers: {request: {set: {Host: b}}}").authority,
        "b"
    );
    let rule = http("route: [{destination: {host: user}, headers: {request: {set: {Host: c}}}}]");
    assert_eq!((rule.route[0].authority.as_str(), rule.rewrite), ("c", None));

    use mesh::{abort, delay};
    let rule = routed(
        "fault: {delay: {percent: 1, fixedDelay: 2s}, abort: {percentage: {value: 0.0001}, grpcStatus: UNAVAILABLE}}",
    );
    let fault = rule.fault.unwrap();
    assert_eq!(
        fault.delay,
        Some(mesh::Delay {
            per_million: 10_000,
            kind: seconds(2).map(delay::Kind::Fixed)
        })
    );
    assert_eq!(
        fault.abort,
        Some(mesh::Abort {
            per_million: 1,
            kind: Some(abort::Kind::GrpcStatus(14))
        })
    );
    let kinds =
        "fault: {delay: {percent: 1, exponentialDelay: 2s}, abort: {percentage: {value: 1}, http2Error: CANCEL}}";
    let fault = routed(kinds).fault.unwrap();
    assert_eq!(fault.delay.unwrap().kind, seconds(2).map(delay::Kind::Exponential));
    assert_eq!(fault.abort.unwrap().kind, Some(abort::Kind::Http2Error(8)));
    // What never happens is the same as nothing.
    assert_eq!(routed("fault: {delay: {fixedDelay: 2s}}").fault, None);

    let mirrors = "mirrors: [{destination: {host: a, subset: v1, port: {number: 81}}, percentage: {value: 50}}, {destination: {host: b}, percentage: {value: 0}}]";
    let mirror = mesh::Mirror {
        host: "a.shop.svc.cluster.local".into(),
        port: 81,
        subset: "v1".into(),
        per_million: 500_000,
    };
    assert_eq!(routed(mirrors).mirrors, [mirror]);

    let cors = routed("corsPolicy: {allowOrigins: [{prefix: a}], allowMethods: [PUT, GET], allowHeaders: [b], exposeHeaders: [c], maxAge: 0s, allowCredentials: true, unmatchedPreflights: IGNORE}").cors.unwrap();
    assert_eq!(
        cors,
        mesh::CorsPolicy {
            allow_origins: vec![mesh::StringMatch {
                kind: Some(mesh::string_match::Kind::Prefix("a".into()))
            }],
            allow_methods: vec!["PUT".into(), "GET".into()],
            allow_headers: vec!["b".into()],
            expose_headers: vec!["c".into()],
            max_age: seconds(0),
            allow_credentials: true,
            unmatched_preflights: mesh::UnmatchedPreflights::Ignore.into(),
        }
    );
    assert!(
        routed("retries: {attempts: 1, retryRemoteLocalities: true}")
            .retries
            .unwrap()
            .retry_remote_localities
    );
}

#[test]
fn a_match_says_which_clients_it_is_for_unless_it_names_its_gateways() {
    let label = mesh::Label {
        key: "app".into(),
        value: "web".into(),
    };
    let source = "sourceLabels: {app: web}, sourceNamespace: front";
    let item = |rest: &str| {
        routed(&format!(
            "match: [{{{source}, statPrefix: s, scheme: {{exact: http}}{rest}}}]"
        ))
        .matches
        .remove(0)
    };
    let told = item("");
    assert_eq!(
        (told.source_labels, told.source_namespace.as_str()),
        (vec![label.clone()], "front")
    );
    assert_eq!(told.stat_prefix, "s");
    assert!(told.scheme.is_some());
    let told = item(", gateways: [edge, mesh]");
    assert_eq!((told.source_labels, told.source_namespace.as_str()), (vec![], ""));
    let tcp = table(&format!(
        "tcp: [{{match: [{{{source}, port: 1, sourceSubnet: 10.0.0.0/8}}], {ROUTE}}}]"
    ))
    .tcp;
    let told = &tcp[0].matches[0];
    assert_eq!(
        (&told.source_labels, told.source_namespace.as_str()),
        (&vec![label], "front")
    );
    assert_eq!((told.port, told.source_subnet.as_str()), (1, "10.0.0.0/8"));
}

#[test]
fn what_is_for_gateways_only_is_left_out_and_the_rest_says_where_it_was_written() {
    let edge = "gateways: [edge]";
    let table = table(&format!(
        "http: [{{match: [{{{edge}}}], {ROUTE}}}, {{match: [{{{edge}}}, {{port: 80}}], {ROUTE}}}, {{delegate: {{name: a}}}}, {{{ROUTE}}}], tls: [{{match: [{{sniHosts: [user], {edge}}}], {ROUTE}}}, {{match: [{{sniHosts: [user]}}], {ROUTE}}}], tcp: [{{{ROUTE}}}]"
    ));
    let places = |origins: Vec<Option<mesh::Origin>>| {
        let index = |origin: mesh::Origin| (origin.namespace + "/" + &origin.name, origin.index);
        origins.into_iter().map(|origin| origin.map(index)).collect::<Vec<_>>()
    };
    let at = |index| Some(("shop/user".to_owned(), index));
    assert_eq!(
        places(table.http.iter().map(|rule| rule.origin.clone()).collect()),
        [at(1), at(3)]
    );
    assert_eq!(table.http[0].matches.len(), 1);
    assert_eq!(
        places(table.tls.iter().map(|rule| rule.origin.clone()).collect()),
        [at(1)]
    );
    // In its place: said by nothing.
    assert_eq!(
        places(table.tcp.iter().map(|rule| rule.origin.clone()).collect()),
        [None]
    );
}
