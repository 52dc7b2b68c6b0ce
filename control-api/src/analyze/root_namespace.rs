//! Rules that are for the whole mesh where they come from, and here for nobody: Istio's root namespace is `istio-system`
//! unless its user says another, Tsunagi's is the one that `serve --root-namespace` says.

use std::sync::Arc;

use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

use super::{Check, Findings, Severity};
use crate::config::{Document, Spec};
use crate::snapshot::is_public;

const ROOT: Check = ("TSU-ROOT-NAMESPACE", Severity::Warning);
/// Istio's default.
const OF_ISTIO: &str = "istio-system";

pub(super) fn check(findings: &mut Findings<'_>, documents: &[Arc<Document>]) {
    let root = findings.mesh.root_namespace;
    if root == OF_ISTIO {
        return;
    }
    let there = documents.iter().filter(|document| document.key.namespace == OF_ISTIO);
    for document in there {
        if let Some((field, whom)) = for_the_mesh(document) {
            let what = format!(
                "is for {whom} only: rules for the whole mesh are those of the root namespace, which is {root} here (`--root-namespace`)"
            );
            let instead = format!("`serve --root-namespace {OF_ISTIO}`, or the namespace {root} here");
            findings.add(ROOT, document, field, what, instead);
        }
    }
}

/// Field and clients of what Istio takes for a rule for everyone.
fn for_the_mesh(document: &Document) -> Option<(&'static str, &'static str)> {
    match &document.spec {
        Spec::DestinationRule(rule) => {
            let own = format!(".{OF_ISTIO}.svc.{DEFAULT_CLUSTER_DOMAIN}");
            let is_wide = rule.host.starts_with('*') && !rule.host.ends_with(&own);
            (is_wide && is_public(document) && rule.workload_selector.is_empty())
                .then_some(("spec.host", "services and clients of namespace istio-system"))
        }
        Spec::Sidecar(sidecar) => {
            let is_wide = sidecar.selector.is_empty();
            is_wide.then_some(("spec", "workloads of namespace istio-system"))
        }
        _ => None,
    }
}
