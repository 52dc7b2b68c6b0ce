//! VirtualService: matches, routes, headers, retries; what is refused, on which line and at which field.

use super::*;

/// `http` is indented by two; its first line is line 8.
fn rule(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: user\nspec:\n  hosts: [user]\n  http:\n{http}"
    )
}

/// A rule with this `match` item, whose first field is on line 9.
fn matching(item: &str) -> String {
    rule(&format!(
        "  - match:\n    - {item}\n    route: [{{destination: {{host: user}}}}]\n"
    ))
}

/// A rule with a route and this field, on line 9.
fn with(field: &str) -> String {
    rule(&format!("  - route: [{{destination: {{host: user}}}}]\n    {field}\n"))
}

fn read(text: &str) -> VirtualService {
    let Spec::VirtualService(rule) = one(text).spec else {
        panic!()
    };
    rule
}

fn read_match(item: &str) -> HttpMatch {
    read(&matching(item)).http.remove(0).matches.remove(0)
}

#[test]
fn hosts_are_resolved_in_the_namespace_of_the_rule() {
    let text = with("name: x").replace(
        "[user]",
        "[user, User, user.other, user.other.svc.cluster.local., example.com]",
    );
    let text = text.replace("  name: user\n", "  name: user\n  namespace: shop\n");
    let rule = read(&text);
    assert_eq!(
        rule.hosts,
        [
            "user.shop.svc.cluster.local",
            "user.other",
            "user.other.svc.cluster.local",
            "example.com"
        ]
    );
    assert_eq!(rule.http[0].route[0].host, "user.shop.svc.cluster.local");
    for (host, reason) in [
        ("'*'", "for gateways only"),
        ("'*a.com'", "a part of a label"),
        ("'a.*.com'", "not a host name"),
        ("'a:80'", "not a host name"),
        ("a..b", "not a host name"),
        ("''", "must not be empty"),
    ] {
        assert_refused(
            &with("name: x").replace("[user]", &format!("[{host}]")),
            6,
            "spec.hosts[0]",
            reason,
        );
    }
}

#[test]
fn an_unknown_field_is_refused_with_a_suggestion() {
    assert_refused(
        &with("timout: 1s"),
        9,
        "spec.http[0].timout",
        "unknown field, did you mean `timeout`?",
    );
    assert_refused(
        &with("time_out: 1s"),
        9,
        "spec.http[0].time_out",
        "did you mean `timeout`?",
    );
    assert_refused(
        &matching("header: {}"),
        9,
        "spec.http[0].match[0].header",
        "did you mean `headers`?",
    );
    assert_refused(
        &matching("uri: {exakt: /}"),
        9,
        "spec.http[0].match[0].uri.exakt",
        "did you mean `exact`?",
    );
}

#[test]
fn a_rule_needs_a_destination() {
    assert_refused(&rule("  - name: x\n"), 8, "spec.http[0].route", "is required");
    assert_refused(
        &rule("  - name: x\n    route: []\n"),
        9,
        "spec.http[0].route",
        "must not be empty",
    );
    assert_refused(
        &rule("  - route:\n    - weight: 1\n"),
        9,
        "spec.http[0].route[0].destination",
        "is required",
    );
    assert_refused(
        &rule("  - route:\n    - destination: {subset: v1}\n"),
        9,
        "spec.http[0].route[0].destination.host",
        "is required",
    );
    assert_refused(
        &rule("  []\n").replace("http:\n  []", "http: []"),
        7,
        "spec.http",
        "is required, or `tls` or `tcp`",
    );
    assert_refused(&rule("").replace("  http:\n", ""), 5, "spec.http", "is required");
}

#[test]
fn weights_are_relative_and_need_not_be_100() {
    let two = |one: &str, other: &str| {
        rule(&format!(
            "  - route:\n    - destination: {{host: a}}\n      {one}\n    - destination: {{host: b}}\n      {other}\n"
        ))
    };
    let weights = |text: &str| read(text).http[0].route.iter().map(|to| to.weight).collect::<Vec<_>>();
    assert_eq!(weights(&two("weight: 1", "weight: 3")), [1, 3]);
    assert_eq!(weights(&two("weight: 0", "weight: 3")), [0, 3]);
    assert_eq!(weights(&two("weight: null", "weight: 3")), [0, 3]);
    assert_eq!(weights(&with("name: x")), [0]);
    assert_refused(
        &two("weight: 0", "weight: 0"),
        8,
        "spec.http[0].route",
        "total destination weight = 0",
    );
    assert_refused(
        &two("weight: 0", "headers: {}"),
        8,
        "spec.http[0].route",
        "total destination weight = 0",
    );
    assert_refused(
        &two("weight: -1", "weight: 3"),
        10,
        "spec.http[0].route[0].weight",
        "out of range",
    );
    assert_refused(
        &two("weight: 2147483648", "weight: 3"),
        10,
        "spec.http[0].route[0].weight",
        "out of range",
    );
    assert_refused(
        &two("weight: 1.5", "weight: 3"),
        10,
        "spec.http[0].route[0].weight",
        "whole number",
    );
    assert_refused(
        &two("weight: '1'", "weight: 3"),
        10,
        "spec.http[0].route[0].weight",
        "whole number",
    );
    let many = "    - {destination: {host: a}, weight: 2147483647}\n".repeat(3);
    assert_refused(
        &rule(&format!("  - route:\n{many}")),
        8,
        "spec.http[0].route",
        "total destination weight",
    );
}

#[test]
fn a_destination_has_a_host_a_subset_and_a_port() {
    let text = rule("  - route:\n    - destination: {host: a.b, subset: V1, port: {number: 8080}}\n");
    let to = read(&text).http[0].route[0].clone();
    assert_eq!(
        (to.host.as_str(), to.subset.as_str(), to.port),
        ("a.b", "V1", Some(8080))
    );
    for (destination, field, reason) in [
        ("{host: '*'}", "host", "one host"),
        ("{host: '*x'}", "host", "a part of a label"),
        ("{host: a, port: 80}", "port", "must be a mapping"),
        ("{host: a, port: {}}", "port.number", "is required"),
        ("{host: a, port: {number: 65536}}", "port.number", "out of range"),
        ("{host: a, subset: 'a b'}", "subset", "not a subset name"),
    ] {
        let text = rule(&format!("  - route:\n    - destination: {destination}\n"));
        assert_refused(&text, 9, &format!("spec.http[0].route[0].destination.{field}"), reason);
    }
}

#[test]
fn header_matches_have_istios_small_print() {
    let item = read_match(
        "headers: {X-Any: {}, x-Star: {regex: '*'}, x-empty: {exact: ''}, a: {prefix: v}, b: {regex: 'v[12]'}}",
    );
    assert_eq!(
        item.headers,
        [
            ("a".into(), Some(StringMatch::Prefix("v".into()))),
            ("b".into(), Some(StringMatch::Regex("v[12]".into()))),
            ("x-any".into(), None),
            ("x-empty".into(), Some(StringMatch::Exact("".into()))),
            ("x-star".into(), None),
        ]
    );
    let at = |inner: &str| format!("spec.http[0].match[0].{inner}");
    for (item, field, reason) in [
        ("headers: {x: }", "headers.x", "write `{}`"),
        ("headers: {x: {exact: 1}}", "headers.x.exact", "write \"1\" in quotes"),
        ("headers: {x: {exact: a, prefix: b}}", "headers.x", "only one of"),
        ("headers: {x: {prefix: ''}}", "headers.x.prefix", "must not be empty"),
        ("headers: {x: {regex: ''}}", "headers.x.regex", "must not be empty"),
        ("headers: {x: {regex: '('}}", "headers.x.regex", "unclosed group"),
        ("headers: {x: {regex: '[a&&b]'}}", "headers.x.regex", "ambiguous"),
        ("headers: {x: v2}", "headers.x", "must be a mapping"),
        ("headers: {'a b': {}}", "headers[a b]", "not a header name"),
        ("headers: {':path': {exact: /}}", "headers[:path]", "this pseudo-header"),
        (
            "headers: {'@request.auth.claims.x': {exact: y}}",
            "headers[@request.auth.claims.x]",
            "claims",
        ),
        ("headers: {uri: {exact: /}}", "headers.uri", "use the field `uri`"),
        ("headers: {x: {}, X: {}}", "headers.x", "twice"),
        (
            "withoutHeaders: {x: {regex: '('}}",
            "withoutHeaders.x.regex",
            "unclosed group",
        ),
        (
            "queryParams: {x: {exact: true}}",
            "queryParams.x.exact",
            "write \"true\" in quotes",
        ),
    ] {
        assert_refused(&matching(item), 9, &at(field), reason);
    }
}

#[test]
fn the_other_matches_are_read_as_istio_does() {
    let item = read_match(
        "{name: m, uri: {prefix: /a}, ignoreUriCase: true, method: {exact: GET}, authority: {exact: a.b}, port: 80, queryParams: {b: {exact: ''}, a: {}}, withoutHeaders: {X: {}}, gateways: [mesh]}",
    );
    assert_eq!(item.uri, Some(StringMatch::Prefix("/a".into())));
    assert_eq!((item.port, item.ignore_uri_case), (Some(80), true));
    assert_eq!(
        item.query_params,
        [("a".into(), None), ("b".into(), Some(StringMatch::Exact("".into())))]
    );
    assert_eq!(item.without_headers, [("x".into(), None)]);
    assert_eq!(read_match("{}"), HttpMatch::default());
    let at = |inner: &str| format!("spec.http[0].match[0].{inner}");
    for (item, field, reason) in [
        ("uri: {}", "uri", "one of exact, prefix and regex"),
        ("uri: {exact: ''}", "uri.exact", "must not be empty"),
        ("uri: /a", "uri", "must be a mapping"),
        ("uri: {regex: 'a{2000}'}", "uri.regex", "above 1000"),
        ("method: {}", "method", "one of exact, prefix and regex"),
        ("ignoreUriCase: 'yes'", "ignoreUriCase", "true or false"),
        ("port: 0", "port", "out of range"),
        ("gateways: [a/b/c]", "gateways[0]", "not a gateway"),
        ("sourceNamespace: A", "sourceNamespace", "not a namespace"),
        ("sourceLabels: {a: '?'}", "sourceLabels.a", "not a label value"),
        ("scheme: {}", "scheme", "one of exact"),
        ("scheme: {prefix: ''}", "scheme.prefix", "must not be empty"),
    ] {
        assert_refused(&matching(item), 9, &at(field), reason);
    }
}

#[test]
fn header_operations_cannot_break_a_connection() {
    let headers = read(&with(
        "headers: {request: {set: {X-B: 50%% off, x-a: v}, add: {c: d}, remove: [Z, y]}, response: {remove: [server]}}",
    ))
    .http[0]
        .headers
        .clone();
    assert_eq!(
        headers.request.set,
        [("x-a".into(), "v".into()), ("x-b".into(), "50%% off".into())]
    );
    assert_eq!(headers.request.remove, ["y", "z"]);
    assert_eq!(headers.response.remove, ["server"]);
    let at = |inner: &str| format!("spec.http[0].headers.{inner}");
    for (operations, field, reason) in [
        ("request: {set: {Host: 'a b'}}", "request.set.Host", "not a host"),
        ("request: {set: {Host: ''}}", "request.set.Host", "must not be empty"),
        ("request: {set: {':path': /}}", "request.set[:path]", "pseudo-header"),
        ("request: {remove: [host]}", "request.remove[0]", "in requests only"),
        ("response: {set: {Host: a}}", "response.set.Host", "in requests only"),
        (
            "request: {set: {Host: a}, add: {':authority': b}}",
            "request",
            "set twice",
        ),
        (
            "request: {remove: [Connection]}",
            "request.remove[0]",
            "frames the message",
        ),
        (
            "response: {add: {Transfer-Encoding: x}}",
            "response.add.Transfer-Encoding",
            "frames the message",
        ),
        (
            "request: {set: {x: '%WHAT(a)%'}}",
            "request.set.x",
            "no formatter is called \"WHAT\"",
        ),
        (
            "request: {set: {x: '100%'}}",
            "request.set.x",
            "write `%%` for a percent sign",
        ),
        (
            "request: {set: {x: \"a\\nb\"}}",
            "request.set.x",
            "a header cannot have this character",
        ),
        ("request: {set: {'x y': a}}", "request.set[x y]", "not a header name"),
        ("request: {set: {x: 1}}", "request.set.x", "write \"1\" in quotes"),
        ("request: {set: {x: a, X: b}}", "request.set.x", "twice"),
        ("request: {remove: x}", "request.remove", "must be a list"),
        ("requests: {}", "requests", "did you mean `request`?"),
    ] {
        assert_refused(&with(&format!("headers: {{{operations}}}")), 9, &at(field), reason);
    }
}

#[test]
fn timeouts_and_retries_are_istios() {
    let read_rule = |field: &str| read(&with(field)).http.remove(0);
    assert_eq!(read_rule("timeout: 1.5s").timeout, Some(Duration::from_millis(1500)));
    assert_eq!(read_rule("timeout: 0s").timeout, None);
    assert_eq!(read_rule("retries: {}").retries.unwrap().attempts, 0);
    assert_eq!(read_rule("name: x").retries, None);
    let retries = read_rule("retries: {attempts: 3, perTryTimeout: 2s, retryOn: '5xx, reset ,503,gateway-error,503', backoff: 10ms, retryIgnorePreviousHosts: false}").retries.unwrap();
    assert_eq!(retries.retry_on, ["503", "5xx", "gateway-error", "reset"]);
    assert_eq!(
        (retries.attempts, retries.per_try_timeout),
        (3, Some(Duration::from_secs(2)))
    );
    assert_eq!(
        (retries.backoff, retries.ignore_previous_hosts),
        (Some(Duration::from_millis(10)), Some(false))
    );
    let far = read_rule("retries: {attempts: 1, retryRemoteLocalities: true}").retries;
    assert!(far.unwrap().retry_remote_localities);
    for (field, at, reason) in [
        ("timeout: 1", "timeout", "1 has no unit"),
        ("timeout: 5 s", "timeout", "not a duration"),
        ("timeout: -1s", "timeout", "negative"),
        ("timeout: 10us", "timeout", "at least 1ms"),
        ("retries: {attempts: -1}", "retries.attempts", "out of range"),
        (
            "retries: {attempts: 0, retryOn: 5xx}",
            "retries.attempts",
            "turns retries off",
        ),
        ("retries: {perTryTimeout: 1s}", "retries.attempts", "turns retries off"),
        (
            "retries: {attempts: 1, retryOn: 5xxx}",
            "retries.retryOn",
            "did you mean `5xx`?",
        ),
        (
            "retries: {attempts: 1, retryOn: '5xx,,reset'}",
            "retries.retryOn",
            "neither a retry condition",
        ),
        (
            "retries: {attempts: 1, retryOn: '700'}",
            "retries.retryOn",
            "neither a retry condition",
        ),
        (
            "retries: {retryRemoteLocalities: true}",
            "retries.attempts",
            "turns retries off",
        ),
    ] {
        assert_refused(&with(field), 9, &format!("spec.http[0].{at}"), reason);
    }
}

#[test]
fn every_retry_condition_that_is_taken_is_one_that_a_proxy_takes() {
    for condition in [
        "5xx",
        "gateway-error",
        "reset",
        "reset-before-request",
        "connect-failure",
        "refused-stream",
        "retriable-4xx",
        "retriable-status-codes",
        "cancelled",
        "deadline-exceeded",
        "internal",
        "resource-exhausted",
        "unavailable",
        "418",
    ] {
        let retries = read(&with(&format!("retries: {{attempts: 1, retryOn: '{condition}'}}")))
            .http
            .remove(0)
            .retries
            .unwrap();
        let wire = tsunagi_proto::wire::mesh::RetryPolicy {
            attempts: 1,
            retry_on: retries.retry_on,
            ..Default::default()
        };
        assert!(tsunagi_proto::model::RetryPolicy::try_from(wire).is_ok(), "{condition}");
    }
}
