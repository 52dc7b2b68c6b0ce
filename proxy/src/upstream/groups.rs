//! A cluster's endpoints in groups: among the members of one group one algorithm chooses, with everything that it needs
//! worked out when the group was made. `arrange` decides which groups there are, once a publish; `Groups::choose` which of
//! them a request meets. Without a policy for localities there is one.
//!
//! Groups are of what was told: ejected endpoints are members. How many requests a group gets is another matter: that is
//! worked out anew (`renew`) when endpoints are ejected or return.

use std::ops::Range;
use std::sync::Arc;

use tsunagi_proto::model;

use super::Member;
use super::balance::{Algorithm, below};
use super::locality::{Level, Place, Tiers, tiers};
use super::shares::{Count, Shares, loads};

#[derive(Debug, Default)]
pub(super) struct Groups {
    all: Box<[Group]>,
    levels: Vec<Level>,
    /// Below this percentage of healthy ones health is ignored. 0: never.
    panic_percent: u32,
    shares: Shares,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    /// Where its members stand, side by side, in `Members::list`.
    range: Range<usize>,
    /// The same of `Members::unhealthy`.
    unhealthy: Range<usize>,
    pub algorithm: Arc<Algorithm>,
}

/// The members that are arranged.
pub(super) struct Arranged<'m> {
    pub list: &'m mut Vec<Member>,
    pub unhealthy: &'m mut Vec<Member>,
    pub draining: &'m mut Vec<Member>,
}

/// What was arranged before, to go on from: turns go on and tables stay where nothing about a group changed.
pub(super) struct Before<'a> {
    pub policy: &'a model::Cluster,
    pub list: &'a [Member],
    pub groups: &'a Groups,
}

/// Makes the groups of these members, which are put into another order for that; those to whom no request goes are
/// given back. The shares are to be renewed before the first request.
pub(super) fn arrange(
    policy: &model::Cluster,
    place: &Place,
    members: Arranged<'_>,
    before: Option<&Before<'_>>,
    workers: usize,
) -> (Groups, Vec<Member>) {
    let Arranged {
        list,
        unhealthy,
        draining,
    } = members;
    let all = list.iter().chain(unhealthy.iter()).chain(draining.iter());
    let Tiers { levels, groups } = match &policy.locality {
        None => Tiers::flat(all.count()),
        Some(locality) => tiers(locality, place, &all.map(|member| &*member.told).collect::<Vec<_>>()),
    };
    let (of_list, rest) = groups.split_at(list.len());
    let (of_unhealthy, of_draining) = rest.split_at(unhealthy.len());
    let count = levels.last().map_or(0, |level| level.groups.end);
    let mut unused = Vec::new();
    let ranges = gather(list, of_list, count, &mut unused);
    let unhealthy = gather(unhealthy, of_unhealthy, count, &mut unused);
    gather(draining, of_draining, count, &mut unused);
    let group = |(index, (range, unhealthy)): (usize, (Range<usize>, Range<usize>))| {
        let members = list.get(range.clone()).unwrap_or_default();
        Group {
            algorithm: before
                .and_then(|before| before.unchanged(policy, index, members))
                .unwrap_or_else(|| Arc::new(Algorithm::new(policy, members, workers))),
            range,
            unhealthy,
        }
    };
    let all: Box<[Group]> = ranges.into_iter().zip(unhealthy).enumerate().map(group).collect();
    let detection = policy.outlier_detection.as_ref();
    let groups = Groups {
        shares: Shares::new(all.len()),
        all,
        levels,
        panic_percent: detection.map_or(0, |detection| detection.min_health_percent),
    };
    (groups, unused)
}

/// Puts the members of each group side by side, in the order they had, and says where.
fn gather(
    members: &mut Vec<Member>,
    groups: &[Option<usize>],
    count: usize,
    unused: &mut Vec<Member>,
) -> Vec<Range<usize>> {
    if count == 1 && groups.iter().all(Option::is_some) {
        return std::iter::once(0..members.len()).collect();
    }
    let mut ordered: Vec<(usize, Member)> = Vec::with_capacity(members.len());
    for (member, group) in members.drain(..).zip(groups) {
        match group {
            Some(group) => ordered.push((*group, member)),
            None => unused.push(member),
        }
    }
    ordered.sort_by_key(|(group, _)| *group);
    let start = |group: usize| ordered.partition_point(|(of, _)| *of < group);
    let ranges = (0..count).map(|group| start(group)..start(group + 1)).collect();
    members.extend(ordered.into_iter().map(|(_, member)| member));
    ranges
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
    /// Works the shares out anew from who is healthy now.
    pub fn renew(&self, list: &[Member], unhealthy: &[Member]) {
        if self.all.len() == 1 && self.panic_percent == 0 {
            return;
        }
        self.shares.renew(|| {
            let count = |group: &Group| {
                let members = group.of(list);
                let is_in = |member: &&Member| !member.endpoint.health.is_out();
                let not_ready = unhealthy.get(group.unhealthy.clone()).unwrap_or_default();
                // One that was never ready is being started: nothing is missing because of it.
                let lost = not_ready.iter().filter(|member| member.endpoint.was_healthy());
                Count {
                    healthy: members.iter().filter(is_in).count() as u64,
                    serving: (members.len() + lost.count()) as u64,
                    total: (members.len() + not_ready.len()) as u64,
                }
            };
            let counts: Vec<Count> = self.all.iter().map(count).collect();
            loads(&self.levels, &counts, self.panic_percent)
        });
    }

    /// The group that a request meets. `draw` is a uniform number: of a request that has a key, one that the key decides.
    pub fn choose(&self, draw: u64) -> Option<usize> {
        match self.all.len() {
            0 => None,
            1 => Some(0),
            _ => Some(self.shares.pick(mixed(draw))),
        }
    }

    /// A group of the best level that is none of these and has somebody to take a request: of several by how many (`count`)
    /// they have.
    pub fn beyond(&self, left: &[usize], count: impl Fn(&Group) -> usize, draw: u64) -> Option<usize> {
        for (level, Level { groups, .. }) in self.levels.iter().enumerate() {
            let counts: Vec<usize> = self.all.get(groups.clone())?.iter().map(&count).collect();
            let total: usize = counts.iter().sum();
            if total == 0 || left.contains(&level) {
                continue;
            }
            let mut point = below(mixed(draw), total);
            for (group, count) in groups.clone().zip(counts) {
                match point.checked_sub(count) {
                    None => return Some(group),
                    Some(rest) => point = rest,
                }
            }
        }
        None
    }

    pub fn get(&self, group: usize) -> Option<&Group> {
        self.all.get(group)
    }

    /// The others than `group`, the best first.
    pub fn others(&self, group: usize) -> impl Iterator<Item = &Group> {
        let all = self.all.iter().enumerate();
        all.filter(move |(index, _)| *index != group).map(|(_, other)| other)
    }

    /// Is health to be ignored there?
    pub fn is_panic(&self, group: usize) -> bool {
        self.panic_percent > 0 && self.shares.is_panic(group)
    }

    /// Is health to be ignored where the member of the list is that has this place?
    pub fn is_panic_at(&self, place: usize) -> bool {
        let group = self.all.iter().position(|group| group.range.contains(&place));
        group.is_some_and(|group| self.is_panic(group))
    }

    pub fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// The level of a member of the list, or of the unhealthy, by its place there.
    pub fn level_of(&self, place: usize, is_unhealthy: bool) -> Option<usize> {
        let of = |group: &Group| {
            if is_unhealthy {
                group.unhealthy.contains(&place)
            } else {
                group.range.contains(&place)
            }
        };
        let group = self.all.iter().position(of)?;
        self.levels.iter().position(|level| level.groups.contains(&group))
    }
}

/// The same key decides within the group: of it other bits decide here (the finalizer of splitmix64).
fn mixed(draw: u64) -> u64 {
    let draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    draw ^ (draw >> 31)
}

impl Group {
    /// Its members, of the list that it was made of.
    pub fn of<'m>(&self, list: &'m [Member]) -> &'m [Member] {
        list.get(self.range.clone()).unwrap_or_default()
    }

    /// The same of those that are told unhealthy.
    pub fn unhealthy_of<'m>(&self, unhealthy: &'m [Member]) -> &'m [Member] {
        unhealthy.get(self.unhealthy.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
