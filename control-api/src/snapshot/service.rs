//! What a host is: the Services and ServiceEntries of one FQDN seen as one service.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::addresses;
use super::catalog::Catalog;
use crate::config::{Document, Protocol, ServicePort, Spec, TrafficDistribution};

/// A service as a rule sees it.
pub(super) struct Service {
    pub namespace: String,
    /// By number.
    pub ports: BTreeMap<u16, Port>,
    pub addresses: Vec<IpAddr>,
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
            distribution: documents.iter().find_map(|document| distribution(document)),
            documents: Vec::new(),
            warnings: Vec::new(),
        };
        for document in &documents {
            service.addresses.extend(addresses::of(document));
            for port in ports(document) {
                service.claim(fqdn, port, document, documents.first());
            }
        }
        service.warn_of(fqdn, &ignored, documents.first());
        service.addresses.sort();
        service.addresses.dedup();
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

    fn claim(&mut self, fqdn: &str, port: &ServicePort, document: &Document, first: Option<&Arc<Document>>) {
        let claimed = Port {
            name: port.name.clone(),
            protocol: port.protocol,
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
