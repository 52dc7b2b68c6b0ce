//! The index of a large route table: of all rules, which could a request meet? Built once, when the table is checked;
//! `decide` searches it. It only narrows the search: what it names is judged by the same code that judges rule by rule.
//!
//! Every match of every rule is filed once, under a literal text that a request must equal or start with: of its path,
//! else its authority, a header, its method. Where many share a text (one prefix, ten thousand tenants in a header),
//! those are filed again by the next thing that they ask for.

use std::collections::HashMap;

use http::HeaderName;
use regex::bytes::Regex;

use super::sorted_texts::{SortedTexts, short};
use super::{HttpMatch, HttpRule, StringMatch};

/// To look at each of so many matches costs about as much as to search them (`decide` in `benches/request_steps.rs`): a
/// table of no more has no index, and no more are filed again that share a text.
const FEW: usize = 4;

/// How often matches are filed at most: bounds the depth of a search.
const LEVELS: usize = 8;

/// Of more headers that rules look at, a request is not asked for each.
const MANY_HEADERS: usize = 8;

#[derive(Clone, Debug)]
pub(crate) struct RuleIndex {
    pub root: Node,
    /// Those that `Bucket::Few` speaks of.
    pub entries: Box<[Entry]>,
    /// Those that `Place::Header` speaks of.
    pub names: Box<[HeaderName]>,
    /// The first rule that every request meets. What comes after it is never met and not filed.
    pub catch_all: Option<usize>,
}

/// One match of one rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub rule: u32,
    pub item: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// By the first rule in each.
    pub looks: Box<[Look]>,
    /// Those into headers, where they are many.
    pub named: Option<Box<NamedLooks>>,
    /// What no text narrows.
    pub others: Bucket,
}

/// The matches that are filed under texts in one place of a request.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub first_rule: usize,
    pub place: Place,
    pub texts: SortedTexts,
    /// Parallel to the members of `texts`.
    pub buckets: Box<[Bucket]>,
}

/// Looks into many headers, by the headers' names.
#[derive(Clone, Debug)]
pub(crate) struct NamedLooks {
    pub first_rule: usize,
    pub names: SortedTexts,
    /// Parallel to the members of `names`.
    pub looks: Box<[Look]>,
}

#[derive(Clone, Debug)]
pub(crate) enum Bucket {
    /// In the order of the rules.
    Few {
        start: u32,
        end: u32,
    },
    Many(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Path,
    PathIgnoringCase,
    Authority,
    /// By its number in `RuleIndex::names`.
    Header(u32),
    Method,
}

/// What must be true of a request for a match to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Fact<'r> {
    place: Place,
    text: &'r str,
    /// Equal to the text, else starting with it.
    whole: bool,
}

struct Candidate<'r> {
    entry: Entry,
    /// Those that it is not filed by yet.
    facts: std::vec::IntoIter<Fact<'r>>,
}

#[derive(Default)]
struct Builder<'r> {
    entries: Vec<Entry>,
    names: Vec<HeaderName>,
    numbers: HashMap<&'r HeaderName, u32>,
}

impl RuleIndex {
    /// `None` for a table so small that an index does not pay.
    pub fn new(rules: &[HttpRule]) -> Option<Self> {
        (rules.iter().map(|rule| rule.matches.len()).sum::<usize>() > FEW).then(|| Self::over(rules))
    }

    pub fn over(rules: &[HttpRule]) -> Self {
        let catch_all = rules
            .iter()
            .position(|rule| rule.matches.is_empty() || rule.matches.iter().any(always_holds));
        let mut builder = Builder::default();
        let mut candidates = Vec::new();
        for (rule, told) in rules[..catch_all.unwrap_or(rules.len())].iter().enumerate() {
            for (item, told) in told.matches.iter().enumerate() {
                let entry = Entry {
                    rule: short(rule),
                    item: short(item),
                };
                let facts = builder.facts(told).into_iter();
                candidates.push(Candidate { entry, facts });
            }
        }
        let root = builder.node(candidates, LEVELS);
        Self {
            root,
            entries: builder.entries.into(),
            names: builder.names.into(),
            catch_all,
        }
    }
}

fn always_holds(item: &HttpMatch) -> bool {
    let HttpMatch {
        name: _,
        uri: None,
        ignore_uri_case: _,
        method: None,
        authority: None,
        headers,
        without_headers,
        query_params,
        port: None,
        scheme: None,
        source: _,
        stat_prefix: _,
    } = item
    else {
        return false;
    };
    headers.is_empty() && without_headers.is_empty() && query_params.is_empty()
}

impl<'r> Builder<'r> {
    fn facts(&mut self, item: &'r HttpMatch) -> Vec<Fact<'r>> {
        let mut facts = Vec::new();
        let path = match &item.uri {
            // A regex never ignores case; the others are lower-case already.
            Some(StringMatch::Exact(_) | StringMatch::Prefix(_)) if item.ignore_uri_case => Place::PathIgnoringCase,
            _ => Place::Path,
        };
        facts.extend(narrowing(path, &item.uri));
        facts.extend(narrowing(Place::Authority, &item.authority));
        for header in &item.headers {
            let place = Place::Header(self.number(&header.name));
            facts.push(match &header.value {
                Some(wanted) => fact(place, wanted),
                // It must be there.
                None => starts_with(place, ""),
            });
        }
        facts.extend(narrowing(Place::Method, &item.method));
        facts
    }

    fn number(&mut self, name: &'r HeaderName) -> u32 {
        *self.numbers.entry(name).or_insert_with(|| {
            self.names.push(name.clone());
            short(self.names.len() - 1)
        })
    }

    /// Files the candidates, which are in the order of the rules.
    fn node(&mut self, candidates: Vec<Candidate<'r>>, levels: usize) -> Node {
        let (mut others, mut filed) = (Vec::new(), Vec::with_capacity(candidates.len()));
        for mut candidate in candidates {
            match candidate.facts.next() {
                Some(fact) => filed.push((fact, candidate)),
                None => others.push(candidate.entry),
            }
        }
        // Stable: what shares a fact stays in the order of the rules.
        filed.sort_by_key(|(fact, _)| *fact);

        let mut groups: Vec<(Fact<'r>, Vec<Candidate<'r>>)> = Vec::new();
        for (fact, candidate) in filed {
            match groups.last_mut() {
                Some((last, group)) if *last == fact => group.push(candidate),
                _ => groups.push((fact, vec![candidate])),
            }
        }
        let mut looks = Vec::new();
        let mut groups = groups.into_iter().peekable();
        while let Some((Fact { place, .. }, _)) = groups.peek() {
            let place = *place;
            let of_place = std::iter::from_fn(|| groups.next_if(|(fact, _)| fact.place == place));
            looks.push(self.look(place, of_place.collect(), levels));
        }
        let named = self.by_name(&mut looks);
        looks.sort_by_key(|look| look.first_rule);
        Node {
            looks: looks.into(),
            named,
            others: self.few(others),
        }
    }

    /// Takes the looks into headers out, where they are many.
    fn by_name(&self, looks: &mut Vec<Look>) -> Option<Box<NamedLooks>> {
        let name = |look: &Look| match look.place {
            Place::Header(number) => Some(self.names[number as usize].as_str()),
            _ => None,
        };
        if looks.iter().filter_map(name).count() <= MANY_HEADERS {
            return None;
        }
        let mut named: Vec<Look> = looks.extract_if(.., |look| name(look).is_some()).collect();
        named.sort_by_key(name);
        Some(Box::new(NamedLooks {
            first_rule: named.iter().map(|look| look.first_rule).min().unwrap_or(usize::MAX),
            // Senders spell them as they like.
            names: SortedTexts::new(named.iter().filter_map(name).map(|name| (name, true)), true),
            looks: named.into(),
        }))
    }

    fn look(&mut self, place: Place, groups: Vec<(Fact<'r>, Vec<Candidate<'r>>)>, levels: usize) -> Look {
        let first_of = |(_, group): &(_, Vec<Candidate<'_>>)| group.first().map(|first| first.entry.rule as usize);
        Look {
            first_rule: groups.iter().filter_map(first_of).min().unwrap_or(usize::MAX),
            place,
            texts: SortedTexts::new(
                groups.iter().map(|(fact, _)| (fact.text, fact.whole)),
                place == Place::PathIgnoringCase,
            ),
            buckets: groups
                .into_iter()
                .map(|(_, group)| self.bucket(group, levels - 1))
                .collect(),
        }
    }

    fn bucket(&mut self, group: Vec<Candidate<'r>>, levels: usize) -> Bucket {
        if group.len() > FEW && levels > 0 && group.iter().any(|candidate| candidate.facts.len() > 0) {
            Bucket::Many(Box::new(self.node(group, levels)))
        } else {
            self.few(group.into_iter().map(|candidate| candidate.entry))
        }
    }

    fn few(&mut self, entries: impl IntoIterator<Item = Entry>) -> Bucket {
        let start = short(self.entries.len());
        self.entries.extend(entries);
        let end = short(self.entries.len());
        Bucket::Few { start, end }
    }
}

fn starts_with(place: Place, text: &str) -> Fact<'_> {
    let whole = false;
    Fact { place, text, whole }
}

/// Of what every request has: whatever it is, it starts with nothing.
fn narrowing(place: Place, wanted: &Option<StringMatch>) -> Option<Fact<'_>> {
    let wanted = wanted.as_ref().map(|wanted| fact(place, wanted));
    wanted.filter(|fact| fact.whole || !fact.text.is_empty())
}

fn fact(place: Place, wanted: &StringMatch) -> Fact<'_> {
    match wanted {
        StringMatch::Exact(text) => Fact {
            place,
            text,
            whole: true,
        },
        StringMatch::Prefix(text) => starts_with(place, text),
        StringMatch::Regex(regex) => starts_with(place, literal_start(regex)),
    }
}

/// Text that everything starts with that the regex matches.
fn literal_start(regex: &Regex) -> &str {
    let pattern = regex.as_str();
    let Some(pattern) = pattern
        .strip_prefix(r"\A(?:")
        .and_then(|rest| rest.strip_suffix(r")\z"))
    else {
        return "";
    };
    if pattern.contains('|') {
        return "";
    }
    let end = pattern
        .find(|char| r"\.+*?()[]{}^$".contains(char))
        .unwrap_or(pattern.len());
    let literal = &pattern[..end];
    if pattern[end..].starts_with(['*', '?', '{', '+']) {
        // It says how often the last character is there: perhaps never.
        let mut chars = literal.chars();
        chars.next_back();
        return chars.as_str();
    }
    literal
}

#[cfg(test)]
#[path = "rule_index_tests.rs"]
mod tests;
