//! Which of the endpoints that documents write are a proxy's own. Called by `departures` and `workload`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::Node;
use super::super::departures::Place;
use super::{Catalog, at, endpoints, named};
use crate::config::Document;

impl Catalog {
    /// The endpoints of this proxy, each with the document of its namespace that writes it: the endpoint has the node's id
    /// as its name (that of its WorkloadEntry or Pod), or an address of the node. Without repetition.
    pub(in crate::snapshot) fn endpoints_of(&self, node: &Node) -> BTreeMap<Place, Arc<Document>> {
        let namespace = &node.namespace;
        let by_address = node.addresses.iter().map(|address| at(namespace, *address));
        let keys = std::iter::once(named(namespace, &node.node_id)).chain(by_address);
        let documents = keys
            .filter_map(|key| self.endpoints.get(&key))
            .flat_map(|list| list.iter());
        let mut found = BTreeMap::new();
        for document in documents {
            for (name, address) in endpoints(document) {
                if name == node.node_id || node.addresses.contains(&address) {
                    found.insert(Place::new(document, name, address), Arc::clone(document));
                }
            }
        }
        found
    }

    /// The endpoints that leave with this proxy: those with its name, and only where nobody has its name, those with an
    /// address of it that one document alone has. None where the proxy is not at the endpoint's address; who is at one
    /// address of a name is at all of them (IPv4 and IPv6 of a pod).
    pub(in crate::snapshot) fn departing(&self, node: &Node) -> BTreeSet<Place> {
        let namespace = &node.namespace;
        let found = |key: &str| self.endpoints.get(key).map(|list| list.as_slice()).unwrap_or(&[]);
        let mut places = BTreeSet::new();
        for document in found(&named(namespace, &node.node_id)) {
            let own = endpoints(document)
                .into_iter()
                .filter(|(name, _)| *name == node.node_id);
            places.extend(own.map(|(name, address)| Place::new(document, name, address)));
        }
        if !places.is_empty() {
            let is_there = places.iter().any(|place| node.may_be_at(place.address));
            return if is_there { places } else { BTreeSet::new() };
        }
        for address in node.addresses.iter().filter(|address| node.may_be_at(**address)) {
            if let [document] = found(&at(namespace, *address)) {
                let here = endpoints(document).into_iter().filter(|(_, other)| other == address);
                places.extend(here.map(|(name, address)| Place::new(document, name, address)));
            }
        }
        places
    }
}
