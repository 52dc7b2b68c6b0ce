//! What is taken of a document and does nothing, as `config` finds it where it reads the document: told here as by `apply`.

use super::{Check, Findings, Severity};
use crate::config::{About, Document};

const UNKNOWN: Check = ("IST0108", Severity::Warning);
const MISPLACED: Check = ("IST0107", Severity::Warning);
const PORT: Check = ("TSU-PORT", Severity::Warning);
const NO_ADDRESS: Check = ("IST0134", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, document: &Document) {
    for remark in &document.remarks {
        let (check, instead) = match remark.about {
            About::UnknownAnnotation => (UNKNOWN, ""),
            About::MisplacedAnnotation => (MISPLACED, ""),
            About::Addresses => (
                NO_ADDRESS,
                "`addresses`, or a `protocol` that says whom it is for (HTTP, TLS)",
            ),
            About::PortTwice => (PORT, "one entry with all that is meant for the port"),
            // `traffic_policies` knows more: which balancer it is, and where that is in force.
            About::Warmup => continue,
        };
        findings.add(check, document, &*remark.field, &*remark.what, instead);
    }
}
