//! HTTP/1's header fields as the sender's bytes, with a span for each: nothing is copied twice, nothing is allocated for
//! a field, and what is not touched is written as it came.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::known::{Known, KnownSet};
use super::{has_token, stays_although_named, write_line};

/// What is kept from message to message.
const KEPT_BYTES: usize = 4 * 1024;
const KEPT_FIELDS: usize = 64;

/// Of a head that came over HTTP/1; reused from message to message, so that nothing is allocated.
#[derive(Debug, Default, Clone)]
pub struct RawHeaders {
    /// All field lines, as received.
    bytes: Vec<u8>,
    fields: Vec<Field>,
    /// By rules, not by the sender.
    added: Vec<(HeaderName, HeaderValue)>,
    /// Which known fields there are, sent or added.
    present: KnownSet,
}

/// Where a field is in `bytes`. A head is at most 64 KiB long.
#[derive(Debug, Clone, Copy)]
struct Field {
    start: u16,
    name_length: u16,
    value_start: u16,
    value_length: u16,
    known: Known,
    live: bool,
    /// The line reads exactly `Name: value\r\n`, so it can be written with its neighbours at once.
    verbatim: bool,
}

impl Field {
    fn name<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.start);
        &bytes[start..start + usize::from(self.name_length)]
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let start = usize::from(self.value_start);
        &bytes[start..start + usize::from(self.value_length)]
    }

    /// `\r\n` included.
    fn line_end(&self) -> usize {
        usize::from(self.value_start) + usize::from(self.value_length) + 2
    }

    fn is(&self, bytes: &[u8], known: Known, name: &[u8]) -> bool {
        self.live
            && self.known == known
            && (known != Known::Other
                || usize::from(self.name_length) == name.len() && self.name(bytes).eq_ignore_ascii_case(name))
    }
}

impl RawHeaders {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.fields.clear();
        self.added.clear();
        self.present = KnownSet::EMPTY;
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
        }
        if self.fields.capacity() > KEPT_FIELDS {
            self.fields.shrink_to(KEPT_FIELDS);
        }
    }

    /// Takes what was found in `head`, which is whole and at most 64 KiB long.
    pub(in crate::codec) fn read(&mut self, head: &[u8], found: &[httparse::Header<'_>]) {
        self.clear();
        let Some(first) = found.first() else { return };
        // What `httparse` hands out lies within `head`.
        let base = first.name.as_ptr().addr();
        let lines = &head[base - head.as_ptr().addr()..];
        self.bytes.extend_from_slice(lines);
        let mut present = KnownSet::EMPTY;
        self.fields.extend(found.iter().map(|field| {
            let start = field.name.as_ptr().addr() - base;
            let name_end = start + field.name.len();
            let value_start = field.value.as_ptr().addr() - base;
            let value_end = value_start + field.value.len();
            let known = Known::of(field.name.as_bytes());
            present.insert(known);
            Field {
                start: start as u16,
                name_length: field.name.len() as u16,
                value_start: value_start as u16,
                value_length: field.value.len() as u16,
                known,
                live: true,
                verbatim: value_start == name_end + 2
                    && lines.get(name_end..value_start) == Some(b": ")
                    && lines.get(value_end..value_end + 2) == Some(b"\r\n"),
            }
        }));
        self.present = present;
    }

    /// The first value of a known field.
    pub(super) fn known(&self, known: Known) -> Option<&[u8]> {
        if self.present.has(known) {
            self.values(known, known.as_str()).next()
        } else {
            None
        }
    }

    pub(super) fn values<'a, 'n>(&'a self, known: Known, name: &'n str) -> RawValues<'a, 'n> {
        let absent = known != Known::Other && !self.present.has(known);
        RawValues {
            bytes: &self.bytes,
            fields: if absent { [].iter() } else { self.fields.iter() },
            added: if absent { [].iter() } else { self.added.iter() },
            known,
            name,
        }
    }

    /// As spelled; that of a repeated field as often as it is there.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        let sent = self.fields.iter().filter(|field| field.live);
        let added = self.added.iter().map(|(name, _)| name.as_str().as_bytes());
        sent.map(|field| field.name(&self.bytes)).chain(added)
    }

    pub(super) fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str();
        self.values(Known::of(name.as_bytes()), name).next()
    }

    pub(super) fn append(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.present.insert(Known::of(name.as_str().as_bytes()));
        self.added.push((name.clone(), value.clone()));
    }

    /// A field written here, into the buffer that the sender's are in; its value is a valid one.
    pub(super) fn append_bytes(&mut self, known: Known, value: &[u8]) {
        let (start, name) = (self.bytes.len(), known.as_str());
        let value_start = start + name.len() + 2;
        let end = value_start + value.len() + 2;
        if end > usize::from(u16::MAX) {
            if let Ok(value) = HeaderValue::from_bytes(value) {
                self.append(known.name(), &value);
            }
            return;
        }
        write_line(&mut self.bytes, name.as_bytes(), value);
        self.fields.push(Field {
            start: start as u16,
            name_length: name.len() as u16,
            value_start: value_start as u16,
            value_length: value.len() as u16,
            known,
            live: true,
            verbatim: true,
        });
        self.present.insert(known);
    }

    pub(super) fn remove(&mut self, known: Known, name: &[u8]) {
        if known != Known::Other && !self.present.has(known) {
            return;
        }
        for field in &mut self.fields {
            if field.is(&self.bytes, known, name) {
                field.live = false;
            }
        }
        if !self.added.is_empty() {
            self.added
                .retain(|(added, _)| !added.as_str().as_bytes().eq_ignore_ascii_case(name));
        }
        if known != Known::Other {
            self.present.remove(known);
        }
    }

    /// Of what the sender wrote.
    pub(super) fn remove_others(&mut self, is: fn(&[u8]) -> bool) {
        for field in &mut self.fields {
            if field.known == Known::Other && is(field.name(&self.bytes)) {
                field.live = false;
            }
        }
    }

    fn remove_all(&mut self, of: KnownSet) {
        if !self.present.meets(of) {
            return;
        }
        for field in &mut self.fields {
            field.live &= !of.has(field.known);
        }
        self.added
            .retain(|(added, _)| !of.has(Known::of(added.as_str().as_bytes())));
        self.present = self.present.without(of);
    }

    pub(super) fn remove_hop_by_hop(&mut self) {
        const ENDS_HERE: KnownSet = KnownSet::HOP_BY_HOP.and(KnownSet::of(&[Known::Te]));
        if !self.present.meets(ENDS_HERE) {
            return;
        }
        if self.present.has(Known::Connection) {
            self.remove_named_by_connection();
        }
        if self.present.has(Known::TransferEncoding) {
            // It overrides the length (RFC 9112, 6.3), which would contradict what is sent on.
            self.remove(Known::ContentLength, b"content-length");
        }
        self.remove_all(KnownSet::HOP_BY_HOP);
        if self.present.has(Known::Te) {
            let mut values = self.values(Known::Te, "te");
            let only = values.next().is_some_and(|te| te.eq_ignore_ascii_case(b"trailers")) && values.next().is_none();
            if !only {
                let trailers = self.values(Known::Te, "te").any(|te| has_token(te, b"trailers"));
                self.remove(Known::Te, b"te");
                if trailers {
                    self.append(&header::TE, &HeaderValue::from_static("trailers"));
                }
            }
        }
    }

    fn remove_named_by_connection(&mut self) {
        for index in 0..self.fields.len() {
            let field = self.fields[index];
            if !field.live || field.known != Known::Connection {
                continue;
            }
            for name in field.value(&self.bytes).split(|byte| *byte == b',') {
                let name = name.trim_ascii();
                let known = Known::of(name);
                if name.is_empty() || stays_although_named(known) || KnownSet::HOP_BY_HOP.has(known) {
                    continue;
                }
                for named in &mut self.fields {
                    if named.is(&self.bytes, known, name) {
                        named.live = false;
                    }
                }
                self.added
                    .retain(|(added, _)| !added.as_str().as_bytes().eq_ignore_ascii_case(name));
                if known != Known::Other {
                    self.present.remove(known);
                }
            }
        }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, except: KnownSet) {
        let mut run = 0..0;
        for field in &self.fields {
            if !field.live || except.has(field.known) {
                continue;
            }
            let start = usize::from(field.start);
            if field.verbatim && start == run.end {
                run.end = field.line_end();
                continue;
            }
            out.extend_from_slice(&self.bytes[run]);
            if field.verbatim {
                run = start..field.line_end();
            } else {
                run = 0..0;
                write_line(out, field.name(&self.bytes), field.value(&self.bytes));
            }
        }
        out.extend_from_slice(&self.bytes[run]);
        for (name, value) in &self.added {
            let name = name.as_str().as_bytes();
            if !except.has(Known::of(name)) {
                write_line(out, name, value.as_bytes());
            }
        }
    }

    pub(super) fn to_map(&self, except: KnownSet) -> HeaderMap {
        let fields = || {
            self.fields
                .iter()
                .filter(move |field| field.live && !except.has(field.known))
        };
        let total = fields().map(|field| usize::from(field.value_length)).sum();
        let mut buffer = BytesMut::with_capacity(total);
        let mut map = HeaderMap::with_capacity(self.fields.len() + self.added.len());
        for field in fields() {
            buffer.extend_from_slice(field.value(&self.bytes));
            let value = HeaderValue::from_maybe_shared(buffer.split().freeze());
            // Both were checked when they were read.
            if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(field.name(&self.bytes)), value) {
                map.append(name, value);
            }
        }
        for (name, value) in &self.added {
            if !except.has(Known::of(name.as_str().as_bytes())) {
                map.append(name, value.clone());
            }
        }
        map
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn has(&self, known: Known) -> bool {
        self.present.has(known)
    }
}

pub(in crate::codec) struct RawValues<'a, 'n> {
    bytes: &'a [u8],
    fields: std::slice::Iter<'a, Field>,
    added: std::slice::Iter<'a, (HeaderName, HeaderValue)>,
    known: Known,
    /// Lower-case.
    name: &'n str,
}

impl<'a> Iterator for RawValues<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (bytes, known, name) = (self.bytes, self.known, self.name);
        if let Some(field) = self.fields.find(|field| field.is(bytes, known, name.as_bytes())) {
            return Some(field.value(bytes));
        }
        let (_, value) = self.added.find(|(added, _)| added.as_str() == name)?;
        Some(value.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Headers, RequestHead, parse_request};

    #[test]
    fn what_one_message_needed_is_kept_for_the_next_unless_it_was_large() {
        let mut head = RequestHead::default();
        let small = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
        let large = format!("GET /{0} HTTP/1.1\r\nX: {0}\r\n\r\n", "x".repeat(20_000));
        let capacities = |head: &RequestHead| match &head.headers {
            Headers::Raw(raw) => (raw.bytes.capacity(), raw.fields.capacity()),
            Headers::Map(_) => (0, 0),
        };
        parse_request(small, &mut head).unwrap();
        let (bytes, fields) = capacities(&head);
        head.clear();
        assert_eq!(capacities(&head), (bytes, fields));
        parse_request(large.as_bytes(), &mut head).unwrap();
        assert!(capacities(&head).0 > 20_000);
        head.clear();
        assert!(capacities(&head).0 <= KEPT_BYTES);
        assert!(head.headers.to_map().is_empty() && head.path_and_query().is_empty());
    }
}
