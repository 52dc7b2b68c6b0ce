//! Addresses and hosts of one word that several services have. Which of them is meant is decided by `snapshot`, as for the
//! proxies.

use std::collections::HashMap;

use super::{Check, Findings, Severity};
use crate::config::{Document, Key};
use crate::snapshot::{Sharing, World};

const SAME_ADDRESS: Check = ("TSU-SAME-ADDRESS", Severity::Warning);
const SAME_HOST: Check = ("TSU-SAME-HOST", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, world: &World) {
    for shared in world.shared_names() {
        let Some(document) = by_key.get(&shared.document) else {
            continue;
        };
        let (check, instead) = match shared.sharing {
            Sharing::Address => (SAME_ADDRESS, "an address of its own"),
            Sharing::Word => (SAME_HOST, "another word, or a name with a dot"),
            Sharing::Service => (SAME_HOST, "a name with a dot, if it is to be a service of its own"),
        };
        findings.add(check, document, shared.field, shared.what, instead);
    }
}
