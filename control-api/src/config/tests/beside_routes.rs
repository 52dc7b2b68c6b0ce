//! What of a rule of a VirtualService goes beside its action: mirrors, CORS, a delegate's name; and what excludes what.

use super::actions::{ROUTE, assert_no, assert_no_routed, read, routed};
use super::*;

#[test]
fn mirrors_get_all_requests_or_a_share() {
    let shares = |text: &str| {
        routed(text)
            .mirrors
            .iter()
            .map(|mirror| mirror.per_million)
            .collect::<Vec<_>>()
    };
    let mirror = routed("mirror: {host: shadow, subset: v2, port: {number: 81}}")
        .mirrors
        .remove(0);
    let read = Mirror {
        host: "shadow.shop.svc.cluster.local".into(),
        port: Some(81),
        subset: "v2".into(),
        per_million: 1_000_000,
    };
    assert_eq!(mirror, read);
    for (text, read) in [
        ("mirror: {host: a}, mirrorPercentage: {value: 0.5}", vec![5_000]),
        ("mirror: {host: a}, mirrorPercent: 5", vec![50_000]),
        ("mirror: {host: a}, mirror_percent: 5", vec![50_000]),
        (
            "mirror: {host: a}, mirrorPercent: 5, mirrorPercentage: {value: 0}",
            vec![0],
        ),
        ("mirror: {host: a}, mirrorPercentage: {value: 0.00001}", vec![0]),
        (
            "mirrors: [{destination: {host: a}}, {destination: {host: b}, percentage: {value: 1}}]",
            vec![1_000_000, 10_000],
        ),
        ("mirrors: [], mirrorPercentage: {value: 1}", vec![]),
        ("mirror: null", vec![]),
    ] {
        assert_eq!(shares(text), read, "{text}");
    }
    for (text, field, reason) in [
        (
            "mirror: {host: a}, mirrors: [{destination: {host: a}}]",
            "mirrors",
            "only one of",
        ),
        ("mirror: {}", "mirror.host", "is required"),
        ("mirror: {host: '*'}", "mirror.host", "one host"),
        (
            "mirrors: [{percentage: {value: 1}}]",
            "mirrors[0].destination",
            "is required",
        ),
        (
            "mirrors: [{host: a, destination: {host: a}}]",
            "mirrors[0].host",
            "belongs under `destination`",
        ),
        ("mirror: {host: a}, mirrorPercent: 101", "mirrorPercent", "out of range"),
        (
            "mirror: {host: a}, mirrorPercentage: {value: 101}",
            "mirrorPercentage.value",
            "out of range",
        ),
        (
            "mirrors: [{destination: {host: a}, percentage: {value: -1}}]",
            "mirrors[0].percentage.value",
            "out of range",
        ),
    ] {
        assert_no_routed(text, field, reason);
    }
}

#[test]
fn a_cors_policy_has_every_field_of_istios() {
    let cors = |text: &str| routed(&format!("corsPolicy: {text}")).cors.unwrap();
    let all = "{allowOrigins: [{exact: 'https://a.com'}, {prefix: 'https://b'}, {regex: '.*'}], allowMethods: [GET, '*'], allowHeaders: [X-A, '*'], exposeHeaders: [x_b], maxAge: 24h, allowCredentials: true, unmatchedPreflights: IGNORE}";
    assert_eq!(
        cors(all),
        CorsPolicy {
            allow_origins: vec![
                StringMatch::Exact("https://a.com".into()),
                StringMatch::Prefix("https://b".into()),
                StringMatch::Regex(".*".into()),
            ],
            allow_methods: vec!["GET".into(), "*".into()],
            allow_headers: vec!["X-A".into(), "*".into()],
            expose_headers: vec!["x_b".into()],
            max_age: Some(Duration::from_secs(24 * 3600)),
            allow_credentials: true,
            forward_unmatched_preflights: false,
        }
    );
    assert!(
        cors("{}").forward_unmatched_preflights
            && cors("{unmatchedPreflights: UNSPECIFIED}").forward_unmatched_preflights
    );
    assert_eq!(
        (cors("{}").max_age, cors("{maxAge: 0s}").max_age),
        (None, Some(Duration::ZERO))
    );
    assert_eq!(
        cors("{allowOrigin: ['*']}").allow_origins,
        [StringMatch::Exact("*".into())]
    );
    assert_eq!(
        cors("{allow_origin: [a], allow_origins: [{exact: b}]}").allow_origins,
        [StringMatch::Exact("b".into())]
    );
    for (cors, field, reason) in [
        (
            "{allowOrigins: ['*']}",
            "corsPolicy.allowOrigins[0]",
            "must be a mapping",
        ),
        (
            "{allowOrigins: [{exact: ''}]}",
            "corsPolicy.allowOrigins[0].exact",
            "must not be empty",
        ),
        ("{allowOrigins: [{}]}", "corsPolicy.allowOrigins[0]", "one of exact"),
        (
            "{allowOrigins: [{regex: '('}]}",
            "corsPolicy.allowOrigins[0].regex",
            "unclosed",
        ),
        (
            "{allowMethods: [FETCH]}",
            "corsPolicy.allowMethods[0]",
            "is none of GET",
        ),
        (
            "{allowHeaders: ['a b']}",
            "corsPolicy.allowHeaders[0]",
            "neither a header name",
        ),
        (
            "{exposeHeaders: ['']}",
            "corsPolicy.exposeHeaders[0]",
            "must not be empty",
        ),
        ("{maxAge: 1500ms}", "corsPolicy.maxAge", "whole seconds"),
        (
            "{allowCredentials: 'yes'}",
            "corsPolicy.allowCredentials",
            "true or false",
        ),
        (
            "{unmatchedPreflights: DENY}",
            "corsPolicy.unmatchedPreflights",
            "is none of",
        ),
        (
            "{allowedOrigins: []}",
            "corsPolicy.allowedOrigins",
            "did you mean `allowOrigins`?",
        ),
    ] {
        assert_no_routed(&format!("corsPolicy: {cors}"), field, reason);
    }
}

#[test]
fn a_rule_does_one_thing() {
    for (rule, field, reason) in [
        (
            format!("{ROUTE}, redirect: {{uri: /}}"),
            "redirect",
            "both this and `route`",
        ),
        (
            format!("{ROUTE}, directResponse: {{status: 200}}"),
            "directResponse",
            "both this and `route`",
        ),
        (
            "redirect: {uri: /}, directResponse: {status: 200}".into(),
            "directResponse",
            "both this and `redirect`",
        ),
        (
            "redirect: {uri: /}, rewrite: {uri: /}".into(),
            "rewrite",
            "no place beside `redirect`",
        ),
        (
            "redirect: {uri: /}, fault: {abort: {httpStatus: 500}}".into(),
            "fault",
            "no place beside `redirect`",
        ),
        (
            "directResponse: {status: 200}, rewrite: {uri: /}".into(),
            "rewrite",
            "no place beside `directResponse`",
        ),
        ("mirror: {host: a}".into(), "route", "is required, or `redirect`"),
        ("timeout: 1s, route: []".into(), "route", "must not be empty"),
        (
            format!("{ROUTE}, delegate: {{name: a}}"),
            "route",
            "leaves this to the rules",
        ),
        (
            "delegate: {name: a}, redirect: {uri: /}".into(),
            "redirect",
            "leaves this to the rules",
        ),
        ("delegate: {}".into(), "delegate.name", "is required"),
        (
            "delegate: {name: A_b}".into(),
            "delegate.name",
            "not the name of a VirtualService",
        ),
        (
            "delegate: {name: a, namespace: B}".into(),
            "delegate.namespace",
            "not a namespace name",
        ),
    ] {
        assert_no(&rule, field, reason);
    }
    // An empty list of destinations is none, and CORS and headers go with any action.
    let rule = read("redirect: {uri: /}, route: [], corsPolicy: {}, headers: {response: {set: {a: b}}}");
    assert!(rule.redirect.is_some() && rule.cors.is_some());
}

#[test]
fn a_delegate_is_named_with_its_namespace_or_is_in_the_rules_own() {
    let delegate = |text: &str| read(&format!("delegate: {text}, timeout: 1s")).delegate.unwrap();
    for (text, namespace) in [
        ("{name: a.b}", "shop"),
        ("{name: a.b, namespace: ''}", "shop"),
        ("{name: a.b, namespace: other}", "other"),
    ] {
        assert_eq!(
            delegate(text),
            Delegate {
                name: "a.b".into(),
                namespace: namespace.into()
            }
        );
    }
}
