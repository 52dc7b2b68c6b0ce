//! Which endpoints are as good as which by where they are: levels, the best first, and within a level groups that share
//! its requests. Pure. Called by `cluster` at a publish; `shares` says how much each group gets.
//!
//! The order is Istio's (`pilot/pkg/networking/core/loadbalancer/loadbalancer.go`): labels in common, then the same
//! place, zone, region, the region to fail over to, the rest; `distribute` in place of all that. Within a level Istio has
//! Envoy choose a locality by its number of endpoints and then one of these; here such a level is one group, of which
//! each endpoint gets the same and the algorithm sees all.

use std::collections::BTreeMap;
use std::ops::Range;

use tsunagi_proto::model::{
    Endpoint, Health, Locality, LocalityBalancing, LocalityShares, NETWORK_LABEL, NODE_NAME_LABEL,
};

/// More than there are kinds of distance.
const DISTANCES: usize = 5;

/// Where this proxy is, and what else of it counts. What is not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `region/zone/subzone`.
    pub locality: String,
    pub labels: BTreeMap<String, String>,
    pub node_name: String,
    /// Endpoints of the proxy's own service by locality: who else calls what it calls.
    pub peers: Vec<(String, u32)>,
}

impl Place {
    /// As of an endpoint: what it has not is empty.
    fn label(&self, key: &str) -> &str {
        let node_name = Some(self.node_name.as_str()).filter(|name| key == NODE_NAME_LABEL && !name.is_empty());
        let known = Locality::of(&self.locality).label(key).or(node_name);
        known.unwrap_or_else(|| self.labels.get(key).map(String::as_str).unwrap_or_default())
    }
}

/// The endpoints in order.
#[derive(Debug, PartialEq)]
pub(super) struct Tiers {
    /// The best first; none is empty, unless there is no endpoint at all.
    pub levels: Vec<Level>,
    /// Of each endpoint its group, numbered through all levels. `None`: it gets no request, whatever happens.
    pub groups: Vec<Option<usize>>,
}

#[derive(Debug, PartialEq)]
pub(super) struct Level {
    pub groups: Range<usize>,
    pub split: Split,
}

/// How the groups of a level share its requests.
#[derive(Debug, PartialEq)]
pub(super) enum Split {
    /// There is one.
    Whole,
    /// By weight.
    Weights(Vec<u32>),
    /// As much as may be to the proxy's own.
    Zones(Zones),
}

/// `zoneAwareLbSetting`: each group is a locality.
#[derive(Debug, PartialEq)]
pub(super) struct Zones {
    /// The proxy's own, counted within the level.
    pub own: Option<usize>,
    /// Callers at each.
    pub peers: Vec<u32>,
    /// Callers at all localities, those among them where no endpoint is.
    pub all_peers: u64,
    /// With fewer healthy endpoints, localities do not matter.
    pub min_cluster_size: u64,
}

impl Tiers {
    /// Where things are does not matter: one group.
    pub fn flat(endpoints: usize) -> Self {
        Self {
            levels: vec![Level {
                groups: 0..1,
                split: Split::Whole,
            }],
            groups: vec![Some(0); endpoints],
        }
    }

    /// The level of a group.
    #[cfg(test)]
    fn level_of(&self, group: usize) -> usize {
        self.levels.partition_point(|level| level.groups.end <= group)
    }
}

pub(super) fn tiers(policy: &LocalityBalancing, place: &Place, endpoints: &[&Endpoint]) -> Tiers {
    if policy.distribute.is_empty() {
        return ranked(policy, place, endpoints);
    }
    let own = Locality::of(&place.locality);
    let mut shares = policy.distribute.iter();
    match shares.find(|shares| own.is_within(Locality::of(&shares.from))) {
        Some(shares) => distributed(shares, endpoints),
        None => Tiers::flat(endpoints.len()),
    }
}

/// One level; a group for each locality that is named. Of several that mean an endpoint the first counts.
fn distributed(shares: &LocalityShares, endpoints: &[&Endpoint]) -> Tiers {
    let named: Vec<_> = shares.to.iter().filter(|(_, weight)| *weight > 0).collect();
    let group = |endpoint: &&Endpoint| {
        let at = Locality::of(&endpoint.locality);
        named
            .iter()
            .position(|(locality, _)| at.is_within(Locality::of(locality)))
    };
    Tiers {
        levels: vec![Level {
            groups: 0..named.len(),
            split: Split::Weights(named.iter().map(|(_, weight)| *weight).collect()),
        }],
        groups: endpoints.iter().map(group).collect(),
    }
}

/// A level for each rank that an endpoint has.
fn ranked(policy: &LocalityBalancing, place: &Place, endpoints: &[&Endpoint]) -> Tiers {
    let ranks: Vec<usize> = endpoints.iter().map(|endpoint| rank(policy, place, endpoint)).collect();
    // Those that are about to end are chosen when nothing else is left: they make no level.
    let stays = |(_, endpoint): &(&usize, &&Endpoint)| endpoint.health != Health::Draining;
    let mut of_levels: Vec<usize> = ranks
        .iter()
        .zip(endpoints)
        .filter(stays)
        .map(|(rank, _)| *rank)
        .collect();
    of_levels.sort_unstable();
    of_levels.dedup();
    let Some(best) = of_levels.first() else {
        return Tiers::flat(endpoints.len());
    };
    let zones = policy.zone_aware.and_then(|zone_aware| {
        zones(zone_aware.min_cluster_size, place, endpoints, |index| {
            ranks[index] == *best
        })
    });
    let (first, localities) = zones.map_or((Split::Whole, Vec::new()), |(zones, all)| (Split::Zones(zones), all));
    let extra = localities.len().max(1) - 1;
    let mut levels = vec![Level {
        groups: 0..extra + 1,
        split: first,
    }];
    levels.extend((1..of_levels.len()).map(|level| Level {
        groups: extra + level..extra + level + 1,
        split: Split::Whole,
    }));
    let group = |(rank, endpoint): (&usize, &&Endpoint)| {
        let level = of_levels
            .partition_point(|of_level| of_level < rank)
            .min(of_levels.len() - 1);
        let within = localities
            .binary_search(&endpoint.locality.as_str())
            .unwrap_or_default();
        Some(if level == 0 { within } else { extra + level })
    };
    Tiers {
        levels,
        groups: ranks.iter().zip(endpoints).map(group).collect(),
    }
}

/// The lower, the sooner.
fn rank(policy: &LocalityBalancing, place: &Place, endpoint: &Endpoint) -> usize {
    let by_labels = labels_missed(&policy.failover_priority, place, endpoint);
    let (own, at) = (Locality::of(&place.locality), Locality::of(&endpoint.locality));
    let by_place = if policy.zone_aware.is_some() {
        region_rank(&policy.failover, own, at).saturating_sub(2)
    } else if policy.failover_priority.is_empty() || !policy.failover.is_empty() {
        region_rank(&policy.failover, own, at)
    } else {
        0
    };
    by_labels * DISTANCES + by_place
}

/// The distance, and 4 for a region to which the proxy's own does not fail over where it says to which it does.
fn region_rank(failover: &[(String, String)], own: Locality<'_>, at: Locality<'_>) -> usize {
    let target = failover
        .iter()
        .find(|(from, _)| from == own.region)
        .map(|(_, to)| to.as_str());
    match own.distance(at) {
        3 if target.is_some_and(|target| target != at.region) => 4,
        distance => distance,
    }
}

/// How many of the labels, from the first that differs on. Another network, where that is the first, is worse than
/// anything else, and the labels after it still count.
fn labels_missed(wanted: &[(String, Option<String>)], place: &Place, endpoint: &Endpoint) -> usize {
    let differs = |(key, value): &(String, Option<String>)| {
        let value = value.as_deref().unwrap_or_else(|| place.label(key));
        value != endpoint.label(key).unwrap_or_default()
    };
    let (network, rest) = match wanted.split_first() {
        Some((first, rest)) if first.0 == NETWORK_LABEL && first.1.is_none() => (Some(first), rest),
        _ => (None, wanted),
    };
    let missed = rest.iter().position(differs).map_or(0, |first| rest.len() - first);
    missed + if network.is_some_and(differs) { wanted.len() } else { 0 }
}

/// With the localities of the level's endpoints, sorted. `None`: there is nothing to choose between, or nobody knows
/// where the callers are.
fn zones<'e>(
    min_cluster_size: u64,
    place: &Place,
    endpoints: &[&'e Endpoint],
    is_of_level: impl Fn(usize) -> bool,
) -> Option<(Zones, Vec<&'e str>)> {
    let of_level = endpoints.iter().enumerate().filter(|(index, _)| is_of_level(*index));
    let staying = of_level.filter(|(_, endpoint)| endpoint.health != Health::Draining);
    let mut localities: Vec<&str> = staying.map(|(_, endpoint)| endpoint.locality.as_str()).collect();
    localities.sort_unstable();
    localities.dedup();
    let at = |locality: &str| {
        place
            .peers
            .iter()
            .find(|(of, _)| of == locality)
            .map_or(0, |(_, count)| *count)
    };
    let are_peers_known = place.peers.len() >= 2 && at(&place.locality) > 0;
    (localities.len() >= 2 && are_peers_known).then(|| {
        let zones = Zones {
            own: localities.binary_search(&place.locality.as_str()).ok(),
            peers: localities.iter().map(|locality| at(locality)).collect(),
            all_peers: place.peers.iter().map(|(_, count)| u64::from(*count)).sum(),
            min_cluster_size,
        };
        (zones, localities)
    })
}

#[cfg(test)]
#[path = "locality_tests.rs"]
mod tests;
