//! A set of texts that answers which of its members a value equals or starts with. The rule index keeps one for every
//! part of a request that rules look at.
//!
//! Members are in byte order. Whatever member a value starts with, the greatest member not above the value starts with
//! it too; so each member links to the longest other one that it starts with, and an answer is one binary search and a
//! walk along those links. Nothing is hashed: no value, however chosen, costs more than that.

use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub(crate) struct SortedTexts {
    /// All members in one piece.
    text: Box<[u8]>,
    members: Box<[Member]>,
    /// Members are lower-case and values are compared as if they were.
    ignore_case: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// It starts where the member before it ends.
    end: u32,
    /// The longest other member that it starts with and that a longer value may start with, too.
    start_of: Option<u32>,
    /// The value must equal it, else start with it.
    whole: bool,
}

/// A place or length in what one message brought.
pub(super) fn short(place: usize) -> u32 {
    u32::try_from(place).expect("a protobuf message is smaller than 2 GiB")
}

impl SortedTexts {
    /// Of distinct members in order, each with whether a value must equal it.
    pub(super) fn new<'t>(sorted: impl Iterator<Item = (&'t str, bool)>, ignore_case: bool) -> Self {
        let (mut text, mut members) = (Vec::new(), Vec::new());
        // Those that the member before starts with, each starting with the one under it.
        let mut open: Vec<(u32, &str)> = Vec::new();
        for (number, (member, whole)) in sorted.enumerate() {
            while open.pop_if(|(_, start)| !member.starts_with(*start)).is_some() {}
            text.extend_from_slice(member.as_bytes());
            members.push(Member {
                end: short(text.len()),
                start_of: open.last().map(|(number, _)| *number),
                whole,
            });
            if !whole {
                open.push((short(number), member));
            }
        }
        Self {
            text: text.into(),
            members: members.into(),
            ignore_case,
        }
    }

    /// The numbers of all members that `value` equals or starts with, the longest first.
    pub(crate) fn find(&self, value: &[u8]) -> impl Iterator<Item = usize> {
        let last = self.last_not_above(value);
        let common = last.map_or(0, |last| self.common_bytes(self.text(last), value));
        let (members, length) = (&self.members, value.len());
        std::iter::successors(last, |number| members[*number].start_of.map(|number| number as usize)).filter(
            move |number| {
                let own = self.text(*number).len();
                own <= common && (own == length || !members[*number].whole)
            },
        )
    }

    fn last_not_above(&self, value: &[u8]) -> Option<usize> {
        let (mut low, mut high) = (0, self.members.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.order(self.text(middle), value) == Ordering::Greater {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low.checked_sub(1)
    }

    fn text(&self, number: usize) -> &[u8] {
        let start = number.checked_sub(1).map_or(0, |before| self.members[before].end);
        &self.text[start as usize..self.members[number].end as usize]
    }

    fn order(&self, member: &[u8], value: &[u8]) -> Ordering {
        if self.ignore_case {
            member.iter().copied().cmp(value.iter().map(u8::to_ascii_lowercase))
        } else {
            member.cmp(value)
        }
    }

    fn common_bytes(&self, member: &[u8], value: &[u8]) -> usize {
        let same =
            |(own, other): &(&u8, &u8)| own == other || (self.ignore_case && **own == other.to_ascii_lowercase());
        member.iter().zip(value).take_while(same).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(members: &[(&'static str, bool)], ignore_case: bool, value: &str) -> Vec<&'static str> {
        let texts = SortedTexts::new(members.iter().copied(), ignore_case);
        texts.find(value.as_bytes()).map(|number| members[number].0).collect()
    }

    #[test]
    fn a_value_finds_what_it_equals_and_all_that_it_starts_with_longest_first() {
        let members = [
            ("", false),
            ("/a", false),
            ("/a", true),
            ("/a/b", true),
            ("/a/bc", false),
            ("/a/bc/d", false),
            ("/b", false),
        ];
        let find = |value| found(&members, false, value);
        assert_eq!(find("/a/bcd"), ["/a/bc", "/a", ""]);
        assert_eq!(find("/a"), ["/a", "/a", ""]);
        assert_eq!(find("/a/b"), ["/a/b", "/a", ""]);
        assert_eq!(find("/a/b/"), ["/a", ""]);
        assert_eq!(find("/zzz"), [""]);
        assert_eq!(find(""), [""]);
        assert_eq!(find("/A"), [""]);
        assert!(found(&members[1..], false, "").is_empty());
    }

    #[test]
    fn case_is_ignored_in_a_set_made_so() {
        let members = [("/foo", false), ("/foo/é", true)];
        assert_eq!(found(&members, true, "/FOO/É"), ["/foo"]);
        assert_eq!(found(&members, true, "/Foo/é"), ["/foo/é", "/foo"]);
        assert!(found(&members, false, "/Foo").is_empty());
    }
}
