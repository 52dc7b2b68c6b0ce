//! The part of a session that compares the world with what its proxy uses: all of it, or what is known to have changed.
//! Called by `session` alone.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tsunagi_proto::names::{self, ResourceName};

use super::Session;
use crate::status::Span;
use crate::xds::entry::{Entry, Told};
use crate::xds::resources::Resources;

impl<W: Resources> Session<W> {
    /// Subscriptions or what is in force have changed, the world has not.
    pub(super) fn refresh(&mut self) {
        let revision = self.world.revision();
        self.observe_endpoints(Span {
            after: revision.saturating_sub(1),
            upto: revision,
        });
    }

    /// Compares the world with what is subscribed, of it only these names where they are known; true when something
    /// of it has changed.
    pub(super) fn observe(&mut self, names: Option<Vec<Arc<[String]>>>, span: Span) -> bool {
        let mut changed = self.own.observe(&*self.world, span);
        let Some(names) = names else {
            let hosts: Vec<Arc<str>> = self.hosts.names().cloned().collect();
            for fqdn in hosts {
                changed |= self.observe_host(&fqdn, span);
            }
            self.reaches.touch_all();
            return self.observe_endpoints(span) || changed;
        };
        let mut wildcards = HashSet::new();
        let mut ranges = Vec::new();
        for name in names.iter().flat_map(|names| names.iter()) {
            match names::parse(name) {
                Some(ResourceName::Host(fqdn)) => {
                    changed |= self.observe_host(fqdn, span);
                    wildcards.extend(fqdn.strip_prefix('*'));
                    ranges.extend(fqdn.parse::<IpNet>());
                }
                Some(ResourceName::Endpoints(fqdn))
                    if self.endpoints.contains(fqdn) || self.reaches.is_reached(fqdn) =>
                {
                    self.reaches.touch(fqdn);
                }
                _ => {}
            }
        }
        changed |= self.observe_covered(&wildcards, span);
        changed |= self.observe_addresses(&ranges, span);
        self.observe_endpoints(span) || changed
    }

    /// Names that may be covered by a wildcard now, or not any more: one pass over what is subscribed.
    fn observe_covered(&mut self, endings: &HashSet<&str>, span: Span) -> bool {
        if endings.is_empty() {
            return false;
        }
        let lengths: BTreeSet<usize> = endings.iter().map(|ending| ending.len()).collect();
        let is_covered = |name: &str| {
            let ending = |length: &usize| name.get(name.len().checked_sub(*length)?..);
            lengths.iter().filter_map(ending).any(|ending| endings.contains(ending))
        };
        let hosts: Vec<Arc<str>> = self.hosts.names().filter(|name| is_covered(name)).cloned().collect();
        let mut changed = false;
        for fqdn in hosts {
            changed |= self.observe_host(&fqdn, span);
        }
        changed
    }

    /// Addresses that may be in a range of another service now: one pass over what is subscribed.
    fn observe_addresses(&mut self, ranges: &[IpNet], span: Span) -> bool {
        if ranges.is_empty() {
            return false;
        }
        let is_in_range = |name: &str| {
            let address = name.parse::<IpAddr>();
            address.is_ok_and(|address| ranges.iter().any(|range| range.contains(&address)))
        };
        let hosts: Vec<Arc<str>> = self.hosts.names().filter(|name| is_in_range(name)).cloned().collect();
        let mut changed = false;
        for fqdn in hosts {
            changed |= self.observe_host(&fqdn, span);
        }
        changed
    }

    fn observe_host(&mut self, fqdn: &str, span: Span) -> bool {
        if !self.hosts.contains(fqdn) {
            return false;
        }
        let encoded = self.world.host(fqdn, &self.identity.namespace);
        let version = encoded.as_ref().map(|encoded| encoded.version.as_str());
        self.reaches.set_current(fqdn, self.reach(fqdn, version));
        let observe = |entry: &mut Entry| (entry.observe(version, span), entry.is_settled());
        let (changed, settled) = self.hosts.change(fqdn, observe).unwrap_or_default();
        if settled {
            // Also when the world came back to what the proxy had kept.
            self.reaches.settle(fqdn);
        }
        changed
    }

    /// All that may have changed since the last time.
    fn observe_endpoints(&mut self, span: Span) -> bool {
        let mut changed = false;
        let stale = self.reaches.take_stale(self.endpoints.names());
        for fqdn in stale {
            changed |= self.observe_endpoints_of(&fqdn, span);
        }
        changed
    }

    /// The proxy needs those that the current versions of its hosts reach, and those that the versions in force there
    /// reach.
    fn observe_endpoints_of(&mut self, fqdn: &str, span: Span) -> bool {
        let held = self.endpoints.contains(fqdn);
        let wanted = self.reaches.is_reached(fqdn) || (held && self.reaches.needs_all());
        let encoded = if wanted { self.world.endpoints(fqdn) } else { None };
        let version = encoded.as_ref().map(|encoded| encoded.version.as_str());
        if !held {
            if version.is_some() {
                let entry = Entry::new(Told::Nothing, version, span.upto);
                self.endpoints.insert(fqdn, entry);
            }
            return false;
        }
        let observe = |entry: &mut Entry| (entry.observe(version, span), entry.exists() || entry.may_be_held());
        let (changed, kept) = self.endpoints.change(fqdn, observe).unwrap_or_default();
        if !kept {
            self.endpoints.remove(fqdn);
        }
        changed
    }
}
