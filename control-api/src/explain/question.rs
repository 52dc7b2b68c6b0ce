//! What is asked: a request and the client that makes it. Everything that makes no request is refused by field.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tsunagi_proto::decide::{normalized_path, prepare};
use tsunagi_proto::model::Source;

/// Of a URL, a header's name or its value: a proxy takes no longer head.
const LONGEST_BYTES: usize = 64 << 10;
const MOST_HEADERS: usize = 100;

/// As `POST /v1/explain` takes it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Question {
    /// `http://HOST[:PORT]/PATH`; `https` and `tls` ask for a TLS connection to the host, `tcp` for a plain one.
    pub url: String,
    #[serde(default = "get")]
    pub method: String,
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderText>,
    /// Of the client's workload.
    #[serde(default = "default_namespace")]
    pub from_namespace: String,
    #[serde(default)]
    pub from_labels: BTreeMap<String, String>,
    /// Of the client, for rules with a `sourceSubnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_address: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(untagged, expecting = "text, or a list of texts")]
pub enum HeaderText {
    One(String),
    Several(Vec<String>),
}

pub fn get() -> String {
    Method::GET.to_string()
}

pub fn default_namespace() -> String {
    "default".to_owned()
}

/// Why it is no question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct BadQuestion {
    pub field: String,
    pub reason: String,
}

fn bad<T>(field: impl Into<String>, reason: impl Into<String>) -> Result<T, BadQuestion> {
    Err(BadQuestion {
        field: field.into(),
        reason: reason.into(),
    })
}

/// What a client opens or sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Request,
    Tls,
    Tcp,
}

/// A question that makes sense.
#[derive(Debug)]
pub(super) struct Checked {
    pub asked: Asked,
    pub method: Method,
    pub scheme: String,
    /// As a client writes it, with its port where it says one.
    pub authority: String,
    /// In lower case, without a port.
    pub host: String,
    pub port: Option<u16>,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub source: Source,
    pub from_address: Option<IpAddr>,
}

impl Question {
    pub(super) fn checked(&self) -> Result<Checked, BadQuestion> {
        if self.url.len() > LONGEST_BYTES {
            return bad("url", "longer than 64 KiB");
        }
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let scheme = scheme.to_ascii_lowercase();
        let asked = match scheme.as_str() {
            "http" => Asked::Request,
            "https" | "tls" => Asked::Tls,
            "tcp" => Asked::Tcp,
            other => {
                return bad("url", format!("{other:?} is none of http, https, tls and tcp"));
            }
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let mut headers = self.header_map()?;
        let authority = match headers.get(http::header::HOST) {
            Some(host) => host.to_str().unwrap_or_default(),
            None => authority,
        };
        let (host, port) = host_and_port(authority)?;
        let authority = authority.to_owned();
        prepare(&mut headers, &authority);
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        if target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return bad("url", "a space or a control character is written %20 and the like");
        }
        let path = if path.is_empty() { "/" } else { path };
        let path = match normalized_path(path) {
            Ok(normalized) => normalized.unwrap_or_else(|| path.to_owned()),
            Err(zero) => return bad("url", zero.to_string()),
        };
        if self.from_namespace.is_empty() {
            return bad("fromNamespace", "must not be empty");
        }
        let from_address = self.from_address.as_deref().map(str::parse).transpose();
        let Ok(from_address) = from_address else {
            return bad("fromAddress", "not an IP address");
        };
        let Ok(method) = Method::from_bytes(self.method.as_bytes()) else {
            return bad("method", format!("{:?} is not a method", self.method));
        };
        Ok(Checked {
            asked,
            method,
            scheme,
            host,
            port: port.or((asked == Asked::Tls).then_some(443)),
            authority,
            path,
            query,
            headers,
            source: Source {
                namespace: self.from_namespace.clone(),
                labels: self.from_labels.clone(),
            },
            from_address,
        })
    }

    fn header_map(&self) -> Result<HeaderMap, BadQuestion> {
        let mut map = HeaderMap::new();
        for (name, text) in &self.headers {
            let field = || format!("headers.{}", name.chars().take(80).collect::<String>());
            let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
                return bad(field(), "not a header name");
            };
            let values = match text {
                HeaderText::One(value) => std::slice::from_ref(value),
                HeaderText::Several(values) => values,
            };
            for value in values {
                let Ok(value) = HeaderValue::from_str(value.trim()) else {
                    return bad(field(), "the value has a character that no header can have");
                };
                if map.len() >= MOST_HEADERS {
                    return bad("headers", format!("more than {MOST_HEADERS}"));
                }
                map.append(parsed.clone(), value);
            }
        }
        Ok(map)
    }
}

/// `host[:port]`, as a proxy reads an authority.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), BadQuestion> {
    let wrong = || bad("url", format!("{authority:?} is not a host with an optional port"));
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, after)) if after.starts_with(':') => (host, after.get(1..)),
            _ => return wrong(),
        },
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port.map(str::parse::<u16>) {
        None => None,
        Some(Ok(port)) if port > 0 => Some(port),
        Some(_) => return wrong(),
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(allowed) {
        return wrong();
    }
    Ok((host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Result<Checked, String> {
        let question: Question = serde_json::from_str(json).map_err(|error| error.to_string())?;
        question.checked().map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_says_host_port_path_and_query_and_the_rest_has_defaults() {
        let checked = asked(r#"{"url": "http://User.shop:8080/a/b?c=1#d"}"#).expect("a question");
        let found = (
            checked.host.as_str(),
            checked.port,
            checked.path.as_str(),
            checked.query.as_deref(),
        );
        assert_eq!(found, ("user.shop", Some(8080), "/a/b", Some("c=1")));
        assert_eq!(
            (checked.method, checked.authority.as_str()),
            (Method::GET, "User.shop:8080")
        );
        assert_eq!(checked.source.namespace, "default");
        let bare = asked(r#"{"url": "user"}"#).expect("a question");
        assert_eq!((bare.path.as_str(), bare.port, bare.asked), ("/", None, Asked::Request));
        let climbing = asked(r#"{"url": "http://user/x/../%61?b=/../c"}"#).expect("a question");
        assert_eq!(
            (climbing.path.as_str(), climbing.query.as_deref()),
            ("/a", Some("b=/../c"))
        );
        let tls = asked(r#"{"url": "https://user"}"#).expect("a question");
        assert_eq!((tls.port, tls.asked), (Some(443), Asked::Tls));
        let six = asked(r#"{"url": "http://[::1]:80/"}"#).expect("a question");
        assert_eq!((six.host.as_str(), six.port), ("::1", Some(80)));
    }

    #[test]
    fn headers_are_texts_or_lists_and_host_goes_before_the_url() {
        let json = r#"{"url": "http://10.0.0.1/", "headers": {"Host": "user:81", "x-a": ["1", "2"]}}"#;
        let checked = asked(json).expect("a question");
        assert_eq!((checked.host.as_str(), checked.port), ("user", Some(81)));
        assert_eq!(checked.headers.get_all("x-a").iter().count(), 2);
    }

    #[test]
    fn what_makes_no_request_is_refused_by_its_field() {
        for (json, field) in [
            (r#"{"url": ""}"#, "url"),
            (r#"{"url": "ftp://a/"}"#, "url"),
            (r#"{"url": "http://a b/"}"#, "url"),
            (r#"{"url": "http://a:99999/"}"#, "url"),
            (r#"{"url": "http://a/ b"}"#, "url"),
            (r#"{"url": "http://a@b/"}"#, "url"),
            (r#"{"url": "http://a/%00"}"#, "url"),
            (r#"{"url": "http://[::1/"}"#, "url"),
            (r#"{"url": "a", "method": "G T"}"#, "method"),
            (r#"{"url": "a", "headers": {"a b": "c"}}"#, "headers.a b"),
            (r#"{"url": "a", "headers": {"a": "b\nc"}}"#, "headers.a"),
            (r#"{"url": "a", "headers": {"a": 1}}"#, "text, or a list of texts"),
            (r#"{"url": "a", "fromNamespace": ""}"#, "fromNamespace"),
            (r#"{"url": "a", "fromNamspace": "b"}"#, "fromNamspace"),
            (r#"{"url": "tcp://a:1", "fromAddress": "10.0.0.0/8"}"#, "fromAddress"),
            (r#"{"method": "GET"}"#, "url"),
        ] {
            let refused = asked(json).map(drop).expect_err(json);
            assert!(refused.contains(field), "{json}: {refused}");
        }
    }
}
