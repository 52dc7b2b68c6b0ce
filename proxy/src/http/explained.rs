//! What this proxy decided for one request, for the person who asks with `x-tsunagi-explain: 1`: the answer's header of the
//! same name is a line of JSON. Only where the proxy was started with `--debug-headers`; for every other request there is
//! one `None` to look at. The first sidecar that answers takes the question away, so that an application sees none and a
//! second sidecar does not answer in its place.

use std::net::SocketAddr;

use http::{HeaderName, HeaderValue};
use serde::Serialize;
use tsunagi_proto::decide::{self, matched_item};

use super::exchange::Exchange;
use super::head::Authority;
use super::request_path::Proxy;
use super::route::seen;
use crate::codec::{Headers, RequestHead, ResponseHead};
use crate::snapshot::{Destination, Host, Port};
use crate::telemetry::Direction;
use crate::upstream::Endpoint;

static NAME: HeaderName = HeaderName::from_static("x-tsunagi-explain");

/// Of a text: it goes into a header.
const LONGEST_SHOWN: usize = 256;

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    direction: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// `namespace/name` of the one that is in force for the host.
    #[serde(skip_serializing_if = "String::is_empty")]
    virtual_service: String,
    /// `None`: no rule decides; the service's own route does, where the proxy has not answered by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<Rule>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<Drawn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    attempts: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    name: String,
    /// That it is written in.
    virtual_service: String,
    index: usize,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    item: Option<usize>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drawn {
    host: String,
    port: u16,
    subset: String,
    cluster: String,
    endpoints: Endpoints,
}

/// As this proxy sees them now.
#[derive(Debug, Serialize)]
struct Endpoints {
    total: usize,
    healthy: usize,
    ejected: usize,
}

/// The whole answer.
#[derive(Serialize)]
struct Answer<'e> {
    #[serde(flatten)]
    explained: &'e Explained,
    status: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    flags: String,
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

/// Takes the question from the request, if it is one and may be asked.
pub fn asked(proxy: &Proxy, direction: Direction, headers: &mut Headers) -> Option<Box<Explained>> {
    if !proxy.debug_headers || headers.get(&NAME) != Some(b"1") {
        return None;
    }
    headers.remove(&NAME);
    Some(Box::new(Explained {
        direction: match direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        },
        ..Explained::default()
    }))
}

/// Takes note of the rule. It decides again, by the same code on the same table, rather than have every request carry what
/// only few are asked about.
pub fn decided(exchange: &mut Exchange<'_>, host: &Host, port: &Port, head: &RequestHead, authority: &Authority<'_>) {
    let Some(explained) = &mut exchange.explained else {
        return;
    };
    explained.host = shortened(&host.told.fqdn);
    explained.port = Some(port.number);
    let Some(routes) = &host.told.routes else { return };
    explained.virtual_service = shortened(&format!("{}/{}", routes.namespace, routes.name));
    if !port.routed {
        return;
    }
    let head = seen(head, authority.text, port.number);
    let rule = decide::decide(routes, &head).and_then(|index| routes.rules.get(index));
    explained.rule = rule.map(|rule| {
        let item = matched_item(rule, &head);
        Rule {
            name: shortened(&rule.label),
            virtual_service: shortened(&format!("{}/{}", rule.origin.namespace, rule.origin.name)),
            index: rule.origin.index,
            item: item.and_then(|item| rule.matches.iter().position(|other| std::ptr::eq(other, item))),
        }
    });
}

/// Takes note of the draw.
pub fn drawn(exchange: &mut Exchange<'_>, destination: &Destination) {
    let Some(explained) = &mut exchange.explained else {
        return;
    };
    explained.destination = destination.cluster.as_deref().map(|cluster| {
        let key = &cluster.told.key;
        let members = &cluster.members;
        // One that awaits its probe is not back yet.
        let healthy = members
            .list
            .iter()
            .filter(|member| member.endpoint.health_name() == "healthy");
        let healthy = healthy.count();
        Drawn {
            host: shortened(&key.host),
            port: key.port,
            subset: shortened(&key.subset),
            cluster: shortened(&cluster.learned.name),
            endpoints: Endpoints {
                total: members.list.len() + members.unhealthy.len() + members.draining.len(),
                healthy,
                ejected: members.list.len() - healthy,
            },
        }
    });
}

impl Explained {
    /// Takes note of an attempt.
    pub fn attempted(&mut self, endpoint: &Endpoint) {
        self.attempts += 1;
        self.endpoint = Some(endpoint.shown_address());
    }

    fn header(&self, exchange: &Exchange<'_>) -> Option<HeaderValue> {
        let answer = Answer {
            explained: self,
            status: exchange.status,
            flags: exchange.flags.to_string(),
        };
        let json = serde_json::to_string(&answer).ok()?;
        HeaderValue::try_from(ascii(&json)).ok()
    }
}

/// Answers, where it was asked.
pub fn show(exchange: &Exchange<'_>, head: &mut ResponseHead) {
    let value = exchange
        .explained
        .as_ref()
        .and_then(|explained| explained.header(exchange));
    if let Some(value) = value {
        head.headers.set(&NAME, &value);
    }
}

/// Names may have any letter, a header has only some.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if char.is_ascii() {
            out.push(char);
            continue;
        }
        let mut units = [0; 2];
        for unit in char.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_escaped_as_json_escapes_it() {
        let escaped = ascii(r#"{"a": "é😀"}"#);
        assert_eq!(escaped, r#"{"a": "\u00e9\ud83d\ude00"}"#);
        let read: serde_json::Value = serde_json::from_str(&escaped).expect("JSON");
        assert_eq!(read["a"], "é😀");
    }
}
