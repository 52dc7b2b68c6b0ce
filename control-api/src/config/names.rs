//! What names may look like, as Kubernetes and Istio check them, and which known name a misspelt one is close to.

use std::borrow::Cow;
use std::net::IpAddr;

use tsunagi_proto::names::{DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};

use super::read::Field;
use super::scalar::shown;

/// Longest DNS name.
const LONGEST_NAME: usize = 253;
/// Longest label of a DNS name, and of a label's key and value.
const LONGEST_LABEL: usize = 63;

/// `a-z0-9-`, not at the ends: a namespace, a Service's name.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= LONGEST_LABEL && has_label_shape(text)
}

/// Labels of any length with dots between: the name of most documents.
pub(super) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(has_label_shape)
}

fn has_label_shape(text: &str) -> bool {
    let inner = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    inner && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

/// As Istio checks a subset's name: a DNS label in any case.
pub(super) fn is_subset_name(text: &str) -> bool {
    is_dns_label(&text.to_ascii_lowercase())
}

pub(super) fn is_label_value(text: &str) -> bool {
    let inner = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    let end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    inner && text.len() <= LONGEST_LABEL && end(text.as_bytes().first()) && end(text.as_bytes().last())
}

pub(super) fn is_label_key(text: &str) -> bool {
    let (prefix, name) = text
        .split_once('/')
        .map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// Shown in a path without brackets.
pub(super) fn is_plain_key(text: &str) -> bool {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    plain && !text.is_empty() && text.len() <= 80
}

pub(super) fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        inner && !label.is_empty() && label.len() <= LONGEST_LABEL && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= LONGEST_NAME && text.split('.').all(label)
}

/// One host as it stands, in lower case.
pub(super) fn host_as_written(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    let host = text.strip_suffix('.').unwrap_or(text);
    if host.contains('*') {
        field.not_supported_yet("a wildcard in a host");
    } else if host.parse::<IpAddr>().is_ok() {
        field.not_supported_yet("an IP address as a host");
    } else if !is_host_name(host) {
        field.refuse(format!("{} is not a host name", shown(text)));
    } else {
        return Some(host.to_ascii_lowercase());
    }
    None
}

/// One host of a rule as it stands, in lower case: a name, a wildcard in place of a name's first labels (`*.example.com`),
/// `*`, or an IP address.
pub(super) fn host_or_wildcard(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let host = text.strip_suffix('.').filter(|host| *host != "*").unwrap_or(text);
    let host = host.to_ascii_lowercase();
    match host.strip_prefix('*') {
        None if is_host_name(&host) => return Some(host),
        Some("") => return Some(host),
        Some(rest) if rest.strip_prefix('.').is_some_and(is_host_name) => return Some(host),
        Some(rest) if is_host_name(rest.trim_start_matches('-')) => {
            field.not_supported_yet("a wildcard for a part of a label");
        }
        _ => field.refuse(format!("{} is not a host name", shown(text))),
    }
    None
}

/// A host as `host_or_wildcard` has read it, as a rule of `namespace` means it.
pub(super) fn resolve(host: &str, namespace: &str) -> String {
    if host.parse::<IpAddr>().is_ok() {
        host.to_owned()
    } else {
        resolve_in_rule(host, namespace, DEFAULT_CLUSTER_DOMAIN)
    }
}

/// Is everything that `host` means meant by `pattern`, too? Both as `host_or_wildcard` has read them.
pub(super) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
        None => pattern == host,
    }
}

/// Of a field that protobuf calls `written`.
pub(super) fn json_name(written: &str) -> Cow<'_, str> {
    if written.starts_with('_') || written.ends_with('_') {
        return written.into();
    }
    let mut name = String::with_capacity(written.len());
    let mut after_underscore = false;
    for char in written.chars() {
        match char {
            '_' if after_underscore => return written.into(),
            'A'..='Z' => return written.into(),
            _ if after_underscore => name.push(char.to_ascii_uppercase()),
            '_' => {}
            char => name.push(char),
        }
        after_underscore = char == '_';
    }
    name.into()
}

/// `, did you mean ..?` when one of `known` is close to `text`.
pub(super) fn did_you_mean(text: &str, known: impl Iterator<Item = &'static str>) -> String {
    // The distance takes quadratic time.
    if text.len() > LONGEST_LABEL {
        return String::new();
    }
    let folded = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = folded(text);
    let closest = known
        .map(|name| (strsim::damerau_levenshtein(&wanted, &folded(name)), name))
        .min();
    match closest {
        Some((distance, name)) if distance <= wanted.len() / 4 => format!(", did you mean `{name}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_as_kubernetes_does() {
        for (good, text) in [
            (true, "user-1"),
            (false, "User"),
            (false, "-a"),
            (false, "a-"),
            (false, ""),
            (false, "a.b"),
        ] {
            assert_eq!(is_dns_label(text), good, "{text}");
        }
        assert!(is_dns_label(&"a".repeat(63)) && !is_dns_label(&"a".repeat(64)));
        assert!(is_dns_subdomain("a.b-c") && !is_dns_subdomain("a..b"));
        assert!(is_label_key("app.kubernetes.io/name") && !is_label_key("/x") && !is_label_key("a/b/c"));
        assert!(is_label_value("") && is_label_value("v1_2.3") && !is_label_value(".v") && !is_label_value("a b"));
        assert!(is_subset_name("V1") && !is_subset_name("v.1"));
    }

    #[test]
    fn a_wildcard_covers_names_and_wildcards_below_it() {
        for (pattern, host, covered) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "*.a.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.a.example.com", "*.example.com", false),
            ("*", "a", true),
            ("a", "a", true),
            ("a", "*", false),
        ] {
            assert_eq!(covers(pattern, host), covered, "{pattern} {host}");
        }
    }

    #[test]
    fn protobufs_name_of_a_field_is_turned_into_jsons() {
        for (written, name) in [
            ("mirror_percent", "mirrorPercent"),
            ("consecutive_5xx_errors", "consecutive5xxErrors"),
            ("http2_error", "http2Error"),
            ("time_out", "timeOut"),
            ("mirror__percent", "mirror__percent"),
            ("mirror_Percent", "mirror_Percent"),
            ("name", "name"),
        ] {
            assert_eq!(json_name(written), name);
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised_and_a_strange_one_is_not() {
        let suggest = |text| did_you_mean(text, ["timeout", "retries", "mirrorPercentage"].into_iter());
        assert_eq!(suggest("timout"), ", did you mean `timeout`?");
        assert_eq!(suggest("mirror_percentage"), ", did you mean `mirrorPercentage`?");
        assert_eq!(suggest("cheese"), "");
        assert_eq!(suggest(&"x".repeat(100_000)), "");
    }
}
