//! The Workload resource: what concerns one proxy alone. Which ports of its application the services of its namespace
//! lead to, and what its Sidecar says. Made when a session asks, from the catalog's indexes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::policy::Policies;
use super::whereabouts::Surroundings;
use super::{Encoded, clusters, endpoints, service, sidecars, slices, traffic_policy};
use crate::config::{
    ConnectionPool, Document, Key, OutboundTrafficPolicy, ServiceEndpoints, ServicePort, Spec, TargetPort,
};

/// A proxy, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub namespace: String,
    pub node_id: String,
    pub labels: BTreeMap<String, String>,
    /// Of its machine.
    pub addresses: Vec<IpAddr>,
    /// What Kubernetes calls its machine; empty: it does not say.
    pub node_name: String,
    /// Where its connection comes from, which it does not say itself. `None`: there is no connection; nothing is checked.
    pub peer: Option<IpAddr>,
}

impl Node {
    /// May it speak for an endpoint at this address? On one machine every proxy may.
    pub(super) fn may_be_at(&self, address: IpAddr) -> bool {
        self.peer
            .is_none_or(|peer| peer.is_loopback() || peer == address.to_canonical())
    }

    /// Where it certainly serves: where it connects from, or, on one machine, where it says.
    pub(super) fn stands_at(&self) -> impl Iterator<Item = IpAddr> {
        let peer = self.peer.filter(|peer| !peer.is_loopback());
        let said = if peer.is_none() { self.addresses.as_slice() } else { &[] };
        peer.into_iter().chain(said.iter().copied())
    }
}

/// A service with its ports that lead to the node, and where there.
struct Leading {
    service: Arc<Document>,
    ports: Vec<(ServicePort, u16)>,
}

pub(super) fn build(surroundings: &Surroundings<'_>, node: &Node) -> Encoded {
    let catalog = surroundings.catalog;
    let sidecar = sidecars::in_force(catalog, &node.namespace, &node.labels).unwrap_or_default();
    let pool_of_all = sidecar.inbound_connection_pool.as_ref();
    let mut ports: BTreeMap<u16, mesh::InboundPort> = BTreeMap::new();
    let mut services = Vec::new();
    for Leading { service, ports: own } in leading(catalog, node) {
        let Some(fqdn) = catalog.name_in_force(&service) else {
            continue;
        };
        services.push(fqdn.clone());
        let policies = Policies::find(catalog, &fqdn, &service.key.namespace, Some(&node.namespace));
        for (port, number) in own {
            ports.entry(number).or_insert_with(|| mesh::InboundPort {
                port: number.into(),
                service: fqdn.clone(),
                service_port: port.number.into(),
                protocol: clusters::protocol(port.protocol).into(),
                connection_pool: match pool_of_all {
                    Some(pool) => traffic_policy::inbound_connection_pool(pool),
                    None => {
                        let pool = pool_of(&policies, port.number);
                        pool.as_ref().and_then(traffic_policy::inbound_connection_pool)
                    }
                },
            });
        }
    }
    let outbound = match sidecar.outbound {
        OutboundTrafficPolicy::AllowAny => mesh::OutboundTrafficPolicy::AllowAny,
        OutboundTrafficPolicy::RegistryOnly => mesh::OutboundTrafficPolicy::RegistryOnly,
    };
    let (locality, node_name) = surroundings.place_of(node);
    let workload = mesh::Workload {
        namespace: node.namespace.clone(),
        node_id: node.node_id.clone(),
        cluster_domain: DEFAULT_CLUSTER_DOMAIN.to_owned(),
        inbound_ports: ports.into_values().collect(),
        inbound_connection_pool: pool_of_all.and_then(traffic_policy::inbound_connection_pool),
        outbound_traffic_policy: outbound.into(),
        locality,
        node_name,
        peers: services
            .first()
            .map(|fqdn| surroundings.peers(fqdn))
            .unwrap_or_default(),
    };
    Encoded::whole(
        names::workload(&node.namespace, &node.node_id),
        Kind::Workload(workload),
    )
}

/// As the rules say it that a client of its own namespace follows, but for those for some workloads: those are for what
/// their clients send.
fn pool_of(policies: &Policies, port: u16) -> Option<ConnectionPool> {
    let (_, policy) = policies.rest.of_subset("", port)?;
    policy.connection_pool
}

/// The oldest service first.
fn leading(catalog: &Catalog, node: &Node) -> Vec<Leading> {
    let mut found: BTreeMap<Key, Leading> = BTreeMap::new();
    for (place, owner) in catalog.endpoints_of(node) {
        for service in catalog.services_with(&owner) {
            let ports = endpoint_ports(&service, &owner, place.address);
            let leading = found.entry(service.key.clone()).or_insert_with(|| Leading {
                service,
                ports: Vec::new(),
            });
            leading.ports.extend(ports);
        }
    }
    // A service that has not heard of the node as an endpoint yet, but will.
    for service in catalog.selecting(&node.namespace, &node.labels) {
        if !found.contains_key(&service.key) {
            let ports = numeric_ports(&service);
            found.insert(service.key.clone(), Leading { service, ports });
        }
    }
    let mut found: Vec<Leading> = found.into_values().collect();
    found.sort_by(|one, other| one.service.by_age(&other.service));
    found
}

/// As the service's endpoints have them that `owner` writes at this address.
fn endpoint_ports(service: &Document, owner: &Document, address: IpAddr) -> Vec<(ServicePort, u16)> {
    if let Spec::EndpointSlice(slice) = &owner.spec {
        return slices::ports(service, slice)
            .map(|(port, number)| (port.clone(), number))
            .collect();
    }
    let entries = match &owner.spec {
        Spec::WorkloadEntry(entry) => std::slice::from_ref(entry),
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Listed(entries) => entries.as_slice(),
            ServiceEndpoints::Selected(_) => &[],
        },
        _ => &[],
    };
    let here = entries.iter().filter(|entry| entry.address.ip() == Some(address));
    here.flat_map(|entry| {
        let ports = service::ports(service).iter();
        ports.filter_map(|port| Some((port.clone(), endpoints::port_of(entry, port)?)))
    })
    .collect()
}

fn numeric_ports(service: &Document) -> Vec<(ServicePort, u16)> {
    let numeric = |port: &ServicePort| match port.target {
        TargetPort::Number(number) => Some((port.clone(), number)),
        TargetPort::Name(_) => None,
    };
    service::ports(service).iter().filter_map(numeric).collect()
}
