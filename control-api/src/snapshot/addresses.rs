//! Which service has a virtual address: a redirected connection knows no name, so a proxy asks for `host/<address>`.
//!
//! Addresses are written as `IpAddr` shows them, here and by the proxies. A ServiceEntry of TCP without any has its port at every
//! address that nobody has, as in Istio: it is `names::any_address`.

use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::Encoded;
use super::catalog::Catalog;
use crate::config::{Document, Protocol, Spec};

/// What is told of one address.
#[derive(Debug)]
pub(super) struct AddressEntry {
    pub alias: Arc<Encoded>,
    pub warnings: Vec<String>,
}

/// Virtual addresses of a Service or a ServiceEntry: not its endpoints'.
pub(super) fn of(document: &Document) -> &[IpAddr] {
    match &document.spec {
        Spec::Service(service) => &service.addresses,
        Spec::ServiceEntry(entry) => &entry.addresses,
        _ => &[],
    }
}

/// The names by which redirected connections find a Service or a ServiceEntry.
pub(super) fn names_of(document: &Document) -> impl Iterator<Item = String> {
    let any = match &document.spec {
        Spec::ServiceEntry(entry) if entry.addresses.is_empty() && entry.ranges.is_empty() => entry.ports.as_slice(),
        _ => &[],
    };
    let any = any.iter().filter(|port| port.protocol == Protocol::Tcp);
    of(document)
        .iter()
        .map(IpAddr::to_string)
        .chain(any.map(|port| names::any_address(port.number)))
}

/// `None`: no service has the address.
pub(super) fn build(catalog: &Catalog, address: &str) -> Option<AddressEntry> {
    let documents = catalog.at_virtual_address(address);
    let mut named = documents
        .iter()
        .filter_map(|document| Some((document, catalog.name_in_force(document)?)));
    let (first, fqdn) = named.next()?;
    let hidden = named.filter(|(_, other)| *other != fqdn);
    let warnings = hidden
        .map(|(document, other)| {
            format!(
                "{}: {}: {} has {address} too and is older: connections to it go to {fqdn}, not to {other}",
                document.key,
                field(document, address),
                first.key
            )
        })
        .collect();
    Some(AddressEntry {
        alias: Arc::new(alias(address, fqdn)),
        warnings,
    })
}

/// The service with a range around an address that no service has by itself: that of the narrowest one.
pub(super) fn in_range(catalog: &Catalog, address: IpAddr) -> Option<String> {
    catalog
        .at_range(address)
        .find_map(|document| catalog.name_in_force(&document))
}

/// What is told of a name that stands for a host.
pub(super) fn alias(name: &str, of: String) -> Encoded {
    let host = mesh::Host {
        fqdn: name.to_owned(),
        alias_of: of,
        ..mesh::Host::default()
    };
    Encoded::whole(names::host(name), Kind::Host(host))
}

fn field(document: &Document, address: &str) -> &'static str {
    match &document.spec {
        _ if address.starts_with("*:") => "spec.ports",
        Spec::Service(_) => "spec.clusterIP",
        _ => "spec.addresses",
    }
}
