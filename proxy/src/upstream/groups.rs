//! A cluster's endpoints in groups: among the members of one group one algorithm chooses, with everything that it needs
//! worked out when the group was made. `arrange` decides which groups there are, once a publish; `Groups::choose` which of
//! them a request meets. Without a policy for localities there is one.
//!
//! Groups are of what was told, so health plays no part here: ejected endpoints are members.

use std::ops::Range;
use std::sync::Arc;

use tsunagi_proto::model;

use super::Member;
use super::balance::Algorithm;

#[derive(Debug, Default)]
pub(super) struct Groups {
    all: Box<[Group]>,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Where its members stand, side by side, in `Members::list`.
    range: Range<usize>,
    pub algorithm: Arc<Algorithm>,
}

/// What was arranged before, to go on from: turns go on and tables stay where nothing about a group changed.
pub(super) struct Before<'a> {
    pub policy: &'a model::Cluster,
    pub list: &'a [Member],
    pub groups: &'a Groups,
}

/// Makes the groups of these members, which may be put into another order for that.
pub(super) fn arrange(
    policy: &model::Cluster,
    list: &mut [Member],
    before: Option<&Before<'_>>,
    workers: usize,
) -> Groups {
    let ranges = std::iter::once(0..list.len());
    let group = |(index, range): (usize, Range<usize>)| Group {
        algorithm: before
            .and_then(|before| before.unchanged(policy, index, &list[range.clone()]))
            .unwrap_or_else(|| Arc::new(Algorithm::new(policy, &list[range.clone()], workers))),
        range,
    };
    Groups {
        all: ranges.enumerate().map(group).collect(),
    }
}

impl Before<'_> {
    /// What the group at this place chose with, if the same members are in it still and are chosen among in the same way.
    fn unchanged(&self, policy: &model::Cluster, index: usize, members: &[Member]) -> Option<Arc<Algorithm>> {
        let group = self.groups.all.get(index)?;
        let same = self.policy.load_balancer == policy.load_balancer
            && self.policy.warmup.is_some() == policy.warmup.is_some()
            && group.of(self.list).len() == members.len()
            && group
                .of(self.list)
                .iter()
                .zip(members)
                .all(|(before, now)| before.weight == now.weight && Arc::ptr_eq(&before.endpoint, &now.endpoint));
        same.then(|| Arc::clone(&group.algorithm))
    }
}

impl Groups {
    /// The group that a request meets. `draw` is a uniform number: of a request that has a key, one that the key decides.
    pub fn choose(&self, _draw: u64) -> Option<&Group> {
        self.all.first()
    }
}

impl Group {
    /// Its members, of the list that it was made of.
    pub fn of<'m>(&self, list: &'m [Member]) -> &'m [Member] {
        list.get(self.range.clone()).unwrap_or_default()
    }
}
