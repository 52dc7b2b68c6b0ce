//! Header fields: HTTP/1's as the sender's bytes with spans over them, HTTP/2's as a map, both behind one face. Spelling
//! and order survive; what a rule adds comes after.
//!
//! Read by `head`, edited and asked by whoever forwards the message, written by `head` again.

mod known;
mod map;
mod raw;

use http::{HeaderMap, HeaderName, HeaderValue};
use tsunagi_proto::decide::Fields;
use tsunagi_proto::model::EditFields;

pub use known::{Known, KnownSet};
pub use raw::RawHeaders;
use raw::RawValues;

#[derive(Debug, Clone)]
pub enum Headers {
    Raw(RawHeaders),
    Map(HeaderMap),
}

impl Default for Headers {
    /// Empty, to be read into.
    fn default() -> Self {
        Self::Raw(RawHeaders::default())
    }
}

impl Headers {
    pub fn clear(&mut self) {
        match self {
            Self::Raw(raw) => raw.clear(),
            Self::Map(_) => *self = Self::default(),
        }
    }

    pub(super) fn read(&mut self, head: &[u8], found: &[httparse::Header<'_>]) {
        match self {
            Self::Raw(raw) => raw.read(head, found),
            Self::Map(_) => {
                let mut raw = RawHeaders::default();
                raw.read(head, found);
                *self = Self::Raw(raw);
            }
        }
    }

    /// The first value.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        match self {
            Self::Raw(raw) => raw.get(name),
            Self::Map(map) => map.get(name).map(HeaderValue::as_bytes),
        }
    }

    /// The first value of a field that the proxy knows: the cheapest look-up.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        match self {
            Self::Raw(raw) => raw.known(known),
            Self::Map(map) => map.get(known.name()).map(HeaderValue::as_bytes),
        }
    }

    /// Is there such a field?
    pub fn has(&self, known: Known) -> bool {
        match self {
            Self::Raw(raw) => raw.has(known),
            Self::Map(map) => map.contains_key(known.name()),
        }
    }

    /// Every value of the field, in order of arrival.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        match self {
            Self::Raw(raw) => Values::Raw(raw.values(known, known.as_str())),
            Self::Map(map) => Values::Map(map.get_all(known.name()).iter()),
        }
    }

    pub fn contains(&self, name: &HeaderName) -> bool {
        match self {
            Self::Raw(raw) => raw.get(name).is_some(),
            Self::Map(map) => map.contains_key(name),
        }
    }

    /// In place of whatever is there.
    pub fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        match self {
            Self::Raw(raw) => {
                raw.remove(Known::of(name.as_str().as_bytes()), name.as_str().as_bytes());
                raw.append(name, value);
            }
            Self::Map(map) => {
                map.insert(name, value.clone());
            }
        }
    }

    pub fn append(&mut self, name: &HeaderName, value: &HeaderValue) {
        match self {
            Self::Raw(raw) => raw.append(name, value),
            Self::Map(map) => {
                map.append(name, value.clone());
            }
        }
    }

    /// One field more, of bytes that are valid in a value: nothing is allocated for HTTP/1.
    pub fn append_bytes(&mut self, known: Known, value: &[u8]) {
        match self {
            Self::Raw(raw) => raw.append_bytes(known, value),
            Self::Map(map) => {
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    map.append(known.name(), value);
                }
            }
        }
    }

    /// The same for a text of our own: nothing is allocated for HTTP/2 either.
    pub fn append_static(&mut self, known: Known, value: &'static str) {
        match self {
            Self::Raw(raw) => raw.append_bytes(known, value.as_bytes()),
            Self::Map(map) => {
                map.append(known.name(), HeaderValue::from_static(value));
            }
        }
    }

    /// If there is one; costs a bit's test over HTTP/1 when there is none.
    pub fn remove_known(&mut self, known: Known) {
        match self {
            Self::Raw(raw) => raw.remove(known, known.as_str().as_bytes()),
            Self::Map(map) => {
                map.remove(known.name());
            }
        }
    }

    pub fn remove(&mut self, name: &HeaderName) {
        match self {
            Self::Raw(raw) => raw.remove(Known::of(name.as_str().as_bytes()), name.as_str().as_bytes()),
            Self::Map(map) => {
                map.remove(name);
            }
        }
    }

    /// Those that the proxy has no name of its own for.
    pub fn remove_others(&mut self, is: fn(&[u8]) -> bool) {
        match self {
            Self::Raw(raw) => raw.remove_others(is),
            Self::Map(map) => {
                let named = map.keys().filter(|name| is(name.as_str().as_bytes()));
                let removed: Vec<HeaderName> = named.cloned().collect();
                for name in removed {
                    map.remove(name);
                }
            }
        }
    }

    /// Headers that concern one connection only (RFC 9110, 7.6.1). What `Connection` names goes with them, and the length
    /// that `Transfer-Encoding` overrides.
    pub fn remove_hop_by_hop(&mut self) {
        match self {
            Self::Raw(raw) => raw.remove_hop_by_hop(),
            Self::Map(fields) => map::remove_hop_by_hop(fields),
        }
    }

    /// Every field as `Name: value`, in HTTP/1's form: spelling and order as sent, a map's names in lower case.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_except(out, KnownSet::EMPTY);
    }

    pub(super) fn write_except(&self, out: &mut Vec<u8>, except: KnownSet) {
        match self {
            Self::Raw(raw) => raw.write(out, except),
            Self::Map(map) => map::write(map, out, except),
        }
    }

    /// As HTTP/2 carries them.
    pub fn to_map(&self) -> HeaderMap {
        self.to_map_except(KnownSet::EMPTY)
    }

    pub(super) fn to_map_except(&self, except: KnownSet) -> HeaderMap {
        match self {
            Self::Raw(raw) => raw.to_map(except),
            Self::Map(map) => {
                let mut copy = map.clone();
                for known in [Known::Host, Known::ContentLength] {
                    if except.has(known) {
                        copy.remove(known.name());
                    }
                }
                map::detach(&mut copy);
                copy
            }
        }
    }

    /// The same, and leaves none here.
    pub fn take_map(&mut self) -> HeaderMap {
        let map = match self {
            Self::Raw(raw) => raw.to_map(KnownSet::EMPTY),
            Self::Map(map) => {
                let mut map = std::mem::take(map);
                map::detach(&mut map);
                map
            }
        };
        self.clear();
        map
    }

    /// The bytes that its fields take; a guess for a map.
    pub(super) fn size_hint(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.size(),
            Self::Map(map) => map.len() * 32,
        }
    }
}

impl Fields for Headers {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        match self {
            Self::Raw(raw) => Values::Raw(raw.values(Known::of(name.as_str().as_bytes()), name.as_str())),
            Self::Map(map) => Values::Map(map.get_all(name).iter()),
        }
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.contains(name)
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        let (raw, map) = match self {
            Self::Raw(raw) => (Some(raw.names()), None),
            Self::Map(map) => (None, Some(Fields::names(map))),
        };
        raw.into_iter().flatten().chain(map.into_iter().flatten())
    }
}

impl EditFields for Headers {
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        Self::set(self, name, value);
    }

    fn append(&mut self, name: &HeaderName, value: &HeaderValue) {
        Self::append(self, name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        Self::remove(self, name);
    }
}

pub(super) enum Values<'a, 'n> {
    Raw(RawValues<'a, 'n>),
    Map(http::header::ValueIter<'a, HeaderValue>),
}

impl<'a> Iterator for Values<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Raw(values) => values.next(),
            Self::Map(values) => values.next().map(HeaderValue::as_bytes),
        }
    }
}

/// A sender must not list in `Connection` what routes, frames or identifies the message; `TE` has a rule of its own.
fn stays_although_named(known: Known) -> bool {
    matches!(
        known,
        Known::Host | Known::ContentLength | Known::Te | Known::XRequestId | Known::XForwardedProto
    )
}

fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Is it in the comma-separated list, in any case?
pub(super) fn has_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
