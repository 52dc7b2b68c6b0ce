//! A response's head: what it says, and how it leaves over either protocol.

use http::{HeaderMap, Method, Response, StatusCode, Version, header};

use super::HeadError;
use super::framing::{
    Framing, check_transfer_encoding, content_length, exact, keeps_alive, settled_length, write_field,
};
use crate::codec::body::BodyLength;
use crate::codec::headers::{Headers, Known, KnownSet};
use crate::codec::message::ResponseHead;

impl Default for ResponseHead {
    /// Empty, to be read into.
    fn default() -> Self {
        Self {
            status: StatusCode::OK,
            version: Version::HTTP_11,
            reason: None,
            headers: Headers::default(),
        }
    }
}

impl ResponseHead {
    /// Of an answer of our own.
    pub fn local(status: StatusCode) -> Self {
        Self {
            status,
            version: Version::HTTP_11,
            reason: None,
            headers: Headers::Map(HeaderMap::new()),
        }
    }

    /// Forgets the response; keeps what the next one can use.
    pub fn clear(&mut self) {
        self.status = StatusCode::OK;
        self.reason = None;
        self.headers.clear();
    }

    /// Where the body ends, of an answer to a request with this method (RFC 9112, 6.3). To be asked before what ends at
    /// a hop is removed. HTTP/2 frames it itself: there it is `UntilClose` where no length is given.
    pub fn body_length(&self, request: &Method) -> Result<BodyLength, HeadError> {
        let bodiless = forbids_length(self.status) || self.status == StatusCode::NOT_MODIFIED;
        if bodiless || *request == Method::HEAD || *request == Method::CONNECT && self.status.is_success() {
            return Ok(BodyLength::None);
        }
        if self.headers.has(Known::TransferEncoding) {
            check_transfer_encoding(&self.headers, self.version)?;
            return Ok(BodyLength::Chunked);
        }
        let length = content_length(&self.headers, true)?;
        Ok(length.map_or(BodyLength::UntilClose, BodyLength::Exact))
    }

    /// May another request follow on the connection, as far as the endpoint is concerned? Two things said about where
    /// the body ends are one too many to trust what comes after it. To be asked before what ends at a hop is removed.
    pub fn keeps_alive(&self) -> bool {
        let ambiguous = self.headers.has(Known::TransferEncoding) && self.headers.has(Known::ContentLength);
        !ambiguous && keeps_alive(&self.headers, self.version)
    }

    /// For a client that speaks `to`. `length` frames what follows; `None` is for an answer that cannot have a body
    /// (to HEAD, to CONNECT, or by its status), and keeps the length that the body would have; one that just is empty
    /// has `Exact(0)`. What ends at a hop was removed.
    pub fn write_http1(&self, out: &mut Vec<u8>, to: Version, length: BodyLength, close: bool) {
        out.reserve(self.headers.size_hint() + 128);
        if self.status == StatusCode::OK && self.reason.is_none() {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        } else {
            out.extend_from_slice(b"HTTP/1.1 ");
            out.extend_from_slice(self.status.as_str().as_bytes());
            out.push(b' ');
            let reason = self.reason.as_deref().or_else(|| self.status.canonical_reason());
            out.extend_from_slice(reason.unwrap_or_default().as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        let mut except = KnownSet::of(&[Known::TransferEncoding, Known::Connection]);
        let framing = match length {
            _ if forbids_length(self.status) => {
                except.insert(Known::ContentLength);
                Framing::Nothing
            }
            BodyLength::None => Framing::Nothing,
            BodyLength::Exact(length) => exact(&self.headers, length, &mut except),
            BodyLength::Chunked => {
                except.insert(Known::ContentLength);
                Framing::Chunked
            }
            BodyLength::UntilClose => {
                except.insert(Known::ContentLength);
                Framing::Nothing
            }
        };
        self.headers.write_except(out, except);
        framing.write(out);
        if close || length == BodyLength::UntilClose {
            write_field(out, "connection", b"close");
        } else if to == Version::HTTP_10 {
            write_field(out, "connection", b"keep-alive");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// For a client that speaks HTTP/2; takes the headers.
    pub fn to_http2(&mut self) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = self.status;
        *response.version_mut() = Version::HTTP_2;
        let length = settled_length(&self.headers);
        *response.headers_mut() = self.headers.take_map();
        if let Some(length) = length {
            response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        response
    }
}

/// 1xx and 204: they have no body, nor may they say how long it is (RFC 9110, 8.6).
fn forbids_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}
