//! Heads of HTTP/1 messages: read strictly, so that nobody further on can read them differently (RFC 9112, 2 to 6), and
//! written as this proxy means them, whatever they came as.
//!
//! The bytes are split by `httparse`; what is refused beyond that, and where a body ends, is decided here.

mod framing;
mod request;
mod response;
mod target;

use std::mem::MaybeUninit;

use http::{Method, StatusCode, Version};

use super::first_request::Wanted;
use super::message::{RequestHead, ResponseHead};
pub(super) use framing::write_field;

pub const MAX_HEAD_BYTES: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;

/// Why a message is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("the head is larger than 64 KiB or has more than 100 fields")]
    TooLarge,
    /// A sentence for whoever sent it.
    #[error("{0}")]
    Bad(&'static str),
}

type Fields<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_FIELDS];

/// How long the head is, if `input` has all of it. Empty lines before it belong to it (RFC 9112, 2.2).
pub fn parse_request(input: &[u8], head: &mut RequestHead) -> Result<Option<usize>, HeadError> {
    let mut fields: Fields<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut found = httparse::Request::new(&mut []);
    let parsed = found.parse_with_uninit_headers(input, &mut fields);
    let Some(length) = complete(parsed, input)? else {
        return Ok(None);
    };
    let (Some(method), Some(target), Some(minor)) = (found.method, found.path, found.version) else {
        return Ok(None);
    };
    head.method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Bad("the method is not a word"))?;
    head.version = version(minor);
    head.target.read(&head.method, target)?;
    head.headers.read(&input[..length], found.headers);
    Ok(Some(length))
}

/// What a request wants of its connection, if `input` has all of its head. Nothing is copied.
pub fn look_at_request(input: &[u8]) -> Result<Option<Wanted>, HeadError> {
    let mut fields: Fields<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut found = httparse::Request::new(&mut []);
    let parsed = found.parse_with_uninit_headers(input, &mut fields);
    if complete(parsed, input)?.is_none() {
        return Ok(None);
    }
    if found.method == Some("CONNECT") {
        return Ok(Some(Wanted::Tunnel));
    }
    Ok(Some(Wanted::Answers))
}

/// Has an empty line arrived behind the first `examined` bytes?
pub fn ends_head(input: &[u8], examined: usize) -> bool {
    let fresh = &input[examined.saturating_sub(2)..];
    let mut newlines = fresh.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    newlines.any(|(at, _)| matches!(&fresh[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

/// The same for a response.
pub fn parse_response(input: &[u8], head: &mut ResponseHead) -> Result<Option<usize>, HeadError> {
    let mut fields: Fields<'_> = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut found = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut found, input, &mut fields);
    let Some(length) = complete(parsed, input)? else {
        return Ok(None);
    };
    let (Some(code), Some(reason), Some(minor)) = (found.code, found.reason, found.version) else {
        return Ok(None);
    };
    head.status = StatusCode::from_u16(code).map_err(|_| HeadError::Bad("the status is below 100"))?;
    head.version = version(minor);
    if head.status.canonical_reason() == Some(reason) {
        head.reason = None;
    } else {
        let own = head.reason.get_or_insert_default();
        own.clear();
        own.push_str(reason);
    }
    head.headers.read(&input[..length], found.headers);
    Ok(Some(length))
}

fn complete(parsed: httparse::Result<usize>, input: &[u8]) -> Result<Option<usize>, HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD_BYTES => Ok(Some(length)),
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD_BYTES => Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(error) => Err(HeadError::Bad(match error {
            httparse::Error::HeaderName => "a header's name has a forbidden character",
            httparse::Error::HeaderValue => "a header's value has a forbidden character",
            httparse::Error::NewLine => "a line does not end in CRLF",
            httparse::Error::Status => "the status line is malformed",
            httparse::Error::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
            _ => "the request line is malformed",
        })),
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
#[cfg(test)]
#[path = "head_written_tests.rs"]
mod written_tests;
