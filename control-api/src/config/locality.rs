//! `localityLbSetting` and `zoneAwareLbSetting`: what the place of endpoints means for balancing. Checked as Istio checks
//! them (agent/validation.go: ValidateLocalityLbSetting, validateLocalities, ValidateZoneAwareLbSetting); what Istio takes
//! and then never looks at is refused. Called by `load_balancer`.

use std::collections::HashSet;

use tsunagi_proto::model::LocalityShares;

use super::names;
use super::read::{Field, Fields};
use super::scalar::shown;

/// What is said of localities.
#[derive(Clone, Debug, PartialEq)]
pub enum LocalitySetting {
    /// `enabled: false`: they do not matter.
    Off,
    /// `distribute`, not empty: the first whose `from` covers the client's locality decides.
    Distribute(Vec<LocalityShares>),
    /// `failover` and `failoverPriority`; both empty: the client's own zone first, then its region, then the others.
    Failover(Failover),
    /// `zoneAwareLbSetting`.
    ZoneAware { failover: Failover, min_cluster_size: u64 },
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failover {
    /// From region, to region.
    pub regions: Vec<(String, String)>,
    /// `failoverPriority`: `key` or `key=value`.
    pub priority: Vec<String>,
}

pub(super) const LOCALITY: Fields = Fields {
    supported: &["distribute", "failover", "failoverPriority", "enabled"],
    later: &[],
};
pub(super) const ZONE_AWARE: Fields = Fields {
    supported: &["enabled", "failover", "failoverPriority", "minClusterSize"],
    later: &[],
};
const DISTRIBUTE: Fields = Fields {
    supported: &["from", "to"],
    later: &[],
};
const FAILOVER: Fields = Fields {
    supported: &["from", "to"],
    later: &[],
};

/// Labels that zone awareness and `failover` are about already.
const TOPOLOGY: [&str; 3] = [
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.istio.io/subzone",
];
/// Envoy's number of endpoints with fewer of which zones do not matter.
const MIN_CLUSTER_SIZE: u64 = 6;
/// Of `from`, each of which is compared with all before it.
const MOST_ORIGINS: usize = 256;
/// All `to` of all `from`.
const MOST_SHARES: usize = 4096;
const MOST_REGIONS: usize = 256;
const MOST_LABELS: usize = 64;
const LONGEST_PLACE: usize = 253;

/// `localityLbSetting`.
pub(super) fn read(block: &Field<'_>) -> LocalitySetting {
    if !block.is_message(&LOCALITY) {
        return LocalitySetting::Off;
    }
    let enabled = block.get("enabled").and_then(|field| field.flag()).unwrap_or(true);
    let shares = block
        .get("distribute")
        .map(|list| distribute(&list))
        .unwrap_or_default();
    let failover = failover(block);
    let set = |name: &str| {
        let list = block.get(name).filter(|list| list.is_list());
        list.is_some_and(|list| !list.items().is_empty())
    };
    if set("distribute") {
        for other in ["failover", "failoverPriority"] {
            if set(other) {
                block.refuse_at(other, format!("set either `distribute` or `{other}`, not both"));
            }
        }
    } else if set("failover") {
        refuse_topology(block, "`failover` orders regions already");
    }
    match (enabled, set("distribute")) {
        (false, _) => LocalitySetting::Off,
        (true, true) => LocalitySetting::Distribute(shares),
        (true, false) => LocalitySetting::Failover(failover),
    }
}

/// `zoneAwareLbSetting`.
pub(super) fn read_zone_aware(block: &Field<'_>) -> LocalitySetting {
    if !block.is_message(&ZONE_AWARE) {
        return LocalitySetting::Off;
    }
    let enabled = block.get("enabled").and_then(|field| field.flag()).unwrap_or(true);
    let least = block
        .get("minClusterSize")
        .and_then(|field| field.number(0, i64::from(u32::MAX)));
    let failover = failover(block);
    refuse_topology(block, "regions and zones are in this order already");
    if !enabled {
        return LocalitySetting::Off;
    }
    LocalitySetting::ZoneAware {
        failover,
        min_cluster_size: least
            // None at all is as few as one: a cluster without endpoints prefers none.
            .and_then(|least| u64::try_from(least.max(1)).ok())
            .unwrap_or(MIN_CLUSTER_SIZE),
    }
}

fn distribute(list: &Field<'_>) -> Vec<LocalityShares> {
    let items = list.items();
    let shares: usize = items
        .iter()
        .filter_map(|item| item.get("to")?.value().as_object().map(|to| to.len()))
        .sum();
    if items.len() > MOST_ORIGINS || shares > MOST_SHARES {
        list.refuse(format!(
            "{} localities with {shares} shares, more than {MOST_ORIGINS} with {MOST_SHARES}",
            items.len()
        ));
        return Vec::new();
    }
    let mut read: Vec<LocalityShares> = Vec::with_capacity(items.len());
    for item in &items {
        if !item.is_message(&DISTRIBUTE) {
            continue;
        }
        let to = item.required("to").map(|to| shares_of(&to)).unwrap_or_default();
        let Some(from) = item.required("from").and_then(|from| locality(&from)) else {
            continue;
        };
        if let Some(earlier) = read.iter().find(|earlier| covers(&earlier.from, &from)) {
            let reason = format!("{} is covered by {} already", shown(&from), shown(&earlier.from));
            item.refuse_at("from", reason);
        }
        read.push(LocalityShares { from, to });
    }
    read
}

/// Sorted by locality.
fn shares_of(to: &Field<'_>) -> Vec<(String, u32)> {
    let mut shares: Vec<(String, u32)> = Vec::new();
    for (name, field) in to.entries() {
        let weight = field.number(1, 100).and_then(|weight| u32::try_from(weight).ok());
        if !is_locality(name) {
            field.refuse(NOT_A_LOCALITY);
        } else if let Some(weight) = weight {
            shares.push((name.to_owned(), weight));
        }
    }
    if shares.len() != to.entries().len() {
        return shares;
    }
    shares.sort();
    let sum: u32 = shares.iter().map(|(_, weight)| weight).sum();
    if sum != 100 {
        to.refuse(format!("the shares sum up to {sum} percent, must be 100"));
    }
    // Of a hundred percent in whole numbers there are at most a hundred shares.
    for (index, (one, _)) in shares.iter().enumerate().take(100) {
        let others = shares.iter().skip(index + 1).take(100);
        for (other, _) in others.filter(|(other, _)| covers(one, other) || covers(other, one)) {
            to.refuse(format!("{} and {} overlap", shown(one), shown(other)));
        }
    }
    shares
}

const NOT_A_LOCALITY: &str =
    "not a locality: write `region`, `region/zone` or `region/zone/subzone`, the last part may be `*`";

fn locality(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    if !is_locality(text) {
        field.refuse(format!("{} is {NOT_A_LOCALITY}", shown(text)));
        return None;
    }
    Some(text.to_owned())
}

fn is_locality(text: &str) -> bool {
    let parts: Vec<&str> = text.split('/').collect();
    let last = parts.len() - 1;
    let good = |(index, part): (usize, &&str)| is_place(part) || (*part == "*" && index == last);
    parts.len() <= 3 && parts.iter().enumerate().all(good)
}

/// A region, a zone or a subzone.
fn is_place(text: &str) -> bool {
    let odd = |c: char| c.is_control() || c.is_whitespace() || c == '*' || c == '/';
    !text.is_empty() && text.len() <= LONGEST_PLACE && !text.contains(odd)
}

/// Is every place that `narrow` means meant by `wide`, too?
fn covers(wide: &str, narrow: &str) -> bool {
    fn of(text: &str) -> &str {
        text.strip_suffix("/*").or(text.strip_suffix('*')).unwrap_or(text)
    }
    let (wide, narrow) = (of(wide), of(narrow));
    let rest = narrow.strip_prefix(wide);
    wide.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn failover(block: &Field<'_>) -> Failover {
    let list = |name| block.get(name);
    Failover {
        regions: list("failover").map(|list| regions(&list)).unwrap_or_default(),
        priority: list("failoverPriority").map(|list| priority(&list)).unwrap_or_default(),
    }
}

fn regions(list: &Field<'_>) -> Vec<(String, String)> {
    let items = list.items();
    if items.len() > MOST_REGIONS {
        list.refuse(format!("{} regions, more than {MOST_REGIONS}", items.len()));
        return Vec::new();
    }
    let mut seen = HashSet::new();
    let mut regions = Vec::with_capacity(items.len());
    for item in &items {
        if !item.is_message(&FAILOVER) {
            continue;
        }
        let region = |name| {
            let field = item.required(name)?;
            let text = field.word()?;
            if !is_place(text) {
                field.refuse(format!(
                    "{} is not a region: one name, without `/` and `*`",
                    shown(text)
                ));
                return None;
            }
            Some(text.to_owned())
        };
        let (Some(from), Some(to)) = (region("from"), region("to")) else {
            continue;
        };
        if from == to {
            item.refuse_at("to", "must be another region");
        }
        // Istio looks at the first of them.
        if !seen.insert(from.clone()) {
            item.refuse_at("from", format!("{} is there twice", shown(&from)));
        }
        regions.push((from, to));
    }
    regions
}

fn priority(list: &Field<'_>) -> Vec<String> {
    let items = list.items();
    if items.len() > MOST_LABELS {
        list.refuse(format!("{} labels, more than {MOST_LABELS}", items.len()));
        return Vec::new();
    }
    let mut labels = Vec::with_capacity(items.len());
    for item in &items {
        let Some(text) = item.word() else { continue };
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        if !names::is_label_key(key) || !names::is_label_value(value) {
            item.refuse(format!("{} is neither a label's key nor `key=value`", shown(text)));
        }
        labels.push(text.to_owned());
    }
    labels
}

fn refuse_topology(block: &Field<'_>, why: &str) {
    let Some(list) = block.get("failoverPriority").filter(|list| list.is_list()) else {
        return;
    };
    for item in list.items() {
        if TOPOLOGY.iter().any(|label| item.is(label)) {
            item.refuse(format!("must not be here: {why}"));
        }
    }
}
