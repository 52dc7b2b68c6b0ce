//! Which endpoint gets the request: of the group that it meets, by the algorithm of its cluster.
//!
//! `LEAST_REQUEST` draws two endpoints, with replacement, and keeps the first unless the second has strictly fewer
//! requests in flight (Envoy's `least_request_lb.cc`, after Mitzenmacher's power of two choices). With unequal weights the
//! two are drawn by weight and compared by requests in flight for their weight (Wieder, "Balanced Allocations with
//! Heterogenous Bins"): idle ones get exactly the shares that their weights say, and it takes no longer with many of them.
//! `ROUND_ROBIN` takes turns, see `round_robin`. An endpoint that warms up is passed over as often as it lacks weight.
//! With `consistentHash` the request's key decides, see `consistent_hash`; while nobody is there to take a request, it is the
//! next one's on the key's way.
//!
//! When all healthy ones have left, those that are about to end still serve, and any of them is better than none (as
//! kube-proxy does with endpoints that terminate).

mod alias;
mod consistent_hash;
mod key;
mod maglev;
mod ring;
mod round_robin;
mod warmup;

use std::net::SocketAddr;
use std::sync::Arc;

use tsunagi_proto::model::{self, ConsistentHash, HashKey, LoadBalancer, Warmup};

use self::alias::AliasTable;
pub(super) use self::alias::below;
use self::consistent_hash::Table;
pub use self::key::{CookieKey, RequestKey, hash_address, hash_text, hash_values};
use self::round_robin::RoundRobin;
pub(super) use self::warmup::Warming;
use super::cluster::{Member, Members};
use super::groups::Group;
use super::{ActiveRequest, ClientAddresses, Endpoint};

/// Random draws before the whole list is looked at.
const DRAWS: usize = 8;

/// What of a request matters to the choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Caller<'a> {
    /// Avoided while there are others.
    pub tried: &'a [Arc<Endpoint>],
    /// Of these the whole priority levels are avoided, while there are others with somebody to take a request.
    pub left: &'a [Arc<Endpoint>],
    /// Of its key, where the cluster has one and the request too: equal ones go to the same endpoint.
    pub hash: Option<u64>,
    /// Each worker takes turns by itself.
    pub worker: usize,
    /// Whom the PROXY protocol tells of, where the cluster has it.
    pub client: Option<ClientAddresses>,
}

impl Caller<'_> {
    /// Of a connection of which only its client's address is known.
    pub fn connection(policy: &model::Cluster, remote: Option<SocketAddr>, worker: usize) -> Self {
        let by_address = |hash: &ConsistentHash| hash.key == HashKey::SourceAddress;
        let hashed = matches!(&policy.load_balancer, LoadBalancer::ConsistentHash(hash) if by_address(hash));
        Self {
            tried: &[],
            left: &[],
            hash: remote.filter(|_| hashed).map(|remote| hash_address(remote.ip())),
            worker,
            client: None,
        }
    }
}

/// How the members of a group are chosen among: what can be worked out before a request comes, and whose turn it is.
#[derive(Debug)]
pub(super) enum Algorithm {
    /// `None`: their weights are equal.
    LeastRequest(Option<AliasTable>),
    Random(Option<AliasTable>),
    RoundRobin(RoundRobin),
    ConsistentHash(Table),
}

impl Algorithm {
    pub fn new(policy: &model::Cluster, members: &[Member], workers: usize) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.weight).collect();
        match &policy.load_balancer {
            LoadBalancer::LeastRequest => Self::LeastRequest(AliasTable::of(&weights)),
            LoadBalancer::ConsistentHash(hash) => Self::ConsistentHash(Table::new(hash.table, members)),
            LoadBalancer::Random => Self::Random(AliasTable::of(&weights)),
            LoadBalancer::RoundRobin => Self::RoundRobin(RoundRobin::new(&weights, policy.warmup.is_some(), workers)),
        }
    }
}

/// Chooses an endpoint and counts the request towards it. `None`: no endpoint is healthy or draining. `random` yields
/// uniform numbers.
pub fn choose(
    policy: &model::Cluster,
    members: &Members,
    caller: &Caller<'_>,
    random: &mut impl FnMut() -> u64,
) -> Option<ActiveRequest> {
    let tried = caller.tried;
    if members.list.is_empty()
        && let Some(last_resort) = choose_draining(&members.draining, tried, caller.hash, random)
    {
        return Some(last_resort);
    }
    // A claim fails when another request became the probe in between; that endpoint is then not available.
    for _ in 0..=members.list.len() {
        let draw = caller.hash.unwrap_or_else(&mut *random);
        let beyond = match caller.left {
            [] => None,
            left => beyond(members, left, draw),
        };
        let index = beyond.or_else(|| members.groups.choose(draw))?;
        let group = members.groups.get(index)?;
        if members.groups.is_panic(index) {
            return Some(in_panic(policy, members, group, caller, random)?.endpoint.begin());
        }
        let member = choose_in(policy, members, (index, group), caller, random)?;
        if let Some(probe) = member.endpoint.health.claim() {
            return Some(member.endpoint.begin_claimed(probe));
        }
    }
    None
}

/// A group of the best level that none of these is of.
fn beyond(members: &Members, left: &[Arc<Endpoint>], draw: u64) -> Option<usize> {
    let of = |endpoint: &Arc<Endpoint>| {
        let place = members.list.iter().position(|it| Arc::ptr_eq(&it.endpoint, endpoint))?;
        members.groups.level_of(place, false)
    };
    let left: Vec<usize> = left.iter().filter_map(of).collect();
    let count = |group: &Group| {
        let all = group.of(&members.list).iter();
        all.filter(|member| member.endpoint.health.is_available()).count()
    };
    members.groups.beyond(&left, count, draw)
}

/// One of the group, if there is one that was not tried, else of the other groups, the best first; else one that was.
fn choose_in<'m>(
    policy: &model::Cluster,
    members: &'m Members,
    (index, group): (usize, &Group),
    caller: &Caller<'_>,
    random: &mut impl FnMut() -> u64,
) -> Option<&'m Member> {
    let tried = caller.tried;
    let available = |member: &Member| member.endpoint.health.is_available();
    let fresh = |member: &Member| available(member) && !tried.iter().any(|t| Arc::ptr_eq(t, &member.endpoint));
    let inviting = |member: &Member| fresh(member) && !member.endpoint.is_refusing();
    let choice = |group: &Group| Choice {
        members: group.of(&members.list),
        caller,
        warmup: policy.warmup.as_ref(),
    };
    let first = choice(group)
        .pick(&group.algorithm, &inviting, random)
        .or_else(|| choice(group).pick(&group.algorithm, &fresh, random));
    if first.is_some() || !members.groups.are_several() {
        return first.or_else(|| choice(group).pick(&group.algorithm, &available, random));
    }
    let mut others = members.groups.others(index);
    let elsewhere = others.find_map(|other| choice(other).pick(&other.algorithm, &inviting, random));
    let mut others = members.groups.others(index);
    elsewhere
        .or_else(|| others.find_map(|other| choice(other).pick(&other.algorithm, &fresh, random)))
        .or_else(|| choice(group).pick(&group.algorithm, &available, random))
        .or_else(|| {
            let mut others = members.groups.others(index);
            others.find_map(|other| choice(other).pick(&other.algorithm, &available, random))
        })
}

/// Any of them, but those that refused or were tried already only where there is no other.
fn choose_draining(
    draining: &[Member],
    tried: &[Arc<Endpoint>],
    hash: Option<u64>,
    random: &mut impl FnMut() -> u64,
) -> Option<ActiveRequest> {
    let fresh = |member: &&Member| !tried.iter().any(|t| Arc::ptr_eq(t, &member.endpoint));
    let inviting = |member: &&Member| fresh(member) && !member.endpoint.is_refusing();
    let point = hash.unwrap_or_else(random);
    let any_of = |usable: &dyn Fn(&&Member) -> bool| {
        let count = draining.iter().filter(usable).count();
        draining.iter().filter(usable).nth(below(point, count.max(1)))
    };
    let member = any_of(&inviting)
        .or_else(|| any_of(&fresh))
        .or_else(|| any_of(&|_| true))?;
    Some(member.endpoint.begin())
}

/// Any of the group, by its algorithm and weights, as if all were healthy: one that was not tried and has not just refused,
/// if there is one.
fn in_panic<'m>(
    policy: &model::Cluster,
    members: &'m Members,
    group: &Group,
    caller: &Caller<'_>,
    random: &mut impl FnMut() -> u64,
) -> Option<&'m Member> {
    let fresh = |member: &Member| !caller.tried.iter().any(|tried| Arc::ptr_eq(tried, &member.endpoint));
    let inviting = |member: &Member| fresh(member) && !member.endpoint.is_refusing();
    let choice = Choice {
        members: group.of(&members.list),
        caller,
        warmup: policy.warmup.as_ref(),
    };
    let unhealthy = group.unhealthy_of(&members.unhealthy);
    choice
        .pick_beside(unhealthy, &group.algorithm, &inviting, random)
        .or_else(|| choice.pick_beside(unhealthy, &group.algorithm, &fresh, random))
        .or_else(|| choice.pick_beside(unhealthy, &group.algorithm, &|_| true, random))
}

/// One request and the group that it meets.
struct Choice<'m, 'c> {
    members: &'m [Member],
    caller: &'c Caller<'c>,
    warmup: Option<&'c Warmup>,
}

impl<'m> Choice<'m, '_> {
    fn pick(
        &self,
        algorithm: &Algorithm,
        usable: &impl Fn(&Member) -> bool,
        random: &mut impl FnMut() -> u64,
    ) -> Option<&'m Member> {
        match algorithm {
            Algorithm::LeastRequest(table) => {
                let first = self.draw(table.as_ref(), self.warmup, usable, random)?;
                let second = self.draw(table.as_ref(), self.warmup, usable, random)?;
                let weighted = table.is_some() || self.warmup.is_some();
                Some(if self.is_less_busy(second, first, weighted) {
                    second
                } else {
                    first
                })
            }
            Algorithm::Random(table) => self.draw(table.as_ref(), None, usable, random),
            Algorithm::RoundRobin(turns) => {
                let at = |place: usize| self.members.get(place);
                let place = turns.next(
                    self.caller.worker,
                    self.members.len(),
                    |place| at(place).is_some_and(usable),
                    |place| at(place).map_or(1.0, |member| share(self.warmup, member)),
                    random,
                )?;
                at(place)
            }
            Algorithm::ConsistentHash(table) => {
                let hash = self.caller.hash.unwrap_or_else(random);
                let at = |place: usize| self.members.get(place);
                at(table.find(hash, self.members.len(), |place| at(place).is_some_and(usable))?)
            }
        }
    }

    /// As `pick`, but for those who stand beside the group's members: they get as much as their weights say. A key leads to
    /// them only where none of the others will do.
    fn pick_beside(
        &self,
        beside: &'m [Member],
        algorithm: &Algorithm,
        usable: &impl Fn(&Member) -> bool,
        random: &mut impl FnMut() -> u64,
    ) -> Option<&'m Member> {
        let weight = |members: &[Member]| -> usize {
            let usable = members.iter().filter(|member| usable(member));
            usable.map(|member| member.weight as usize).sum()
        };
        let has_key = self.caller.hash.is_some() && matches!(algorithm, Algorithm::ConsistentHash(_));
        let share = if has_key { 0 } else { weight(beside) };
        if share > 0 && below(random(), share + weight(self.members)) < share {
            return draw_by(beside, usable, |member| f64::from(member.weight), random);
        }
        self.pick(algorithm, usable, random)
            .or_else(|| draw_by(beside, usable, |member| f64::from(member.weight), random))
    }

    /// Strictly.
    fn is_less_busy(&self, one: &Member, other: &Member, weighted: bool) -> bool {
        let active = |member: &Member| member.endpoint.active_requests();
        if !weighted {
            return active(one) < active(other);
        }
        let load =
            |member: &Member| f64::from(active(member)) / (f64::from(member.weight) * share(self.warmup, member));
        load(one) < load(other)
    }

    /// One of the usable ones, by weight.
    fn draw(
        &self,
        table: Option<&AliasTable>,
        warmup: Option<&Warmup>,
        usable: &impl Fn(&Member) -> bool,
        random: &mut impl FnMut() -> u64,
    ) -> Option<&'m Member> {
        for _ in 0..DRAWS {
            let place = match table {
                None => below(random(), self.members.len().max(1)),
                Some(table) => table.draw(random()),
            };
            let member = self.members.get(place)?;
            if usable(member) && stays(share(warmup, member), random) {
                return Some(member);
            }
        }
        let share = |member: &Member| f64::from(member.weight) * share(warmup, member);
        draw_by(self.members, usable, share, random)
    }
}

/// Of its weight: less than 1 while it warms up.
fn share(warmup: Option<&Warmup>, member: &Member) -> f64 {
    warmup.map_or(1.0, |warmup| member.endpoint.warming.share(warmup))
}

fn stays(share: f64, random: &mut impl FnMut() -> u64) -> bool {
    share >= 1.0 || unit(random()) < share
}

/// Uniform in [0, 1), of 53 bits.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// Looks at all of them: for the few draws that found none.
fn draw_by<'m>(
    members: &'m [Member],
    usable: &impl Fn(&Member) -> bool,
    weight: impl Fn(&Member) -> f64,
    random: &mut impl FnMut() -> u64,
) -> Option<&'m Member> {
    let candidates = || members.iter().filter(|member| usable(member));
    let total: f64 = candidates().map(&weight).sum();
    let mut point = unit(random()) * total;
    for member in candidates() {
        point -= weight(member);
        if point < 0.0 {
            return Some(member);
        }
    }
    candidates().last()
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "balance_properties.rs"]
mod properties;
