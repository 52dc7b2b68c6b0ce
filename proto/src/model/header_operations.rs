//! Header operations of a route or a destination: remove, then set, then add.
//!
//! Source: Envoy's HeaderParser. Values are made of the message as it is when fields have been removed, so none sees what
//! another one sets; a value that comes out empty leaves its header alone.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Formatter, HeaderTemplate, Invalid};
use crate::decide::Fields;
use crate::wire::mesh;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderOperations {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderText)>,
    pub add: Vec<(HeaderName, HeaderText)>,
}

/// A value to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderText {
    /// Ready to be sent.
    Literal(HeaderValue),
    Template(HeaderTemplate),
}

impl From<HeaderValue> for HeaderText {
    fn from(value: HeaderValue) -> Self {
        Self::Literal(value)
    }
}

impl HeaderText {
    /// As written in a rule.
    fn checked(text: &str) -> Result<Self, String> {
        let template = HeaderTemplate::parse(text)?;
        Ok(match template.literal() {
            Some(text) => Self::Literal(HeaderValue::from_bytes(text.as_bytes()).map_err(|error| error.to_string())?),
            None => Self::Template(template),
        })
    }
}

impl HeaderOperations {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    fn has_templates(&self) -> bool {
        let mut texts = self.set.iter().chain(&self.add);
        texts.any(|(_, text)| matches!(text, HeaderText::Template(_)))
    }

    /// `write` says what a formatter stands for, given the fields.
    pub fn apply<F: EditFields + Fields>(&self, fields: &mut F, write: impl Fn(&Formatter, &F, &mut Vec<u8>)) {
        Self::apply_together(&[self], fields, write);
    }

    /// Several as if they were one: what any removes goes first, what any adds comes last.
    pub fn apply_together<F: EditFields + Fields>(
        all: &[&Self],
        fields: &mut F,
        write: impl Fn(&Formatter, &F, &mut Vec<u8>),
    ) {
        for name in all.iter().flat_map(|operations| &operations.remove) {
            fields.remove(name);
        }
        let texts = || {
            let set = all.iter().flat_map(|operations| &operations.set);
            let add = all.iter().flat_map(|operations| &operations.add);
            set.map(|text| (true, text)).chain(add.map(|text| (false, text)))
        };
        let mut made = if all.iter().any(|operations| operations.has_templates()) {
            let templates = texts().filter_map(|(_, (_, text))| match text {
                HeaderText::Literal(_) => None,
                HeaderText::Template(template) => Some(template.value(|formatter, out| write(formatter, fields, out))),
            });
            templates.collect::<Vec<_>>()
        } else {
            Vec::new()
        }
        .into_iter();
        for (set, (name, text)) in texts() {
            let made = match text {
                HeaderText::Literal(_) => None,
                HeaderText::Template(_) => made.next().flatten(),
            };
            let value = match text {
                HeaderText::Literal(value) if !value.is_empty() => Some(value),
                HeaderText::Literal(_) => None,
                HeaderText::Template(_) => made.as_ref(),
            };
            match value {
                Some(value) if set => fields.set(name, value),
                Some(value) => fields.append(name, value),
                None => {}
            }
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

fn pair(wire: mesh::HeaderValue) -> Result<(HeaderName, HeaderText), Invalid> {
    let text = HeaderText::checked(&wire.value).map_err(|reason| Invalid::new(&wire.name, reason))?;
    Ok((name(&wire.name)?, text))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(remove: &[&str], set: &[(&str, &str)], add: &[(&str, &str)]) -> HeaderOperations {
        let values = |pairs: &[(&str, &str)]| {
            let wire = |(name, value): &(&str, &str)| mesh::HeaderValue {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            };
            pairs.iter().map(wire).collect()
        };
        HeaderOperations::try_from(mesh::HeaderOperations {
            remove: remove.iter().map(|name| (*name).to_owned()).collect(),
            set: values(set),
            add: values(add),
        })
        .unwrap()
    }

    fn first_value(formatter: &Formatter, fields: &HeaderMap, out: &mut Vec<u8>) {
        let Formatter::Request(text) = formatter else { return };
        if let super::super::RequestField::Header(name) = &text.name {
            out.extend_from_slice(fields.get(name).map_or(b"", |value| value.as_bytes()));
        }
    }

    fn applied(all: &[&HeaderOperations], fields: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        HeaderOperations::apply_together(all, &mut map, first_value);
        let text = |(name, value): (&HeaderName, &HeaderValue)| (name.to_string(), value.to_str().unwrap().to_owned());
        let mut all: Vec<_> = map.iter().map(text).collect();
        all.sort();
        all
    }

    fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_is_removed_goes_first_and_what_is_added_comes_last_whoever_says_it() {
        let route = operations(&["x-a"], &[("x-b", "route")], &[("x-c", "route")]);
        let destination = operations(&["x-c"], &[("x-b", "destination")], &[("x-a", "destination")]);
        let applied = applied(&[&route, &destination], &[("x-a", "sent"), ("x-c", "sent")]);
        let wanted = [("x-a", "destination"), ("x-b", "destination"), ("x-c", "route")];
        assert_eq!(applied, pairs(&wanted));
    }

    #[test]
    fn no_value_sees_what_another_one_sets() {
        let swap = operations(
            &[],
            &[("x-a", "%REQ(x-b)%"), ("x-b", "%REQ(x-a)%")],
            &[("x-c", "100%%")],
        );
        let applied = applied(&[&swap], &[("x-a", "1"), ("x-b", "2")]);
        assert_eq!(applied, pairs(&[("x-a", "2"), ("x-b", "1"), ("x-c", "100%")]));
    }

    #[test]
    fn an_empty_value_leaves_the_header_alone() {
        let empty = operations(&[], &[("x-a", ""), ("x-b", "%REQ(x-none)%")], &[("x-c", "%HOSTNAME%")]);
        assert_eq!(applied(&[&empty], &[("x-a", "1")]), pairs(&[("x-a", "1")]));
    }

    #[test]
    fn an_unknown_formatter_is_refused_with_the_header_that_has_it() {
        let wire = mesh::HeaderOperations {
            set: vec![mesh::HeaderValue {
                name: "x-a".into(),
                value: "%WHAT%".into(),
            }],
            ..Default::default()
        };
        let error = HeaderOperations::try_from(wire).unwrap_err();
        assert!(error.field == "set.x-a" && error.reason.contains("WHAT"), "{error}");
    }
}
