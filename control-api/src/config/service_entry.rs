//! ServiceEntry: a service by name whose endpoints are listed or selected.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{
    Protocol, ServicePort, TargetPort, TrafficDistribution, WorkloadEntry, limits, names, protocol, workload_entry,
};

/// A ServiceEntry with `resolution: STATIC`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// In lower case, as written otherwise.
    pub hosts: Vec<String>,
    pub addresses: Vec<IpAddr>,
    pub ports: Vec<ServicePort>,
    pub endpoints: ServiceEndpoints,
    /// Of its annotation. `None`: no endpoint is preferred.
    pub distribution: Option<TrafficDistribution>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ServiceEndpoints {
    Listed(Vec<WorkloadEntry>),
    /// WorkloadEntries of the same namespace with these labels.
    Selected(BTreeMap<String, String>),
}

const SPEC: Fields = Fields {
    supported: &[
        "hosts",
        "addresses",
        "ports",
        "location",
        "resolution",
        "endpoints",
        "workloadSelector",
        "exportTo",
    ],
    later: &["subjectAltNames"],
};
const PORT: Fields = Fields {
    supported: &["number", "name", "protocol", "targetPort"],
    later: &[],
};
const SELECTOR: Fields = Fields {
    supported: &["labels"],
    later: &[],
};

pub(super) fn read(spec: &Field<'_>) -> Option<ServiceEntry> {
    if !spec.is_message(&SPEC) || !limits::of_service_entry(spec) {
        return None;
    }
    spec.exported_everywhere();
    location(spec);
    resolution(spec);
    let ports = spec.required("ports").map(|field| ports(&field)).unwrap_or_default();
    Some(ServiceEntry {
        hosts: spec.required("hosts").map(|field| hosts(&field)).unwrap_or_default(),
        addresses: spec.get("addresses").map(|field| addresses(&field)).unwrap_or_default(),
        endpoints: endpoints(spec, &ports),
        ports,
        distribution: None,
    })
}

fn hosts(list: &Field<'_>) -> Vec<String> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let mut hosts: Vec<String> = items.iter().filter_map(names::host_as_written).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Says whether endpoints are part of the mesh, which changes nothing without mutual TLS.
fn location(spec: &Field<'_>) {
    let Some(field) = spec.get("location") else { return };
    if let Some(text) = field
        .text()
        .filter(|text| !["MESH_EXTERNAL", "MESH_INTERNAL"].contains(text))
    {
        field.refuse(format!("{} is neither MESH_EXTERNAL nor MESH_INTERNAL", shown(text)));
    }
}

fn resolution(spec: &Field<'_>) {
    let Some(field) = spec.get("resolution") else {
        return spec.refuse_at(
            "resolution",
            "known but not supported yet: NONE, which is the default; write STATIC",
        );
    };
    match field.text() {
        None | Some("STATIC") => {}
        Some(later @ ("NONE" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS")) => field.not_supported_yet(later),
        Some(other) => field.refuse(format!("{} is not a resolution", shown(other))),
    }
}

fn addresses(list: &Field<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for item in list.items() {
        if item.text().is_some_and(|text| text.contains('/')) {
            item.not_supported_yet("a range of addresses");
        } else if item.is_text() {
            addresses.extend(item.address());
        }
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

fn ports(list: &Field<'_>) -> Vec<ServicePort> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let mut ports: Vec<ServicePort> = Vec::with_capacity(items.len());
    let (mut numbers, mut names) = (HashSet::new(), HashSet::new());
    for item in &items {
        let Some(port) = port(item) else { continue };
        if !numbers.insert(port.number) {
            item.refuse_at("number", format!("{} is there twice", port.number));
        }
        if !port.name.is_empty() && !names.insert(port.name.clone()) {
            item.refuse_at("name", format!("{} is there twice", shown(&port.name)));
        }
        ports.push(port);
    }
    ports
}

fn port(item: &Field<'_>) -> Option<ServicePort> {
    if !item.is_message(&PORT) {
        return None;
    }
    let name = item
        .required("name")
        .and_then(|field| field.word().map(str::to_owned))
        .unwrap_or_default();
    if !name.is_empty() && !names::is_subset_name(&name) {
        item.refuse_at("name", format!("{} is not a port name", shown(&name)));
    }
    let declared = item.get("protocol").and_then(|field| declared(&field));
    let number = item.required("number")?.port()?;
    let target = item.get("targetPort").and_then(|field| field.port()).unwrap_or(number);
    Some(ServicePort {
        number,
        target: TargetPort::Number(target),
        protocol: declared.unwrap_or_else(|| protocol::of_port(None, &name)),
        name,
    })
}

fn declared(field: &Field<'_>) -> Option<Protocol> {
    let text = field.text().filter(|text| !text.is_empty())?;
    match protocol::of_service_entry(text) {
        protocol::Declared::Supported(protocol) => return Some(protocol),
        protocol::Declared::Later => field.not_supported_yet(text),
        protocol::Declared::Unknown => field.refuse(format!("{} is not a protocol", shown(text))),
    }
    None
}

fn endpoints(spec: &Field<'_>, ports: &[ServicePort]) -> ServiceEndpoints {
    let Some(selector) = spec.get("workloadSelector") else {
        return ServiceEndpoints::Listed(
            spec.get("endpoints")
                .map(|list| listed(&list, ports))
                .unwrap_or_default(),
        );
    };
    if spec.get("endpoints").is_some() {
        selector.refuse("only one of workloadSelector and endpoints may be set");
    }
    let mut labels = BTreeMap::new();
    if selector.is_message(&SELECTOR) {
        labels = selector
            .required("labels")
            .map(|field| field.labels())
            .unwrap_or_default();
    }
    ServiceEndpoints::Selected(labels)
}

fn listed(list: &Field<'_>, ports: &[ServicePort]) -> Vec<WorkloadEntry> {
    let mut entries = Vec::new();
    let known: HashSet<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    for item in list.items() {
        let Some(entry) = workload_entry::read(&item, &BTreeMap::new()) else {
            continue;
        };
        for name in entry.ports.keys().filter(|name| !known.contains(name.as_str())) {
            let Some(of_endpoint) = item.get("ports") else { continue };
            of_endpoint.refuse_at(name, "no port of this ServiceEntry has this name");
        }
        entries.push(entry);
    }
    entries
}
