//! Proxies that are about to end: their endpoints are DRAINING, as an overlay over what the documents say.
//!
//! A mark names the endpoints that the proxy has when it leaves, by the document that writes them, so it ends with these
//! and never falls on whoever gets the name or the address next. There is none without an endpoint, and only so many.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::{Encoded, Node};
use crate::config::{Document, Key};

/// Proxies that leave at one time; a further one ends without a word to its callers.
const MOST_MARKS: usize = 10_000;

/// One that says it goes, or one that is back.
#[derive(Clone, Debug)]
pub enum Passage {
    Leaves(Node),
    Returns(Node),
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

    /// Makes and ends marks; returns the documents whose endpoints are told otherwise by it.
    pub(super) fn pass(&mut self, catalog: &Catalog, passages: &[Passage], revision: u64) -> BTreeSet<Key> {
        let mut touched = BTreeSet::new();
        let marks = Arc::make_mut(&mut self.marks);
        for passage in passages {
            let (Passage::Leaves(node) | Passage::Returns(node)) = passage;
            let name = (node.namespace.clone(), node.node_id.clone());
            let places: BTreeSet<Place> = match passage {
                Passage::Leaves(_) => catalog.endpoints_of(node).into_keys().collect(),
                Passage::Returns(_) => BTreeSet::new(),
            };
            let before = marks.get(&name).map(|mark| &mark.places);
            if before.is_some_and(|before| *before == places) {
                continue;
            }
            if let Some(ended) = marks.remove(&name) {
                touched.extend(ended.places.into_iter().map(|place| place.owner));
            }
            if !places.is_empty() && marks.len() < MOST_MARKS {
                touched.extend(places.iter().map(|place| place.owner.clone()));
                marks.insert(name, Mark { revision, places });
            }
        }
        if !touched.is_empty() {
            self.index();
        }
        touched
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
        self.places = Arc::new(places);
    }
}
