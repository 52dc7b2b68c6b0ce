//! What one proxy has been told of all resources of one kind, and which of them still owe it something or are refused.
//! Called by `session` alone.
//!
//! An entry changes only in here, so both indexes always follow, and no question needs a walk over all entries.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use super::entry::Entry;
use crate::status::{Refused, Span};

/// Refusals of one kind that are told one by one, the newest; what is older is told in one line.
const MOST_TOLD: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: HashMap<Arc<str>, Entry>,
    /// Those of which the proxy lacks something.
    owed: BTreeSet<Arc<str>>,
    refused: Refusals,
    /// Their names, once somebody asked, until there are others.
    sorted: OnceLock<Arc<[Arc<str>]>>,
}

/// What the indexes follow of an entry.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Indexed {
    owes: bool,
    refused: Option<Span>,
}

/// Which entries carry a refusal.
#[derive(Debug, Default)]
struct Refusals {
    /// By the last revision that the refused version carries, the newest first.
    newest: BTreeSet<(Reverse<u64>, Arc<str>)>,
    /// How many there are by `span.after`.
    after: BTreeMap<u64, usize>,
    changes: u64,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.keys()
    }

    /// The names in order: made when they are others than at the last call.
    pub(super) fn sorted_names(&self) -> Arc<[Arc<str>]> {
        let sort = || {
            let mut names: Vec<Arc<str>> = self.names().cloned().collect();
            names.sort();
            names.into()
        };
        Arc::clone(self.sorted.get_or_init(sort))
    }

    /// The first by name of which the proxy lacks something.
    pub(super) fn first_owed(&self) -> Option<Arc<str>> {
        self.owed.first().cloned()
    }

    /// As one entry says it of itself.
    pub(super) fn is_behind(&self) -> bool {
        self.owed
            .iter()
            .any(|name| self.get(name).is_some_and(Entry::is_behind))
    }

    /// Replaces one that is there.
    pub(super) fn insert(&mut self, name: &str, entry: Entry) {
        let (name, before) = match self.entries.get_key_value(name) {
            Some((name, old)) => (Arc::clone(name), Indexed::of(old)),
            None => {
                self.sorted.take();
                (name.into(), Indexed::default())
            }
        };
        self.index(&name, before, Indexed::of(&entry));
        self.entries.insert(name, entry);
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((name, entry)) = self.entries.remove_entry(name) {
            self.sorted.take();
            self.index(&name, Indexed::of(&entry), Indexed::default());
        }
    }

    /// The only way to change one. `None`: there is none of this name.
    pub(super) fn change<R>(&mut self, name: &str, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let entry = self.entries.get_mut(name)?;
        let before = Indexed::of(entry);
        let result = change(entry);
        let after = Indexed::of(entry);
        if before != after {
            self.index(&name.into(), before, after);
        }
        Some(result)
    }

    fn index(&mut self, name: &Arc<str>, before: Indexed, after: Indexed) {
        match (before.owes, after.owes) {
            (false, true) => drop(self.owed.insert(Arc::clone(name))),
            (true, false) => drop(self.owed.remove(name)),
            _ => {}
        }
        if before.refused != after.refused {
            self.refused.replace(name, before.refused, after.refused);
        }
    }

    /// Greatest revision that no refused version carries anything after; `None`: nothing is refused.
    pub(super) fn refused_after(&self) -> Option<u64> {
        self.refused.after.keys().next().copied()
    }

    /// Tells whether refusals came or went since it was asked last.
    pub(super) fn refusal_changes(&self) -> u64 {
        self.refused.changes
    }

    /// What is refused, the newest first.
    pub(super) fn refused(&self, resource: impl Fn(&str) -> String) -> Vec<Refused> {
        let named = self.refused.newest.iter().take(MOST_TOLD);
        let mut told: Vec<Refused> = named
            .filter_map(|(_, name)| self.entries.get(name)?.refusal(|| resource(name)))
            .collect();
        if let Some((Reverse(upto), _)) = self.refused.newest.iter().nth(MOST_TOLD) {
            let further = self.refused.newest.len() - MOST_TOLD;
            told.push(Refused {
                resource: format!("{further} further resources"),
                version: String::new(),
                reason: "refused as well".to_owned(),
                span: Span {
                    after: self.refused_after().unwrap_or_default(),
                    upto: *upto,
                },
            });
        }
        told
    }
}

impl Indexed {
    fn of(entry: &Entry) -> Self {
        Self {
            owes: entry.owes(),
            refused: entry.refused_span(),
        }
    }
}

impl Refusals {
    fn replace(&mut self, name: &Arc<str>, before: Option<Span>, after: Option<Span>) {
        self.changes += 1;
        if let Some(span) = before {
            self.newest.remove(&(Reverse(span.upto), Arc::clone(name)));
            if let Some(count) = self.after.get_mut(&span.after) {
                *count -= 1;
                if *count == 0 {
                    self.after.remove(&span.after);
                }
            }
        }
        if let Some(span) = after {
            self.newest.insert((Reverse(span.upto), Arc::clone(name)));
            *self.after.entry(span.after).or_default() += 1;
        }
    }
}

#[cfg(test)]
impl Entries {
    /// The indexes say what a walk over all entries would.
    pub(super) fn assert_indexed(&self) {
        let names = |wanted: &dyn Fn(&Entry) -> bool| -> BTreeSet<Arc<str>> {
            let found = self.entries.iter().filter(|(_, entry)| wanted(entry));
            found.map(|(name, _)| Arc::clone(name)).collect()
        };
        assert_eq!(self.owed, names(&Entry::owes));
        assert!(names(&|_| true).iter().eq(self.sorted_names().iter()));
        let refused: BTreeSet<_> = self.refused.newest.iter().map(|(_, name)| Arc::clone(name)).collect();
        assert_eq!(refused, names(&|entry| entry.refused_span().is_some()));
        let spans = self.entries.values().filter_map(Entry::refused_span);
        assert_eq!(self.refused_after(), spans.map(|span| span.after).min());
        assert_eq!(self.refused.after.values().sum::<usize>(), refused.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::entry::Told;

    #[test]
    fn of_many_refusals_the_newest_are_told_by_name_and_the_rest_in_one() {
        let mut entries = Entries::default();
        for revision in 1..=MOST_TOLD as u64 + 10 {
            let name = format!("{revision:03}");
            entries.insert(&name, Entry::new(Told::Unknown, Some("v"), revision));
            entries.change(&name, |entry| {
                let told = entry.tell();
                entry.refuse(&told, &"bad".into());
            });
        }
        entries.assert_indexed();
        let told = entries.refused(str::to_owned);
        assert_eq!(told.len(), MOST_TOLD + 1);
        assert_eq!(told[0].resource, "074");
        let rest = &told[MOST_TOLD];
        assert_eq!(rest.to_string(), "10 further resources: refused as well");
        assert_eq!(rest.span, Span { after: 0, upto: 10 });
        assert_eq!(entries.refused_after(), Some(0));
        entries.remove("001");
        assert_eq!(entries.refused_after(), Some(1));
        entries.assert_indexed();
    }
}
