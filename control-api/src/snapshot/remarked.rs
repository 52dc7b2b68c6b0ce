//! What of a world has warnings or problems, by name: kept by `world` while it rebuilds.

use std::collections::BTreeSet;

use tsunagi_proto::shards::Shards;

/// Names of what there is something to say about: to find it, nobody looks at the rest.
#[derive(Clone, Debug, Default)]
pub(super) struct Remarked {
    pub hosts: RemarkedNames,
    pub endpoints: RemarkedNames,
    pub addresses: RemarkedNames,
}

#[derive(Clone, Debug, Default)]
pub(super) struct RemarkedNames {
    pub warnings: Shards<()>,
    /// Few: what has a problem is not stored.
    pub problems: BTreeSet<String>,
}

impl RemarkedNames {
    pub fn note(&mut self, name: &str, (warnings, problems): (bool, bool)) {
        if warnings {
            self.warnings.insert(name, ());
        } else {
            self.warnings.remove(name);
        }
        if problems {
            self.problems.insert(name.to_owned());
        } else {
            self.problems.remove(name);
        }
    }
}
