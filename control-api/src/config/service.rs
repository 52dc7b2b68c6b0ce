//! `v1` Service: the selector and ports that say where a service is.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use super::read::{Field, Fields};
use super::scalar::shown;
use super::{Protocol, TrafficDistribution, distribution, names, protocol};

/// A Kubernetes Service. Its FQDN is `<name>.<namespace>.svc.<domain>`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Labels of the WorkloadEntries behind it; empty: none.
    pub selector: BTreeMap<String, String>,
    pub ports: Vec<ServicePort>,
    /// Cluster IPs; empty for a headless service.
    pub addresses: Vec<IpAddr>,
    /// `None`: no endpoint is preferred.
    pub distribution: Option<TrafficDistribution>,
}

/// A port of a Service or a ServiceEntry.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Empty for a sole unnamed port.
    pub name: String,
    pub number: u16,
    pub target: TargetPort,
    pub protocol: Protocol,
}

/// The endpoint's port, unless the endpoint itself names one for the service's port.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetPort {
    Number(u16),
    /// The number that the endpoint gives to this name.
    Name(String),
}

const SPEC: Fields = Fields {
    supported: &[
        "selector",
        "ports",
        "clusterIP",
        "clusterIPs",
        "type",
        "sessionAffinity",
        "internalTrafficPolicy",
        "trafficDistribution",
        // What concerns traffic from outside the mesh, or what another field says already.
        "ipFamilies",
        "ipFamilyPolicy",
        "externalTrafficPolicy",
        "allocateLoadBalancerNodePorts",
        "healthCheckNodePort",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "externalIPs",
    ],
    later: &[
        "externalName",
        "sessionAffinityConfig",
        "publishNotReadyAddresses",
        "topologyKeys",
    ],
};

const PORT: Fields = Fields {
    supported: &["name", "port", "targetPort", "protocol", "appProtocol", "nodePort"],
    later: &[],
};

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const ENUMS: [(&str, &[&str]); 2] = [
    (
        "ipFamilyPolicy",
        &["SingleStack", "PreferDualStack", "RequireDualStack"],
    ),
    ("externalTrafficPolicy", &["Cluster", "Local"]),
];
/// The annotation by which Istio hides a Service from other namespaces.
const EXPORT: &str = "networking.istio.io/exportTo";

/// What the annotations of a Service say.
pub(super) fn check_annotations(annotations: &Field<'_>) {
    let Some(export) = annotations.get(EXPORT) else { return };
    if export.text().is_some_and(|text| text.trim() != "*") {
        export.not_supported_yet("only `*` is");
    }
}

pub(super) fn read(spec: &Field<'_>) -> Service {
    let mut service = Service {
        selector: BTreeMap::new(),
        ports: Vec::new(),
        addresses: Vec::new(),
        distribution: None,
    };
    if !spec.is_message(&SPEC) {
        return service;
    }
    if let Some(kind) = spec.get("type") {
        match kind.text() {
            None | Some("ClusterIP" | "NodePort" | "LoadBalancer") => {}
            Some("ExternalName") => kind.not_supported_yet("ExternalName"),
            Some(other) => kind.refuse(format!("{} is not a type of Service", shown(other))),
        }
    }
    outside(spec);
    only(spec, "sessionAffinity", "None", &["ClientIP"]);
    only(spec, "internalTrafficPolicy", "Cluster", &["Local"]);
    service.selector = spec.get("selector").map(|field| field.labels()).unwrap_or_default();
    service.addresses = addresses(spec);
    service.distribution = spec
        .get("trafficDistribution")
        .and_then(|field| distribution::of_field(&field));
    let headless = spec.get("clusterIP").and_then(|field| field.text()) == Some("None");
    match spec.get("ports") {
        Some(field) => service.ports = ports(&field),
        None if headless => {}
        None => spec.refuse_at("ports", "is required"),
    }
    service
}

/// Fields that concern traffic from outside the mesh, or say again what others say: they change nothing here, but are
/// what Kubernetes takes.
fn outside(spec: &Field<'_>) {
    if let Some(families) = spec.get("ipFamilies") {
        for item in families.items() {
            item.one_of(&FAMILIES);
        }
    }
    for (name, words) in ENUMS {
        if let Some(field) = spec.get(name) {
            field.one_of(words);
        }
    }
    if let Some(field) = spec.get("allocateLoadBalancerNodePorts") {
        field.flag();
    }
    if let Some(field) = spec.get("healthCheckNodePort") {
        field.number(0, u16::MAX.into());
    }
    for name in ["loadBalancerClass", "loadBalancerIP"] {
        if let Some(field) = spec.get(name) {
            field.text();
        }
    }
    if let Some(ranges) = spec.get("loadBalancerSourceRanges") {
        ranges.check_words();
    }
    if let Some(addresses) = spec.get("externalIPs") {
        for item in addresses.items() {
            item.address();
        }
    }
}

/// A field of which one value is supported.
fn only(spec: &Field<'_>, name: &str, supported: &str, later: &[&str]) {
    let Some(field) = spec.get(name) else { return };
    match field.text() {
        Some(text) if later.contains(&text) => field.not_supported_yet(text),
        Some(text) if text != supported => field.refuse(format!("{} is not a value of this field", shown(text))),
        _ => {}
    }
}

fn addresses(spec: &Field<'_>) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let mut add = |field: &Field<'_>| {
        if !matches!(field.text(), None | Some("" | "None")) {
            addresses.extend(field.address());
        }
    };
    if let Some(field) = spec.get("clusterIP") {
        add(&field);
    }
    if let Some(field) = spec.get("clusterIPs") {
        field.items().iter().for_each(add);
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
        let Some(port) = port(item, items.len() > 1) else {
            continue;
        };
        if !numbers.insert(port.number) {
            item.refuse_at("port", format!("{} is there twice", port.number));
        }
        if !port.name.is_empty() && !names.insert(port.name.clone()) {
            item.refuse_at("name", format!("{} is there twice", shown(&port.name)));
        }
        ports.push(port);
    }
    ports
}

fn port(item: &Field<'_>, must_be_named: bool) -> Option<ServicePort> {
    if !item.is_message(&PORT) {
        return None;
    }
    let name = item.get("name").and_then(|field| field.text()).unwrap_or_default();
    if name.is_empty() && must_be_named {
        item.refuse_at("name", "is required where there are several ports");
    } else if !name.is_empty() && !names::is_dns_label(name) {
        item.refuse_at("name", format!("{} is not a port name", shown(name)));
    }
    if let Some(transport) = item.get("protocol") {
        match transport.text() {
            None | Some("TCP") => {}
            Some(later @ ("UDP" | "SCTP")) => transport.not_supported_yet(later),
            Some(other) => transport.refuse(format!("{} is neither TCP, UDP nor SCTP", shown(other))),
        }
    }
    if let Some(outside) = item.get("nodePort") {
        // Zero is what clients that cannot leave it out write.
        outside.number(0, u16::MAX.into());
    }
    let number = item.required("port")?.port()?;
    let application = item.get("appProtocol").and_then(|field| field.text());
    Some(ServicePort {
        name: name.to_owned(),
        number,
        target: item
            .get("targetPort")
            .and_then(|field| target(&field))
            .unwrap_or(TargetPort::Number(number)),
        protocol: protocol::of_port(application, name),
    })
}

fn target(field: &Field<'_>) -> Option<TargetPort> {
    // Zero is not set, as in Kubernetes.
    if field.is_zero() {
        return None;
    }
    if !field.is_text() {
        return field.port().map(TargetPort::Number);
    }
    let name = field.word()?;
    if !names::is_dns_label(name) || name.bytes().all(|byte| byte.is_ascii_digit()) {
        field.refuse(format!("{} is neither a port number nor a port name", shown(name)));
        return None;
    }
    Some(TargetPort::Name(name.to_owned()))
}
