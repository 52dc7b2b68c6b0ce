//! Which service has a virtual address: a redirected connection knows no name, so a proxy asks for `host/<address>`. And
//! which one a ServiceEntry's host without a dot is in namespaces that have no service of that name: one service it is,
//! wherever it is called.
//!
//! Addresses are written as `IpAddr` shows them, here and by the proxies.

use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::Encoded;
use super::catalog::Catalog;
use crate::config::{Document, Spec};

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

/// Hosts of a ServiceEntry that are one word.
fn words(document: &Document) -> impl Iterator<Item = &String> {
    let hosts = match &document.spec {
        Spec::ServiceEntry(entry) => entry.hosts.as_slice(),
        _ => &[],
    };
    hosts.iter().filter(|host| !host.contains('.') && *host != "*")
}

/// Its virtual addresses, and its hosts that are one word.
pub(super) fn names(document: &Document) -> impl Iterator<Item = String> {
    let addresses = of(document).iter().map(IpAddr::to_string);
    addresses.chain(words(document).cloned())
}

/// What the address or the word means where the document has it. `None`: that belongs to somebody else.
fn meaning(catalog: &Catalog, document: &Document, name: &str) -> Option<String> {
    if name.parse::<IpAddr>().is_ok() {
        return catalog.name_in_force(document);
    }
    let fqdn = resolve_in_rule(name, &document.key.namespace, DEFAULT_CLUSTER_DOMAIN);
    catalog.is_in_force(document, &fqdn).then_some(fqdn)
}

/// `None`: no service has the address, or the word.
pub(super) fn build(catalog: &Catalog, name: &str) -> Option<AddressEntry> {
    let documents = catalog.at_virtual_address(name);
    let mut named = documents
        .iter()
        .filter_map(|document| Some((document, meaning(catalog, document, name)?)));
    let (first, fqdn) = named.next()?;
    let hidden = named.filter(|(_, other)| *other != fqdn);
    let is_address = name.parse::<IpAddr>().is_ok();
    let warnings = hidden
        .map(|(document, other)| {
            let (key, first) = (&document.key, &first.key);
            if is_address {
                let field = field(document);
                format!("{key}: {field}: {first} has {name} too and is older: connections to it go to {fqdn}, not to {other}")
            } else {
                format!("{key}: spec.hosts: {first} has {name} too and is older: other namespaces mean {fqdn} by it, not {other}")
            }
        })
        .collect();
    Some(AddressEntry {
        alias: Arc::new(alias(name, fqdn)),
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

fn field(document: &Document) -> &'static str {
    match &document.spec {
        Spec::Service(_) => "spec.clusterIP",
        _ => "spec.addresses",
    }
}
