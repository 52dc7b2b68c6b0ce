//! Names that stand for all names with an ending: `*.example.com`, `*-eu.example.com`.
//!
//! As in Envoy, `*` stands for at least one character, and of several wildcards the longest one counts. Which of them
//! cover a name is found by the lengths that there are, without a look at all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

/// The wildcards of all documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Wildcards {
    /// Length of an ending -> how many wildcards have it, each once for every document.
    lengths: Arc<BTreeMap<usize, usize>>,
}

/// What the names end in that it covers; `None`: it is no wildcard.
pub(super) fn ending(name: &str) -> Option<&str> {
    name.strip_prefix('*').filter(|ending| !ending.is_empty())
}

/// May a name that no service has be covered by a wildcard? A name of the cluster is a service or nothing, as in
/// Istio: else a misspelt one would lead somewhere, and a short name to whatever takes all that end in
/// `.svc.cluster.local`.
pub(super) fn may_be_covered(name: &str) -> bool {
    let service = name
        .strip_suffix(DEFAULT_CLUSTER_DOMAIN)
        .is_some_and(|rest| rest.ends_with(".svc."));
    !service && !name.contains(':') && name.parse::<IpAddr>().is_err()
}

/// The names that one of the wildcards covers.
pub(super) fn covered<'a>(
    names: impl Iterator<Item = &'a str>,
    wildcards: &BTreeSet<String>,
) -> impl Iterator<Item = &'a str> {
    let mut lengths = Wildcards::default();
    wildcards.iter().for_each(|wildcard| lengths.add(wildcard));
    names.filter(move |name| lengths.over(name).any(|wildcard| wildcards.contains(&wildcard)))
}

impl Wildcards {
    pub(super) fn add(&mut self, name: &str) {
        if let Some(ending) = ending(name) {
            *Arc::make_mut(&mut self.lengths).entry(ending.len()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(ending) = ending(name) else { return };
        let lengths = Arc::make_mut(&mut self.lengths);
        if let Some(count) = lengths.get_mut(&ending.len()) {
            *count -= 1;
            if *count == 0 {
                lengths.remove(&ending.len());
            }
        }
    }

    /// The longest first; not each of them needs to be there.
    pub(super) fn over(&self, name: &str) -> impl Iterator<Item = String> {
        // What is a wildcard itself is covered by shorter ones.
        let longest = name.len().saturating_sub(1);
        let lengths = self.lengths.range(..=longest).rev();
        lengths.filter_map(move |(length, _)| {
            let ending = name.get(name.len() - length..)?;
            let wildcard = format!("*{ending}");
            (wildcard != name).then_some(wildcard)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(wildcards: &Wildcards, name: &str) -> Vec<String> {
        wildcards.over(name).collect()
    }

    #[test]
    fn the_longest_ending_comes_first_and_a_wildcard_covers_no_empty_text() {
        let mut wildcards = Wildcards::default();
        for name in ["*.example.com", "*.eu.example.com", "*-x.example.com", "plain.com", "*"] {
            wildcards.add(name);
        }
        assert_eq!(
            over(&wildcards, "a.eu.example.com"),
            ["*.eu.example.com", "*eu.example.com", "*.example.com"]
        );
        assert_eq!(over(&wildcards, ".example.com"), [] as [&str; 0]);
        // A character of two bytes is not cut.
        assert!(over(&wildcards, "ä.example.com").contains(&"*.example.com".to_owned()));
        assert_eq!(over(&wildcards, "*.example.com"), [] as [&str; 0]);
        wildcards.remove("*.example.com");
        assert!(!over(&wildcards, "a.eu.example.com").contains(&"*.example.com".to_owned()));
    }

    #[test]
    fn a_name_of_the_cluster_and_an_address_are_covered_by_nothing() {
        for (name, covered) in [
            ("a.example.com", true),
            ("a.shop.svc.cluster.local", false),
            ("10.0.0.1", false),
            ("fd00::1", false),
            ("*:5432", false),
            ("svc.cluster.local", true),
        ] {
            assert_eq!(may_be_covered(name), covered, "{name}");
        }
    }
}
