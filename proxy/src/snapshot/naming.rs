//! What every name means that a client may call a host by: its own, its short ones, its addresses, and those that stand
//! for it. Kept up host by host, so that a change costs what it changes; a copy for the next snapshot costs next to nothing.
//! Called by `publisher`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::shards::Shards;

use super::compile::Host;

/// What a name means.
#[derive(Debug, Clone)]
pub struct Named {
    pub host: Arc<Host>,
    /// Where the name is one of its own, which stands for the host: it is kept as long as it is used.
    pub alias: Option<Arc<Host>>,
}

/// A host as the control plane told it; `None`: known not to exist.
type Known = Option<Arc<Host>>;

pub(super) struct Naming {
    hosts: Shards<Known>,
    means: Shards<Option<Named>>,
    /// Name -> FQDNs of the hosts that are called so besides.
    claims: HashMap<String, BTreeSet<String>>,
    /// FQDN -> names that stand for it.
    standing: HashMap<String, BTreeSet<String>>,
    namespace: String,
    domain: String,
}

impl Naming {
    /// For clients of this namespace; `domain` is the suffix of Kubernetes' service names.
    pub fn new(namespace: &str, domain: &str) -> Self {
        Self {
            hosts: Shards::default(),
            means: Shards::default(),
            claims: HashMap::new(),
            standing: HashMap::new(),
            namespace: namespace.to_owned(),
            domain: domain.to_owned(),
        }
    }

    pub fn domain(&self) -> &str {
        &self.domain
    }

    pub fn hosts(&self) -> &Shards<Known> {
        &self.hosts
    }

    pub fn means(&self) -> &Shards<Option<Named>> {
        &self.means
    }

    /// The same hosts under another suffix.
    pub fn in_domain(&self, domain: &str) -> Self {
        let mut naming = Self::new(&self.namespace, domain);
        for (fqdn, known) in self.hosts.iter() {
            naming.set(fqdn, known.clone());
        }
        naming
    }

    pub fn set(&mut self, fqdn: &str, known: Known) {
        let mut affected = self.leave(fqdn);
        if let Some(host) = &known {
            affected.extend(self.claim(fqdn, host));
        }
        self.hosts.insert(fqdn, known);
        self.resolve(affected);
    }

    pub fn remove(&mut self, fqdn: &str) {
        let affected = self.leave(fqdn);
        self.hosts.remove(fqdn);
        self.resolve(affected);
    }

    /// Gives up what the host of this name claims. Names that may mean something else then.
    fn leave(&mut self, fqdn: &str) -> BTreeSet<String> {
        let mut affected: BTreeSet<String> = self.standing.get(fqdn).into_iter().flatten().cloned().collect();
        affected.insert(fqdn.to_owned());
        let Some(Some(host)) = self.hosts.get(fqdn) else {
            return affected;
        };
        if let Some(target) = &host.told.alias_of {
            forget(&mut self.standing, target, fqdn);
            return affected;
        }
        for name in self.other_names(host) {
            forget(&mut self.claims, &name, fqdn);
            affected.insert(name);
        }
        affected
    }

    fn claim(&mut self, fqdn: &str, host: &Host) -> Vec<String> {
        if let Some(target) = &host.told.alias_of {
            self.standing.entry(target.clone()).or_default().insert(fqdn.to_owned());
            return Vec::new();
        }
        let names = self.other_names(host);
        for name in &names {
            self.claims.entry(name.clone()).or_default().insert(fqdn.to_owned());
        }
        names
    }

    fn other_names(&self, host: &Host) -> Vec<String> {
        let mut names = short_names(&host.told.fqdn, &self.namespace, &self.domain);
        names.extend(host.told.addresses.iter().map(ToString::to_string));
        names
    }

    fn resolve(&mut self, names: BTreeSet<String>) {
        for name in names {
            match self.meaning(&name) {
                Some(meaning) => self.means.insert(&name, meaning),
                None => self.means.remove(&name),
            }
        }
    }

    /// `None`: nothing is known of it.
    fn meaning(&self, name: &str) -> Option<Option<Named>> {
        let own = self.hosts.get(name);
        let claimed = self.claims.get(name).and_then(BTreeSet::first);
        let claimed = claimed.and_then(|fqdn| self.service(fqdn)).map(Named::own);
        let meaning = match (claimed, own) {
            (Some(claimed), _) => Some(Some(claimed)),
            (None, Some(Some(host))) if !is_alias(host) => Some(Some(Named::own(host))),
            (None, Some(None)) => Some(None),
            (None, _) => None,
        };
        // Before the addresses that hosts claim: of several, this names the one that has it. A name that only a wildcard
        // covers means that after all services that it may mean.
        let is_free = || name.parse::<IpAddr>().is_ok() || !meaning.as_ref().is_some_and(Option::is_some);
        if let Some(Some(alias)) = own
            && let Some(host) = alias.told.alias_of.as_ref().and_then(|fqdn| self.service(fqdn))
            && is_free()
        {
            return Some(Some(Named {
                host: Arc::clone(host),
                alias: Some(Arc::clone(alias)),
            }));
        }
        meaning
    }

    /// A host that is none of those which only stand for another.
    fn service(&self, fqdn: &str) -> Option<&Arc<Host>> {
        self.hosts.get(fqdn)?.as_ref().filter(|host| !is_alias(host))
    }
}

fn forget(of: &mut HashMap<String, BTreeSet<String>>, name: &str, fqdn: &str) {
    let Some(those) = of.get_mut(name) else { return };
    those.remove(fqdn);
    if those.is_empty() {
        of.remove(name);
    }
}

impl Named {
    fn own(host: &Arc<Host>) -> Self {
        Self {
            host: Arc::clone(host),
            alias: None,
        }
    }
}

/// It stands for the service that has its address, or for the wildcard that covers its name, and is none itself.
pub(super) fn is_alias(host: &Host) -> bool {
    host.told.alias_of.is_some()
}

/// The short names by which a Kubernetes service is called from `namespace`.
fn short_names(fqdn: &str, namespace: &str, domain: &str) -> Vec<String> {
    let service = fqdn.strip_suffix(domain).and_then(|rest| rest.strip_suffix(".svc."));
    let Some((name, of)) = service.and_then(|service| service.split_once('.')) else {
        return Vec::new();
    };
    let mut names = vec![format!("{name}.{of}"), format!("{name}.{of}.svc")];
    if of == namespace {
        names.push(name.to_owned());
    }
    names
}

#[cfg(test)]
#[path = "naming_tests.rs"]
mod tests;
