//! Which service has a virtual address: a redirected connection knows no name, so a proxy asks for `host/<address>`. And
//! which one a ServiceEntry's host without a dot is in namespaces that have no service of that name: one service it is,
//! wherever it is called.
//!
//! Addresses are written as `IpAddr` shows them, here and by the proxies. A ServiceEntry of TCP without any whose resolution is
//! `NONE` has its port at every address that nobody has, as in Istio: it is `names::any_address`. With another resolution Istio
//! gives it all connections to the port; here they go where they head, since nobody can tell that they are meant for it: a
//! pod of another service would be answered for by its endpoints.

use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::{Encoded, SharedName, Sharing, shared_names};
use crate::config::{Document, Protocol, Spec};

/// What is told of one address.
#[derive(Debug)]
pub(super) struct AddressEntry {
    pub alias: Arc<Encoded>,
    pub warnings: Vec<SharedName>,
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

/// The names by which redirected connections find a Service or a ServiceEntry, and its hosts that are one word.
pub(super) fn names_of(document: &Document) -> impl Iterator<Item = String> {
    let any = match &document.spec {
        Spec::ServiceEntry(entry) if entry.is_at_any_address() => entry.ports.as_slice(),
        _ => &[],
    };
    let any = any.iter().filter(|port| port.protocol == Protocol::Tcp);
    of(document)
        .iter()
        .map(IpAddr::to_string)
        .chain(any.map(|port| names::any_address(port.number)))
        .chain(words(document).cloned())
}

/// Names of hosts have no colon, and a word no dot.
fn is_word(name: &str) -> bool {
    !name.contains([':', '.'])
}

/// What the address or the word means where the document has it. `None`: that belongs to somebody else.
fn meaning(catalog: &Catalog, document: &Document, name: &str) -> Option<String> {
    if !is_word(name) {
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
    let named: Vec<_> = named.collect();
    let of_services = std::iter::once((first, fqdn.as_str()))
        .chain(named.iter().map(|(document, other)| (*document, other.as_str())))
        .filter(|_| is_word(name))
        .filter_map(|(document, fqdn)| shared_names::with_service(catalog, document, name, fqdn));
    let hidden = named
        .iter()
        .filter(|(_, other)| *other != fqdn)
        .map(|(document, other)| {
            let older = format!("{} has {name} too and is older", first.key);
            let (field, sharing, what) = if is_word(name) {
                let what = format!("{older}: other namespaces mean {fqdn} by it, not {other}");
                ("spec.hosts", Sharing::Word, what)
            } else {
                let what = format!("{older}: connections to it go to {fqdn}, not to {other}");
                (field(document, name), Sharing::Address, what)
            };
            SharedName {
                document: document.key.clone(),
                field,
                sharing,
                what,
            }
        });
    let warnings = hidden.chain(of_services).collect();
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

fn field(document: &Document, address: &str) -> &'static str {
    match &document.spec {
        _ if address.starts_with("*:") => "spec.ports",
        Spec::Service(_) => "spec.clusterIP",
        _ => "spec.addresses",
    }
}
