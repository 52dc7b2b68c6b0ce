//! WorkloadEntry, and the endpoint of the same shape inside a ServiceEntry.

use std::collections::BTreeMap;
use std::net::IpAddr;

use tsunagi_proto::model::Locality;

use super::names;
use super::read::{Field, Fields};
use super::scalar::shown;
use super::slips;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Ip(IpAddr),
    /// In lower case: its addresses are asked of DNS by each proxy.
    Name(String),
}

impl Address {
    /// `None`: it has a name instead.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Name(_) => None,
        }
    }
}

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEntry {
    pub address: Address,
    /// Port name -> number, for service ports of that name.
    pub ports: BTreeMap<String, u16>,
    /// `spec.labels`, and `metadata.labels` over them.
    pub labels: BTreeMap<String, String>,
    /// Relative; 0: not set, counts as 1.
    pub weight: u32,
    /// `serviceAccount`: the identity of the endpoint, carried to the proxies, which will check it with mutual TLS. A
    /// DNS-1123 subdomain; empty: not set.
    pub service_account: String,
    /// `locality`, else what the labels say of it: `region/zone/subzone`. Empty: not known.
    pub locality: String,
    /// `status.conditions` of a WorkloadEntry: false once the one of type `Healthy` says `False`. Unhealthy endpoints get
    /// no requests. Default true.
    pub healthy: bool,
}

impl WorkloadEntry {
    /// One of which nothing more is known.
    pub fn at(address: Address) -> Self {
        Self {
            address,
            ports: BTreeMap::new(),
            labels: BTreeMap::new(),
            weight: 0,
            service_account: String::new(),
            locality: String::new(),
            healthy: true,
        }
    }
}

pub(super) const SPEC: Fields = Fields {
    supported: &["address", "ports", "labels", "weight", "locality", "serviceAccount"],
    later: &["network"],
};

/// Of a condition, as Kubernetes writes them.
const STATES: [&str; 3] = ["True", "False", "Unknown"];

/// `labels` of the document's metadata go over those of the spec, as in Istio.
pub(super) fn read(spec: &Field<'_>, labels: &BTreeMap<String, String>) -> Option<WorkloadEntry> {
    if !spec.is_message_around(&SPEC, &[("labels", &slips::LABELS)]) {
        return None;
    }
    let mut entry = WorkloadEntry {
        ports: spec.get("ports").map(|field| ports(&field)).unwrap_or_default(),
        labels: spec.get("labels").map(|field| field.labels()).unwrap_or_default(),
        weight: spec.get("weight").and_then(|field| weight(&field)).unwrap_or_default(),
        service_account: spec
            .get("serviceAccount")
            .and_then(|field| service_account(&field))
            .unwrap_or_default(),
        locality: spec
            .get("locality")
            .and_then(|field| locality(&field))
            .unwrap_or_default(),
        ..WorkloadEntry::at(Address::Ip(IpAddr::from([0, 0, 0, 0])))
    };
    entry
        .labels
        .extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    if entry.locality.is_empty() {
        entry.locality = Locality::of_whole_label(|key| entry.labels.get(key).map(String::as_str));
    }
    entry.address = address(&spec.required("address")?)?;
    Some(entry)
}

/// `region/zone/subzone`, of which the end may be missing. `*` is for rules: something is at one place.
fn locality(field: &Field<'_>) -> Option<String> {
    let text = field.text()?;
    if text.split('/').count() > 3 {
        field.refuse(format!("{} has more parts than region/zone/subzone", shown(text)));
    } else if text.contains('*') {
        field.refuse(format!("{} is not one place: write region/zone/subzone", shown(text)));
    } else if text.starts_with('/') {
        field.refuse(format!("{} has no region: write region/zone/subzone", shown(text)));
    }
    Some(Locality::of(text).to_string())
}

fn service_account(field: &Field<'_>) -> Option<String> {
    let name = field.text()?;
    if !name.is_empty() && !names::is_dns_subdomain(name) {
        field.refuse(format!("{} is not the name of a service account", shown(name)));
    }
    Some(name.to_owned())
}

/// What the `status` of a WorkloadEntry says of its health. Conditions of other types are somebody else's notes.
pub(super) fn is_healthy(status: &Field<'_>) -> bool {
    let conditions = if status.is_mapping() {
        status.get("conditions")
    } else {
        None
    };
    let Some(conditions) = conditions else { return true };
    let items = conditions.items();
    let of_health = items
        .iter()
        .filter(|item| item.is_mapping() && item.get("type").is_some_and(|kind| kind.is("Healthy")));
    let states: Vec<Option<&str>> = of_health.map(|item| item.required("status")?.one_of(&STATES)).collect();
    !states.contains(&Some("False"))
}

fn weight(field: &Field<'_>) -> Option<u32> {
    field
        .number(0, i64::from(u32::MAX))
        .and_then(|number| u32::try_from(number).ok())
}

fn ports(field: &Field<'_>) -> BTreeMap<String, u16> {
    let entries = field.entries();
    let numbers = entries.iter().filter_map(|(name, field)| {
        if !names::is_dns_label(&name.to_ascii_lowercase()) {
            field.refuse("not a port name");
        }
        Some(((*name).to_owned(), field.port()?))
    });
    numbers.collect()
}

fn address(field: &Field<'_>) -> Option<Address> {
    let text = field.word()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        let nowhere = address.is_unspecified() || address.is_multicast();
        if nowhere {
            field.refuse(format!("{address} is not the address of an endpoint"));
        }
        return Some(Address::Ip(address));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if text.starts_with("unix://") {
        field.not_supported_yet("a Unix socket as an address");
    } else if names::is_dns_subdomain(&name) && name.contains(|c: char| c.is_ascii_alphabetic()) {
        return Some(Address::Name(name));
    } else {
        field.refuse(format!("{} is neither an IP address nor a host name", shown(text)));
    }
    None
}
