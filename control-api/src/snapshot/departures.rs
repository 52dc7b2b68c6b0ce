//! Proxies that are about to end: their endpoints are DRAINING, as an overlay over what the documents say.
//!
//! A mark names the endpoints that the proxy has when it leaves, by the document that writes them, so it ends with these
//! and never falls on whoever gets the name or the address next. There is none without an endpoint, and only so many.
//! Only who is where the endpoint is can mark it, and any proxy that comes to serve there ends the mark.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::{Encoded, Node};
use crate::config::{Document, Key};

/// Proxies that leave at one time; a further one ends without a word to its callers.
const MOST_MARKS: usize = 10_000;

/// One that says it goes, one that is back, or one that went and must be gone by now.
#[derive(Clone, Debug)]
pub enum Passage {
    Leaves(Node),
    Returns(Node),
    /// Ends the mark of this revision; `None`: whichever the proxy has.
    Expires(Node, Option<u64>),
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The document that writes it.
    pub owner: Key,
    pub address: IpAddr,
    /// That of a WorkloadEntry or of a Pod, whose address may soon be another one's; empty: it has none.
    pub name: String,
}

impl Place {
    pub(super) fn new(owner: &Document, name: &str, address: IpAddr) -> Self {
        Self {
            owner: owner.key.clone(),
            address,
            name: name.to_owned(),
        }
    }
}

/// Namespace and node id.
type NodeName = (String, String);

#[derive(Clone, Debug, Default)]
pub(super) struct Departures {
    marks: Arc<BTreeMap<NodeName, Mark>>,
    /// All places of all marks.
    places: Arc<HashMap<Key, Vec<Place>>>,
    /// Of these places.
    addresses: Arc<HashSet<IpAddr>>,
}

#[derive(Clone, Debug)]
struct Mark {
    /// Since this one.
    revision: u64,
    places: BTreeSet<Place>,
}

/// The answer to a proxy that leaves. `unanswered`: `namespace/node id` of proxies that have not acknowledged it.
pub fn departure(namespace: &str, node_id: &str, mut unanswered: Vec<String>) -> Encoded {
    unanswered.sort();
    let departure = mesh::Departure {
        namespace: namespace.to_owned(),
        node_id: node_id.to_owned(),
        unanswered,
    };
    Encoded::whole(names::departure(namespace, node_id), Kind::Departure(departure))
}

impl Departures {
    /// `name`: as the endpoint's place has it.
    pub(super) fn is_leaving(&self, owner: &Key, name: &str, address: IpAddr) -> bool {
        let is_it = |place: &Place| place.address == address && place.name == name;
        !self.places.is_empty() && self.places.get(owner).is_some_and(|places| places.iter().any(is_it))
    }

    /// `None`: the proxy is not leaving, or has no endpoint.
    pub(super) fn since(&self, namespace: &str, node_id: &str) -> Option<u64> {
        let name = (namespace.to_owned(), node_id.to_owned());
        self.marks.get(&name).map(|mark| mark.revision)
    }

    /// Would its return end a mark?
    pub(super) fn wait_for(&self, node: &Node) -> bool {
        !self.places.is_empty()
            && (self.since(&node.namespace, &node.node_id).is_some()
                || node.stands_at().any(|address| self.addresses.contains(&address)))
    }

    /// Makes and ends marks; returns the documents whose endpoints are told otherwise by it.
    pub(super) fn pass(&mut self, catalog: &Catalog, passages: &[Passage], revision: u64) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        for passage in passages {
            let before = touched.len();
            match passage {
                Passage::Leaves(node) => self.mark(node, catalog.departing(node), revision, &mut touched),
                Passage::Returns(node) if self.wait_for(node) => {
                    let name = name(node);
                    let addresses: HashSet<IpAddr> = node.stands_at().collect();
                    let is_there = |place: &Place| addresses.contains(&place.address);
                    self.end(&mut touched, |of, mark| *of == name || mark.places.iter().any(is_there));
                }
                Passage::Returns(_) => {}
                Passage::Expires(node, since) => {
                    let name = name(node);
                    let is_it = |mark: &Mark| since.is_none_or(|since| since == mark.revision);
                    if self.marks.get(&name).is_some_and(is_it) {
                        self.end(&mut touched, |of, _| *of == name);
                    }
                }
            }
            // The next passage may be of the same address.
            if touched.len() != before {
                self.index();
            }
        }
        if !touched.is_empty() {
            self.index();
        }
        touched
    }

    /// Whoever has no place, or only some of those from before, changes nothing.
    fn mark(&mut self, node: &Node, mut places: BTreeSet<Place>, revision: u64, touched: &mut BTreeSet<Key>) {
        let name = name(node);
        let known = self.marks.get(&name).map(|mark| &mark.places);
        if known.map_or(places.is_empty(), |known| places.is_subset(known)) {
            return;
        }
        if known.is_none() && self.marks.len() >= MOST_MARKS {
            return;
        }
        places.extend(known.into_iter().flatten().cloned());
        touched.extend(places.iter().map(|place| place.owner.clone()));
        Arc::make_mut(&mut self.marks).insert(name, Mark { revision, places });
    }

    fn end(&mut self, touched: &mut BTreeSet<Key>, ends: impl Fn(&NodeName, &Mark) -> bool) {
        Arc::make_mut(&mut self.marks).retain(|name, mark| {
            let ends = ends(name, mark);
            if ends {
                touched.extend(mark.places.iter().map(|place| place.owner.clone()));
            }
            !ends
        });
    }

    /// Drops what is not there any more of documents that went or were replaced.
    pub(super) fn prune<'a>(&mut self, replaced: impl Iterator<Item = &'a Key>, is_there: impl Fn(&Place) -> bool) {
        if self.places.is_empty() {
            return;
        }
        let gone = |owner: &Key| {
            let places = self.places.get(owner).into_iter().flatten();
            places.filter(|place| !is_there(place)).count() > 0
        };
        if replaced.filter(|owner| gone(owner)).count() == 0 {
            return;
        }
        Arc::make_mut(&mut self.marks).retain(|_, mark| {
            mark.places.retain(&is_there);
            !mark.places.is_empty()
        });
        self.index();
    }

    fn index(&mut self) {
        let mut places: HashMap<Key, Vec<Place>> = HashMap::new();
        for place in self.marks.values().flat_map(|mark| &mark.places) {
            places.entry(place.owner.clone()).or_default().push(place.clone());
        }
        let addresses = places.values().flatten().map(|place| place.address);
        self.addresses = Arc::new(addresses.collect());
        self.places = Arc::new(places);
    }
}

fn name(node: &Node) -> NodeName {
    (node.namespace.clone(), node.node_id.clone())
}
