//! Header operations of a route or a destination: remove, then set, then add.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Invalid;
use crate::wire::mesh;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderOperations {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    pub fn apply(&self, fields: &mut impl EditFields) {
        for name in &self.remove {
            fields.remove(name);
        }
        for (name, value) in &self.set {
            fields.set(name, value);
        }
        for (name, value) in &self.add {
            fields.append(name, value);
        }
    }
}

/// Header fields that a rule can change, however they are stored.
pub trait EditFields {
    /// In place of whatever is there.
    fn set(&mut self, name: &HeaderName, value: &HeaderValue);

    fn append(&mut self, name: &HeaderName, value: &HeaderValue);

    /// Every value of it.
    fn remove(&mut self, name: &HeaderName);
}

impl EditFields for HeaderMap {
    fn set(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.insert(name, value.clone());
    }

    fn append(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }

    fn remove(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}

/// Headers that frame a message: changing one would let a rule desynchronise a connection.
const FRAMING: [&str; 8] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
];

fn name(text: &str) -> Result<HeaderName, Invalid> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| Invalid::new(text, "not a header name"))?;
    if FRAMING.contains(&name.as_str()) {
        return Err(Invalid::new(
            text,
            "this header frames the message and cannot be changed",
        ));
    }
    Ok(name)
}

fn pair(wire: mesh::HeaderValue) -> Result<(HeaderName, HeaderValue), Invalid> {
    let value = HeaderValue::from_str(&wire.value)
        .map_err(|_| Invalid::new(&wire.name, "the value has a forbidden character"))?;
    Ok((name(&wire.name)?, value))
}

impl TryFrom<mesh::HeaderOperations> for HeaderOperations {
    type Error = Invalid;

    fn try_from(wire: mesh::HeaderOperations) -> Result<Self, Invalid> {
        Ok(Self {
            remove: wire
                .remove
                .iter()
                .map(|text| name(text))
                .collect::<Result<_, _>>()
                .map_err(|e: Invalid| e.within("remove"))?,
            set: wire
                .set
                .into_iter()
                .map(pair)
                .collect::<Result<_, _>>()
                .map_err(|e: Invalid| e.within("set"))?,
            add: wire
                .add
                .into_iter()
                .map(pair)
                .collect::<Result<_, _>>()
                .map_err(|e: Invalid| e.within("add"))?,
        })
    }
}

/// Absent operations are none.
pub(super) fn checked(field: &str, wire: Option<mesh::HeaderOperations>) -> Result<HeaderOperations, Invalid> {
    HeaderOperations::try_from(wire.unwrap_or_default()).map_err(|error| error.within(field))
}
