//! WorkloadEntry, and the endpoint of the same shape inside a ServiceEntry.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::names;
use super::read::{Field, Fields};
use super::scalar::shown;

/// One endpoint of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEntry {
    pub address: IpAddr,
    /// Port name -> number, for service ports of that name.
    pub ports: BTreeMap<String, u16>,
    /// `spec.labels`, and `metadata.labels` over them.
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`; empty: unknown.
    pub locality: String,
    /// Relative; 0: not set, counts as 1.
    pub weight: u32,
    /// Empty: not set.
    pub service_account: String,
}

const SPEC: Fields = Fields {
    supported: &["address", "ports", "labels", "weight", "locality", "serviceAccount"],
    later: &["network"],
};

/// `labels` of the document's metadata go over those of the spec, as in Istio.
pub(super) fn read(spec: &Field<'_>, labels: &BTreeMap<String, String>) -> Option<WorkloadEntry> {
    if !spec.is_message(&SPEC) {
        return None;
    }
    let text = |name| {
        spec.get(name)
            .and_then(|field| field.text())
            .unwrap_or_default()
            .to_owned()
    };
    let mut entry = WorkloadEntry {
        address: IpAddr::from([0, 0, 0, 0]),
        ports: spec.get("ports").map(|field| ports(&field)).unwrap_or_default(),
        labels: spec.get("labels").map(|field| field.labels()).unwrap_or_default(),
        locality: text("locality"),
        weight: spec.get("weight").and_then(|field| weight(&field)).unwrap_or_default(),
        service_account: text("serviceAccount"),
    };
    entry
        .labels
        .extend(labels.iter().map(|(key, value)| (key.clone(), value.clone())));
    entry.address = address(&spec.required("address")?)?;
    Some(entry)
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

fn address(field: &Field<'_>) -> Option<IpAddr> {
    let text = field.word()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        let nowhere = address.is_unspecified() || address.is_multicast();
        if nowhere {
            field.refuse(format!("{address} is not the address of an endpoint"));
        }
        return Some(address);
    }
    if text.starts_with("unix://") {
        field.not_supported_yet("a Unix socket as an address");
    } else if names::is_dns_subdomain(&text.to_ascii_lowercase()) && text.contains(|c: char| c.is_ascii_alphabetic()) {
        field.not_supported_yet("a host name as an address; give an IP address");
    } else {
        field.refuse(format!("{} is not an IP address", shown(text)));
    }
    None
}
