//! DestinationRule: how a host and its subsets are called.

use std::collections::{BTreeMap, HashSet};

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{ExportTo, TrafficPolicy, names, traffic_policy};

#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// FQDN.
    pub host: String,
    /// `None`: `trafficPolicy` is absent.
    pub policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    pub exports: ExportTo,
    /// Only for clients of its namespace that have all of these. Empty: for all.
    pub workload_selector: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    pub name: String,
    /// Empty: every endpoint of the host.
    pub labels: BTreeMap<String, String>,
    pub policy: Option<TrafficPolicy>,
}

const SPEC: Fields = Fields {
    supported: &["host", "trafficPolicy", "subsets", "exportTo"],
    later: &["workloadSelector"],
};
const SUBSET: Fields = Fields {
    supported: &["name", "labels", "trafficPolicy"],
    later: &[],
};

pub(super) fn read(spec: &Field<'_>, namespace: &str) -> Option<DestinationRule> {
    if !spec.is_message_around(&SPEC, &[("trafficPolicy", &traffic_policy::POLICY)]) {
        return None;
    }
    spec.exported_everywhere();
    let policy = spec.get("trafficPolicy").map(|field| traffic_policy::read(&field));
    let subsets = spec.get("subsets").map(|field| subsets(&field)).unwrap_or_default();
    let host = names::host(&spec.required("host")?, namespace)?;
    Some(DestinationRule {
        host,
        policy,
        subsets,
        exports: ExportTo::Everyone,
        workload_selector: BTreeMap::new(),
    })
}

fn subsets(list: &Field<'_>) -> Vec<Subset> {
    let mut subsets: Vec<Subset> = Vec::new();
    let mut seen = HashSet::new();
    for item in list.items() {
        let Some(subset) = subset(&item) else { continue };
        if !seen.insert(subset.name.clone()) {
            item.refuse_at("name", format!("{} is there twice", shown(&subset.name)));
        }
        subsets.push(subset);
    }
    subsets
}

fn subset(item: &Field<'_>) -> Option<Subset> {
    if !item.is_message_around(&SUBSET, &[("trafficPolicy", &traffic_policy::POLICY)]) {
        return None;
    }
    let labels = item.get("labels").map(|field| field.labels()).unwrap_or_default();
    let policy = item.get("trafficPolicy").map(|field| traffic_policy::read(&field));
    let field = item.required("name")?;
    let name = field.word()?;
    if !names::is_subset_name(name) {
        field.refuse(format!("{} is not a subset name", shown(name)));
    }
    Some(Subset {
        name: name.to_owned(),
        labels,
        policy,
    })
}
