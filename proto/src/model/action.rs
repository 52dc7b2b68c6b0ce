//! What a rule does besides choosing a destination, or instead of it: redirect, direct response, rewrite, mirrors.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, StatusCode};
use regex::bytes::Regex;

use super::{Invalid, host, matching};
use crate::wire::mesh;

/// A million of a million.
pub const ALWAYS: u32 = 1_000_000;
const MAX_BODY_BYTES: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    pub path: Option<RedirectPath>,
    pub authority: Option<HeaderValue>,
    pub scheme: Option<String>,
    pub port: Option<RedirectPort>,
    pub status: StatusCode,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectPath {
    Whole(String),
    /// In place of what a prefix match has matched.
    Prefix(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectPort {
    Number(u16),
    /// The scheme's default, which is said by saying none.
    ProtocolDefault,
    Request,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectResponse {
    pub status: StatusCode,
    pub body: Bytes,
}

#[derive(Clone, Debug)]
pub struct Rewrite {
    pub path: Option<PathRewrite>,
    pub authority: Option<HeaderValue>,
}

#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// In place of what a prefix match has matched; of the whole path after any other match.
    Literal(String),
    Regex {
        pattern: Regex,
        substitution: Substitution,
    },
}

/// Text with references to a match's groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substitution(pub Vec<SubstitutionPart>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubstitutionPart {
    Literal(String),
    Group(usize),
}

/// Where a copy of the request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    pub host: String,
    /// As of a `WeightedDestination`.
    pub port: Option<u16>,
    pub subset: String,
    /// Of a million requests.
    pub per_million: u32,
}

/// Does a share of requests meet this one? `random` is uniform over all of `u64`.
pub fn draws(per_million: u32, random: u64) -> bool {
    ((u128::from(random) * u128::from(ALWAYS)) >> 64) < u128::from(per_million)
}

pub(super) fn per_million(field: &str, number: u32) -> Result<u32, Invalid> {
    if number > ALWAYS {
        return Err(Invalid::new(field, format!("{number} of a million is more than all")));
    }
    Ok(number)
}

/// Empty: none. A host, perhaps with a port.
pub(super) fn authority(field: &str, text: &str) -> Result<Option<HeaderValue>, Invalid> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]%".contains(&byte);
    if !text.bytes().all(allowed) || text.len() > 260 {
        return Err(Invalid::new(
            field,
            format!("{text:?} is not a host with an optional port"),
        ));
    }
    let value = || HeaderValue::from_str(text).map_err(|_| Invalid::new(field, "not a header value"));
    (!text.is_empty()).then(value).transpose()
}

/// Text that may stand in a request's target, perhaps with a query.
fn path(field: &str, text: String) -> Result<String, Invalid> {
    checked(field, text, is_path)
}

/// As `path`, perhaps with a fragment: it is for the client, to whom it is sent.
fn redirect_path(field: &str, text: String) -> Result<String, Invalid> {
    checked(field, text, is_redirect_path)
}

fn checked(field: &str, text: String, may_be: fn(&str) -> bool) -> Result<String, Invalid> {
    if !may_be(&text) {
        return Err(Invalid::new(
            field,
            format!("{text:?} has a character that a path cannot have"),
        ));
    }
    Ok(text)
}

/// May a rule have this text where it names an authority?
pub fn is_authority(text: &str) -> bool {
    authority("", text).is_ok()
}

/// May a rule have this text where it rewrites a path?
pub fn is_path(text: &str) -> bool {
    // As any request's target is read, which may be without the slash that goes before it here.
    !text.contains('#') && PathAndQuery::try_from(format!("/{text}")).is_ok()
}

/// May a rule have this text where it redirects to a path?
pub fn is_redirect_path(text: &str) -> bool {
    match text.split_once('#') {
        // What a fragment may have, a query may, too.
        Some((path, fragment)) => is_path(path) && is_path(&format!("?{fragment}")),
        None => is_path(text),
    }
}

/// May a rule replace by this text what the pattern matches?
pub fn is_substitution(pattern: &str, text: &str) -> bool {
    matching::search(pattern).is_ok_and(|pattern| substitution(text, pattern.captures_len()).is_ok())
}

pub(super) fn status(field: &str, code: u32) -> Result<StatusCode, Invalid> {
    u16::try_from(code)
        .ok()
        .filter(|code| (200..600).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| Invalid::new(field, format!("{code} is not a status (200 to 599)")))
}

impl TryFrom<mesh::Redirect> for Redirect {
    type Error = Invalid;

    fn try_from(wire: mesh::Redirect) -> Result<Self, Invalid> {
        use mesh::redirect::{Path, RedirectPort as Port};
        let status = match wire.code {
            0 => StatusCode::MOVED_PERMANENTLY,
            code @ (301 | 302 | 303 | 307 | 308) => status("code", code)?,
            code => {
                return Err(Invalid::new(
                    "code",
                    format!("{code} is none of 301, 302, 303, 307 and 308"),
                ));
            }
        };
        let scheme = (!wire.scheme.is_empty()).then_some(wire.scheme);
        if scheme
            .as_ref()
            .is_some_and(|scheme| !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        {
            return Err(Invalid::new("scheme", "not a scheme"));
        }
        Ok(Self {
            path: match wire.path {
                Some(Path::Uri(text)) => Some(RedirectPath::Whole(redirect_path("uri", text)?)),
                Some(Path::PrefixRewrite(text)) => Some(RedirectPath::Prefix(redirect_path("prefix_rewrite", text)?)),
                None => None,
            },
            authority: authority("authority", &wire.authority)?,
            scheme,
            port: match wire.redirect_port {
                Some(Port::Port(number)) => Some(RedirectPort::Number(host::port("port", number)?)),
                Some(Port::DerivePort(derived)) => match mesh::DerivePort::try_from(derived) {
                    Ok(mesh::DerivePort::FromProtocolDefault) => Some(RedirectPort::ProtocolDefault),
                    Ok(mesh::DerivePort::FromRequestPort) => Some(RedirectPort::Request),
                    Err(_) => return Err(Invalid::new("derive_port", "unknown")),
                },
                None => None,
            },
            status,
        })
    }
}

impl TryFrom<mesh::DirectResponse> for DirectResponse {
    type Error = Invalid;

    fn try_from(wire: mesh::DirectResponse) -> Result<Self, Invalid> {
        if wire.body.len() > MAX_BODY_BYTES {
            return Err(Invalid::new("body", "larger than 1 MiB"));
        }
        Ok(Self {
            status: status("status", wire.status)?,
            body: wire.body.into(),
        })
    }
}

impl TryFrom<mesh::Rewrite> for Rewrite {
    type Error = Invalid;

    fn try_from(wire: mesh::Rewrite) -> Result<Self, Invalid> {
        use mesh::rewrite::Path;
        Ok(Self {
            path: match wire.path {
                Some(Path::Uri(text)) => Some(PathRewrite::Literal(path("uri", text)?)),
                Some(Path::UriRegex(rewrite)) => {
                    Some(regex_rewrite(rewrite).map_err(|error| error.within("uri_regex"))?)
                }
                None => None,
            },
            authority: authority("authority", &wire.authority)?,
        })
    }
}

fn regex_rewrite(wire: mesh::RegexRewrite) -> Result<PathRewrite, Invalid> {
    let refused = |reason: String| Invalid::new("pattern", format!("regex {:?}: {reason}", wire.pattern));
    let pattern = matching::search(&wire.pattern).map_err(refused)?;
    let substitution = substitution(&wire.substitution, pattern.captures_len())?;
    Ok(PathRewrite::Regex { pattern, substitution })
}

/// RE2's rewrite strings: `\0` to `\9` are groups, `\\` is a backslash.
fn substitution(text: &str, groups: usize) -> Result<Substitution, Invalid> {
    let refused = |reason: String| Err(Invalid::new("substitution", format!("{text:?}: {reason}")));
    let (mut parts, mut literal) = (Vec::new(), String::new());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (char, false) => literal.push(char),
            (_, true) => match chars.next() {
                Some('\\') => literal.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit as usize - '0' as usize;
                    if group >= groups {
                        return refused(format!("the pattern has no group {group}"));
                    }
                    if !literal.is_empty() {
                        parts.push(SubstitutionPart::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(SubstitutionPart::Group(group));
                }
                _ => return refused("a backslash stands before a digit or another backslash".to_owned()),
            },
        }
    }
    if !literal.is_empty() {
        parts.push(SubstitutionPart::Literal(path("substitution", literal)?));
    }
    Ok(Substitution(parts))
}

impl TryFrom<mesh::Mirror> for Mirror {
    type Error = Invalid;

    fn try_from(wire: mesh::Mirror) -> Result<Self, Invalid> {
        if wire.host.is_empty() {
            return Err(Invalid::new("host", "must not be empty"));
        }
        Ok(Self {
            host: wire.host,
            port: host::optional_port("port", wire.port)?,
            subset: wire.subset,
            per_million: per_million("per_million", wire.per_million)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_a_million_is_met_that_often() {
        assert!(!draws(0, 0) && draws(ALWAYS, u64::MAX));
        assert!(draws(1, 0) && draws(1, u64::MAX / 1_000_001) && !draws(1, u64::MAX / 999_999));
    }

    #[test]
    fn a_fragment_is_for_clients_that_are_redirected() {
        for good in ["/#/login", "/a?b#c?d/e", "#top", "/#", "/a", ""] {
            assert!(is_redirect_path(good), "{good}");
        }
        for bad in ["/#a b", "/#a#b", "/#\r\nx: y", "/a b#c", "/\u{7f}#"] {
            assert!(!is_redirect_path(bad), "{bad}");
        }
        let rewrite = mesh::Rewrite {
            path: Some(mesh::rewrite::Path::Uri("/#/login".into())),
            ..Default::default()
        };
        assert!(!is_path("/#/login") && Rewrite::try_from(rewrite).is_err());
    }

    #[test]
    fn a_substitution_refers_to_groups_that_are_there() {
        use SubstitutionPart::{Group, Literal};
        let parts = vec![Literal("/v1/".into()), Group(1), Literal("\\x".into())];
        assert_eq!(substitution(r"/v1/\1\\x", 2), Ok(Substitution(parts)));
        for bad in [r"\2", r"\a", "\\", "a b"] {
            assert!(substitution(bad, 2).is_err(), "{bad}");
        }
    }
}
