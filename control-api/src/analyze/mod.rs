//! What is valid but will not do what its author meant: found in a set of documents, with the field and what to write
//! instead. Pure; `cli/analyze.rs` reads the documents from files or a control plane and shows what is found.
//!
//! A file for each family of checks. Codes and levels are those of Istio's analyzers where it has the check
//! (`pkg/config/analysis/msg/messages.yaml`), else `TSU` and a word.

mod cover;
mod destination_rules;
mod hidden_rules;
mod hosts;
mod input;
mod matches;
mod mesh;
mod policies;
mod rules;
mod services;
mod traffic_policies;
mod virtual_services;

pub use input::{Input, WorkloadLabels, locate};

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::config::{Document, Origin};
use mesh::Mesh;

/// After so many the rest is not shown.
const MOST_FINDINGS: usize = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Error,
    Warning,
    Info,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        })
    }
}

/// One thing that its author did not mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `IST0130` where Istio has the check, else `TSU-…`.
    pub code: &'static str,
    pub severity: Severity,
    /// Empty: the document is not in a file.
    pub file: String,
    /// Of the field; 0: not known.
    pub line: u32,
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// As in `spec.http[0].route`.
    pub field: String,
    pub what: String,
    /// Empty: it says itself.
    pub instead: String,
}

/// Collects what the checks find in one document after the other.
struct Findings<'a> {
    mesh: &'a Mesh<'a>,
    list: Vec<Finding>,
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
        if self.list.len() >= MOST_FINDINGS {
            return;
        }
        let Origin { file, line } = document.origin.clone();
        self.list.push(Finding {
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

/// All that is found, document by document. `workloads` are those that are known beside the documents' own.
pub fn analyze(documents: &[Arc<Document>], workloads: &[WorkloadLabels]) -> Vec<Finding> {
    let mesh = Mesh::new(documents, workloads);
    let mut findings = Findings {
        mesh: &mesh,
        list: Vec::new(),
    };
    virtual_services::conflicts(&mut findings);
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
    findings.list
}

#[cfg(test)]
mod tests;
