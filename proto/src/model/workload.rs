//! What concerns one proxy alone: the ports of its application and what may leave it.

use std::collections::HashSet;

use super::host::port;
use super::{ConnectionPool, Invalid, Protocol};
use crate::names::DEFAULT_CLUSTER_DOMAIN;
use crate::wire::mesh;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    pub namespace: String,
    pub node_id: String,
    pub cluster_domain: String,
    /// Sorted by port, never two of one number.
    pub inbound_ports: Vec<InboundPort>,
    /// For the application's other ports.
    pub inbound_connection_pool: ConnectionPool,
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// `region/zone/subzone`; empty: not known.
    pub locality: String,
    /// Of its machine; empty: not known.
    pub node_name: String,
    /// Healthy endpoints of the service that it is one of, by locality: who else calls what it calls. Empty: of none.
    pub peers: Vec<(String, u32)>,
}

/// A port of the application that a service leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPort {
    pub port: u16,
    /// FQDN.
    pub service: String,
    pub service_port: u16,
    pub protocol: Protocol,
    pub connection_pool: ConnectionPool,
}

/// `outboundTrafficPolicy.mode` of a Sidecar: where a redirected connection goes whose destination nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTrafficPolicy {
    /// To its original destination, untouched.
    #[default]
    AllowAny,
    /// Nowhere: 502, and TCP connections are reset.
    RegistryOnly,
}

impl TryFrom<mesh::InboundPort> for InboundPort {
    type Error = Invalid;

    fn try_from(wire: mesh::InboundPort) -> Result<Self, Invalid> {
        Ok(Self {
            port: port("port", wire.port)?,
            service_port: port("service_port", wire.service_port)?,
            protocol: wire.protocol().into(),
            service: wire.service,
            connection_pool: pool("connection_pool", wire.connection_pool)?,
        })
    }
}

impl TryFrom<mesh::Workload> for Workload {
    type Error = Invalid;

    fn try_from(wire: mesh::Workload) -> Result<Self, Invalid> {
        let outbound_traffic_policy = match wire.outbound_traffic_policy() {
            mesh::OutboundTrafficPolicy::AllowAny => OutboundTrafficPolicy::AllowAny,
            mesh::OutboundTrafficPolicy::RegistryOnly => OutboundTrafficPolicy::RegistryOnly,
        };
        let mut seen = HashSet::new();
        let mut inbound_ports = Vec::with_capacity(wire.inbound_ports.len());
        for (index, item) in wire.inbound_ports.into_iter().enumerate() {
            let within = |error: Invalid| error.within(format!("inbound_ports[{index}]"));
            let item = InboundPort::try_from(item).map_err(within)?;
            if !seen.insert(item.port) {
                return Err(within(Invalid::new("port", format!("{} is there twice", item.port))));
            }
            inbound_ports.push(item);
        }
        inbound_ports.sort_by_key(|item| item.port);
        Ok(Self {
            namespace: wire.namespace,
            node_id: wire.node_id,
            cluster_domain: if wire.cluster_domain.is_empty() {
                DEFAULT_CLUSTER_DOMAIN.to_owned()
            } else {
                wire.cluster_domain
            },
            inbound_ports,
            inbound_connection_pool: pool("inbound_connection_pool", wire.inbound_connection_pool)?,
            outbound_traffic_policy,
            locality: wire.locality,
            node_name: wire.node_name,
            peers: wire
                .peers
                .into_iter()
                .map(|count| (count.locality, count.endpoints))
                .collect(),
        })
    }
}

fn pool(field: &str, wire: Option<mesh::ConnectionPool>) -> Result<ConnectionPool, Invalid> {
    wire.unwrap_or_default()
        .try_into()
        .map_err(|error: Invalid| error.within(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_unlimited_and_open() {
        let workload = Workload::try_from(mesh::Workload::default()).unwrap();
        assert_eq!(workload.cluster_domain, DEFAULT_CLUSTER_DOMAIN);
        assert_eq!(workload.inbound_connection_pool, ConnectionPool::default());
        assert_eq!(workload.outbound_traffic_policy, OutboundTrafficPolicy::AllowAny);
    }

    #[test]
    fn two_services_cannot_declare_one_port() {
        let item = mesh::InboundPort {
            port: 8080,
            service_port: 80,
            ..Default::default()
        };
        let wire = mesh::Workload {
            inbound_ports: vec![item.clone(), item],
            ..Default::default()
        };
        assert_eq!(Workload::try_from(wire).unwrap_err().field, "inbound_ports[1].port");
    }
}
