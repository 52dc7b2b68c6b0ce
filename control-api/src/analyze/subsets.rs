//! Subsets that a route names and a DestinationRule defines, but not for all clients of the route. What they see is
//! decided by `snapshot`, as for the proxies.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Check, Findings, Severity};
use crate::config::{DestinationRule, Document, Key, Spec};
use crate::snapshot::{UnseenSubset, World};

const UNSEEN: Check = ("TSU-SUBSET-UNSEEN", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, documents: &[Arc<Document>]) {
    let mut rules = findings.mesh.destination_rules.iter();
    if !rules.any(|(_, rule)| !rule.subsets.is_empty()) {
        return;
    }
    let by_key: HashMap<&Key, &Document> = documents.iter().map(|document| (&document.key, &**document)).collect();
    let world = World::build(documents.iter().cloned(), 0, None);
    for unseen in world.unseen_subsets() {
        tell(findings, &by_key, &unseen);
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
    let instead = "the same exportTo in the VirtualService, or the subset in a rule that its clients see";
    findings.add(UNSEEN, document, at, what, instead);
}

/// What makes a rule be for some clients only.
fn narrowed(document: &Document) -> &'static str {
    let selects = |rule: &DestinationRule| !rule.workload_selector.is_empty();
    match &document.spec {
        Spec::DestinationRule(rule) if selects(rule) => "spec.workloadSelector",
        _ => "spec.exportTo",
    }
}
