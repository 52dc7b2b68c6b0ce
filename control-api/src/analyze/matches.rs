//! What a match says, and what its author may have thought that it says.

use super::{Check, Findings, Severity};
use crate::config::{Document, HttpMatch, HttpRule, StringMatch};

const PREFIX: Check = ("TSU-PREFIX", Severity::Info);
const QUERY: Check = ("TSU-URI-QUERY", Severity::Warning);
const REGEX: Check = ("TSU-REGEX", Severity::Warning);
const NEVER: Check = ("TSU-NEVER-MATCHES", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, index: usize, rule: &HttpRule) {
    for (number, item) in rule.matches.iter().enumerate() {
        let field = format!("spec.http[{index}].match[{number}]");
        uri(findings, document, &field, item);
        headers(findings, document, &field, item);
        authority(findings, document, &field, item);
    }
}

/// Once for each VirtualService: nearly every one has such prefixes, and most are meant.
pub(super) fn prefixes(findings: &mut Findings<'_>, document: &Document, rules: &[HttpRule]) {
    let items = rules.iter().enumerate().flat_map(|(index, rule)| {
        let matches = rule.matches.iter().enumerate();
        matches.map(move |(number, item)| (format!("spec.http[{index}].match[{number}].uri.prefix"), item))
    });
    let mut plain = items.filter_map(|(field, item)| match &item.uri {
        Some(StringMatch::Prefix(prefix)) if !prefix.ends_with('/') && prefix.len() > 1 => Some((field, prefix)),
        _ => None,
    });
    let Some((field, prefix)) = plain.next() else { return };
    let others = match plain.count() {
        0 => String::new(),
        more => format!(" ({more} more like it here)"),
    };
    let what = format!("{prefix:?} is a plain prefix: it matches {prefix}-other and {prefix}s, too{others}");
    let instead = format!("{{exact: {prefix}}} and {{prefix: {prefix}/}}, if only what lies below is meant");
    findings.add(PREFIX, document, field, what, instead);
}

fn uri(findings: &mut Findings<'_>, document: &Document, field: &str, item: &HttpMatch) {
    let Some(uri) = &item.uri else { return };
    let field = format!("{field}.uri");
    let (kind, text) = match uri {
        StringMatch::Exact(text) => ("exact", text),
        StringMatch::Prefix(text) => ("prefix", text),
        StringMatch::Regex(text) => {
            regex(findings, document, &field, text);
            return;
        }
    };
    if text.contains('?') {
        let what = "a query is no part of the path that is matched: this never holds";
        findings.add(QUERY, document, format!("{field}.{kind}"), what, "queryParams");
    }
    if !text.is_empty() && !text.starts_with('/') && text != "*" {
        let what = format!("{text:?} does not begin with a slash, as every path does: this never holds");
        findings.add(NEVER, document, format!("{field}.{kind}"), what, format!("/{text}"));
    }
}

/// A regex must match the whole value, which is not what most regexes are written for.
fn regex(findings: &mut Findings<'_>, document: &Document, field: &str, pattern: &str) {
    let literal = !pattern.contains(['\\', '.', '+', '*', '?', '(', '[', '{', '|', '^', '$']);
    if literal {
        let what = format!("{pattern:?} matches only the path {pattern}: a regex holds for the whole value");
        let instead = format!("{{prefix: {pattern}}}, or {pattern}.* for what begins so");
        findings.add(REGEX, document, format!("{field}.regex"), what, instead);
    } else if !pattern.starts_with(['/', '.', '(', '[', '^', '\\']) {
        let what = format!("{pattern:?} must match the whole path, which begins with a slash: this can hardly hold");
        findings.add(REGEX, document, format!("{field}.regex"), what, format!(".*{pattern}"));
    }
}

fn headers(findings: &mut Findings<'_>, document: &Document, field: &str, item: &HttpMatch) {
    for (name, wanted) in &item.without_headers {
        let holds_for_nothing = match wanted {
            Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) => text.is_empty(),
            Some(StringMatch::Regex(pattern)) => {
                tsunagi_proto::model::full_match(pattern).is_ok_and(|regex| regex.is_match(b""))
            }
            None => false,
        };
        if holds_for_nothing {
            let what = "a header that is not there counts as the empty value, which this matches: requests without it are left out";
            let field = format!("{field}.withoutHeaders.{name}");
            findings.add(
                NEVER,
                document,
                field,
                what,
                format!("withoutHeaders: {{{name}: {{}}}}"),
            );
        }
        if item
            .headers
            .iter()
            .any(|(other, value)| other == name && value == wanted)
        {
            let what = "is asked for by `headers` as well: this match never holds";
            findings.add(
                NEVER,
                document,
                format!("{field}.withoutHeaders.{name}"),
                what,
                "one of the two",
            );
        }
    }
    for (name, wanted) in &item.headers {
        if let (true, Some(StringMatch::Exact(text))) = (name == "cookie", wanted)
            && text.contains('=')
        {
            let what = "a client sends all its cookies in one header: this holds only for clients with this one cookie";
            let instead = format!("regex: \"^(.*;\\\\s*)?{text}(;.*)?$\"");
            findings.add(REGEX, document, format!("{field}.headers.cookie.exact"), what, instead);
        }
    }
}

fn authority(findings: &mut Findings<'_>, document: &Document, field: &str, item: &HttpMatch) {
    if let Some(StringMatch::Exact(text)) = &item.authority
        && !text.contains(':')
    {
        let what = format!("{text:?} is compared with the authority as sent, with its port if there is one");
        let instead = format!("prefix: {text}, if {text}:80 is meant as well");
        findings.add(
            ("TSU-AUTHORITY", Severity::Info),
            document,
            format!("{field}.authority.exact"),
            what,
            instead,
        );
    }
}
