//! Where something is: `region/zone/subzone`, and the labels that say the same. Called by both planes: the control plane
//! joins it from what Kubernetes and WorkloadEntries say, the proxy compares its own with that of endpoints.

use std::fmt;

/// Kubernetes' and Istio's labels for the parts of a locality, and for the machine.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
pub const SUBZONE_LABEL: &str = "topology.istio.io/subzone";
pub const NODE_NAME_LABEL: &str = "kubernetes.io/hostname";
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
/// A whole locality, the newer name first. A label's value has no slashes: dots stand for them.
const LOCALITY_LABELS: [&str; 2] = ["topology.istio.io/locality", "istio-locality"];

/// What is not known is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Locality<'a> {
    pub region: &'a str,
    pub zone: &'a str,
    pub subzone: &'a str,
}

impl<'a> Locality<'a> {
    /// Parts beyond the third mean nothing.
    pub fn of(text: &'a str) -> Self {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        Self {
            region: next(),
            zone: next(),
            subzone: next(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Does `rule` mean it? `*`, or nothing for a zone or subzone, means any.
    pub fn is_within(&self, rule: Locality<'_>) -> bool {
        let any = |wanted: &str| wanted == "*" || wanted.is_empty();
        (rule.region == "*" || rule.region == self.region)
            && (any(rule.zone) || rule.zone == self.zone)
            && (any(rule.subzone) || rule.subzone == self.subzone)
    }

    /// 0: the same; 1: of the same zone; 2: of the same region; 3: of another region.
    pub fn distance(&self, other: Locality<'_>) -> usize {
        if self.region != other.region {
            3
        } else if self.zone != other.zone {
            2
        } else if self.subzone != other.subzone {
            1
        } else {
            0
        }
    }

    /// What the label of this name would say; `None`: it is no label of a locality, or that part is not known.
    pub fn label(&self, key: &str) -> Option<&'a str> {
        let value = match key {
            REGION_LABEL => self.region,
            ZONE_LABEL => self.zone,
            SUBZONE_LABEL => self.subzone,
            _ => "",
        };
        (!value.is_empty()).then_some(value)
    }

    /// What these labels say, by `label`. The parts' own labels go over that of the whole. Empty: they say nothing.
    pub fn of_labels<'l>(label: impl Fn(&str) -> Option<&'l str>) -> String {
        let part = |key: &str| label(key).unwrap_or_default();
        let parts = Locality {
            region: part(REGION_LABEL),
            zone: part(ZONE_LABEL),
            subzone: part(SUBZONE_LABEL),
        };
        if !parts.is_empty() {
            return parts.to_string();
        }
        Self::of_whole_label(label)
    }

    /// Of the label of a whole locality alone.
    pub fn of_whole_label<'l>(label: impl Fn(&str) -> Option<&'l str>) -> String {
        let whole = LOCALITY_LABELS.into_iter().find_map(label).unwrap_or_default();
        let whole = if whole.contains('/') {
            whole.to_owned()
        } else {
            whole.replace('.', "/")
        };
        Locality::of(&whole).to_string()
    }
}

/// Without what is empty at the end.
impl fmt::Display for Locality<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.region, self.zone, self.subzone];
        let known = parts
            .iter()
            .rposition(|part| !part.is_empty())
            .map_or(0, |last| last + 1);
        f.write_str(&parts[..known].join("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locality_is_read_and_shown_without_its_empty_end() {
        for (text, shown) in [
            ("r/z/s", "r/z/s"),
            ("r/z/", "r/z"),
            ("r//s", "r//s"),
            ("r", "r"),
            ("", ""),
            ("//", ""),
            ("r/z/s/more", "r/z/s"),
        ] {
            assert_eq!(Locality::of(text).to_string(), shown);
        }
    }

    #[test]
    fn distance_grows_from_the_same_place_to_another_region() {
        let here = Locality::of("r/z/s");
        let distances = ["r/z/s", "r/z/t", "r/z", "r/y/s", "r", "q/z/s", ""];
        let distances = distances.map(|other| here.distance(Locality::of(other)));
        assert_eq!(distances, [0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(Locality::default().distance(Locality::of("")), 0);
    }

    #[test]
    fn a_rule_without_an_end_or_with_a_star_means_any() {
        let here = Locality::of("r/z/s");
        for rule in ["*", "r", "r/*", "r/z", "r/z/*", "r/z/s", "r/*/s", "*/z"] {
            assert!(here.is_within(Locality::of(rule)), "{rule}");
        }
        for rule in ["q", "r/y", "r/z/t", "", "q/*"] {
            assert!(!here.is_within(Locality::of(rule)), "{rule}");
        }
    }

    #[test]
    fn labels_say_a_locality_and_the_labels_of_its_parts_go_first() {
        let of = |labels: &'static [(&'static str, &'static str)]| {
            Locality::of_labels(|key| labels.iter().find(|(known, _)| *known == key).map(|(_, value)| *value))
        };
        assert_eq!(of(&[("istio-locality", "eu.a.1")]), "eu/a/1");
        assert_eq!(of(&[("istio-locality", "eu/a.b")]), "eu/a.b");
        assert_eq!(
            of(&[("istio-locality", "eu.a"), ("topology.istio.io/locality", "us.b")]),
            "us/b"
        );
        assert_eq!(
            of(&[("istio-locality", "eu.a"), (ZONE_LABEL, "z"), (REGION_LABEL, "r")]),
            "r/z"
        );
        assert_eq!(of(&[("app", "x")]), "");
    }
}
