//! What a rule does to its requests: retries that repeat writes, times that do not fit, faults that were left in.

use std::time::Duration;

use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{Abort, Document, HttpRule, Retries, StringMatch};

const WRITES: Check = ("TSU-RETRY-WRITES", Severity::Warning);
const STATUS: Check = ("TSU-RETRY-STATUS", Severity::Info);
const TIMES: Check = ("TSU-TIMEOUT", Severity::Warning);
const FAULT: Check = ("TSU-FAULT", Severity::Info);
const CORS: Check = ("TSU-CORS", Severity::Warning);
const REWRITE: Check = ("TSU-REWRITE", Severity::Warning);

/// Conditions under which an endpoint may have done what it was asked for.
const MAY_BE_DONE: [&str; 9] = [
    "5xx",
    "gateway-error",
    "reset",
    "retriable-4xx",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "cancelled",
    "unavailable",
];

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, index: usize, rule: &HttpRule) {
    let field = format!("spec.http[{index}]");
    if let Some(retries) = &rule.retries {
        repeated_writes(findings, document, &field, rule, retries);
        times(findings, document, &field, rule, retries);
    }
    faults(findings, document, &field, rule);
    cors(findings, document, &field, rule);
    rewrites(findings, document, &field, rule);
    if !rule.mirrors.is_empty() && admits_writes(rule) {
        let what = "writes are mirrored, too: what the mirror changes is changed twice where both share a store";
        let check = ("TSU-MIRROR-WRITES", Severity::Info);
        findings.add(
            check,
            document,
            format!("{field}.mirror"),
            what,
            "match: [{method: {exact: GET}}], or a store of its own",
        );
    }
}

/// Is there a match that lets a POST or a PATCH through?
fn admits_writes(rule: &HttpRule) -> bool {
    let admits = |method: &Option<StringMatch>| match method {
        None => true,
        Some(StringMatch::Exact(method)) => method == "POST" || method == "PATCH",
        Some(StringMatch::Prefix(start)) => "POST".starts_with(start.as_str()) || "PATCH".starts_with(start.as_str()),
        Some(StringMatch::Regex(pattern)) => tsunagi_proto::model::full_match(pattern)
            .is_ok_and(|regex| regex.is_match(b"POST") || regex.is_match(b"PATCH")),
    };
    rule.matches.is_empty() || rule.matches.iter().any(|item| admits(&item.method))
}

fn repeated_writes(findings: &mut Findings<'_>, document: &Document, field: &str, rule: &HttpRule, retries: &Retries) {
    let dangerous: Vec<&str> = retries
        .retry_on
        .iter()
        .map(String::as_str)
        .filter(|condition| MAY_BE_DONE.contains(condition) || condition.parse::<u16>().is_ok())
        .collect();
    if retries.attempts > 0 && !dangerous.is_empty() && admits_writes(rule) {
        let what = format!(
            "with {} a POST is sent again that may have been carried out: a payment may be made up to {} times",
            listed(&dangerous),
            retries.attempts + 1
        );
        let instead = "these retries in a rule that matches `method: {exact: GET}`; connect-failure and refused-stream for the rest";
        findings.add(WRITES, document, format!("{field}.retries.retryOn"), what, instead);
    }
    let only_503 = retries.retry_on.iter().any(|condition| condition == "503");
    let covered = ["reset", "5xx", "gateway-error", "connect-failure"];
    if only_503
        && !retries
            .retry_on
            .iter()
            .any(|condition| covered.contains(&condition.as_str()))
    {
        let what =
            "503 means an endpoint's own answer: endpoints that cannot be connected to, or break off, are not meant";
        findings.add(
            STATUS,
            document,
            format!("{field}.retries.retryOn"),
            what,
            "503,connect-failure,refused-stream",
        );
    }
}

fn times(findings: &mut Findings<'_>, document: &Document, field: &str, rule: &HttpRule, retries: &Retries) {
    let (Some(timeout), Some(per_try)) = (rule.timeout.filter(|it| !it.is_zero()), retries.per_try_timeout) else {
        return;
    };
    if per_try >= timeout {
        let what = format!(
            "{per_try:?} for each attempt is no less than the {timeout:?} for all of them: none is cut off by it"
        );
        findings.add(
            TIMES,
            document,
            format!("{field}.retries.perTryTimeout"),
            what,
            "a shorter one",
        );
        return;
    }
    let all = per_try.saturating_mul(retries.attempts.saturating_add(1));
    if all > timeout + Duration::from_millis(1) {
        let attempts = retries.attempts + 1;
        let what =
            format!("{attempts} attempts of {per_try:?} take {all:?}, and the request is over after {timeout:?}");
        let check = (TIMES.0, Severity::Info);
        findings.add(
            check,
            document,
            format!("{field}.timeout"),
            what,
            format!("timeout: {all:?}, or fewer attempts"),
        );
    }
}

fn faults(findings: &mut Findings<'_>, document: &Document, field: &str, rule: &HttpRule) {
    let Some(fault) = &rule.fault else { return };
    let always = |share: u32| share == tsunagi_proto::model::ALWAYS;
    if fault.abort.is_some_and(|(share, _)| always(share)) {
        let how = match fault.abort {
            Some((_, Abort::HttpStatus(status))) => format!("is answered {status}"),
            Some((_, Abort::GrpcStatus(status))) => format!("is answered with gRPC status {status}"),
            _ => "is reset".to_owned(),
        };
        let what = format!("every request {how} and reaches no endpoint: was the fault left in?");
        findings.add(
            FAULT,
            document,
            format!("{field}.fault.abort"),
            what,
            "a percentage, or no fault",
        );
    }
    if fault.delay.is_some_and(|(share, _)| always(share)) {
        let what = "every request is delayed: was the fault left in?";
        findings.add(
            FAULT,
            document,
            format!("{field}.fault.delay"),
            what,
            "a percentage, or no fault",
        );
    }
}

fn cors(findings: &mut Findings<'_>, document: &Document, field: &str, rule: &HttpRule) {
    let Some(cors) = &rule.cors else { return };
    let any = |origin: &StringMatch| match origin {
        StringMatch::Exact(text) => text == "*",
        StringMatch::Regex(pattern) => pattern == ".*",
        StringMatch::Prefix(prefix) => ["", "http", "https", "http://", "https://"].contains(&prefix.as_str()),
    };
    if cors.allow_credentials && cors.allow_origins.iter().any(any) {
        let what = "pages of every origin may call with the user's cookies";
        findings.add(
            CORS,
            document,
            format!("{field}.corsPolicy.allowCredentials"),
            what,
            "the origins that may",
        );
    }
    let dots = |origin: &StringMatch| match origin {
        StringMatch::Prefix(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    for origin in cors
        .allow_origins
        .iter()
        .filter_map(dots)
        .filter(|text| !text.ends_with("//"))
    {
        let what = format!("{origin:?} is a prefix: an origin {origin}.attacker.example is allowed, too");
        findings.add(
            CORS,
            document,
            format!("{field}.corsPolicy.allowOrigins"),
            what,
            format!("exact: {origin}"),
        );
    }
}

fn rewrites(findings: &mut Findings<'_>, document: &Document, field: &str, rule: &HttpRule) {
    let Some(uri) = rule.rewrite.as_ref().and_then(|rewrite| rewrite.uri.as_deref()) else {
        return;
    };
    for (number, item) in rule.matches.iter().enumerate() {
        match &item.uri {
            Some(StringMatch::Prefix(prefix)) if prefix.ends_with('/') != uri.ends_with('/') && uri != "/" => {
                let rest = format!("{uri}{}", if prefix.ends_with('/') { "rest" } else { "/rest" });
                let what = format!("{prefix:?} of match[{number}] becomes {uri:?}: {prefix}… is sent as {rest}");
                findings.add(
                    REWRITE,
                    document,
                    format!("{field}.rewrite.uri"),
                    what,
                    "both with a slash at the end, or neither",
                );
            }
            Some(StringMatch::Regex(_)) | None => {
                let what = format!("match[{number}] has no exact or prefix uri: every path becomes {uri}");
                let check = (REWRITE.0, Severity::Info);
                findings.add(
                    check,
                    document,
                    format!("{field}.rewrite.uri"),
                    what,
                    "uriRegexRewrite, or a prefix to match",
                );
            }
            _ => {}
        }
    }
}
