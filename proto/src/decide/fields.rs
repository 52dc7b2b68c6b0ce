//! Header fields, however they are stored: the decision asks for values by name and never sees the map or the raw bytes
//! that they come from.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header fields of a message.
pub trait Fields {
    /// Every value of the field, in order of arrival. `name` is lower-case; the field's own spelling does not count.
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a;

    fn has(&self, name: &HeaderName) -> bool {
        self.values(name).next().is_some()
    }

    /// The name of every field, in the sender's spelling; that of a repeated one may come again.
    fn names(&self) -> impl Iterator<Item = &[u8]>;
}

impl Fields for HeaderMap {
    fn values<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.get_all(name).iter().map(HeaderValue::as_bytes)
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.contains_key(name)
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.keys().map(|name| name.as_str().as_bytes())
    }
}

/// Hands over the field's value, a repeated one joined with commas; `None` when there is no such field. Only a repeated
/// field allocates.
#[inline]
pub(super) fn with_value<F: Fields, T>(fields: &F, name: &HeaderName, look: impl FnOnce(&[u8]) -> T) -> Option<T> {
    let mut values = fields.values(name);
    let first = values.next()?;
    match values.next() {
        None => Some(look(first)),
        Some(second) => Some(look(&joined(first, second, values))),
    }
}

#[cold]
fn joined<'a>(first: &[u8], second: &'a [u8], rest: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut joined = first.to_vec();
    for value in std::iter::once(second).chain(rest) {
        joined.push(b',');
        joined.extend_from_slice(value);
    }
    joined
}
