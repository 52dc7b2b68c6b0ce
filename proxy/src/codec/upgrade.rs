//! What heads say about a connection or a stream that goes on in another protocol: over HTTP/1 `Connection: Upgrade` and
//! `Upgrade` (RFC 9110, 7.8), over HTTP/2 an extended CONNECT (RFC 8441); and WebSocket's two headers (RFC 6455, 4), which
//! only HTTP/1 needs.
//!
//! Asked by `http::upgrade`. What is only another way to say the same (`h2c`, TLS) is nothing to pass on: behind it nobody
//! would see the requests any more.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use sha1::{Digest, Sha1};

use super::head::write_field;
use super::headers::{Known, KnownSet, has_token};
use super::message::{RequestHead, ResponseHead};

pub const WEBSOCKET: &str = "websocket";
/// Hashed behind the client's key.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// Can it be asked for, and does it change what is spoken?
pub fn is_other_protocol(protocol: &str) -> bool {
    let word = !protocol.is_empty()
        && protocol
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte));
    let name = protocol.split('/').next().unwrap_or_default();
    let same = ["h2c", "h2", "tls", "http"];
    word && !same.iter().any(|same| name.eq_ignore_ascii_case(same))
}

/// Of a list, in the order of the client's preference.
pub fn first_of(protocols: &str) -> &str {
    protocols.split(',').next().unwrap_or_default().trim()
}

pub(super) fn write_upgrade(out: &mut Vec<u8>, protocol: &str) {
    write_field(out, "Connection", b"Upgrade");
    write_field(out, "Upgrade", protocol.as_bytes());
}

impl RequestHead {
    /// Of a CONNECT with a `:protocol`. One that is no word stays what it is, for its stream to be refused.
    pub(super) fn become_upgrade(&mut self, protocol: &str) {
        self.upgrade = Some(protocol.into());
        if self.method != Method::CONNECT || !is_other_protocol(protocol) {
            return;
        }
        self.method = Method::GET;
        self.headers.append_bytes(Known::Upgrade, protocol.as_bytes());
        self.headers.append_static(Known::Connection, "Upgrade");
    }

    /// An extended CONNECT that nobody may send, or that cannot be passed on.
    pub fn is_bad_extended_connect(&self) -> bool {
        let upgrade = self.upgrade.as_deref();
        upgrade.is_some_and(|protocol| self.method != Method::GET || !is_other_protocol(protocol))
    }

    /// What an HTTP/1 client asks for, in its order. To be asked before what ends at a hop is removed.
    pub fn asks_for(&self) -> Option<Box<str>> {
        if self.version != Version::HTTP_11 || !self.headers.has(Known::Upgrade) {
            return None;
        }
        let mut connection = self.headers.all(Known::Connection);
        if !connection.any(|list| has_token(list, b"upgrade")) {
            return None;
        }
        let lists = self.headers.all(Known::Upgrade);
        let protocols = lists
            .filter_map(|list| str::from_utf8(list).ok())
            .flat_map(|list| list.split(','));
        let others: Vec<&str> = protocols.map(str::trim).filter(|it| is_other_protocol(it)).collect();
        (!others.is_empty()).then(|| others.join(", ").into())
    }

    /// What WebSocket over HTTP/1 wants and over HTTP/2 does not have.
    pub fn add_websocket_key(&mut self) {
        if !self.headers.contains(&WEBSOCKET_KEY)
            && let Ok(key) = HeaderValue::try_from(STANDARD.encode(rand::random::<[u8; 16]>()))
        {
            self.headers.set(&WEBSOCKET_KEY, &key);
        }
    }

    /// The answer to the key that the request has.
    fn websocket_accept(&self) -> Option<String> {
        let key = self.headers.get(&WEBSOCKET_KEY)?;
        let digest = Sha1::new().chain_update(key).chain_update(WEBSOCKET_GUID).finalize();
        Some(STANDARD.encode(digest))
    }
}

impl ResponseHead {
    /// Among what was asked for, what the endpoint goes on in. `None`: something else, which it must not.
    pub fn switches_to(&self, asked: &str) -> Option<Box<str>> {
        let Some(chosen) = self.headers.known(Known::Upgrade) else {
            return Some(first_of(asked).into());
        };
        let chosen = str::from_utf8(chosen).ok()?;
        let named = |protocol: &str| asked.split(',').any(|it| it.trim().eq_ignore_ascii_case(protocol));
        chosen.split(',').map(str::trim).all(named).then(|| chosen.into())
    }

    /// Does it answer the request's WebSocket key?
    pub fn accepts_websocket(&self, request: &RequestHead) -> bool {
        let accept = self.headers.get(&WEBSOCKET_ACCEPT);
        request
            .websocket_accept()
            .is_none_or(|expected| accept == Some(expected.as_bytes()))
    }

    /// Answers it in the place of an endpoint that speaks HTTP/2.
    pub fn accept_websocket(&mut self, request: &RequestHead) {
        if self.headers.contains(&WEBSOCKET_ACCEPT) {
            return;
        }
        if let Some(Ok(accept)) = request.websocket_accept().map(HeaderValue::try_from) {
            self.headers.set(&WEBSOCKET_ACCEPT, &accept);
        }
    }

    /// For a client that speaks HTTP/1.1. What ends at a hop was removed.
    pub fn write_switching(&self, out: &mut Vec<u8>, protocol: &str) {
        let reason = self
            .reason
            .as_deref()
            .or(StatusCode::SWITCHING_PROTOCOLS.canonical_reason());
        out.extend_from_slice(b"HTTP/1.1 101 ");
        out.extend_from_slice(reason.unwrap_or_default().as_bytes());
        out.extend_from_slice(b"\r\n");
        write_upgrade(out, protocol);
        let except = [
            Known::Connection,
            Known::Upgrade,
            Known::ContentLength,
            Known::TransferEncoding,
        ];
        self.headers.write_except(out, KnownSet::of(&except));
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
