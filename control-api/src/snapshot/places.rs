//! The endpoints that a document writes itself, and the names by which `catalog` finds it through them: those of its
//! namespace, by the name or an address of an endpoint.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Document, ServiceEndpoints, Spec};

pub(super) fn named(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

pub(super) fn at(namespace: &str, address: IpAddr) -> String {
    format!("{namespace}\n{address}")
}

/// The endpoints that the document itself writes with their addresses: the name of each, empty where it has none, and that.
pub(super) fn endpoints(document: &Document) -> BTreeSet<(&str, IpAddr)> {
    match &document.spec {
        Spec::WorkloadEntry(entry) => {
            let address = entry.address.ip();
            address
                .map(|address| (document.key.name.as_str(), address))
                .into_iter()
                .collect()
        }
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Listed(entries) => {
                let addresses = entries.iter().filter_map(|entry| entry.address.ip());
                addresses.map(|address| ("", address)).collect()
            }
            ServiceEndpoints::Selected(_) => BTreeSet::new(),
        },
        Spec::EndpointSlice(slice) => {
            let endpoints = slice.endpoints.iter();
            endpoints
                .map(|endpoint| (endpoint.pod.as_str(), endpoint.address))
                .collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Where a document of `namespace` is found by its endpoints, each name once.
pub(super) fn places(document: &Document) -> BTreeSet<String> {
    let namespace = &document.key.namespace;
    let mut places = BTreeSet::new();
    for (name, address) in endpoints(document) {
        places.insert(at(namespace, address));
        if !name.is_empty() {
            places.insert(named(namespace, name));
        }
    }
    places
}
