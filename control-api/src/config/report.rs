//! What the readers find in one document: what is wrong with it, which refuses it, and what is taken and does nothing.
//! Collected by `read`, told by `text`.

use std::cell::RefCell;

use super::scalar::shown;
use super::yaml::Step;
use super::{About, Remark, names};

/// Findings of one document after which the rest is not shown.
pub(super) const MOST_FINDINGS: usize = 200;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Finding {
    pub path: Vec<Step>,
    pub reason: String,
    /// There is this where text is to be: with quotes it would be. Empty: it may be shown otherwise than it was written.
    pub unquoted: Option<String>,
}

/// Collects the findings of one document.
#[derive(Default)]
pub(super) struct Report {
    findings: RefCell<Vec<Finding>>,
    remarks: RefCell<Vec<Remark>>,
}

impl Report {
    pub(super) fn into_findings(self) -> Vec<Finding> {
        self.findings.into_inner()
    }

    pub(super) fn into_remarks(self) -> Vec<Remark> {
        self.remarks.into_inner()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.findings.borrow().is_empty()
    }

    /// The document is refused, and more is not shown.
    pub(super) fn is_full(&self) -> bool {
        self.findings.borrow().len() >= MOST_FINDINGS
    }

    pub(super) fn add(&self, finding: Finding) {
        let mut findings = self.findings.borrow_mut();
        let again = |other: &Finding| other.path == finding.path && other.reason == finding.reason;
        if findings.len() < MOST_FINDINGS && !findings.iter().any(again) {
            findings.push(finding);
        }
    }

    pub(super) fn remark(&self, about: About, path: &[Step], what: String) {
        let mut remarks = self.remarks.borrow_mut();
        if remarks.len() < MOST_FINDINGS {
            let field = path_text(path);
            remarks.push(Remark { about, field, what });
        }
    }
}

/// As people write it: `spec.http[0].match`, `spec.subsets[0].labels[app.kubernetes.io/name]`.
pub(super) fn path_text(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => text.push_str(&format!("[{index}]")),
            Step::Key(key) if names::is_plain_key(key) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(key);
            }
            Step::Key(key) => {
                let shown = shown(key);
                text.push_str(&format!(
                    "[{}]",
                    shown
                        .strip_prefix('"')
                        .and_then(|s| s.strip_suffix('"'))
                        .unwrap_or(&shown)
                ));
            }
        }
    }
    text
}
