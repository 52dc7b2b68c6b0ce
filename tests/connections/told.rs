//! What a control plane says of a service whose connections rules route: its ports, subsets, rules and endpoints.

use std::net::{IpAddr, SocketAddr};

use tsunagi_proto::model::endpoints_checksum;
use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use crate::plane::Plane;

/// A service with the subsets `v1` and `v2`.
#[derive(Clone, Default)]
pub(crate) struct Service {
    pub(crate) fqdn: String,
    pub(crate) ports: Vec<(u16, mesh::Protocol)>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) tls: Vec<mesh::ConnectionRule>,
    pub(crate) tcp: Vec<mesh::ConnectionRule>,
    /// With the subset that each belongs to.
    pub(crate) endpoints: Vec<(&'static str, SocketAddr)>,
    /// Of every cluster.
    pub(crate) pool: mesh::ConnectionPool,
}

impl Service {
    pub(crate) fn to(&self, subset: &str, weight: u32) -> mesh::WeightedDestination {
        mesh::WeightedDestination {
            host: self.fqdn.clone(),
            subset: subset.to_owned(),
            weight,
            ..Default::default()
        }
    }

    pub(crate) fn tell(&self, plane: &Plane) {
        let upserts = self.upserts();
        let endpoints = mesh::Endpoints {
            fqdn: self.fqdn.clone(),
            checksum: endpoints_checksum(&upserts),
            upserts,
            ..Default::default()
        };
        plane.set(names::endpoints(&self.fqdn), Kind::Endpoints(endpoints));
        plane.set(names::host(&self.fqdn), Kind::Host(self.host()));
        for address in self.addresses.iter().map(ToString::to_string) {
            let alias = mesh::Host {
                fqdn: address.clone(),
                alias_of: self.fqdn.clone(),
                ..Default::default()
            };
            plane.set(names::host(&address), Kind::Host(alias));
        }
    }

    fn host(&self) -> mesh::Host {
        let clusters = self.ports.iter().flat_map(|(port, protocol)| {
            ["", "v1", "v2"].map(|subset| mesh::Cluster {
                host: self.fqdn.clone(),
                port: (*port).into(),
                protocol: (*protocol).into(),
                subset: subset.to_owned(),
                labels: if subset.is_empty() { vec![] } else { version(subset) },
                connection_pool: Some(self.pool),
                ..Default::default()
            })
        });
        let ports = self.ports.iter().map(|(number, protocol)| mesh::Port {
            number: (*number).into(),
            protocol: (*protocol).into(),
            ..Default::default()
        });
        mesh::Host {
            fqdn: self.fqdn.clone(),
            namespace: "default".to_owned(),
            ports: ports.collect(),
            routes: Some(mesh::RouteTable {
                namespace: "default".to_owned(),
                name: "rules".to_owned(),
                tls: self.tls.clone(),
                tcp: self.tcp.clone(),
                ..Default::default()
            }),
            clusters: clusters.collect(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    }

    fn upserts(&self) -> Vec<mesh::Endpoint> {
        let ports = |to: u16| {
            self.ports.iter().map(move |(number, _)| mesh::EndpointPort {
                service_port: (*number).into(),
                port: to.into(),
            })
        };
        let endpoints = self.endpoints.iter().enumerate();
        endpoints
            .map(|(index, (subset, address))| mesh::Endpoint {
                id: index.to_string(),
                address: address.ip().to_string(),
                ports: ports(address.port()).collect(),
                labels: version(subset),
                ..Default::default()
            })
            .collect()
    }
}

fn version(subset: &str) -> Vec<mesh::Label> {
    vec![label("version", subset)]
}

pub(crate) fn label(key: &str, value: &str) -> mesh::Label {
    mesh::Label {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

pub(crate) fn rule(matches: Vec<mesh::ConnectionMatch>, route: Vec<mesh::WeightedDestination>) -> mesh::ConnectionRule {
    mesh::ConnectionRule {
        matches,
        route,
        origin: None,
    }
}
