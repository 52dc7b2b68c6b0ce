//! What a host is: the Services and ServiceEntries of one FQDN seen as one service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use tsunagi_proto::wire::mesh::Discovery;

use super::catalog::Catalog;
use super::{addresses, ranges};
use crate::config::{Document, Protocol, Resolution, ServicePort, Spec, TargetPort, TrafficDistribution};

/// A service as a rule sees it.
pub(super) struct Service {
    pub namespace: String,
    /// By number.
    pub ports: BTreeMap<u16, Port>,
    pub addresses: Vec<IpAddr>,
    pub ranges: Vec<IpNet>,
    /// Where its endpoints are known from.
    pub discovery: Discovery,
    /// Names of which the endpoints' certificate must have one, unless a policy says others.
    pub subject_alt_names: Vec<String>,
    /// The first that there is: which endpoints are preferred.
    pub distribution: Option<TrafficDistribution>,
    /// In order of precedence.
    pub documents: Vec<Arc<Document>>,
    pub warnings: Vec<String>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Port {
    pub name: String,
    pub protocol: Protocol,
    /// Where connections go to where the client connected to: the port in place of this one.
    pub destination_port: Option<u16>,
}

/// Where the endpoints of a Service or a ServiceEntry are known from.
pub fn discovery(document: &Document) -> Discovery {
    let Spec::ServiceEntry(entry) = &document.spec else {
        return Discovery::Static;
    };
    match entry.resolution {
        Resolution::None => Discovery::OriginalDestination,
        Resolution::Static => Discovery::Static,
        Resolution::Dns => Discovery::Dns,
        Resolution::DnsRoundRobin => Discovery::DnsRoundRobin,
    }
}

/// The ports of a Service or a ServiceEntry.
pub(super) fn ports(document: &Document) -> &[ServicePort] {
    match &document.spec {
        Spec::Service(service) => &service.ports,
        Spec::ServiceEntry(entry) => &entry.ports,
        _ => &[],
    }
}

fn distribution(document: &Document) -> Option<TrafficDistribution> {
    match &document.spec {
        Spec::Service(service) => service.distribution,
        Spec::ServiceEntry(entry) => entry.distribution,
        _ => None,
    }
}

impl Service {
    /// `None`: no Service and no ServiceEntry has this FQDN.
    pub(super) fn find(catalog: &Catalog, fqdn: &str) -> Option<Service> {
        let (documents, ignored) = catalog.claims(fqdn);
        let mut service = Service {
            namespace: documents.first()?.key.namespace.clone(),
            ports: BTreeMap::new(),
            addresses: Vec::new(),
            ranges: Vec::new(),
            discovery: documents.first().map(|first| discovery(first)).unwrap_or_default(),
            subject_alt_names: Vec::new(),
            distribution: documents.iter().find_map(|document| distribution(document)),
            documents: Vec::new(),
            warnings: Vec::new(),
        };
        for document in &documents {
            service.addresses.extend(addresses::of(document));
            service.ranges.extend(ranges::of(document));
            if let Spec::ServiceEntry(entry) = &document.spec {
                service
                    .subject_alt_names
                    .extend(entry.subject_alt_names.iter().cloned());
            }
            service.warn_of_resolution(fqdn, document, documents.first());
            for port in ports(document) {
                service.claim(fqdn, port, document, documents.first());
            }
        }
        service.warn_of(fqdn, &ignored, documents.first());
        service.addresses.sort();
        service.addresses.dedup();
        service.ranges.sort();
        service.ranges.dedup();
        service.subject_alt_names.sort();
        service.subject_alt_names.dedup();
        service.documents = documents;
        Some(service)
    }

    fn warn_of(&mut self, fqdn: &str, ignored: &[Arc<Document>], first: Option<&Arc<Document>>) {
        let first = first.map(|first| first.key.to_string()).unwrap_or_default();
        self.warnings.extend(ignored.iter().map(|document| {
            format!(
                "{}: spec.hosts: {fqdn} belongs to {first}, of another namespace: this one adds no endpoints to it",
                document.key
            )
        }));
    }

    fn warn_of_resolution(&mut self, fqdn: &str, document: &Document, first: Option<&Arc<Document>>) {
        if discovery(document) != self.discovery {
            let first = first.map(|first| first.key.to_string()).unwrap_or_default();
            self.warnings.push(format!(
                "{}: spec.resolution: {first} says otherwise where the endpoints of {fqdn} are, and is in force",
                document.key
            ));
        }
    }

    fn claim(&mut self, fqdn: &str, port: &ServicePort, document: &Document, first: Option<&Arc<Document>>) {
        let claimed = Port {
            name: port.name.clone(),
            protocol: port.protocol,
            destination_port: match port.target {
                TargetPort::Number(target) if self.discovery == Discovery::OriginalDestination => {
                    Some(target).filter(|target| *target != port.number)
                }
                _ => None,
            },
        };
        let kept = self.ports.entry(port.number).or_insert_with(|| claimed.clone());
        if *kept != claimed {
            let first = first.map(|first| first.key.to_string()).unwrap_or_default();
            self.warnings.push(format!(
                "{}: port {} of {fqdn} is declared otherwise by {first}, which is in force",
                document.key, port.number
            ));
        }
    }

    /// The port that a destination means: `wanted`, else the sole one.
    pub(super) fn sole_port(&self) -> Option<u16> {
        if self.ports.len() == 1 {
            self.ports.keys().next().copied()
        } else {
            None
        }
    }
}
