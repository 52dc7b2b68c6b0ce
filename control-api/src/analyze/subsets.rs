//! Subsets that a route names and a DestinationRule defines, but not for all clients of the route. What they see is
//! decided by `snapshot`, as for the proxies.

use std::collections::HashMap;

use super::{Check, Findings, Severity};
use crate::config::{Document, Key, Spec};
use crate::snapshot::{UnseenSubset, World};

const UNSEEN: Check = ("TSU-SUBSET-UNSEEN", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, world: &World) {
    for unseen in world.unseen_subsets() {
        tell(findings, by_key, &unseen);
    }
}

/// At the route; or, where only the DestinationRule is in a file, there: it may be what takes the subset away.
fn tell(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, unseen: &UnseenSubset) {
    let UnseenSubset { rule, field, host, .. } = unseen;
    let UnseenSubset { subset, clients, .. } = unseen;
    let consequence = &unseen.consequence;
    let Some(route) = by_key.get(rule) else { return };
    let in_file = |document: &&&Document| !document.origin.file.is_empty();
    let mut defining = unseen.defined_by.iter().filter_map(|key| by_key.get(key));
    let (document, at, what) = match defining.find(in_file).filter(|_| route.origin.file.is_empty()) {
        Some(defining) => {
            let what =
                format!("{clients} do not see the subset {subset}, which {rule} names in {field}: {consequence}");
            (defining, narrowed(defining).to_owned(), what)
        }
        None => {
            let because = &unseen.because;
            let what = format!("{host} has no subset {subset} for {clients}: {because}: {consequence}");
            (route, format!("{field}.subset"), what)
        }
    };
    let selecting = |key: &Key| by_key.get(key).is_some_and(|rule| is_selecting(rule));
    let instead = if unseen.is_of_some || unseen.defined_by.iter().all(selecting) {
        "the subset also in the rule that is in force for these clients, or in one without workloadSelector that they see"
    } else {
        "the same exportTo in the VirtualService, or the subset in a rule that its clients see"
    };
    findings.add(UNSEEN, document, at, what, instead);
}

/// What makes a rule be for some clients only.
fn narrowed(document: &Document) -> &'static str {
    if is_selecting(document) {
        "spec.workloadSelector"
    } else {
        "spec.exportTo"
    }
}

fn is_selecting(document: &Document) -> bool {
    matches!(&document.spec, Spec::DestinationRule(rule) if !rule.workload_selector.is_empty())
}
