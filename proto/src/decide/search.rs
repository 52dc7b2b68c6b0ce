//! The decision in a large table: the index names the matches that a request could meet, the first rule of which one
//! holds decides. Nothing is allocated, but for a repeated header that rules look at.
//!
//! What it costs grows with the logarithm of the table, plus what really shares the request's texts. The worst case is
//! that of the scan: a table in which nothing literal tells the rules apart (query parameters, ports, regexes that start
//! with a wildcard) is looked at rule by rule.

use super::fields::with_value;
use super::scan::match_holds;
use super::{Fields, RequestHead};
use crate::model::{Bucket, HttpRule, Look, NamedLooks, Node, Place, RuleIndex};

/// `index` is that of `rules`.
pub(super) fn first_match<F: Fields>(
    rules: &[HttpRule],
    index: &RuleIndex,
    head: &RequestHead<'_, F>,
) -> Option<usize> {
    let end = index.catch_all.unwrap_or(rules.len());
    let search = Search { rules, index, head };
    let first = search.in_node(&index.root, end);
    if first < end { Some(first) } else { index.catch_all }
}

struct Search<'s, 'h, F: Fields> {
    rules: &'s [HttpRule],
    index: &'s RuleIndex,
    head: &'s RequestHead<'h, F>,
}

/// Each answers with the first rule before `end` that it finds to match, else with `end`.
impl<F: Fields> Search<'_, '_, F> {
    fn in_node(&self, node: &Node, mut end: usize) -> usize {
        for look in &node.looks {
            if look.first_rule >= end {
                break;
            }
            end = self.in_look(look, end);
        }
        if let Some(named) = &node.named {
            end = self.in_named(named, end);
        }
        self.in_bucket(&node.others, end)
    }

    fn in_look(&self, look: &Look, end: usize) -> usize {
        let head = self.head;
        let look_at = |value: &[u8]| {
            let found = look.texts.find(value);
            found.fold(end, |end, number| self.in_bucket(&look.buckets[number], end))
        };
        match look.place {
            Place::Path | Place::PathIgnoringCase => look_at(head.path.as_bytes()),
            Place::Authority => look_at(head.authority.as_bytes()),
            Place::Method => look_at(head.method.as_bytes()),
            Place::Header(name) => with_value(head.headers, &self.index.names[name as usize], look_at).unwrap_or(end),
        }
    }

    /// The request is asked for its names, not for each of the rules' many.
    fn in_named(&self, named: &NamedLooks, mut end: usize) -> usize {
        if named.first_rule >= end {
            return end;
        }
        let names = self.head.headers.names();
        // Allocates only when there is one.
        let mut numbers: Vec<usize> = names.filter_map(|name| named.names.find(name).next()).collect();
        // A repeated field is looked at once, with all its values.
        numbers.sort_unstable();
        numbers.dedup();
        for number in numbers {
            let look = &named.looks[number];
            if look.first_rule < end {
                end = self.in_look(look, end);
            }
        }
        end
    }

    fn in_bucket(&self, bucket: &Bucket, end: usize) -> usize {
        match bucket {
            Bucket::Few { start, end: last } => {
                let entries = &self.index.entries[*start as usize..*last as usize];
                let mut earlier = entries.iter().take_while(|entry| (entry.rule as usize) < end);
                let holds = earlier.find(|entry| {
                    match_holds(&self.rules[entry.rule as usize].matches[entry.item as usize], self.head)
                });
                holds.map_or(end, |entry| entry.rule as usize)
            }
            Bucket::Many(node) => self.in_node(node, end),
        }
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod linear_tests;
#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
