//! Where a proxy is, and where the others of its service are. Called by `workload`.
//!
//! As in Istio: what the endpoint says that the proxy serves, which for a Pod is its label, else its Node's; else the
//! proxy's own labels, else the machine that it names.

use std::sync::Arc;

use tsunagi_proto::model::Locality;
use tsunagi_proto::shards::Shards;
use tsunagi_proto::wire::mesh;

use super::Node;
use super::catalog::Catalog;
use super::departures::Place;
use super::endpoints::EndpointsEntry;
use crate::config::{Document, ServiceEndpoints, Spec};

/// What of the world says it.
pub(super) struct Surroundings<'w> {
    pub catalog: &'w Catalog,
    /// Where the machines of a cluster are, by name.
    pub machines: &'w Shards<Arc<str>>,
    /// By FQDN. `None`: nobody needs to know.
    pub endpoints: Option<&'w Shards<Arc<EndpointsEntry>>>,
}

impl Surroundings<'_> {
    /// Locality and machine; empty: not known.
    pub(super) fn place_of(&self, node: &Node) -> (String, String) {
        let (mut locality, mut node_name) = (String::new(), node.node_name.clone());
        for (place, owner) in self.catalog.endpoints_of(node) {
            let (of_endpoint, machine) = written(&owner, &place);
            if locality.is_empty() {
                of_endpoint.clone_into(&mut locality);
            }
            if node_name.is_empty() {
                machine.clone_into(&mut node_name);
            }
        }
        if locality.is_empty() {
            locality = Locality::of_labels(|key| node.labels.get(key).map(String::as_str));
        }
        if locality.is_empty() {
            locality = self
                .machines
                .get(&node_name)
                .map(|of| of.to_string())
                .unwrap_or_default();
        }
        (locality, node_name)
    }

    /// The endpoints of a service by locality. Where all are at one, there is nothing to say.
    pub(super) fn peers(&self, fqdn: &str) -> Vec<mesh::LocalityCount> {
        let entry = self.endpoints.and_then(|endpoints| endpoints.get(fqdn));
        let counts = entry.map(|entry| entry.by_locality()).unwrap_or_default();
        let count = |(locality, endpoints): (&str, u32)| mesh::LocalityCount {
            locality: locality.to_owned(),
            endpoints,
        };
        if counts.len() < 2 {
            return Vec::new();
        }
        counts.into_iter().map(count).collect()
    }
}

/// Locality and machine of an endpoint, as the document has it that writes it.
fn written<'d>(owner: &'d Document, place: &Place) -> (&'d str, &'d str) {
    let entries = match &owner.spec {
        Spec::WorkloadEntry(entry) => std::slice::from_ref(entry),
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Listed(entries) => entries.as_slice(),
            ServiceEndpoints::Selected(_) => &[],
        },
        Spec::EndpointSlice(slice) => {
            let mut endpoints = slice.endpoints.iter();
            let found = endpoints.find(|one| one.pod == place.name && one.address == place.address);
            return found.map_or(("", ""), |one| (&one.locality, &one.node_name));
        }
        _ => &[],
    };
    let here = entries.iter().find(|entry| entry.address.ip() == Some(place.address));
    (here.map_or("", |entry| entry.locality.as_str()), "")
}
