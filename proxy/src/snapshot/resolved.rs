//! Endpoints that are told by name, as DNS has them now: which names that are, what becomes of them, and what is said of them
//! to people. Called by `publisher` and `compile`.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::model::{Cluster, Discovery, Endpoint, EndpointSet, keep_one_an_address};

use crate::dns::{Answer, Book};
use crate::upstream::{self, Resolved};

/// What DNS says of an endpoint that is told by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenName {
    /// FQDN of its service.
    pub host: String,
    pub name: String,
    /// Those in force, sorted.
    pub addresses: Vec<IpAddr>,
    /// Why the last lookup brought none.
    pub failure: Option<Arc<str>>,
    /// All of them are one endpoint, whose connections take turns.
    pub in_turns: bool,
}

/// Which services have an endpoint of which name. What nobody has any more is not looked up any more.
#[derive(Debug)]
pub(super) struct NamedEndpoints {
    pub book: Arc<Book>,
    /// FQDN of a service -> names of its endpoints.
    names: HashMap<String, BTreeSet<String>>,
    /// The other way round.
    services: HashMap<String, BTreeSet<String>>,
}

impl NamedEndpoints {
    pub(super) fn new(book: Arc<Book>) -> Self {
        Self {
            book,
            names: HashMap::new(),
            services: HashMap::new(),
        }
    }

    /// The service has these endpoints from now on; `None`: it is not told any more.
    pub(super) fn take(&mut self, fqdn: &str, set: Option<&EndpointSet>) {
        let endpoints = set.into_iter().flat_map(EndpointSet::iter);
        let names: BTreeSet<String> = endpoints.filter_map(|endpoint| endpoint.hostname.clone()).collect();
        let before = self.names.remove(fqdn).unwrap_or_default();
        for name in names.difference(&before) {
            let services = self.services.entry(name.clone()).or_default();
            if services.is_empty() {
                self.book.want(name);
            }
            services.insert(fqdn.to_owned());
        }
        for name in before.difference(&names) {
            if let Some(services) = self.services.get_mut(name) {
                services.remove(fqdn);
                if services.is_empty() {
                    self.services.remove(name);
                    self.book.unwant(name);
                }
            }
        }
        if !names.is_empty() {
            self.names.insert(fqdn.to_owned(), names);
        }
    }

    /// The first `most` that have been looked up, by service and name, and how many more there are. `in_turns`: the
    /// services each of whose names is one endpoint.
    pub(super) fn seen(&self, in_turns: &HashSet<&str>, most: usize) -> (Vec<SeenName>, usize) {
        let names = self.names.iter();
        let mut all: Vec<(&str, &str)> = names
            .flat_map(|(host, names)| names.iter().map(|name| (host.as_str(), name.as_str())))
            .collect();
        all.sort_unstable();
        let seen = all.iter().take(most).filter_map(|(host, name)| {
            let answer = self.book.answer(name);
            let in_turns = in_turns.contains(host);
            (!answer.is_pending()).then(|| SeenName {
                host: (*host).to_owned(),
                name: (*name).to_owned(),
                addresses: in_force(&answer, in_turns).to_vec(),
                failure: answer.failure.clone(),
                in_turns,
            })
        });
        (seen.collect(), all.len().saturating_sub(most))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// FQDNs of the services that have an endpoint of one of these names.
    pub(super) fn services_of(&self, names: &[Arc<str>]) -> HashSet<String> {
        let services = names.iter().filter_map(|name| self.services.get(&**name));
        services.flatten().cloned().collect()
    }
}

/// The endpoints of one cluster with the addresses of their names.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    pub endpoints: Vec<Arc<Endpoint>>,
    /// By id, the addresses among which the connections of an endpoint take turns.
    rotations: Vec<(String, Arc<[IpAddr]>)>,
    state: Resolved,
}

impl Expanded {
    /// Two names may have one address, or one that is listed, too.
    pub(super) fn of(told: impl Iterator<Item = Arc<Endpoint>>, cluster: &Cluster, book: &Book) -> Self {
        let mut expanded = Self::default();
        for endpoint in told {
            match &endpoint.hostname {
                None => expanded.endpoints.push(endpoint),
                Some(name) => expanded.add_named(&endpoint, name, cluster.discovery, book),
            }
        }
        if !expanded.endpoints.is_empty() {
            expanded.state = Resolved::Known;
        }
        keep_one_an_address(&mut expanded.endpoints, cluster.key.port);
        expanded
    }

    fn add_named(&mut self, endpoint: &Arc<Endpoint>, name: &str, discovery: Discovery, book: &Book) {
        let answer = book.answer(name);
        let in_turns = discovery == Discovery::DnsRoundRobin;
        let addresses = in_force(&answer, in_turns);
        if addresses.is_empty() {
            if answer.is_pending() {
                self.state = Resolved::Pending;
            } else if self.state == Resolved::Known {
                let reason = answer.failure.as_deref().unwrap_or("it has no usable address");
                self.state = Resolved::Failed(format!("the name {name} is not resolved: {reason}").into());
            }
        } else if in_turns {
            self.rotations
                .push((endpoint.id.clone(), Arc::clone(&answer.addresses)));
            self.endpoints.push(Arc::clone(endpoint));
        } else {
            let at = |address: &IpAddr| {
                Arc::new(Endpoint {
                    address: *address,
                    ..Endpoint::clone(endpoint)
                })
            };
            self.endpoints.extend(addresses.iter().map(at));
        }
    }

    /// What goes beside the endpoints, once the cluster has them.
    pub(super) fn settle(self, cluster: &upstream::Cluster) {
        for (id, addresses) in &self.rotations {
            cluster.rotate(id, addresses);
        }
        cluster.resolution.set(self.state);
    }
}

/// A name that is one endpoint keeps its last addresses, as in Envoy.
fn in_force(answer: &Answer, in_turns: bool) -> &[IpAddr] {
    if answer.absent && !in_turns {
        return &[];
    }
    &answer.addresses
}

#[cfg(test)]
#[path = "resolved_tests.rs"]
mod tests;
