//! The name that a TLS client asks for, out of the first bytes that it sends, which are passed on as they are. `spoken` asks
//! whether this is TLS at all, `listener` for whom it is.
//!
//! Source: RFC 8446, 4.1.2 and 5.1, RFC 6066, 3. Not rustls' `Acceptor`, because that is a server: it refuses hellos that the
//! destination may well take (TLS 1.1, no signature algorithms), and copies all of what it reads.

/// Beyond that it is no hello that anybody sends, in its records with their headers.
const LONGEST_HELLO_BYTES: usize = 24 * 1024;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER_BYTES: usize = 5;
const MESSAGE_HEADER_BYTES: usize = 4;
const LONGEST_RECORD_BYTES: usize = 1 << 14;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
const LONGEST_NAME_BYTES: usize = 253;

/// What a TLS client says first, as far as it matters to whom it is passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// In lower case. Against the rules it may be an IPv4 address. `None`: the client asks for none, or for none that could
    /// be a host's.
    pub server_name: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaybeHello {
    /// It may still become one.
    Partial,
    /// No TLS.
    Not,
    Whole(ClientHello),
}

/// What the client's first bytes are.
pub fn parse_client_hello(read: &[u8]) -> MaybeHello {
    match message(read) {
        Message::Partial if read.len() >= LONGEST_HELLO_BYTES => MaybeHello::Not,
        Message::Partial => MaybeHello::Partial,
        Message::Not => MaybeHello::Not,
        Message::Whole(body) => match server_name(&body) {
            Some(server_name) => MaybeHello::Whole(ClientHello { server_name }),
            None => MaybeHello::Not,
        },
    }
}

/// May a connection that starts with this be TLS?
pub fn may_be_client_hello(read: &[u8]) -> bool {
    read.first() == Some(&HANDSHAKE)
}

enum Message {
    Partial,
    Not,
    Whole(Vec<u8>),
}

/// The hello, out of the records that it is spread over.
fn message(read: &[u8]) -> Message {
    let mut rest = read;
    let mut body = Vec::new();
    loop {
        let known = rest.len().min(RECORD_HEADER_BYTES);
        let begins = [HANDSHAKE, 3];
        if !begins.starts_with(&rest[..known.min(begins.len())]) {
            return Message::Not;
        }
        let Some((header, after)) = rest.split_at_checked(RECORD_HEADER_BYTES) else {
            return Message::Partial;
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > LONGEST_RECORD_BYTES {
            return Message::Not;
        }
        let (fragment, after) = after.split_at(length.min(after.len()));
        body.extend_from_slice(fragment);
        if body.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Message::Not;
        }
        if let Some((header, _)) = body.split_at_checked(MESSAGE_HEADER_BYTES) {
            let wanted = MESSAGE_HEADER_BYTES + usize::from(header[1]) * (1 << 16) + length_of(header[2], header[3]);
            if wanted > LONGEST_HELLO_BYTES {
                return Message::Not;
            }
            if body.len() >= wanted {
                body.truncate(wanted);
                body.drain(..MESSAGE_HEADER_BYTES);
                return Message::Whole(body);
            }
        }
        if fragment.len() < length {
            return Message::Partial;
        }
        rest = after;
    }
}

fn length_of(high: u8, low: u8) -> usize {
    usize::from(u16::from_be_bytes([high, low]))
}

/// Bytes that are taken from the front; `None` where they are too few.
struct Taken<'a>(&'a [u8]);

impl<'a> Taken<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn short(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// With its length in one byte before it.
    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.bytes(length.into())
    }

    /// With its length in two bytes before it.
    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.short()?;
        self.bytes(length.into())
    }
}

/// `None`: it is no hello.
fn server_name(body: &[u8]) -> Option<Option<Box<str>>> {
    let mut hello = Taken(body);
    let major = hello.bytes(2)?[0];
    let _random = hello.bytes(32)?;
    let session = hello.vector8()?;
    let suites = hello.vector16()?;
    let compression = hello.vector8()?;
    if major != 3 || session.len() > 32 || suites.len() < 2 || suites.len() % 2 == 1 || compression.is_empty() {
        return None;
    }
    if hello.0.is_empty() {
        // As clients were before there were extensions.
        return Some(None);
    }
    let mut extensions = Taken(hello.vector16()?);
    if !hello.0.is_empty() {
        return None;
    }
    let mut names = None;
    while !extensions.0.is_empty() {
        let kind = extensions.short()?;
        let content = extensions.vector16()?;
        if kind == SERVER_NAME && names.replace(content).is_some() {
            return None;
        }
    }
    names.map_or(Some(None), host_name)
}

/// The first name of the list that is a host's, of which there may be only one.
fn host_name(extension: &[u8]) -> Option<Option<Box<str>>> {
    let mut extension = Taken(extension);
    let mut list = Taken(extension.vector16()?);
    if !extension.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut found = None;
    while !list.0.is_empty() {
        let kind = list.byte()?;
        let name = list.vector16()?;
        if kind == HOST_NAME && found.replace(name).is_some() {
            return None;
        }
    }
    Some(found.and_then(checked_name))
}

/// A host name, in lower case, without the dot that may end it; or an IPv4 address, which RFC 6066 forbids and some send.
fn checked_name(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let labels = name.split(|byte| *byte == b'.');
    if name.len() > LONGEST_NAME_BYTES || labels.into_iter().any(<[u8]>::is_empty) || !name.iter().all(allowed) {
        return None;
    }
    Some(std::str::from_utf8(name).ok()?.to_ascii_lowercase().into())
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
#[cfg(test)]
pub use tests::client_hello as client_hello_for;
