//! What is found, as much of it as is shown: what is not wanted, or was there before, is left out first, then hints give way to warnings and
//! both to errors. Every finding that is wanted is counted, kept or not. Filled by the checks, read by `cli/analyze.rs`.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;

use serde::Serialize;

/// So many are shown.
const MOST_SHOWN: usize = 1_000;
/// Of a list inside a message.
const MOST_NAMES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

/// What nobody asked about.
#[derive(Debug, Default)]
pub struct Unwanted {
    pub hints: bool,
    /// What was found before in documents that are in no file: of them only what is new is told.
    pub before: Option<Before>,
}

/// Findings of an earlier analysis, wherever their documents were written.
#[derive(Debug, Default)]
pub struct Before {
    findings: HashSet<u64>,
    keys: RandomState,
}

impl Before {
    fn of(&self, finding: &Finding) -> u64 {
        let Finding { code, severity, .. } = finding;
        let Finding {
            kind, namespace, name, ..
        } = finding;
        let Finding { field, what, .. } = finding;
        self.keys.hash_one((code, severity, kind, namespace, name, field, what))
    }

    fn has(&self, finding: &Finding) -> bool {
        self.findings.contains(&self.of(finding))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub errors: usize,
    pub warnings: usize,
    pub hints: usize,
}

impl Totals {
    pub fn all(&self) -> usize {
        self.errors + self.warnings + self.hints
    }

    fn of(&mut self, severity: Severity) -> &mut usize {
        match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Info => &mut self.hints,
        }
    }
}

/// Findings of one analysis.
#[derive(Debug, Default)]
pub struct Report {
    unwanted: Unwanted,
    /// Findings are only to be known again.
    noted: Option<Before>,
    totals: Totals,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    hints: Vec<Finding>,
}

impl Report {
    pub fn without(unwanted: Unwanted) -> Self {
        Self {
            unwanted,
            ..Self::default()
        }
    }

    /// Of what is there before a change: nothing is shown.
    pub fn before() -> Self {
        Self {
            noted: Some(Before::default()),
            ..Self::default()
        }
    }

    /// Of a report that was made by `before`.
    pub fn into_before(self) -> Option<Before> {
        self.noted
    }

    pub fn add(&mut self, finding: Finding) {
        if let Some(noted) = &mut self.noted {
            let of = noted.of(&finding);
            noted.findings.insert(of);
            return;
        }
        let severity = finding.severity;
        let is_old = |before: &Before| finding.file.is_empty() && before.has(&finding);
        if (self.unwanted.hints && severity == Severity::Info) || self.unwanted.before.as_ref().is_some_and(is_old) {
            return;
        }
        *self.totals.of(severity) += 1;
        let kept = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
            Severity::Info => &mut self.hints,
        };
        if kept.len() < MOST_SHOWN {
            kept.push(finding);
        }
    }

    /// Of all that is wanted, shown or not.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Those that are shown, the worst first.
    pub fn into_findings(self) -> Vec<Finding> {
        let mut shown = self.errors;
        shown.extend(self.warnings);
        shown.extend(self.hints);
        shown.truncate(MOST_SHOWN);
        shown
    }
}

/// The names one after the other; of many, how many more there are.
pub(super) fn listed<N: AsRef<str>>(names: &[N]) -> String {
    let shown: Vec<&str> = names.iter().take(MOST_NAMES).map(AsRef::as_ref).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
