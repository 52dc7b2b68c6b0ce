//! Why a request gets what it gets: every rule up to the one that decides, and of each the first predicate that does not
//! hold. It asks the code that decides, and looks at what a client is told before the matches for other clients are left
//! out, so that it can say that a rule is for others. Called by whatever explains or tests routes, never for a request.

use std::fmt::{self, Display};

use super::{ConnectionHead, Fields, RequestHead, connection, scan};
use crate::decide::fields::with_value;
use crate::model::{
    ConnectionMatch, ConnectionRule, HttpMatch, NamedMatch, RouteTable, SniMatch, Source, SourceMatch, StringMatch,
};

/// Of a text that is shown.
const LONGEST_SHOWN: usize = 80;
/// Of several labels, names or subnets.
const MOST_SHOWN: usize = 5;

/// The rules are those of the table as it is for all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The rules before the one that decides, all where none does.
    pub passed_over: Vec<PassedOver>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// By its index; the match that holds by its own, `None` for a rule without matches.
    Rule { index: usize, item: Option<usize> },
    /// Rules are for this client and port, and none is for the request: 404 `NR`.
    NoRule,
    /// No rule is for this client and port: it is as if there were none.
    NotConcerned,
}

/// A rule that does not match, and for each of its matches why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    pub index: usize,
    pub reasons: Vec<Mismatch>,
}

/// Shown as `headers.version: wanted exact "v2", the request has none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// As VirtualService calls it: `uri`, `headers.version`, `sourceLabels`.
    pub predicate: String,
    pub wanted: String,
    pub found: String,
}

impl Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: wanted {}, {}", self.predicate, self.wanted, self.found)
    }
}

/// Of a request of the client `source`; `table` is as for all clients.
pub fn explain<F: Fields>(table: &RouteTable, head: &RequestHead<'_, F>, source: &Source) -> Explanation {
    let judged = table.rules.iter().map(|rule| {
        let failed = |item| request_mismatch(item, head, source);
        judge(&rule.matches, failed)
    });
    let mut explanation = collect(judged);
    let for_client = |item: &HttpMatch| item.source.admits(source) && item.concerns(head.port);
    let mut rules = table.rules.iter();
    let concerned = rules.any(|rule| rule.matches.is_empty() || rule.matches.iter().any(for_client));
    if explanation.verdict == Verdict::NoRule && !concerned {
        explanation.verdict = Verdict::NotConcerned;
    }
    explanation
}

/// Of a connection of the client `source`; `rules` are a table's `tls` or `tcp` rules, as for all clients. Where none
/// matches, the connection goes to its service.
pub fn explain_connection(rules: &[ConnectionRule], head: &ConnectionHead<'_>, source: &Source) -> Explanation {
    let judged = rules.iter().map(|rule| {
        let failed = |item| connection_mismatch(item, head, source);
        judge(&rule.matches, failed)
    });
    let mut explanation = collect(judged);
    if explanation.verdict == Verdict::NoRule {
        explanation.verdict = Verdict::NotConcerned;
    }
    explanation
}

/// The match that holds, or why none does.
fn judge<'m, M>(matches: &'m [M], failed: impl Fn(&'m M) -> Option<Mismatch>) -> Result<Option<usize>, Vec<Mismatch>> {
    let mut reasons = Vec::new();
    for (index, item) in matches.iter().enumerate() {
        match failed(item) {
            None => return Ok(Some(index)),
            Some(reason) => reasons.push(reason),
        }
    }
    if matches.is_empty() { Ok(None) } else { Err(reasons) }
}

fn collect(judged: impl Iterator<Item = Result<Option<usize>, Vec<Mismatch>>>) -> Explanation {
    let mut passed_over = Vec::new();
    for (index, rule) in judged.enumerate() {
        match rule {
            Ok(item) => {
                let verdict = Verdict::Rule { index, item };
                return Explanation { passed_over, verdict };
            }
            Err(reasons) => passed_over.push(PassedOver { index, reasons }),
        }
    }
    let verdict = Verdict::NoRule;
    Explanation { passed_over, verdict }
}

fn mismatch(predicate: impl Into<String>, wanted: impl Into<String>, found: impl Into<String>) -> Option<Mismatch> {
    Some(Mismatch {
        predicate: predicate.into(),
        wanted: wanted.into(),
        found: found.into(),
    })
}

/// A client is another one before anything of its request counts: its matches are all that it is told of.
fn source_mismatch(wanted: &SourceMatch, source: &Source) -> Option<Mismatch> {
    if wanted.admits(source) {
        return None;
    }
    if let Some(namespace) = wanted.namespace.as_ref().filter(|_| !wanted.namespace_admits(source)) {
        let found = format!("the client is in {}", quoted(source.namespace.as_bytes()));
        return mismatch("sourceNamespace", quoted(namespace.as_bytes()), found);
    }
    let own = wanted.labels.keys();
    let own = own.filter_map(|key| source.labels.get_key_value(key));
    let found = match labels(own) {
        none if none.is_empty() => "the client has none of them".to_owned(),
        some => format!("the client has {some}"),
    };
    mismatch("sourceLabels", labels(wanted.labels.iter()), found)
}

fn request_mismatch<F: Fields>(item: &HttpMatch, head: &RequestHead<'_, F>, source: &Source) -> Option<Mismatch> {
    use scan::Predicate;
    if let Some(other_client) = source_mismatch(&item.source, source) {
        return Some(other_client);
    }
    let has = |value: &str| format!("the request has {}", quoted(value.as_bytes()));
    match scan::first_failed(item, head)? {
        Predicate::Port => mismatch("port", number(item.port), format!("the request is for {}", head.port)),
        Predicate::Uri => {
            let case = if item.ignore_uri_case { " in any case" } else { "" };
            mismatch("uri", format!("{}{case}", text(item.uri.as_ref())), has(head.path))
        }
        Predicate::Method => mismatch("method", text(item.method.as_ref()), has(head.method)),
        Predicate::Authority => mismatch("authority", text(item.authority.as_ref()), has(head.authority)),
        Predicate::Scheme => mismatch("scheme", text(item.scheme.as_ref()), has(head.scheme)),
        Predicate::Header(index) => {
            let NamedMatch { name, value } = item.headers.get(index)?;
            mismatch(format!("headers.{name}"), text(value.as_ref()), header(head, name))
        }
        Predicate::WithoutHeader(index) => {
            let NamedMatch { name, value } = item.without_headers.get(index)?;
            let wanted = value.as_ref().map_or("that there is none".to_owned(), |value| {
                format!("anything but {}", text(Some(value)))
            });
            let found = match head.headers.has(name) {
                true => header(head, name),
                false => "the request has none, which counts as \"\"".to_owned(),
            };
            mismatch(format!("withoutHeaders.{name}"), wanted, found)
        }
        Predicate::QueryParam(index) => {
            let NamedMatch { name, value } = item.query_params.get(index)?;
            let found = scan::query_value(name, head.query).map_or("the request has none".to_owned(), has);
            let name = shortened(name.as_bytes());
            mismatch(format!("queryParams.{name}"), text(value.as_ref()), found)
        }
    }
}

fn header<F: Fields>(head: &RequestHead<'_, F>, name: &http::HeaderName) -> String {
    let value = with_value(head.headers, name, |value| format!("the request has {}", quoted(value)));
    value.unwrap_or_else(|| "the request has none".to_owned())
}

fn connection_mismatch(item: &ConnectionMatch, head: &ConnectionHead<'_>, source: &Source) -> Option<Mismatch> {
    use connection::Predicate;
    if let Some(other_client) = source_mismatch(&item.source, source) {
        return Some(other_client);
    }
    match connection::first_failed(item, head)? {
        Predicate::Port => mismatch(
            "port",
            number(item.port),
            format!("the connection is for {}", head.port),
        ),
        Predicate::SniHosts => {
            let wanted = item.sni_hosts.iter().map(|wanted| match wanted {
                SniMatch::Exact(name) => shortened(name.as_bytes()),
                SniMatch::Suffix(suffix) => format!("*{}", shortened(suffix.as_bytes())),
            });
            let found = head.sni.map_or("the client asks for no name".to_owned(), |sni| {
                format!("the client asks for {}", quoted(sni.as_bytes()))
            });
            mismatch("sniHosts", several(wanted), found)
        }
        Predicate::DestinationSubnets => {
            let wanted = several(item.destination_subnets.iter().map(ToString::to_string));
            let found = head
                .destination
                .map_or("its destination is not known".to_owned(), |address| {
                    format!("the connection goes to {address}")
                });
            mismatch("destinationSubnets", wanted, found)
        }
        Predicate::SourceSubnet => {
            let found = head.source.map_or("its source is not known".to_owned(), |address| {
                format!("the connection comes from {address}")
            });
            mismatch(
                "sourceSubnet",
                several(item.source_subnet.iter().map(ToString::to_string)),
                found,
            )
        }
    }
}

fn number(port: Option<u16>) -> String {
    port.map(|port| port.to_string()).unwrap_or_default()
}

/// `exact "a"`; presence where no value is asked for.
fn text(wanted: Option<&StringMatch>) -> String {
    match wanted {
        None => "any value".to_owned(),
        Some(StringMatch::Exact(text)) => format!("exact {}", quoted(text.as_bytes())),
        Some(StringMatch::Prefix(text)) => format!("prefix {}", quoted(text.as_bytes())),
        Some(StringMatch::Regex(regex)) => {
            let pattern = regex.as_str();
            // Without the anchors that it was given when it was checked.
            let own = pattern
                .strip_prefix(r"\A(?:")
                .and_then(|rest| rest.strip_suffix(r")\z"));
            format!("regex {}", shortened(own.unwrap_or(pattern).as_bytes()))
        }
    }
}

fn labels<'l>(labels: impl Iterator<Item = (&'l String, &'l String)>) -> String {
    several(labels.map(|(key, value)| shortened(format!("{key}={value}").as_bytes())))
}

fn several(mut texts: impl Iterator<Item = String>) -> String {
    let mut shown: Vec<String> = texts.by_ref().take(MOST_SHOWN).collect();
    match texts.count() {
        0 => {}
        more => shown.push(format!("and {more} more")),
    }
    shown.join(", ")
}

fn quoted(value: &[u8]) -> String {
    format!("\"{}\"", shortened(value))
}

/// Printable, and not long.
fn shortened(value: &[u8]) -> String {
    let whole = String::from_utf8_lossy(&value[..value.len().min(LONGEST_SHOWN * 4)]);
    let mut shown: String = whole
        .chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .take(LONGEST_SHOWN)
        .collect();
    if shown.len() < value.len() && shown.chars().count() == LONGEST_SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
