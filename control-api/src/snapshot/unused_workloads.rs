//! WorkloadEntries that are not what their author meant them to be: that nothing selects, or with ports by names that no
//! service has which selects them. Kept by `world`, told to whoever applies or analyses documents.

use std::fmt;

use super::catalog::Catalog;
use super::service::ports;
use crate::config::{Document, Key, Spec, TargetPort};

/// What of it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// All of it.
    Workload,
    /// One of its ports.
    Port,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusedWorkload {
    pub document: Key,
    /// As in `spec.labels`.
    pub field: String,
    pub unused: Unused,
    pub what: String,
}

impl fmt::Display for UnusedWorkload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.document, self.field, self.what)
    }
}

/// What is to say of this one. Nothing of what is no WorkloadEntry.
pub(super) fn of(catalog: &Catalog, document: &Document) -> Vec<UnusedWorkload> {
    let Spec::WorkloadEntry(entry) = &document.spec else {
        return Vec::new();
    };
    let namespace = &document.key.namespace;
    let unused = |field: String, unused, what| UnusedWorkload {
        document: document.key.clone(),
        field,
        unused,
        what,
    };
    if !catalog.is_selected(namespace, &entry.labels) {
        let what = format!("no Service and no ServiceEntry of namespace {namespace} selects this: it gets no requests");
        return vec![unused("spec.labels".to_owned(), Unused::Workload, what)];
    }
    if entry.ports.is_empty() {
        return Vec::new();
    }
    let services = catalog.selecting(namespace, &entry.labels);
    let is_known = |name: &str| {
        let mut known = services.iter().flat_map(|service| ports(service));
        known.any(|port| port.name == name || matches!(&port.target, TargetPort::Name(target) if target == name))
    };
    let unknown = entry.ports.keys().filter(|name| !is_known(name));
    let what = "no port of a Service or ServiceEntry that selects this has this name: it is not used";
    unknown
        .map(|name| unused(format!("spec.ports.{name}"), Unused::Port, what.to_owned()))
        .collect()
}
