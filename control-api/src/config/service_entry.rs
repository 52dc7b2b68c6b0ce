//! ServiceEntry: a service by name, and where its endpoints are known from: listed, selected, asked of DNS, or not at all.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{
    About, Protocol, ServicePort, TargetPort, TrafficDistribution, WorkloadEntry, limits, names, protocol,
    workload_entry,
};

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceEntry {
    /// In lower case, as written otherwise: names, or wildcards in the place of a name's first labels.
    pub hosts: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Addresses by the range, without host bits.
    pub ranges: Vec<IpNet>,
    pub ports: Vec<ServicePort>,
    /// `resolution`. Default `NONE`.
    pub resolution: Resolution,
    /// Listed ones are of addresses with `STATIC`, of addresses or names with `DNS` and `DNS_ROUND_ROBIN` (at most one), where
    /// without any the hosts themselves are the endpoints. `NONE` has none.
    pub endpoints: ServiceEndpoints,
    /// `subjectAltNames`: names of which the endpoints' certificate must have one, where a DestinationRule says that TLS is
    /// spoken to them and names none itself.
    pub subject_alt_names: Vec<String>,
    /// Of its annotation. `None`: no endpoint is preferred.
    pub distribution: Option<TrafficDistribution>,
}

impl ServiceEntry {
    /// Its ports of TCP are at every address that nobody has.
    pub fn is_at_any_address(&self) -> bool {
        self.resolution == Resolution::None && self.addresses.is_empty() && self.ranges.is_empty()
    }
}

/// Where the endpoints of a ServiceEntry are known from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolution {
    /// From nowhere: connections go where the client connected to.
    #[default]
    None,
    Static,
    Dns,
    DnsRoundRobin,
}

impl Resolution {
    pub fn is_dns(self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
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
        "subjectAltNames",
    ],
    later: &[],
};
const PORT: Fields = Fields {
    supported: &["number", "name", "protocol", "targetPort"],
    later: &[],
};
const SELECTOR: Fields = Fields {
    supported: &["labels"],
    later: &[],
};
const RESOLUTIONS: [&str; 4] = ["NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN"];

pub(super) fn read(spec: &Field<'_>) -> Option<ServiceEntry> {
    let inner = [
        ("ports[]", &PORT),
        ("endpoints[]", &workload_entry::SPEC),
        ("workloadSelector", &SELECTOR),
    ];
    if !spec.is_message_around(&SPEC, &inner) || !limits::of_service_entry(spec) {
        return None;
    }
    spec.exported_everywhere();
    location(spec);
    let resolution = resolution(spec);
    let ports = spec.required("ports").map(|field| ports(&field)).unwrap_or_default();
    let (addresses, ranges) = spec.get("addresses").map(|field| addresses(&field)).unwrap_or_default();
    let entry = ServiceEntry {
        hosts: spec.required("hosts").map(|field| hosts(&field)).unwrap_or_default(),
        addresses,
        ranges,
        resolution,
        endpoints: endpoints(spec, &ports, resolution),
        subject_alt_names: spec
            .get("subjectAltNames")
            .map(|list| subject_alt_names(&list))
            .unwrap_or_default(),
        ports,
        distribution: None,
    };
    check_resolution(spec, &entry);
    check_addresses(spec, &entry);
    Some(entry)
}

/// Connections that name nobody are known by their address. Of `NONE`, a TCP port is at every address.
fn check_addresses(spec: &Field<'_>, entry: &ServiceEntry) {
    // One of the cluster has its Service's address.
    let is_external = |host: &String| host.contains('.') && !host.ends_with(&format!(".svc.{DEFAULT_CLUSTER_DOMAIN}"));
    if !entry.addresses.is_empty() || !entry.ranges.is_empty() || !entry.hosts.iter().any(is_external) {
        return;
    }
    let opaque = match entry.resolution {
        Resolution::None => None,
        _ => Some((Protocol::Tcp, "connections of a TCP port")),
    };
    let detected = (
        Protocol::Detect,
        "connections of a port without a protocol that turn out to be neither HTTP nor TLS",
    );
    for (protocol, connections) in opaque.into_iter().chain([detected]) {
        if entry.ports.iter().any(|port| port.protocol == protocol) {
            let what = format!(
                "{connections} are known by their address, and there are no `addresses`: redirected ones go where they head, untouched, whatever DestinationRules say"
            );
            spec.remark_at("ports", About::Addresses, what);
        }
    }
}

/// What only makes sense with some resolutions, as Istio checks it.
fn check_resolution(spec: &Field<'_>, entry: &ServiceEntry) {
    let listed = match &entry.endpoints {
        ServiceEndpoints::Listed(listed) => listed.len(),
        ServiceEndpoints::Selected(_) => 0,
    };
    match entry.resolution {
        Resolution::None if listed > 0 => {
            spec.refuse_at(
                "endpoints",
                "with resolution NONE, which is the default, there are none",
            );
        }
        Resolution::DnsRoundRobin if listed > 1 => {
            spec.refuse_at("endpoints", "with resolution DNS_ROUND_ROBIN there is at most one");
        }
        _ => {}
    }
    if entry.resolution.is_dns() {
        if !entry.ranges.is_empty() {
            spec.refuse_at("addresses", "ranges are only for the resolutions NONE and STATIC");
        }
        if listed == 0 && entry.hosts.iter().any(|host| host.starts_with('*')) {
            spec.refuse_at(
                "hosts",
                "without endpoints DNS is asked for the hosts, which a wildcard is not",
            );
        }
    }
    let is_opaque = |port: &ServicePort| port.protocol == Protocol::Tcp;
    if entry.resolution != Resolution::None && entry.hosts.len() > 1 && entry.ports.iter().any(is_opaque) {
        spec.refuse_at(
            "hosts",
            "only one: connections of a TCP port do not say which of several they are for",
        );
    }
}

fn subject_alt_names(list: &Field<'_>) -> Vec<String> {
    let items = list.items();
    items.iter().filter_map(|item| Some(item.word()?.to_owned())).collect()
}

fn hosts(list: &Field<'_>) -> Vec<String> {
    let items = list.items();
    if items.is_empty() && list.is_list() {
        list.refuse("must not be empty");
    }
    let mut hosts: Vec<String> = items.iter().filter_map(host).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Says whether endpoints are part of the mesh, which changes nothing without mutual TLS.
fn location(spec: &Field<'_>) {
    if let Some(field) = spec.get("location") {
        field.one_of(&["MESH_EXTERNAL", "MESH_INTERNAL"]);
    }
}

fn host(item: &Field<'_>) -> Option<String> {
    match item.text() {
        Some("*") => {
            item.refuse("a ServiceEntry is for names: `*` would be all of them");
            None
        }
        Some(text) if text.starts_with('*') => names::host_or_wildcard(item),
        _ => names::host_as_written(item),
    }
}

fn resolution(spec: &Field<'_>) -> Resolution {
    let Some(field) = spec.get("resolution") else {
        return Resolution::None;
    };
    match field.choice(&RESOLUTIONS) {
        None | Some("NONE") => {}
        Some("STATIC") => return Resolution::Static,
        Some("DNS") => return Resolution::Dns,
        Some("DNS_ROUND_ROBIN") => return Resolution::DnsRoundRobin,
        Some("DYNAMIC_DNS") => field.not_supported_yet("DYNAMIC_DNS"),
        Some(other) => field.refuse_choice(other, &RESOLUTIONS),
    }
    Resolution::None
}

/// Single ones, and ranges.
fn addresses(list: &Field<'_>) -> (Vec<IpAddr>, Vec<IpNet>) {
    let (mut addresses, mut ranges) = (Vec::new(), Vec::new());
    for item in list.items() {
        match item.text().filter(|text| text.contains('/')) {
            Some(text) => match text.parse::<IpNet>() {
                Ok(range) if range.prefix_len() == range.max_prefix_len() => addresses.push(range.addr()),
                Ok(range) => ranges.push(range.trunc()),
                Err(_) => item.refuse(format!("{} is neither a CIDR nor an IP address", shown(text))),
            },
            None if item.is_text() => addresses.extend(item.address()),
            None => {}
        }
    }
    addresses.sort();
    addresses.dedup();
    ranges.sort();
    ranges.dedup();
    (addresses, ranges)
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
    // Zero is not set, as in Istio.
    let target = item.get("targetPort").filter(|field| !field.is_zero());
    let target = target.and_then(|field| field.port()).unwrap_or(number);
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

fn endpoints(spec: &Field<'_>, ports: &[ServicePort], resolution: Resolution) -> ServiceEndpoints {
    let Some(selector) = spec.get("workloadSelector") else {
        return ServiceEndpoints::Listed(
            spec.get("endpoints")
                .map(|list| listed(&list, ports, resolution))
                .unwrap_or_default(),
        );
    };
    if spec.get("endpoints").is_some() {
        selector.refuse("only one of workloadSelector and endpoints may be set");
    }
    let mut labels = BTreeMap::new();
    if !selector.is_called("matchLabels", "labels") && selector.is_message(&SELECTOR) {
        labels = selector
            .required("labels")
            .map(|field| field.labels())
            .unwrap_or_default();
    }
    ServiceEndpoints::Selected(labels)
}

fn listed(list: &Field<'_>, ports: &[ServicePort], resolution: Resolution) -> Vec<WorkloadEntry> {
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
        if resolution == Resolution::Static && entry.address.ip().is_none() {
            item.refuse_at("address", "with resolution STATIC it is an IP address");
        }
        entries.push(entry);
    }
    entries
}
