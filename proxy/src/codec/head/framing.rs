//! What a head says about its body and its connection, and what has to be said in a head that we write.

use http::Version;

use super::HeadError;
use crate::codec::headers::{Headers, Known, KnownSet, has_token};

/// A list that is not ASCII can ask for less, not for more.
pub(super) fn keeps_alive(headers: &Headers, version: Version) -> bool {
    if !headers.has(Known::Connection) {
        return version != Version::HTTP_10;
    }
    let closes = || headers.all(Known::Connection).any(|value| has_token(value, b"close"));
    let keeps = |value: &[u8]| value.is_ascii() && has_token(value, b"keep-alive");
    match version {
        Version::HTTP_10 => headers.all(Known::Connection).any(keeps) && !closes(),
        Version::HTTP_11 => !closes(),
        _ => true,
    }
}

/// Chunks are the only coding that we can take apart, and HTTP/1.0 knows none.
pub(super) fn check_transfer_encoding(headers: &Headers, version: Version) -> Result<(), HeadError> {
    if version == Version::HTTP_10 {
        return Err(HeadError::Bad("HTTP/1.0 has no Transfer-Encoding"));
    }
    let mut values = headers.all(Known::TransferEncoding);
    let chunked = values
        .next()
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if !chunked || values.next().is_some() {
        return Err(HeadError::Bad("the only Transfer-Encoding understood is chunked"));
    }
    Ok(())
}

/// The one length that is given. A response may give it as a list, if only it is the same each time (RFC 9110, 8.6).
pub(super) fn content_length(headers: &Headers, list: bool) -> Result<Option<u64>, HeadError> {
    let mut length = None;
    if !headers.has(Known::ContentLength) {
        return Ok(None);
    }
    for value in headers.all(Known::ContentLength) {
        for value in value.split(|byte| list && *byte == b',') {
            let value = if list { value.trim_ascii() } else { value };
            let this = decimal(value)?;
            if *length.get_or_insert(this) != this {
                return Err(HeadError::Bad("there are two different Content-Lengths"));
            }
        }
    }
    Ok(length)
}

/// Others read a length into a signed number, so more than that would not mean the same to everyone.
const MAX_LENGTH: u64 = i64::MAX as u64;

fn decimal(text: &[u8]) -> Result<u64, HeadError> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(HeadError::Bad("the Content-Length is not a number"));
    }
    let add = |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
    let number = text.iter().try_fold(0, add).filter(|number| *number <= MAX_LENGTH);
    number.ok_or(HeadError::Bad("the Content-Length is too large"))
}

/// It is there once, and says `length`.
pub(super) fn keeps_content_length(headers: &Headers, length: u64) -> bool {
    let mut values = headers.all(Known::ContentLength);
    values.next().is_some_and(|value| decimal(value) == Ok(length)) && values.next().is_none()
}

/// HTTP/2 wants the length once, too. `None`: it is as it should be.
pub(super) fn settled_length(headers: &Headers) -> Option<u64> {
    let length = content_length(headers, true).ok().flatten()?;
    (!keeps_content_length(headers, length)).then_some(length)
}

/// The length as sent, or in its place.
pub(super) fn exact(headers: &Headers, length: u64, except: &mut KnownSet) -> Framing {
    if keeps_content_length(headers, length) {
        return Framing::Nothing;
    }
    except.insert(Known::ContentLength);
    Framing::Length(length)
}

/// What has to be said about a body beyond what its sender said.
pub(super) enum Framing {
    Nothing,
    Length(u64),
    Chunked,
}

impl Framing {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Length(length) => {
                let mut digits = [0; 20];
                let mut start = digits.len();
                let mut rest = *length;
                loop {
                    start -= 1;
                    digits[start] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                    if rest == 0 {
                        break;
                    }
                }
                write_field(out, "content-length", &digits[start..]);
            }
            Self::Chunked => write_field(out, "transfer-encoding", b"chunked"),
        }
    }
}

pub(in crate::codec) fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
