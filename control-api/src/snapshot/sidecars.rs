//! Which Sidecar is in force for a workload.
//!
//! As in Istio: one of its namespace that selects it, else one of its namespace that selects nothing in particular, else
//! such a one of the root namespace. Among equals the oldest.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::catalog::Catalog;
use crate::config::{Document, Key, Sidecar, Spec};

fn sidecar(document: &Document) -> Option<&Sidecar> {
    match &document.spec {
        Spec::Sidecar(sidecar) => Some(sidecar),
        _ => None,
    }
}

/// Has the workload all these labels?
fn covers(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

pub(super) fn in_force(catalog: &Catalog, namespace: &str, labels: &BTreeMap<String, String>) -> Option<Sidecar> {
    let own = catalog.sidecars(namespace);
    let root = catalog.sidecars(catalog.root_namespace());
    let find = |documents: &[Arc<Document>], fits: &dyn Fn(&Sidecar) -> bool| {
        documents
            .iter()
            .filter_map(|document| sidecar(document))
            .find(|sidecar| fits(sidecar))
            .cloned()
    };
    let selected = |sidecar: &Sidecar| !sidecar.selector.is_empty() && covers(labels, &sidecar.selector);
    let for_all = |sidecar: &Sidecar| sidecar.selector.is_empty();
    find(&own, &selected)
        .or_else(|| find(&own, &for_all))
        .or_else(|| find(&root, &for_all))
}

/// A Sidecar that an older one hides from workloads that both are meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenSidecar {
    pub document: Key,
    pub older: Key,
    /// Neither has a selector.
    pub for_all: bool,
}

impl fmt::Display for HiddenSidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { document, older, .. } = self;
        write!(
            f,
            "{document}: spec.workloadSelector: {older} is older and in force for workloads that both are meant for"
        )
    }
}

/// Of the Sidecars of a namespace: where one selects all that another one selects, both are meant for the same workloads.
/// One without a selector is what is left for the others.
pub(super) fn hidden(catalog: &Catalog, namespace: &str) -> Vec<HiddenSidecar> {
    let documents = catalog.sidecars(namespace);
    let mut hidden = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let older = documents.iter().take(index);
        let hiding = older.filter(|older| {
            sidecar(document)
                .zip(sidecar(older))
                .is_some_and(|(one, other)| are_alike(one, other))
        });
        hidden.extend(hiding.map(|older| HiddenSidecar {
            document: document.key.clone(),
            older: older.key.clone(),
            for_all: sidecar(older).is_some_and(|older| older.selector.is_empty()),
        }));
    }
    hidden
}

fn are_alike(one: &Sidecar, other: &Sidecar) -> bool {
    let overlap = covers(&one.selector, &other.selector) || covers(&other.selector, &one.selector);
    one.selector.is_empty() == other.selector.is_empty() && overlap
}
