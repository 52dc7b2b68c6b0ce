//! A request's head: what it says, and how it leaves over either protocol.

use h2::ext::Protocol;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version, header, request, uri};

use super::HeadError;
use super::framing::{
    Framing, check_transfer_encoding, content_length, exact, keeps_alive, keeps_content_length, settled_length,
    write_field,
};
use crate::codec::body::BodyLength;
use crate::codec::headers::{Headers, Known, KnownSet};
use crate::codec::message::{RequestHead, Target, TargetText};
use crate::codec::upgrade::{first_of, write_upgrade};

impl Default for RequestHead {
    /// Empty, to be read into.
    fn default() -> Self {
        Self {
            method: Method::GET,
            version: Version::HTTP_11,
            target: Target::Text(TargetText::default()),
            headers: Headers::default(),
            upgrade: None,
            by_upgrade: false,
        }
    }
}

impl RequestHead {
    /// An extended CONNECT (RFC 8441) becomes what it would be over HTTP/1, so that rules need not know the difference.
    pub fn from_http2(parts: request::Parts) -> Self {
        let mut head = Self {
            method: parts.method,
            version: Version::HTTP_2,
            target: Target::Uri(parts.uri),
            headers: Headers::Map(parts.headers),
            upgrade: None,
            by_upgrade: false,
        };
        if let Some(protocol) = parts.extensions.get::<Protocol>() {
            head.become_upgrade(protocol.as_str());
        }
        head
    }

    /// Forgets the request; keeps what the next one can use.
    pub fn clear(&mut self) {
        self.method = Method::GET;
        match &mut self.target {
            Target::Text(target) => target.clear(),
            Target::Uri(_) => self.target = Target::Text(TargetText::default()),
        }
        self.headers.clear();
        self.upgrade = None;
        self.by_upgrade = false;
    }

    pub fn is_http2(&self) -> bool {
        self.version == Version::HTTP_2
    }

    /// `http` unless the target says another.
    pub fn scheme(&self) -> &str {
        self.target.scheme()
    }

    /// Empty for CONNECT.
    pub fn path_and_query(&self) -> &str {
        self.target.path_and_query()
    }

    pub fn path(&self) -> &str {
        match &self.target {
            Target::Text(_) => self.path_and_query().split('?').next().unwrap_or_default(),
            Target::Uri(uri) => uri.path(),
        }
    }

    pub fn query(&self) -> Option<&str> {
        match &self.target {
            Target::Text(_) => self.path_and_query().split_once('?').map(|(_, query)| query),
            Target::Uri(uri) => uri.query(),
        }
    }

    /// What the target names; else `Host` does.
    pub fn authority(&self) -> Option<&str> {
        self.target.authority()
    }

    /// In place of whatever names it: the target, `Host`, or both.
    pub fn set_authority(&mut self, authority: &HeaderValue) {
        let named = authority.to_str().is_ok_and(|text| self.target.set_authority(text));
        if !named || self.headers.has(Known::Host) {
            self.headers.set(&header::HOST, authority);
        }
    }

    /// Where the body ends. HTTP/2 frames it itself: there it is `UntilClose` where no length is given.
    pub fn body_length(&self) -> Result<BodyLength, HeadError> {
        if self.headers.has(Known::TransferEncoding) {
            if self.headers.has(Known::ContentLength) {
                return Err(HeadError::Bad(
                    "the request has both Transfer-Encoding and Content-Length",
                ));
            }
            check_transfer_encoding(&self.headers, self.version)?;
            return Ok(BodyLength::Chunked);
        }
        let length = content_length(&self.headers, false)?;
        let unknown = if self.is_http2() {
            BodyLength::UntilClose
        } else {
            BodyLength::None
        };
        Ok(length.map_or(unknown, BodyLength::Exact))
    }

    /// May another request follow on the connection, as far as the client is concerned?
    pub fn keeps_alive(&self) -> bool {
        keeps_alive(&self.headers, self.version)
    }

    /// The client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        let expect = self.headers.known(Known::Expect);
        self.version != Version::HTTP_10 && expect.is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
    }

    /// As an HTTP/1.1 endpoint expects it: origin form, one `Host`, framing for a body of `length`. What ends at a hop
    /// was removed. A body of unknown length goes in chunks.
    pub fn write_http1(&self, out: &mut Vec<u8>, length: BodyLength) {
        let target = self.path_and_query();
        out.reserve(self.headers.size_hint() + target.len() + 128);
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        if !target.starts_with(['/', '*']) {
            out.push(b'/');
        }
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        let mut except = KnownSet::of(&[Known::TransferEncoding]);
        if let Some(authority) = self.authority() {
            except.insert(Known::Host);
            write_field(out, "host", authority.as_bytes());
        }
        let framing = match length {
            BodyLength::None => {
                let wants_length = self.is_http2() && matches!(self.method, Method::POST | Method::PUT | Method::PATCH);
                let kept = keeps_content_length(&self.headers, 0);
                if !kept {
                    except.insert(Known::ContentLength);
                }
                if wants_length && !kept {
                    Framing::Length(0)
                } else {
                    Framing::Nothing
                }
            }
            BodyLength::Exact(length) => exact(&self.headers, length, &mut except),
            BodyLength::Chunked | BodyLength::UntilClose => {
                except.insert(Known::ContentLength);
                Framing::Chunked
            }
        };
        if self.upgrade.is_some() {
            except.insert(Known::Connection);
            except.insert(Known::Upgrade);
        }
        self.headers.write_except(out, except);
        if let Some(protocol) = &self.upgrade {
            write_upgrade(out, protocol);
        }
        framing.write(out);
        out.extend_from_slice(b"\r\n");
    }

    /// As an HTTP/2 endpoint expects it: pseudo headers from an absolute target, no `Host`.
    pub fn to_http2(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = self.absolute_uri();
        let ended = KnownSet::HOP_BY_HOP.and(KnownSet::of(&[Known::Host]));
        *request.headers_mut() = self.headers.to_map_except(ended);
        if let Some(length) = settled_length(&self.headers) {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        if let Some(protocol) = &self.upgrade {
            *request.method_mut() = Method::CONNECT;
            request.headers_mut().remove(header::CONTENT_LENGTH);
            request.extensions_mut().insert(Protocol::from(first_of(protocol)));
        }
        request
    }

    fn absolute_uri(&self) -> Uri {
        let mut parts = match &self.target {
            Target::Uri(uri) => uri.clone().into_parts(),
            Target::Text(target) => {
                let mut parts = uri::Parts::default();
                parts.scheme = target.text.split_once("://").and_then(|(scheme, _)| {
                    let named = target.authority.start > 0;
                    named.then(|| scheme.parse().ok()).flatten()
                });
                parts.authority = self.authority().and_then(|authority| authority.parse().ok());
                parts.path_and_query = self.path_and_query().parse().ok();
                parts
            }
        };
        if parts.authority.is_none() {
            let host = self.headers.known(Known::Host);
            parts.authority = host.and_then(|host| uri::Authority::try_from(host).ok());
        }
        parts.scheme.get_or_insert(Scheme::HTTP);
        parts
            .path_and_query
            .get_or_insert_with(|| PathAndQuery::from_static("/"));
        Uri::from_parts(parts).unwrap_or_default()
    }
}
