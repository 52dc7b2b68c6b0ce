//! Small typed readers over a document: each reports the field's path and the reason, and reading goes on, so that one
//! pass finds everything that is wrong.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::{Map, Value};

use super::report::{Finding, Report};
use super::scalar::shown;
use super::yaml::Step;
use super::{About, duration, names, slips};

/// A value with the way that leads to it.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    value: &'a Value,
    parent: Option<&'a Field<'a>>,
    at: At<'a>,
    report: &'a Report,
    /// Fields may be written under their names in protobuf, too.
    protobuf: bool,
    /// Where a field may belong that is unknown where it is.
    places: Places,
}

/// Blocks of a kind, by the way to them.
pub(super) type Places = &'static [(&'static str, &'static Fields)];

#[derive(Clone, Copy)]
enum At<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

/// The fields of one message.
pub(super) struct Fields {
    pub supported: &'static [&'static str],
    /// Istio or Kubernetes knows them; Tsunagi does not yet.
    pub later: &'static [&'static str],
}

impl Fields {
    fn all(&self) -> impl Iterator<Item = &'static str> {
        self.supported.iter().chain(self.later).copied()
    }
}

impl<'a> Field<'a> {
    pub(super) fn root(value: &'a Value, report: &'a Report) -> Field<'a> {
        Field {
            value,
            parent: None,
            at: At::Root,
            report,
            protobuf: false,
            places: &[],
        }
    }

    /// For a kind that has these blocks.
    pub(super) fn of_kind(self, places: Places) -> Self {
        Field { places, ..self }
    }

    /// For a message of Istio's, of which JSON has every field under two names: `mirrorPercent` and `mirror_percent`.
    pub(super) fn as_protobuf(self) -> Self {
        Field { protobuf: true, ..self }
    }

    fn child<'s>(&'s self, value: &'s Value, at: At<'s>) -> Field<'s> {
        Field {
            value,
            parent: Some(self),
            at,
            report: self.report,
            protobuf: self.protobuf,
            places: self.places,
        }
    }

    /// A field's name as the readers know it.
    fn known_name<'n>(&self, written: &'n str) -> Cow<'n, str> {
        if self.protobuf && written.contains('_') {
            names::json_name(written)
        } else {
            written.into()
        }
    }

    fn path(&self) -> Vec<Step> {
        let mut path = self.parent.map(Field::path).unwrap_or_default();
        match self.at {
            At::Root => {}
            At::Key(key) => path.push(Step::Key(key.to_owned())),
            At::Index(index) => path.push(Step::Index(index)),
        }
        path
    }

    pub(super) fn refuse(&self, reason: impl Into<String>) {
        self.report.add(Finding {
            path: self.path(),
            reason: reason.into(),
            unquoted: None,
        });
    }

    /// Says something of a field that need not be there.
    pub(super) fn refuse_at(&self, name: &str, reason: impl Into<String>) {
        self.report.add(Finding {
            path: self.path_to(name),
            reason: reason.into(),
            unquoted: None,
        });
    }

    /// Warns of a field that is taken and does nothing.
    pub(super) fn remark_at(&self, name: &str, about: About, what: impl Into<String>) {
        self.report.remark(about, &self.path_to(name), what.into());
    }

    /// The field that this is, or is an item of. Empty: the document.
    fn place(&self) -> &str {
        match (self.at, self.parent) {
            (At::Key(key), _) => key,
            (At::Index(_), Some(list)) => list.place(),
            (At::Root | At::Index(_), _) => "",
        }
    }

    fn path_to(&self, name: &str) -> Vec<Step> {
        let mut path = self.path();
        path.push(Step::Key(name.to_owned()));
        path
    }

    pub(super) fn not_supported_yet(&self, what: &str) {
        self.refuse(format!("known but not supported yet: {what}"));
    }

    fn mistyped(&self, wanted: &str) {
        let found = match self.value {
            Value::Null => "is empty".to_owned(),
            Value::Bool(_) | Value::Number(_) if wanted == "text" => {
                return self.report.add(Finding {
                    path: self.path(),
                    reason: "must be text".to_owned(),
                    unquoted: Some(if self.value.is_f64() {
                        String::new()
                    } else {
                        self.value.to_string()
                    }),
                });
            }
            Value::Bool(value) => format!("is {value}"),
            Value::Number(number) => format!("is the number {number}"),
            Value::String(text) => format!("is the text {}", shown(text)),
            Value::Array(_) => "is a list".to_owned(),
            Value::Object(_) => "is a mapping".to_owned(),
        };
        self.refuse(format!("{found}, must be {wanted}"));
    }

    pub(super) fn value(&self) -> &'a Value {
        self.value
    }

    fn map(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    /// Is this a mapping? Names every field of it that is unknown or not supported yet. What is `null` is not set.
    pub(super) fn is_message(&self, fields: &Fields) -> bool {
        self.is_message_around(fields, &[])
    }

    /// The same; `inner` are messages in fields of this one, where a field that is unknown here may belong.
    pub(super) fn is_message_around(&self, fields: &Fields, inner: &[(&str, &Fields)]) -> bool {
        let Some(map) = self.map() else {
            self.mistyped("a mapping");
            return false;
        };
        for (name, value) in map {
            // There may be a million of them.
            if self.report.is_full() {
                return false;
            }
            let known = self.known_name(name);
            if fields.supported.contains(&known.as_ref()) {
                let same = |(other, value): &(&String, &Value)| !value.is_null() && self.known_name(other) == known;
                if known != name.as_str() && map.iter().filter(same).count() > 1 {
                    self.refuse_at(name, format!("`{known}` is there already, under another name"));
                }
                continue;
            }
            if fields.later.contains(&known.as_ref()) {
                let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
                if !empty {
                    self.refuse_at(name, "known but not supported yet");
                }
                continue;
            }
            let slip = slips::hint(self.place(), &known).map(str::to_owned);
            let hint = slip
                .or_else(|| places_of(&known, inner))
                .or_else(|| places_of(&known, self.places))
                .unwrap_or_else(|| names::did_you_mean(name, fields.all()));
            self.refuse_at(name, format!("unknown field{hint}"));
        }
        true
    }

    /// Is a field there under the name that it has in other kinds? Says so.
    pub(super) fn is_called(&self, other: &str, name: &str) -> bool {
        let is_called = self.get(other).is_some() && self.get(name).is_none();
        if is_called {
            self.refuse_at(other, format!("unknown field, in this kind it is `{name}`"));
        }
        is_called
    }

    /// Is nothing set in this message?
    pub(super) fn says_nothing(&self) -> bool {
        let unset = |value: &Value| value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        self.map().is_some_and(|map| map.values().all(unset))
    }

    /// The field of that name, if it is set.
    pub(super) fn get<'s>(&'s self, name: &'s str) -> Option<Field<'s>> {
        let mut set = self.map()?.iter().filter(|(_, value)| !value.is_null());
        let (key, value) = if self.protobuf {
            set.find(|(key, _)| self.known_name(key) == name)?
        } else {
            (self.map()?.get_key_value(name)).filter(|(_, value)| !value.is_null())?
        };
        Some(self.child(value, At::Key(key)))
    }

    /// The same; reports that it is missing.
    pub(super) fn required<'s>(&'s self, name: &'s str) -> Option<Field<'s>> {
        let field = self.get(name);
        if field.is_none() && self.map().is_some() {
            self.refuse_at(name, "is required");
        }
        field
    }

    /// The items of a list.
    pub(super) fn items<'s>(&'s self) -> Vec<Field<'s>> {
        let Some(items) = self.value.as_array() else {
            self.mistyped("a list");
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, value)| self.child(value, At::Index(index)))
            .collect()
    }

    /// The entries of a mapping with free keys, by key; an entry may be `null`.
    pub(super) fn entries<'s>(&'s self) -> Vec<(&'s str, Field<'s>)> {
        let Some(map) = self.map() else {
            self.mistyped("a mapping");
            return Vec::new();
        };
        map.iter()
            .map(|(key, value)| (key.as_str(), self.child(value, At::Key(key))))
            .collect()
    }

    pub(super) fn is_zero(&self) -> bool {
        self.whole_number() == Some(0)
    }

    /// In a message of Istio's `1.0` is one, too, as protobuf has it.
    fn whole_number(&self) -> Option<i64> {
        let written = self.value.as_f64().filter(|_| self.protobuf && self.value.is_f64());
        let whole = written
            .filter(|number| number.fract() == 0.0)
            .map(|number| number as i64);
        self.value.as_i64().or(whole)
    }

    pub(super) fn is_null(&self) -> bool {
        self.value.is_null()
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.value.as_str() == Some(text)
    }

    /// Says so where it is none; its fields are nobody's business here.
    pub(super) fn is_mapping(&self) -> bool {
        if self.map().is_none() {
            self.mistyped("a mapping");
        }
        self.map().is_some()
    }

    pub(super) fn is_list(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_text(&self) -> bool {
        self.value.is_string()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.mistyped("text");
        }
        text
    }

    /// Text that is not empty.
    pub(super) fn word(&self) -> Option<&'a str> {
        let text = self.text()?;
        if text.is_empty() {
            self.refuse("must not be empty");
            return None;
        }
        Some(text)
    }

    /// One of several words.
    pub(super) fn one_of(&self, words: &[&'static str]) -> Option<&'a str> {
        let text = self.choice(words)?;
        if !words.contains(&text) {
            self.refuse_choice(text, words);
            return None;
        }
        Some(text)
    }

    /// The text of a field that takes one of several words; Istio's numbers for them mean nothing here.
    pub(super) fn choice(&self, words: &[&'static str]) -> Option<&'a str> {
        let text = self.value.as_str();
        let shown = self.value.to_string();
        if text.is_none() && words.iter().any(|word| word.eq_ignore_ascii_case(&shown)) {
            self.mistyped("text");
        } else if text.is_none() {
            self.mistyped(&format!("one of {}", words.join(", ")));
        }
        text
    }

    /// It is none of the words.
    pub(super) fn refuse_choice(&self, text: &str, words: &[&'static str]) {
        let hint = names::did_you_mean(text, words.iter().copied());
        self.refuse(format!("{} is none of {}{hint}", shown(text), words.join(", ")));
    }

    /// Says so where this is no list of words.
    pub(super) fn check_words(&self) {
        for item in self.items() {
            item.word();
        }
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.mistyped("true or false");
        }
        flag
    }

    pub(super) fn number(&self, least: i64, most: i64) -> Option<i64> {
        let number = self.whole_number();
        match (self.value, number) {
            (_, Some(number)) if (least..=most).contains(&number) => return Some(number),
            (Value::Number(number), None) if number.is_f64() => self.refuse(format!("{number} must be a whole number")),
            (Value::Number(number), _) => self.refuse(format!("{number} is out of range: {least} to {most}")),
            _ => self.mistyped("a whole number"),
        }
        None
    }

    pub(super) fn decimal(&self, least: f64, most: f64) -> Option<f64> {
        match self.value.as_f64() {
            Some(number) if (least..=most).contains(&number) => return Some(number),
            Some(number) => self.refuse(format!("{number} is out of range: {least} to {most}")),
            None => self.mistyped("a number"),
        }
        None
    }

    /// A count of Istio's, which are 32 bits with a sign.
    pub(super) fn count(&self) -> Option<u32> {
        self.number(0, i64::from(i32::MAX))
            .and_then(|number| u32::try_from(number).ok())
    }

    /// A count of Istio's of 32 bits without a sign.
    pub(super) fn unsigned(&self) -> Option<u32> {
        self.number(0, i64::from(u32::MAX))
            .and_then(|number| u32::try_from(number).ok())
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.number(1, i64::from(u16::MAX))
            .and_then(|number| u16::try_from(number).ok())
    }

    /// Zero is not set, as everywhere in Istio.
    pub(super) fn duration(&self) -> Option<Duration> {
        if self.value.is_number() {
            self.refuse(format!(
                "{} has no unit: a duration is written like 2s or 500ms",
                self.value
            ));
            return None;
        }
        match duration::parse(self.text()?) {
            Ok(duration) => (!duration.is_zero()).then_some(duration),
            Err(reason) => {
                self.refuse(format!("{}: {reason}", shown(self.value.as_str().unwrap_or_default())));
                None
            }
        }
    }

    /// For what zero would turn off or make senseless, and cannot mean "not set".
    pub(super) fn positive_duration(&self) -> Option<Duration> {
        if self.is_zero_duration() {
            self.refuse("must be at least 1ms");
            return None;
        }
        self.duration()
    }

    pub(super) fn is_zero_duration(&self) -> bool {
        self.value.as_str().map(duration::parse) == Some(Ok(Duration::ZERO))
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        let text = self.word()?;
        let address = text.parse().ok();
        if address.is_none() {
            self.refuse(format!("{} is not an IP address", shown(text)));
        }
        address
    }

    /// Labels or a selector, checked as Kubernetes checks them.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (key, field) in self.entries() {
            if !names::is_label_key(key) {
                field.refuse("not a label key");
            }
            let Some(value) = field.text() else { continue };
            if !names::is_label_value(value) {
                field.refuse(format!("{} is not a label value", shown(value)));
            }
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    /// `exportTo` of the other kinds, of which only the default, everywhere, is supported.
    pub(super) fn exported_everywhere(&self) {
        let Some(field) = self.get("exportTo") else { return };
        for item in field.items() {
            if item.text().is_some_and(|text| text != "*") {
                item.not_supported_yet("only `*` is");
            }
        }
    }
}

/// What to say of a field that is unknown where it is and known in one or two of these places.
fn places_of(name: &str, places: &[(&str, &Fields)]) -> Option<String> {
    let known = places
        .iter()
        .filter(|(_, fields)| fields.all().any(|known| known == name));
    let known: Vec<String> = known.map(|(place, _)| format!("`{place}`")).collect();
    (1..=2)
        .contains(&known.len())
        .then(|| format!(" here, it belongs under {}", known.join(" or ")))
}

#[cfg(test)]
mod tests {
    use super::super::report::{MOST_FINDINGS, path_text};
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_of_a_million_unknown_fields_is_given_up_after_the_first_few_hundred() {
        const NAMED: Fields = Fields {
            supported: &["name"],
            later: &[],
        };
        for (count, is_read) in [(MOST_FINDINGS - 1, true), (1_000_000, false)] {
            let value: Map<String, Value> = (0..count).map(|n| (n.to_string(), Value::Null)).collect();
            let report = Report::default();
            assert_eq!(Field::root(&Value::Object(value), &report).is_message(&NAMED), is_read);
            assert_eq!(report.into_findings().len(), count.min(MOST_FINDINGS));
        }
    }

    fn findings(value: Value, read: impl Fn(Field<'_>)) -> Vec<String> {
        let report = Report::default();
        read(Field::root(&value, &report));
        let found = report.into_findings();
        found
            .iter()
            .map(|finding| format!("{}: {}", path_text(&finding.path), finding.reason))
            .collect()
    }

    #[test]
    fn a_field_is_supported_or_known_or_unknown_with_a_suggestion() {
        const FIELDS: Fields = Fields {
            supported: &["timeout"],
            later: &["mirror", "tls"],
        };
        let value = json!({"timeout": "1s", "mirror": {}, "timeOut": 1, "zebra": 1, "tls": null});
        let found = findings(value, |field| assert!(field.is_message(&FIELDS)));
        assert_eq!(
            found,
            [
                "mirror: known but not supported yet",
                "timeOut: unknown field, did you mean `timeout`?",
                "zebra: unknown field"
            ]
        );
    }

    #[test]
    fn a_field_that_belongs_one_level_deeper_is_told_where() {
        const OUTER: Fields = Fields {
            supported: &["uri", "port"],
            later: &[],
        };
        const INNER: Fields = Fields {
            supported: &["prefix"],
            later: &["suffix"],
        };
        let found = findings(json!({"prefix": "/", "suffix": "/", "prot": 1}), |field| {
            assert!(field.is_message_around(&OUTER, &[("uri", &INNER), ("path", &INNER)]));
        });
        assert_eq!(
            found,
            [
                "prefix: unknown field here, it belongs under `uri` or `path`",
                "prot: unknown field, did you mean `port`?",
                "suffix: unknown field here, it belongs under `uri` or `path`",
            ]
        );
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_what_it_should_be() {
        let found = findings(json!({"a": 1, "b": "x", "c": 1.5, "d": -1, "e": []}), |field| {
            field.get("a").map(|field| field.text());
            field.get("b").map(|field| field.count());
            field.get("c").map(|field| field.count());
            field.get("d").map(|field| field.count());
            field.get("e").map(|field| field.flag());
            field.required("f");
        });
        assert_eq!(
            found,
            [
                "a: must be text",
                "b: is the text \"x\", must be a whole number",
                "c: 1.5 must be a whole number",
                "d: -1 is out of range: 0 to 2147483647",
                "e: is a list, must be true or false",
                "f: is required"
            ]
        );
    }

    #[test]
    fn a_field_of_istios_has_two_names() {
        const FIELDS: Fields = Fields {
            supported: &["mirrorPercent", "timeout"],
            later: &[],
        };
        let read = |value: Value, is_istios: bool| {
            let report = Report::default();
            let field = Field::root(&value, &report);
            let field = if is_istios { field.as_protobuf() } else { field };
            field.is_message(&FIELDS);
            let read = field.get("mirrorPercent").and_then(|field| field.count());
            let found = report.into_findings();
            (
                read,
                found
                    .first()
                    .map(|finding| path_text(&finding.path) + ": " + &finding.reason),
            )
        };
        assert_eq!(read(json!({"mirror_percent": 5}), true), (Some(5), None));
        assert_eq!(
            read(json!({"mirror_percent": null, "mirrorPercent": 6}), true),
            (Some(6), None)
        );
        let (none, refused) = read(json!({"mirror_percent": 5}), false);
        assert_eq!(
            (none, refused.unwrap().contains("did you mean `mirrorPercent`?")),
            (None, true)
        );
        let (_, twice) = read(json!({"mirror_percent": 5, "mirrorPercent": 6}), true);
        assert_eq!(
            twice.unwrap(),
            "mirror_percent: `mirrorPercent` is there already, under another name"
        );
        let (_, mistyped) = read(json!({"mirror_percent": "x"}), true);
        assert!(mistyped.unwrap().starts_with("mirror_percent: "));
        let (_, unknown) = read(json!({"time_out": "1s"}), true);
        assert!(unknown.unwrap().contains("did you mean `timeout`?"));
    }

    #[test]
    fn a_key_with_dots_is_put_in_brackets() {
        let path = [
            Step::Key("labels".into()),
            Step::Key("app.kubernetes.io/name".into()),
            Step::Index(2),
        ];
        assert_eq!(path_text(&path), "labels[app.kubernetes.io/name][2]");
    }

    #[test]
    fn findings_are_bounded() {
        let items = Value::Array(vec![json!(1); 1000]);
        let found = findings(items, |field| {
            field.items().iter().for_each(|item| assert_eq!(item.text(), None))
        });
        assert_eq!(found.len(), MOST_FINDINGS);
    }
}
