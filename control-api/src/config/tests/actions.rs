//! What a rule of a VirtualService does besides routing: every field of every action, and what Istio refuses.

use super::*;

/// The only rule: `http` is its YAML in flow style, on line 8.
pub(super) fn document(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: user, namespace: shop}}\nspec:\n  hosts: [user]\n  http:\n\n  - {{{http}}}\n"
    )
}

pub(super) const ROUTE: &str = "route: [{destination: {host: user}}]";

pub(super) fn read(http: &str) -> HttpRule {
    let Spec::VirtualService(mut rule) = one(&document(http)).spec else {
        panic!()
    };
    rule.http.remove(0)
}

pub(super) fn routed(field: &str) -> HttpRule {
    read(&format!("{ROUTE}, {field}"))
}

#[track_caller]
pub(super) fn assert_no(http: &str, field: &str, reason: &str) {
    let at = match field {
        "" => "spec.http[0]".to_owned(),
        field => format!("spec.http[0].{field}"),
    };
    assert_refused(&document(http), 8, &at, reason);
}

#[track_caller]
pub(super) fn assert_no_routed(rest: &str, field: &str, reason: &str) {
    assert_no(&format!("{ROUTE}, {rest}"), field, reason);
}

#[test]
fn a_redirect_has_every_part_of_istios() {
    let redirect = |text: &str| read(&format!("redirect: {text}")).redirect.unwrap();
    assert_eq!(
        redirect("{uri: '/a?b=c', authority: 'x.com:8080', scheme: https, port: 8443, redirectCode: 308}"),
        Redirect {
            uri: Some("/a?b=c".into()),
            prefix_rewrite: None,
            authority: "x.com:8080".into(),
            scheme: "https".into(),
            port: Some(RedirectPort::Number(8443)),
            code: Some(308),
        }
    );
    assert_eq!(
        redirect("{prefix_rewrite: /b, redirect_code: 0}").prefix_rewrite,
        Some("/b".into())
    );
    assert_eq!(redirect("{prefixRewrite: /b, uri: ''}").uri, None);
    assert_eq!(redirect("{uri: '/#/login'}").uri, Some("/#/login".into()));
    assert_eq!(redirect("{prefixRewrite: '/#/'}").prefix_rewrite, Some("/#/".into()));
    let port = |text: &str| redirect(&format!("{{derivePort: {text}}}")).port;
    assert_eq!(port("FROM_REQUEST_PORT"), Some(RedirectPort::FromRequestPort));
    assert_eq!(port("FROM_PROTOCOL_DEFAULT"), Some(RedirectPort::FromProtocolDefault));
    for (redirect, field, reason) in [
        ("{}", "redirect", "needs one of"),
        ("{redirectCode: 302}", "redirect", "needs one of"),
        ("{uri: /a, prefixRewrite: /b}", "redirect.prefixRewrite", "only one of"),
        (
            "{port: 80, derivePort: FROM_REQUEST_PORT}",
            "redirect.derivePort",
            "only one of",
        ),
        ("{derivePort: REQUEST}", "redirect.derivePort", "is none of"),
        ("{scheme: ftp}", "redirect.scheme", "is none of http, https"),
        ("{uri: /, redirectCode: 200}", "redirect.redirectCode", "is none of 301"),
        ("{uri: /, redirectCode: 304}", "redirect.redirectCode", "is none of 301"),
        ("{uri: 'a b'}", "redirect.uri", "a character that a path cannot have"),
        ("{uri: '/#a b'}", "redirect.uri", "a character that a path cannot have"),
        ("{authority: 'a/b'}", "redirect.authority", "not a host"),
        ("{port: 70000}", "redirect.port", "out of range"),
        (
            "{redirectcode: 302, port: 80}",
            "redirect.redirectcode",
            "did you mean `redirectCode`?",
        ),
    ] {
        assert_no(&format!("redirect: {redirect}"), field, reason);
    }
    let matched = |uri: &str| format!("match: [{{uri: {uri}}}, {{port: 80}}], redirect: {{prefixRewrite: /b}}");
    read(&matched("{prefix: /a}"));
    assert_no(
        &matched("{exact: /a}"),
        "redirect.prefixRewrite",
        "whose `uri` is a `prefix`",
    );
}

#[test]
fn a_direct_response_has_a_body_of_text_or_bytes() {
    let body = |text: &str| {
        read(&format!("directResponse: {{status: 503, body: {text}}}"))
            .direct_response
            .unwrap()
            .body
    };
    assert_eq!(body("{string: 'é'}"), "é".as_bytes());
    for base64 in ["/+8=", "/+8", "_-8=", "_-8"] {
        assert_eq!(body(&format!("{{bytes: '{base64}'}}")), [0xff, 0xef], "{base64}");
    }
    assert_eq!(
        read("direct_response: {status: 200}").direct_response.unwrap(),
        DirectResponse {
            status: 200,
            body: vec![]
        }
    );
    for (response, field, reason) in [
        ("{}", "directResponse.status", "is required"),
        ("{status: 199}", "directResponse.status", "out of range"),
        ("{status: 600}", "directResponse.status", "out of range"),
        (
            "{status: 200, body: {string: a, bytes: YQ}}",
            "directResponse.body",
            "only one of",
        ),
        (
            "{status: 200, body: {bytes: 'a?'}}",
            "directResponse.body.bytes",
            "not base64",
        ),
        ("{status: 200, body: a}", "directResponse.body", "must be a mapping"),
    ] {
        assert_no(&format!("directResponse: {response}"), field, reason);
    }
    let size = |bytes: usize| {
        format!(
            "directResponse: {{status: 200, body: {{string: {}}}}}",
            "x".repeat(bytes)
        )
    };
    read(&size(1 << 20));
    assert_no(&size((1 << 20) + 1), "directResponse.body", "are more than 1048576");
}

#[test]
fn a_rewrite_replaces_the_path_by_text_or_regex_and_the_authority() {
    let rewrite = |text: &str| routed(&format!("rewrite: {text}")).rewrite.unwrap();
    assert_eq!(
        rewrite("{uri: /b, authority: 'b.com'}"),
        Rewrite {
            uri: Some("/b".into()),
            uri_regex: None,
            authority: "b.com".into()
        }
    );
    let regex = r"{uriRegexRewrite: {match: '^/(\w+)/(.*)$', rewrite: '/\2/\1'}}";
    assert_eq!(
        rewrite(regex).uri_regex,
        Some((r"^/(\w+)/(.*)$".into(), r"/\2/\1".into()))
    );
    for (rewrite, field, reason) in [
        ("{}", "rewrite", "needs one of"),
        ("{uri: ''}", "rewrite", "needs one of"),
        (
            "{uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            "rewrite.uriRegexRewrite",
            "only one of",
        ),
        (
            "{uriRegexRewrite: {match: a}}",
            "rewrite.uriRegexRewrite.rewrite",
            "is required",
        ),
        (
            "{uriRegexRewrite: {match: '', rewrite: b}}",
            "rewrite.uriRegexRewrite.match",
            "must not be empty",
        ),
        (
            "{uriRegexRewrite: {match: '(', rewrite: b}}",
            "rewrite.uriRegexRewrite.match",
            "unclosed group",
        ),
        (
            r"{uriRegexRewrite: {match: '(a)', rewrite: '\2'}}",
            "rewrite.uriRegexRewrite.rewrite",
            "the groups that the regex has",
        ),
        ("{uri: \"/a\\nb\"}", "rewrite.uri", "a character"),
        ("{uri: '/#/login'}", "rewrite.uri", "a character"),
        ("{authority: a b}", "rewrite.authority", "not a host"),
    ] {
        assert_no_routed(&format!("rewrite: {rewrite}"), field, reason);
    }
}

#[test]
fn a_host_that_is_set_is_the_authority() {
    let rule = routed("headers: {request: {set: {HOST: 'b.com:80', x: y}}}");
    assert_eq!(
        (rule.authority.as_str(), rule.headers.request.set.len()),
        ("b.com:80", 1)
    );
    assert_eq!(routed("headers: {request: {add: {':authority': c}}}").authority, "c");
    let rule = read("route: [{destination: {host: user}, headers: {request: {set: {host: d}}}}]");
    assert_eq!((rule.authority.as_str(), rule.route[0].authority.as_str()), ("", "d"));
    assert_no_routed(
        "rewrite: {authority: a}, headers: {request: {set: {host: b}}}",
        "headers",
        "`rewrite` does already",
    );
}

#[test]
fn faults_are_shares_of_a_million_and_kinds() {
    let fault = |text: &str| routed(&format!("fault: {text}")).fault.unwrap();
    let share = |percent: &str| {
        fault(&format!(
            "{{abort: {{httpStatus: 500, percentage: {{value: {percent}}}}}}}"
        ))
        .abort
        .unwrap()
        .0
    };
    for (percent, per_million) in [
        ("0", 0),
        ("0.0001", 1),
        ("0.0003", 3),
        ("0.1", 1_000),
        ("33.3333", 333_333),
        ("99.9999", 999_999),
        ("100", 1_000_000),
        ("100.0", 1_000_000),
    ] {
        assert_eq!(share(percent), per_million, "{percent}");
    }
    let second = Duration::from_secs(1);
    for (delay, read) in [
        ("{percent: 10, fixedDelay: 1s}", (100_000, Delay::Fixed(second))),
        (
            "{percent: 10, percentage: {value: 5}, fixedDelay: 1s}",
            (50_000, Delay::Fixed(second)),
        ),
        ("{percentage: {}, fixedDelay: 1s}", (0, Delay::Fixed(second))),
        ("{fixed_delay: 1s}", (0, Delay::Fixed(second))),
        (
            "{percent: 100, exponentialDelay: 1s}",
            (1_000_000, Delay::Exponential(second)),
        ),
    ] {
        assert_eq!(fault(&format!("{{delay: {delay}}}")).delay, Some(read), "{delay}");
    }
    for (abort, read) in [
        ("httpStatus: 418", Abort::HttpStatus(418)),
        ("grpcStatus: UNAVAILABLE", Abort::GrpcStatus(14)),
        ("grpcStatus: OK", Abort::GrpcStatus(0)),
        ("grpcStatus: '16'", Abort::GrpcStatus(16)),
        ("http2Error: REFUSED_STREAM", Abort::Http2Error(7)),
        ("http2_error: '13'", Abort::Http2Error(13)),
    ] {
        assert_eq!(
            fault(&format!("{{abort: {{{abort}, percentage: {{value: 1}}}}}}")).abort,
            Some((10_000, read)),
            "{abort}"
        );
    }
    for (fault, field, reason) in [
        ("{}", "fault", "needs `delay` or `abort`"),
        ("{delay: {percent: 10}}", "fault.delay", "needs `fixedDelay`"),
        (
            "{delay: {fixedDelay: 1s, exponentialDelay: 1s}}",
            "fault.delay",
            "only one of",
        ),
        ("{delay: {fixedDelay: 0s}}", "fault.delay.fixedDelay", "at least 1ms"),
        (
            "{delay: {fixedDelay: 1s, percent: 101}}",
            "fault.delay.percent",
            "out of range",
        ),
        ("{abort: {percentage: {value: 1}}}", "fault.abort", "needs one of"),
        (
            "{abort: {httpStatus: 500, grpcStatus: OK}}",
            "fault.abort",
            "only one of",
        ),
        ("{abort: {httpStatus: 600}}", "fault.abort.httpStatus", "out of range"),
        (
            "{abort: {grpcStatus: UNAVAILABL}}",
            "fault.abort.grpcStatus",
            "did you mean `UNAVAILABLE`?",
        ),
        (
            "{abort: {grpcStatus: '17'}}",
            "fault.abort.grpcStatus",
            "not a gRPC status",
        ),
        ("{abort: {grpcStatus: 14}}", "fault.abort.grpcStatus", "in quotes"),
        (
            "{abort: {http2Error: '14'}}",
            "fault.abort.http2Error",
            "not an error code",
        ),
        (
            "{abort: {httpStatus: 500, percentage: {value: 100.1}}}",
            "fault.abort.percentage.value",
            "out of range",
        ),
        (
            "{abort: {httpStatus: 500, percentage: {value: -1}}}",
            "fault.abort.percentage.value",
            "out of range",
        ),
        (
            "{abort: {httpStatus: 500, percentage: {value: 0.00001}}}",
            "fault.abort.percentage.value",
            "neither 0 nor",
        ),
        (
            "{abort: {httpStatus: 500, percentage: 5}}",
            "fault.abort.percentage",
            "must be a mapping",
        ),
        (
            "{abort: {httpStatus: 500, percentage: {value: '5'}}}",
            "fault.abort.percentage.value",
            "must be a number",
        ),
    ] {
        assert_no_routed(&format!("fault: {fault}"), field, reason);
    }
}

#[test]
fn a_regex_anywhere_in_a_rule_counts_against_the_limits() {
    let origins = vec!["{regex: '[a-z]{0,900}'}"; 200].join(", ");
    let text = document(&format!("{ROUTE}, corsPolicy: {{allowOrigins: [{origins}]}}"));
    assert_refused(&text, 6, "spec.http", "more than 8 MiB in every proxy");
    let rewrite = format!("{{{ROUTE}, rewrite: {{uriRegexRewrite: {{match: '[a-z]{{0,900}}', rewrite: a}}}}}}");
    let rules = vec![rewrite; 200].join(", ");
    let text = document("").replace("  http:\n\n  - {}\n", &format!("  http: [{rules}]\n"));
    assert_refused(&text, 6, "spec.http", "more than 8 MiB in every proxy");
}
