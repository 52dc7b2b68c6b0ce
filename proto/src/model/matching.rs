//! Predicates of a rule on a request head. Regexes are RE2 syntax, match the whole value, and run in linear time.

use http::HeaderName;
use regex::bytes::{Regex, RegexBuilder};

use super::{Invalid, SourceMatch};
use crate::wire::mesh;

/// Compiled size of one regex, so that no pattern can take the memory of a sidecar.
const REGEX_SIZE_LIMIT_BYTES: usize = 1 << 20;
/// What one regex remembers while it is used, on every worker: hundreds of states, where most regexes need tens. One that
/// needs more is slower; what it takes stays linear.
const REGEX_CACHE_LIMIT_BYTES: usize = 64 << 10;

#[derive(Clone, Debug)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    /// Already anchored at both ends.
    Regex(Regex),
}

/// A header or query parameter; without a value its presence is enough.
#[derive(Clone, Debug)]
pub struct NamedMatch<N> {
    pub name: N,
    pub value: Option<StringMatch>,
}

/// One item of a rule's `match`: all that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct HttpMatch {
    pub name: String,
    pub uri: Option<StringMatch>,
    pub ignore_uri_case: bool,
    pub method: Option<StringMatch>,
    pub authority: Option<StringMatch>,
    pub headers: Vec<NamedMatch<HeaderName>>,
    pub without_headers: Vec<NamedMatch<HeaderName>>,
    pub query_params: Vec<NamedMatch<String>>,
    pub port: Option<u16>,
    pub scheme: Option<StringMatch>,
    /// Of the client: not looked at for a request, see `RouteTable::for_source`.
    pub source: SourceMatch,
    /// Requests that meet this are counted under this name, too.
    pub stat_prefix: Option<String>,
}

/// `\d`, `\w`, `\s` and `\b` mean ASCII in RE2 and all of Unicode in our engine: written out, they mean the same in both.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut chars, mut in_class) = (pattern.chars(), false);
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str(r"[\t\n\f\r ]"),
                Some('S') => out.push_str(r"[^\t\n\f\r ]"),
                Some(boundary @ ('b' | 'B')) if !in_class => {
                    out.push_str("(?-u:\\");
                    out.push(boundary);
                    out.push(')');
                }
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            _ => {
                in_class = char == '[' || (in_class && char != ']');
                out.push(char);
            }
        }
    }
    out
}

fn build(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_LIMIT_BYTES)
        .dfa_size_limit(REGEX_CACHE_LIMIT_BYTES)
        .build()
        .map_err(|error| error.to_string())
}

/// Compiles `pattern` so that it matches only whole values.
pub fn full_match(pattern: &str) -> Result<Regex, String> {
    let pattern = &ascii_classes(pattern);
    // On its own first: `a)|(?:b` must not close the group that anchors it.
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

/// Compiles `pattern` so that it matches parts of values, too.
pub fn search(pattern: &str) -> Result<Regex, String> {
    build(&ascii_classes(pattern))
}

impl StringMatch {
    pub(super) fn checked(field: &str, wire: mesh::StringMatch, ignore_case: bool) -> Result<Self, Invalid> {
        use mesh::string_match::Kind;
        let fold = |text: String| if ignore_case { text.to_ascii_lowercase() } else { text };
        match wire.kind {
            Some(Kind::Exact(text)) => Ok(Self::Exact(fold(text))),
            Some(Kind::Prefix(text)) => Ok(Self::Prefix(fold(text))),
            // Istio: the case is ignored "only in the case of exact and prefix URI matches".
            Some(Kind::Regex(pattern)) => match full_match(&pattern) {
                Ok(regex) => Ok(Self::Regex(regex)),
                Err(reason) => Err(Invalid::new(field, format!("regex {pattern:?}: {reason}"))),
            },
            None => Err(Invalid::new(field, "one of exact, prefix and regex must be set")),
        }
    }

    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes() == value,
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }

    /// As `matches`; exact and prefix, folded when they were compiled, ignore ASCII case.
    pub fn matches_ignoring_case(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => text.as_bytes().eq_ignore_ascii_case(value),
            Self::Prefix(text) => value
                .get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes())),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

impl HttpMatch {
    /// Can a request for this port meet it?
    pub fn concerns(&self, port: u16) -> bool {
        self.port.is_none_or(|wanted| wanted == port)
    }
}

fn optional(field: &str, wire: Option<mesh::StringMatch>) -> Result<Option<StringMatch>, Invalid> {
    wire.map(|wire| StringMatch::checked(field, wire, false)).transpose()
}

fn header_matches(field: &str, wire: Vec<mesh::NamedMatch>) -> Result<Vec<NamedMatch<HeaderName>>, Invalid> {
    wire.into_iter()
        .map(|item| {
            let at = format!("{field}.{}", item.name);
            let name =
                HeaderName::from_bytes(item.name.as_bytes()).map_err(|_| Invalid::new(&at, "not a header name"))?;
            Ok(NamedMatch {
                name,
                value: optional(&at, item.value)?,
            })
        })
        .collect()
}

impl TryFrom<mesh::HttpMatch> for HttpMatch {
    type Error = Invalid;

    fn try_from(wire: mesh::HttpMatch) -> Result<Self, Invalid> {
        let query_params = wire.query_params.into_iter().map(|item| {
            let at = format!("query_params.{}", item.name);
            Ok(NamedMatch {
                value: optional(&at, item.value)?,
                name: item.name,
            })
        });
        Ok(Self {
            uri: wire
                .uri
                .map(|uri| StringMatch::checked("uri", uri, wire.ignore_uri_case))
                .transpose()?,
            ignore_uri_case: wire.ignore_uri_case,
            method: optional("method", wire.method)?,
            authority: optional("authority", wire.authority)?,
            headers: header_matches("headers", wire.headers)?,
            without_headers: header_matches("without_headers", wire.without_headers)?,
            query_params: query_params.collect::<Result<_, Invalid>>()?,
            port: super::host::optional_port("port", wire.port)?,
            scheme: optional("scheme", wire.scheme)?,
            source: SourceMatch::new(wire.source_labels, wire.source_namespace),
            stat_prefix: (!wire.stat_prefix.is_empty()).then_some(wire.stat_prefix),
            name: wire.name,
        })
    }
}
