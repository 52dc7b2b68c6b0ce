//! A host with its ports, rules and every cluster that they reach.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Cluster, Invalid, RouteTable, Source};
use crate::wire::mesh;

#[derive(Clone, Debug)]
pub struct Host {
    pub fqdn: String,
    pub namespace: String,
    /// Sorted by number, never two of one number.
    pub ports: Vec<Port>,
    /// `None`: no VirtualService; a request goes to its port's own cluster.
    pub routes: Option<RouteTable>,
    pub clusters: Vec<Cluster>,
    pub addresses: Vec<IpAddr>,
    /// `fqdn` is a virtual address, and this the name of the service that has it; or a name that only this wildcard covers.
    /// Nothing else is set.
    pub alias_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub number: u16,
    pub name: String,
    pub protocol: Protocol,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Nothing declared.
    #[default]
    Detect,
    Http1,
    Http2,
    Tcp,
    Tls,
}

impl Protocol {
    /// Can a request be routed to a port of this protocol?
    pub fn is_http(self) -> bool {
        matches!(self, Self::Detect | Self::Http1 | Self::Http2)
    }
}

impl Host {
    /// The host as it is for one client: what is only for others is left out.
    pub fn for_source(self: Arc<Self>, source: &Source) -> Arc<Self> {
        let rules = self.routes.as_ref().is_some_and(RouteTable::depends_on_source);
        let clusters = self.clusters.iter().any(|cluster| !cluster.client_labels.is_empty());
        if !rules && !clusters {
            return self;
        }
        let mut host = Arc::unwrap_or_clone(self).with_clusters_for(source);
        host.routes = host.routes.map(|routes| routes.for_source(source));
        Arc::new(host)
    }

    /// The clusters that one client has; all rules stay.
    pub fn with_clusters_for(mut self, source: &Source) -> Self {
        let mut seen = HashSet::new();
        // The first of a key that is for the client, though it may say that there is none.
        self.clusters
            .retain(|cluster| cluster.is_for(source) && seen.insert(cluster.key.clone()));
        self.clusters.retain(|cluster| !cluster.missing);
        self
    }
}

pub(super) fn port(field: &str, number: u32) -> Result<u16, Invalid> {
    match u16::try_from(number) {
        Ok(number) if number != 0 => Ok(number),
        _ => Err(Invalid::new(field, format!("{number} is not a port (1 to 65535)"))),
    }
}

pub(super) fn optional_port(field: &str, number: u32) -> Result<Option<u16>, Invalid> {
    if number == 0 {
        Ok(None)
    } else {
        port(field, number).map(Some)
    }
}

impl From<mesh::Protocol> for Protocol {
    fn from(wire: mesh::Protocol) -> Self {
        match wire {
            mesh::Protocol::Unspecified => Self::Detect,
            mesh::Protocol::Http1 => Self::Http1,
            mesh::Protocol::Http2 => Self::Http2,
            mesh::Protocol::Tcp => Self::Tcp,
            mesh::Protocol::Tls => Self::Tls,
        }
    }
}

impl TryFrom<mesh::Host> for Host {
    type Error = Invalid;

    fn try_from(wire: mesh::Host) -> Result<Self, Invalid> {
        if wire.fqdn.is_empty() {
            return Err(Invalid::new("fqdn", "must not be empty"));
        }
        let mut seen = HashSet::new();
        let mut ports = Vec::with_capacity(wire.ports.len());
        for item in wire.ports {
            let number = port("ports", item.number)?;
            if !seen.insert(number) {
                return Err(Invalid::new("ports", format!("port {number} is there twice")));
            }
            ports.push(Port {
                number,
                protocol: item.protocol().into(),
                name: item.name,
            });
        }
        ports.sort_by_key(|port| port.number);

        let mut keys = HashSet::new();
        let mut clusters = Vec::with_capacity(wire.clusters.len());
        for (index, item) in wire.clusters.into_iter().enumerate() {
            let cluster = Cluster::try_from(item).map_err(|error| error.within(format!("clusters[{index}]")))?;
            if !keys.insert((cluster.key.clone(), cluster.client_labels.clone())) {
                return Err(Invalid::new("clusters", format!("{} is there twice", cluster.key)));
            }
            clusters.push(cluster);
        }
        let address = |text: &String| {
            text.parse()
                .map_err(|_| Invalid::new("addresses", format!("{text:?} is not an IP address")))
        };
        Ok(Self {
            fqdn: wire.fqdn,
            namespace: wire.namespace,
            ports,
            routes: wire
                .routes
                .map(RouteTable::try_from)
                .transpose()
                .map_err(|error| error.within("routes"))?,
            clusters,
            addresses: wire.addresses.iter().map(address).collect::<Result<_, _>>()?,
            alias_of: (!wire.alias_of.is_empty()).then_some(wire.alias_of),
        })
    }
}
