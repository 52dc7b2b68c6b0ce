//! Which hosts' endpoints a proxy needs: how many subscribed hosts lead to each. Called by `session` alone.
//!
//! Counted, so that a change costs as much as the host that it is about reaches, however many others there are. What a
//! change may have made needed, or no longer needed, is kept until the session looks at it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the version in force at the proxy reaches: kept there until a later version is acknowledged, because a refused
/// one leaves the proxy with this.
#[derive(Debug)]
pub(super) enum InForce {
    Reach(Arc<[String]>),
    /// The proxy came with a version that is no longer the current one: it may reach whatever it came with.
    Unknown,
}

impl InForce {
    pub(super) fn nothing() -> Self {
        Self::Reach(Arc::new([]))
    }
}

#[derive(Debug, Default)]
pub(super) struct Reaches {
    hosts: HashMap<String, Links>,
    /// Links by where they lead; none is 0.
    counts: HashMap<String, usize>,
    /// Hosts of which it is unknown what is in force.
    unknown: usize,
    stale: HashSet<String>,
    all_stale: bool,
}

/// Of one subscribed host.
#[derive(Debug)]
struct Links {
    /// What the current version reaches.
    current: Arc<[String]>,
    in_force: InForce,
}

impl Reaches {
    /// Replaces one that is there.
    pub(super) fn insert(&mut self, fqdn: &str, current: Arc<[String]>, in_force: InForce) {
        self.link(&current);
        self.begin(&in_force);
        if let Some(before) = self.hosts.insert(fqdn.to_owned(), Links { current, in_force }) {
            self.unlink(&before.current);
            self.end(&before.in_force);
        }
    }

    pub(super) fn remove(&mut self, fqdn: &str) {
        if let Some(links) = self.hosts.remove(fqdn) {
            self.unlink(&links.current);
            self.end(&links.in_force);
        }
    }

    /// What the current version of a subscribed host reaches.
    pub(super) fn current(&self, fqdn: &str) -> Arc<[String]> {
        self.hosts
            .get(fqdn)
            .map(|links| Arc::clone(&links.current))
            .unwrap_or_default()
    }

    pub(super) fn set_current(&mut self, fqdn: &str, current: Arc<[String]>) {
        let Some(links) = self.hosts.get_mut(fqdn).filter(|links| links.current != current) else {
            return;
        };
        let before = std::mem::replace(&mut links.current, Arc::clone(&current));
        self.link(&current);
        self.unlink(&before);
    }

    pub(super) fn set_in_force(&mut self, fqdn: &str, reach: Arc<[String]>) {
        let Some(links) = self.hosts.get_mut(fqdn) else {
            return;
        };
        let in_force = InForce::Reach(Arc::clone(&reach));
        let before = std::mem::replace(&mut links.in_force, in_force);
        self.link(&reach);
        self.end(&before);
    }

    /// The current version is in force.
    pub(super) fn settle(&mut self, fqdn: &str) {
        self.set_in_force(fqdn, self.current(fqdn));
    }

    /// Does a link lead there?
    pub(super) fn is_reached(&self, fqdn: &str) -> bool {
        self.counts.contains_key(fqdn)
    }

    /// Whatever the proxy came with may be needed.
    pub(super) fn needs_all(&self) -> bool {
        self.unknown > 0
    }

    /// Something about these endpoints changed.
    pub(super) fn touch(&mut self, fqdn: &str) {
        self.stale.insert(fqdn.to_owned());
    }

    pub(super) fn touch_all(&mut self) {
        self.all_stale = true;
    }

    /// What has to be looked at again; `held` is what the proxy may have endpoints of.
    pub(super) fn take_stale<'a>(&mut self, held: impl Iterator<Item = &'a Arc<str>>) -> HashSet<String> {
        let mut stale = std::mem::take(&mut self.stale);
        if std::mem::take(&mut self.all_stale) {
            stale.extend(self.counts.keys().cloned());
            stale.extend(held.map(|fqdn| fqdn.to_string()));
        }
        stale
    }

    fn begin(&mut self, in_force: &InForce) {
        match in_force {
            InForce::Reach(reach) => self.link(reach),
            InForce::Unknown => {
                self.unknown += 1;
                self.all_stale |= self.unknown == 1;
            }
        }
    }

    fn end(&mut self, in_force: &InForce) {
        match in_force {
            InForce::Reach(reach) => self.unlink(reach),
            InForce::Unknown => {
                self.unknown -= 1;
                self.all_stale |= self.unknown == 0;
            }
        }
    }

    fn link(&mut self, reach: &[String]) {
        for fqdn in reach {
            match self.counts.get_mut(fqdn) {
                Some(count) => *count += 1,
                None => {
                    self.counts.insert(fqdn.clone(), 1);
                    self.stale.insert(fqdn.clone());
                }
            }
        }
    }

    fn unlink(&mut self, reach: &[String]) {
        for fqdn in reach {
            if let Some(count) = self.counts.get_mut(fqdn) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(fqdn);
                    self.stale.insert(fqdn.clone());
                }
            }
        }
    }
}

#[cfg(test)]
impl Reaches {
    /// The counts say what a walk over all hosts would.
    pub(super) fn assert_counted(&self) {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let mut unknown = 0;
        for links in self.hosts.values() {
            let in_force = match &links.in_force {
                InForce::Reach(reach) => Arc::clone(reach),
                InForce::Unknown => {
                    unknown += 1;
                    Arc::new([])
                }
            };
            for fqdn in links.current.iter().chain(in_force.iter()) {
                *counts.entry(fqdn.clone()).or_default() += 1;
            }
        }
        assert_eq!((&self.counts, self.unknown), (&counts, unknown));
    }

    pub(super) fn reached(&self) -> impl Iterator<Item = &String> {
        self.counts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(fqdns: &[&str]) -> Arc<[String]> {
        fqdns.iter().map(|&fqdn| fqdn.to_owned()).collect()
    }

    fn stale(reaches: &mut Reaches) -> Vec<String> {
        let mut stale: Vec<String> = reaches.take_stale(std::iter::empty()).into_iter().collect();
        stale.sort();
        stale
    }

    #[test]
    fn only_the_first_link_and_the_last_one_make_a_difference() {
        let mut reaches = Reaches::default();
        reaches.insert("a", reach(&["a", "x"]), InForce::nothing());
        assert_eq!(stale(&mut reaches), ["a", "x"]);
        reaches.insert("b", reach(&["b", "x"]), InForce::nothing());
        assert_eq!(stale(&mut reaches), ["b"]);
        reaches.remove("a");
        assert_eq!(stale(&mut reaches), ["a"]);
        assert!(reaches.is_reached("x") && !reaches.is_reached("a"));
        reaches.settle("b");
        reaches.set_current("b", reach(&["b"]));
        assert!(stale(&mut reaches).is_empty(), "x is still in force");
        reaches.settle("b");
        assert_eq!(stale(&mut reaches), ["x"]);
        reaches.assert_counted();
    }

    #[test]
    fn as_long_as_it_is_unknown_what_is_in_force_all_is_needed() {
        let mut reaches = Reaches::default();
        reaches.insert("a", reach(&["a"]), InForce::Unknown);
        reaches.insert("b", reach(&["b"]), InForce::Unknown);
        stale(&mut reaches);
        reaches.settle("a");
        assert!(reaches.needs_all());
        assert!(stale(&mut reaches).is_empty());
        reaches.remove("b");
        assert!(!reaches.needs_all());
        assert_eq!(stale(&mut reaches), ["a", "b"]);
        reaches.assert_counted();
    }
}
