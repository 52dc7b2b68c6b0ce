//! What is valid but will not do what its author meant: found in a set of documents, with the field and what to write
//! instead. Pure; `cli/analyze.rs` reads the documents from files or a control plane and shows what is found.
//!
//! A file for each family of checks. Codes and levels are those of Istio's analyzers where it has the check
//! (`pkg/config/analysis/msg/messages.yaml`), else `TSU` and a word.

mod any_address;
mod client_tls;
mod cover;
mod destination_rules;
mod endpoints;
mod failover;
mod hidden_rules;
mod hosts;
mod idle;
mod input;
mod matches;
mod mesh;
mod policies;
mod remarks;
mod report;
mod root_namespace;
mod rule_ports;
mod rules;
mod services;
mod shared_names;
mod subsets;
mod traffic_policies;
mod virtual_services;

pub use input::{Input, WorkloadLabels, locate};
pub use report::{Finding, Report, Severity, Totals, Unwanted};

use std::collections::HashMap;
use std::sync::Arc;

use crate::bootstrap::DEFAULT_ROOT_NAMESPACE;
use crate::config::{Document, Key, Origin};
use crate::snapshot::World;
use mesh::Mesh;

/// Collects what the checks find in one document after the other.
struct Findings<'a> {
    mesh: &'a Mesh<'a>,
    report: &'a mut Report,
}

/// Of a check: code and severity.
type Check = (&'static str, Severity);

impl Findings<'_> {
    fn add(
        &mut self,
        (code, severity): Check,
        document: &Document,
        field: impl Into<String>,
        what: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let Origin { file, line } = document.origin.clone();
        self.report.add(Finding {
            code,
            severity,
            file,
            line,
            kind: document.key.kind.to_string(),
            namespace: document.key.namespace.clone(),
            name: document.key.name.clone(),
            field: field.into(),
            what: what.into(),
            instead: instead.into(),
        });
    }
}

/// What is known beside the documents.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Beside the documents' own.
    pub workloads: &'a [WorkloadLabels],
    /// Of which it is only known that they call others.
    pub clients: &'a [WorkloadLabels],
    /// Whose rules are for every namespace.
    pub root_namespace: &'a str,
}

impl Default for Surroundings<'_> {
    fn default() -> Self {
        Self {
            workloads: &[],
            clients: &[],
            root_namespace: DEFAULT_ROOT_NAMESPACE,
        }
    }
}

/// All that is found, document by document.
pub fn analyze(documents: &[Arc<Document>], surroundings: Surroundings<'_>, report: &mut Report) {
    let mesh = Mesh::new(documents, surroundings);
    let mut findings = Findings { mesh: &mesh, report };
    for (document, rule) in &mesh.virtual_services {
        virtual_services::check(&mut findings, document, rule);
        rules::check(&mut findings, document, rule);
        matches::prefixes(&mut findings, document, &rule.http);
        for (index, http) in rule.http.iter().enumerate() {
            hosts::check(&mut findings, document, index, http);
            matches::check(&mut findings, document, index, http);
            policies::check(&mut findings, document, index, http);
        }
        hosts::check_connections(&mut findings, document, rule);
    }
    hidden_rules::check(&mut findings);
    for (document, rule) in &mesh.destination_rules {
        destination_rules::check(&mut findings, document, rule);
    }
    services::check(&mut findings);
    for document in documents {
        remarks::check(&mut findings, document);
    }
    any_address::check(&mut findings, documents);
    root_namespace::check(&mut findings, documents);
    seen_by_proxies(&mut findings, documents);
}

/// What is decided for the proxies, with all documents together.
fn seen_by_proxies(findings: &mut Findings<'_>, documents: &[Arc<Document>]) {
    let by_key: HashMap<&Key, &Document> = documents.iter().map(|document| (&document.key, &**document)).collect();
    let empty = World::empty(findings.mesh.root_namespace);
    let world = World::build(documents.iter().cloned(), 0, Some(&empty));
    virtual_services::conflicts(findings, &by_key, &world);
    subsets::check(findings, &by_key, &world);
    shared_names::check(findings, &by_key, &world);
    idle::check(findings, &by_key, &world);
}

#[cfg(test)]
mod tests;
