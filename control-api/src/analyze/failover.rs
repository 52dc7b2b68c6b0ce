//! Whether outlier detection can take out so many endpoints that requests fail over entirely to where its localities lead:
//! as with Envoy they begin to when fewer than 72 % of the nearer endpoints are left (overprovisioning factor 1.4). Called by `traffic_policies` for endpoints that are all known. The order of localities is that of the proxies
//! (`upstream/locality.rs`), as a client sees it that is where one of the endpoints is.

use std::collections::{BTreeMap, HashSet};

use tsunagi_proto::model::{Locality, NETWORK_LABEL};

use super::mesh::has_labels;
use super::traffic_policies::{OUTLIER, Place};
use super::{Check, Findings, Severity};
use crate::config::{
    Algorithm, DestinationRule, Document, Failover, LoadBalancer, LocalitySetting, OutlierDetection, WorkloadEntry,
};

const FAILOVER: Check = ("TSU-FAILOVER", Severity::Info);

/// Different ones beyond which nothing is said.
const MOST_PLACES: usize = 100;
/// More than there are kinds of distance.
const DISTANCES: usize = 5;

/// Endpoints of the place, where all of them are known.
fn known_endpoints<'a>(findings: &Findings<'a>, rule: &DestinationRule, place: &Place<'_>) -> Vec<&'a WorkloadEntry> {
    let mesh = findings.mesh;
    let Some(service) = mesh
        .service(&rule.host)
        .filter(|service| mesh.knows_all_endpoints(service))
    else {
        return Vec::new();
    };
    let (ports, mut seen) = (service.ports(), HashSet::new());
    let all = mesh.endpoints(service).into_iter();
    let once = all.filter(|known| seen.insert(known.identity(&ports)));
    let entries = once.map(|known| known.entry);
    entries
        .filter(|entry| has_labels(&entry.labels, place.labels))
        .collect()
}

/// Is the share that may be ejected what the pool and its localities need?
pub(super) fn ejected_share(
    findings: &mut Findings<'_>,
    document: &Document,
    rule: &DestinationRule,
    outlier: &OutlierDetection,
    (place, field): (&Place<'_>, &str),
) {
    let (most, least) = (outlier.max_ejection_percent, outlier.min_health_percent);
    let at = format!("{field}.maxEjectionPercent");
    let endpoints = known_endpoints(findings, rule, place);
    let balancer = place.in_force.first().and_then(|policy| policy.load_balancer.as_ref());
    let needed = needed(balancer, &endpoints);
    if most == 100 && least == 0 && needed.is_none() {
        let what = "every endpoint but the last may be ejected at once";
        findings.add(OUTLIER, document, &*at, what, "less, if the rest cannot bear the load");
    }
    if least > 0 && most + least > 100 {
        let what = format!(
            "with {most} % of the endpoints ejected fewer than minHealthPercent, {least} %, are healthy: then all of them get requests again, ejected ones too"
        );
        // Zero would be the default.
        let instead = match 100 - least {
            0 => "a smaller minHealthPercent".to_owned(),
            rest => format!("maxEjectionPercent: {rest}, or a smaller minHealthPercent"),
        };
        findings.add(OUTLIER, document, &*at, what, instead);
    }
    let (total, ejectable) = (endpoints.len(), ejectable(outlier, endpoints.len()));
    if let Some(needed) = needed.filter(|needed| needed.ejected > ejectable) {
        let what = format!(
            "{most} % of {total} endpoints ejects {ejectable}, and from {} requests go over to {} entirely only once {} are: until then nearer ones that fail get some of them",
            needed.from, needed.to, needed.ejected
        );
        findings.add(FAILOVER, document, at, what, "maxEjectionPercent: 100");
    } else if total > 1 && total.saturating_mul(usize::try_from(most).unwrap_or(100)) < 100 {
        let all_the_same = if outlier.as_envoy {
            "none is ever ejected"
        } else {
            "one is ejected all the same, and no second one beside it"
        };
        let what = format!("{most} % of {total} endpoints is less than one: {all_the_same}");
        let instead = format!(
            "maxEjectionPercent: {}, for two at once",
            200_usize.div_ceil(total).min(100)
        );
        findings.add(OUTLIER, document, at, what, instead);
    }
}

/// What requests of a client need to get to the last level of its failover.
#[derive(Debug, PartialEq)]
struct Needed {
    /// So many endpoints that are ejected at once.
    ejected: usize,
    /// Where the client is.
    from: String,
    /// An endpoint of the last level.
    to: String,
}

/// So many of a pool may be ejected at once: one always, but never the last.
fn ejectable(outlier: &OutlierDetection, endpoints: usize) -> usize {
    let percent = usize::try_from(outlier.max_ejection_percent).unwrap_or(100);
    let within = endpoints.saturating_mul(percent) / 100;
    if outlier.as_envoy {
        within
    } else {
        within.max(1).min(endpoints.saturating_sub(1))
    }
}

/// Of the clients the one that needs the most. `None`: there is no failover, or nothing is certain.
fn needed(balancer: Option<&LoadBalancer>, endpoints: &[&WorkloadEntry]) -> Option<Needed> {
    let order = order(balancer)?;
    // What the mesh says of networks is not in the documents.
    let labels: Option<Vec<Label<'_>>> = order.priority.iter().map(|label| Label::of(label)).collect();
    let labels = labels?;
    let mut places: BTreeMap<Whereabouts<'_>, usize> = BTreeMap::new();
    for endpoint in endpoints {
        let seen = labels.iter().map(|label| label_of(endpoint, label.key)).collect();
        let place = Whereabouts {
            locality: &endpoint.locality,
            labels: seen,
        };
        *places.entry(place).or_default() += 1;
        if places.len() > MOST_PLACES {
            return None;
        }
    }
    // Of those that need the same the last is taken, here the first by its name.
    let needed = places.keys().rev().filter_map(|client| {
        let ranked = places
            .iter()
            .map(|(at, count)| (rank(&order, &labels, client, at), at, count));
        let (last, to, _) = ranked.clone().max_by_key(|(rank, ..)| *rank)?;
        let before = ranked
            .filter(|(rank, ..)| *rank < last)
            .map(|(_, _, count)| count)
            .sum();
        Some(Needed {
            ejected: before,
            from: client.shown(),
            to: to.shown(),
        })
    });
    needed
        .max_by_key(|needed| needed.ejected)
        .filter(|needed| needed.ejected > 0)
}

/// As `failoverPriority` has it.
struct Label<'a> {
    key: &'a str,
    /// `None`: the client's.
    value: Option<&'a str>,
}

impl<'a> Label<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        (key != NETWORK_LABEL).then_some(Self { key, value })
    }
}

/// What of an endpoint, or of a client, matters to the order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Whereabouts<'a> {
    locality: &'a str,
    /// One for each label of the order; empty: it has none.
    labels: Vec<&'a str>,
}

impl Whereabouts<'_> {
    fn shown(&self) -> String {
        match (self.locality, self.labels.as_slice()) {
            ("", []) => "no locality".to_owned(),
            ("", labels) => format!("labels {}", labels.join(",")),
            (locality, _) => locality.to_owned(),
        }
    }
}

fn label_of<'a>(endpoint: &'a WorkloadEntry, key: &str) -> &'a str {
    let own = || endpoint.labels.get(key).map(String::as_str);
    let place = Locality::of(&endpoint.locality).label(key);
    place.or_else(own).unwrap_or_default()
}

/// `None`: localities make no order.
fn order(balancer: Option<&LoadBalancer>) -> Option<Failover> {
    let Some(balancer) = balancer else {
        return Some(Failover::default());
    };
    if balancer.algorithm == Algorithm::Passthrough {
        return None;
    }
    match &balancer.locality {
        None => Some(Failover::default()),
        Some(LocalitySetting::Failover(failover)) => Some(failover.clone()),
        // Zones of a region share their requests otherwise.
        Some(LocalitySetting::Off | LocalitySetting::Distribute(_) | LocalitySetting::ZoneAware { .. }) => None,
    }
}

/// The lower, the sooner.
fn rank(order: &Failover, labels: &[Label<'_>], client: &Whereabouts<'_>, at: &Whereabouts<'_>) -> usize {
    let differs = |(index, label): (usize, &Label<'_>)| label.value.unwrap_or(client.labels[index]) != at.labels[index];
    let missed = labels
        .iter()
        .enumerate()
        .position(differs)
        .map_or(0, |first| labels.len() - first);
    let by_place = if labels.is_empty() || !order.regions.is_empty() {
        region_rank(&order.regions, Locality::of(client.locality), Locality::of(at.locality))
    } else {
        0
    };
    missed * DISTANCES + by_place
}

/// The distance, and 4 for a region to which the client's own does not fail over where it says to which it does.
fn region_rank(failover: &[(String, String)], own: Locality<'_>, at: Locality<'_>) -> usize {
    let target = failover.iter().find(|(from, _)| from == own.region);
    match own.distance(at) {
        3 if target.is_some_and(|(_, target)| target != at.region) => 4,
        distance => distance,
    }
}
