//! Which endpoint gets the request.
//!
//! `LEAST_REQUEST` draws two endpoints, with replacement, and keeps the first unless the second has strictly fewer
//! requests in flight (Envoy's `least_request_lb.cc`, after Mitzenmacher's power of two choices). With unequal weights an
//! endpoint is drawn by weight / (requests in flight + 1). `ROUND_ROBIN` takes turns; with unequal weights it is the
//! smooth weighted round robin of nginx.
//!
//! When all healthy ones have left, those that are about to end still serve, and any of them is better than none (as
//! kube-proxy does with endpoints that terminate).

use std::sync::{Arc, Mutex, PoisonError};

use tsunagi_proto::model::{self, LoadBalancer};

use super::cluster::{Member, Members};
use super::{ActiveRequest, Cluster, Endpoint};

/// Random draws before the whole list is looked at.
const DRAWS: usize = 8;

/// Current weights of the smooth weighted round robin, by position.
#[derive(Debug, Default)]
pub(super) struct SmoothWeights {
    current: Mutex<Vec<i64>>,
}

/// Chooses an endpoint and counts the request towards it. Endpoints in `tried` are avoided while there are others.
/// `None`: no endpoint is healthy or draining. `random` yields uniform numbers.
pub fn choose(
    cluster: &Cluster,
    policy: &model::Cluster,
    members: &Members,
    tried: &[Arc<Endpoint>],
    random: &mut impl FnMut() -> u64,
) -> Option<ActiveRequest> {
    if members.list.is_empty()
        && let Some(last_resort) = choose_draining(&members.draining, tried, random)
    {
        return Some(last_resort);
    }
    if is_panic(policy, members) {
        let total = members.list.len() + members.unhealthy.len();
        let member = members
            .list
            .iter()
            .chain(&members.unhealthy)
            .nth(below(random(), total))?;
        return Some(member.endpoint.begin());
    }
    // A claim fails when another request became the probe in between; that endpoint is then not available.
    for _ in 0..=members.list.len() {
        let available = |member: &Member| member.endpoint.health.is_available();
        let fresh = |member: &Member| available(member) && !tried.iter().any(|t| Arc::ptr_eq(t, &member.endpoint));
        let inviting = |member: &Member| fresh(member) && !member.endpoint.is_refusing();
        let algorithm = &policy.load_balancer;
        let member = pick(cluster, algorithm, members, &inviting, random)
            .or_else(|| pick(cluster, algorithm, members, &fresh, random))
            .or_else(|| pick(cluster, algorithm, members, &available, random))?;
        if let Some(probe) = member.endpoint.health.claim() {
            return Some(member.endpoint.begin_claimed(probe));
        }
    }
    None
}

/// Any of them, but those that refused or were tried already only where there is no other.
fn choose_draining(
    draining: &[Member],
    tried: &[Arc<Endpoint>],
    random: &mut impl FnMut() -> u64,
) -> Option<ActiveRequest> {
    let fresh = |member: &&Member| !tried.iter().any(|t| Arc::ptr_eq(t, &member.endpoint));
    let inviting = |member: &&Member| fresh(member) && !member.endpoint.is_refusing();
    let point = random();
    let any_of = |usable: &dyn Fn(&&Member) -> bool| {
        let count = draining.iter().filter(usable).count();
        draining.iter().filter(usable).nth(below(point, count.max(1)))
    };
    let member = any_of(&inviting)
        .or_else(|| any_of(&fresh))
        .or_else(|| any_of(&|_| true))?;
    Some(member.endpoint.begin())
}

/// Too few are healthy: health is ignored (`minHealthPercent`).
fn is_panic(policy: &model::Cluster, members: &Members) -> bool {
    let threshold = policy
        .outlier_detection
        .as_ref()
        .map_or(0, |detection| detection.min_health_percent) as usize;
    if threshold == 0 {
        return false;
    }
    let healthy = members
        .list
        .iter()
        .filter(|member| member.endpoint.health.is_healthy())
        .count();
    healthy * 100 < threshold * (members.list.len() + members.unhealthy.len())
}

fn pick<'m>(
    cluster: &Cluster,
    algorithm: &LoadBalancer,
    members: &'m Members,
    usable: &impl Fn(&Member) -> bool,
    random: &mut impl FnMut() -> u64,
) -> Option<&'m Member> {
    match (algorithm, members.equal_weights) {
        (LoadBalancer::LeastRequest | LoadBalancer::ConsistentHash(_), true) => {
            let first = draw(members, usable, random)?;
            let second = draw(members, usable, random)?;
            let fewer = second.endpoint.active_requests() < first.endpoint.active_requests();
            Some(if fewer { second } else { first })
        }
        (LoadBalancer::LeastRequest | LoadBalancer::ConsistentHash(_), false) => {
            draw_by(members, usable, random, |member| {
                f64::from(member.weight) / (f64::from(member.endpoint.active_requests()) + 1.0)
            })
        }
        (LoadBalancer::Random, true) => draw(members, usable, random),
        (LoadBalancer::Random, false) => draw_by(members, usable, random, |member| f64::from(member.weight)),
        (LoadBalancer::RoundRobin, true) => take_turn(cluster.next_turn(), members, usable),
        (LoadBalancer::RoundRobin, false) => cluster.weights.next(members, usable),
    }
}

/// Uniform in `0..bound`; `bound` is not 0.
fn below(random: u64, bound: usize) -> usize {
    ((u128::from(random) * bound as u128) >> 64) as usize
}

/// Uniform over the usable ones.
fn draw<'m>(
    members: &'m Members,
    usable: &impl Fn(&Member) -> bool,
    random: &mut impl FnMut() -> u64,
) -> Option<&'m Member> {
    for _ in 0..DRAWS {
        let member = members.list.get(below(random(), members.list.len().max(1)))?;
        if usable(member) {
            return Some(member);
        }
    }
    take_turn(random() as usize, members, usable)
}

/// The `turn`-th of the usable ones, modulo their number.
fn take_turn<'m>(turn: usize, members: &'m Members, usable: &impl Fn(&Member) -> bool) -> Option<&'m Member> {
    let count = members.list.iter().filter(|member| usable(member)).count();
    if count == members.list.len() {
        return members.list.get(turn % count.max(1));
    }
    members
        .list
        .iter()
        .filter(|member| usable(member))
        .nth(turn % count.max(1))
}

fn draw_by<'m>(
    members: &'m Members,
    usable: &impl Fn(&Member) -> bool,
    random: &mut impl FnMut() -> u64,
    weight: impl Fn(&Member) -> f64,
) -> Option<&'m Member> {
    let candidates = || members.list.iter().filter(|member| usable(member));
    let total: f64 = candidates().map(&weight).sum();
    // 53 bits make a uniform number in [0, 1).
    let mut point = (random() >> 11) as f64 / (1u64 << 53) as f64 * total;
    for member in candidates() {
        point -= weight(member);
        if point < 0.0 {
            return Some(member);
        }
    }
    candidates().last()
}

impl SmoothWeights {
    fn next<'m>(&self, members: &'m Members, usable: &impl Fn(&Member) -> bool) -> Option<&'m Member> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.resize(members.list.len(), 0);
        let mut total = 0;
        let mut best: Option<usize> = None;
        for (index, member) in members.list.iter().enumerate().filter(|(_, member)| usable(member)) {
            let weight = i64::from(member.weight);
            total += weight;
            current[index] += weight;
            if best.is_none_or(|best| current[index] > current[best]) {
                best = Some(index);
            }
        }
        let best = best?;
        current[best] -= total;
        members.list.get(best)
    }
}

#[cfg(test)]
#[path = "balance_tests.rs"]
mod tests;
