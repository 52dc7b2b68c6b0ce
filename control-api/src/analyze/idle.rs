//! WorkloadEntries that nothing selects and Sidecars that others hide. Which those are is decided by `snapshot`, as for the
//! proxies.

use std::collections::HashMap;

use super::{Check, Findings, Severity};
use crate::config::{Document, Key};
use crate::snapshot::{HiddenSidecar, Unused, World};

const NOT_SELECTED: Check = ("TSU-WORKLOAD", Severity::Warning);
const PORT: Check = ("TSU-PORT", Severity::Warning);
const TWO_FOR_ALL: Check = ("IST0111", Severity::Error);
const TWO_SELECTING: Check = ("IST0110", Severity::Error);

pub(super) fn check(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, world: &World) {
    // Without any service, it is not known what selects them.
    let known = world.unused_workloads().filter(|_| findings.mesh.knows_services());
    for unused in known {
        let Some(document) = by_key.get(&unused.document) else {
            continue;
        };
        let (check, instead) = match unused.unused {
            Unused::Workload => (
                NOT_SELECTED,
                "the labels that a selector asks for, in the namespace of its service",
            ),
            Unused::Port => (PORT, "the name of a port of the service, or of its targetPort"),
        };
        findings.add(check, document, &*unused.field, &*unused.what, instead);
    }
    for hidden in world.hidden_sidecars() {
        if let Some(document) = by_key.get(&hidden.document) {
            sidecar(findings, document, hidden);
        }
    }
}

fn sidecar(findings: &mut Findings<'_>, document: &Document, hidden: &HiddenSidecar) {
    let older = &hidden.older;
    if hidden.for_all {
        let what =
            format!("{older} is for all workloads of the namespace, too, and older: this one is in force for none");
        return findings.add(
            TWO_FOR_ALL,
            document,
            "spec",
            what,
            "one of them, or a workloadSelector",
        );
    }
    let what = format!("{older} is older and in force for workloads that both are meant for");
    let field = "spec.workloadSelector";
    findings.add(
        TWO_SELECTING,
        document,
        field,
        what,
        "labels that no workload has together",
    );
}
