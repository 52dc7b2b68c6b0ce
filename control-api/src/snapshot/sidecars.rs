//! Which Sidecar is in force for a workload.
//!
//! As in Istio: one of its namespace that selects it, else one of its namespace that selects nothing in particular, else
//! such a one of the root namespace. Among equals the oldest.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::catalog::Catalog;
use crate::config::{Document, Sidecar, Spec};

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

/// What is to say of the Sidecars of a namespace: where one selects all that another one selects, both are meant for the
/// same workloads. One without a selector is what is left for the others.
pub(super) fn warnings(catalog: &Catalog, namespace: &str) -> Vec<String> {
    let documents = catalog.sidecars(namespace);
    let mut warnings = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let older = documents.iter().take(index);
        let hiding = older.filter(|older| {
            sidecar(document)
                .zip(sidecar(older))
                .is_some_and(|(one, other)| are_alike(one, other))
        });
        warnings.extend(hiding.map(|older| {
            format!(
                "{}: spec.workloadSelector: {} is older and in force for workloads that both are meant for",
                document.key, older.key
            )
        }));
    }
    warnings
}

fn are_alike(one: &Sidecar, other: &Sidecar) -> bool {
    let overlap = covers(&one.selector, &other.selector) || covers(&other.selector, &one.selector);
    one.selector.is_empty() == other.selector.is_empty() && overlap
}
