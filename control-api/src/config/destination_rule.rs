//! DestinationRule: how a host and its subsets are called. Checked as Istio checks it (validation.go:
//! ValidateDestinationRule, validateSubset, validateWorkloadSelector).

use std::collections::{BTreeMap, HashSet};

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{ExportTo, LocalitySetting, TrafficPolicy, limits, names, traffic_policy, visibility};

#[derive(Clone, Debug, PartialEq)]
pub struct DestinationRule {
    /// FQDN, a wildcard in place of its first labels (`*.example.com`), `*`, or an IP address.
    pub host: String,
    /// `None`: `trafficPolicy` is absent.
    pub policy: Option<TrafficPolicy>,
    pub subsets: Vec<Subset>,
    /// With a `workloadSelector`: its own namespace alone.
    pub exports: ExportTo,
    /// Only for clients that have all of these. Empty: for all.
    pub workload_selector: BTreeMap<String, String>,
}

impl DestinationRule {
    /// Does `zoneAwareLbSetting` count anywhere in it?
    pub fn is_zone_aware(&self) -> bool {
        let of_subsets = self.subsets.iter().filter_map(|subset| subset.policy.as_ref());
        let mut policies = self.policy.iter().chain(of_subsets);
        policies.any(|policy| {
            let of_ports = policy
                .port_level
                .values()
                .filter_map(|port| port.load_balancer.as_ref());
            let mut balancers = policy.load_balancer.iter().chain(of_ports);
            balancers.any(|balancer| matches!(balancer.locality, Some(LocalitySetting::ZoneAware { .. })))
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subset {
    pub name: String,
    /// Empty: every endpoint of the host.
    pub labels: BTreeMap<String, String>,
    pub policy: Option<TrafficPolicy>,
}

const SPEC: Fields = Fields {
    supported: &["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector"],
    later: &[],
};
const SELECTOR: Fields = Fields {
    supported: &["matchLabels"],
    later: &[],
};
const SUBSET: Fields = Fields {
    supported: &["name", "labels", "trafficPolicy"],
    later: &[],
};

/// Asks for Envoy's own rules of ejecting endpoints.
pub(super) const OUTLIER_DETECTION: &str = "tsunagi.io/outlier-detection";

/// What the annotations of a rule say of its policies.
pub(super) fn read_annotations(annotations: &Field<'_>, rule: &mut DestinationRule) {
    let field = annotations.get(OUTLIER_DETECTION);
    if field.and_then(|field| field.one_of(&["envoy"])).is_none() {
        return;
    }
    let subsets = rule.subsets.iter_mut().map(|subset| &mut subset.policy);
    for policy in subsets.chain([&mut rule.policy]).flatten() {
        let ports = policy.port_level.values_mut().map(|port| &mut port.outlier_detection);
        let blocks = ports.chain([&mut policy.outlier_detection]).flatten();
        blocks.for_each(|block| block.as_envoy = true);
    }
}

pub(super) fn read(spec: &Field<'_>, namespace: &str) -> Option<DestinationRule> {
    let inner = [
        ("trafficPolicy", &traffic_policy::POLICY),
        ("workloadSelector", &SELECTOR),
    ];
    let spec = &spec.of_kind(traffic_policy::PLACES);
    if !spec.is_message_around(&SPEC, &inner) || !limits::of_destination_rule(spec) {
        return None;
    }
    let selector = spec.get("workloadSelector");
    let exports = visibility::export_of_rule(spec, namespace, selector.is_some());
    let workload_selector = selector.map(|selector| match_labels(&selector)).unwrap_or_default();
    let policy = spec.get("trafficPolicy").map(|field| traffic_policy::read(&field));
    let subsets = spec.get("subsets").map(|field| subsets(&field)).unwrap_or_default();
    let host = names::host_or_wildcard(&spec.required("host")?)?;
    let rule = DestinationRule {
        host: names::resolve(&host, namespace),
        policy,
        subsets,
        exports,
        workload_selector,
    };
    limits::of_hash_tables(spec, &rule);
    Some(rule)
}

fn match_labels(selector: &Field<'_>) -> BTreeMap<String, String> {
    if selector.is_called("labels", "matchLabels") || !selector.is_message(&SELECTOR) {
        return BTreeMap::new();
    }
    selector
        .get("matchLabels")
        .map(|labels| labels.labels())
        .unwrap_or_default()
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
