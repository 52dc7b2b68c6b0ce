//! A host with its ports, rules and every cluster that they reach.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::{Cluster, HeaderOperations, HttpMatch, Invalid, RetryPolicy, RuleIndex, duration, header_operations};
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
    /// `fqdn` is a virtual address, and this the name of the service that has it; nothing else is set.
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

#[derive(Clone, Debug)]
pub struct RouteTable {
    /// Of the VirtualService.
    pub namespace: String,
    pub name: String,
    pub rules: Vec<HttpRule>,
    /// Of `rules`, where they are many; so they stay as they are.
    pub(crate) index: Option<RuleIndex>,
}

#[derive(Clone, Debug)]
pub struct HttpRule {
    /// The rule's `name`, or `VirtualService.namespace/index`: the `route` label of every metric.
    pub label: String,
    /// Any one suffices; none: every request matches.
    pub matches: Vec<HttpMatch>,
    /// Never empty; weights are the ones to draw by (a single destination has all of it).
    pub route: Vec<WeightedDestination>,
    pub total_weight: u64,
    /// The whole request, retries included. `None`: no limit.
    pub timeout: Option<Duration>,
    pub retries: RetryPolicy,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
}

#[derive(Clone, Debug)]
pub struct WeightedDestination {
    pub host: String,
    /// `None`: the host's sole port, else the one that the client asked for.
    pub port: Option<u16>,
    pub subset: String,
    pub weight: u32,
    pub request_headers: HeaderOperations,
    pub response_headers: HeaderOperations,
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

impl TryFrom<mesh::WeightedDestination> for WeightedDestination {
    type Error = Invalid;

    fn try_from(wire: mesh::WeightedDestination) -> Result<Self, Invalid> {
        if wire.host.is_empty() {
            return Err(Invalid::new("host", "must not be empty"));
        }
        Ok(Self {
            host: wire.host,
            port: optional_port("port", wire.port)?,
            subset: wire.subset,
            weight: wire.weight,
            request_headers: header_operations::checked("request_headers", wire.request_headers)?,
            response_headers: header_operations::checked("response_headers", wire.response_headers)?,
        })
    }
}

/// Istio's reading of weights: one destination gets everything whatever its weight; of several, those with weight 0
/// get nothing.
fn weighted(wire: Vec<mesh::WeightedDestination>) -> Result<Vec<WeightedDestination>, Invalid> {
    let mut route = Vec::with_capacity(wire.len());
    for (index, destination) in wire.into_iter().enumerate() {
        route
            .push(WeightedDestination::try_from(destination).map_err(|error| error.within(format!("route[{index}]")))?);
    }
    match route.as_mut_slice() {
        [] => Err(Invalid::new("route", "a rule needs a destination")),
        [only] => {
            only.weight = only.weight.max(1);
            Ok(route)
        }
        _ => {
            route.retain(|destination| destination.weight > 0);
            if route.is_empty() {
                Err(Invalid::new("route", "total destination weight = 0"))
            } else {
                Ok(route)
            }
        }
    }
}

fn rule(wire: mesh::HttpRule, table: &str, index: usize) -> Result<HttpRule, Invalid> {
    let mut matches = Vec::with_capacity(wire.matches.len());
    for (number, item) in wire.matches.into_iter().enumerate() {
        matches.push(HttpMatch::try_from(item).map_err(|error| error.within(format!("matches[{number}]")))?);
    }
    let route = weighted(wire.route)?;
    Ok(HttpRule {
        label: if wire.name.is_empty() {
            format!("{table}/{index}")
        } else {
            wire.name
        },
        matches,
        total_weight: route.iter().map(|destination| u64::from(destination.weight)).sum(),
        route,
        timeout: duration("timeout", wire.timeout)?,
        retries: wire
            .retries
            .map(RetryPolicy::try_from)
            .transpose()
            .map_err(|error| error.within("retries"))?
            .unwrap_or_default(),
        request_headers: header_operations::checked("request_headers", wire.request_headers)?,
        response_headers: header_operations::checked("response_headers", wire.response_headers)?,
    })
}

impl TryFrom<mesh::RouteTable> for RouteTable {
    type Error = Invalid;

    fn try_from(wire: mesh::RouteTable) -> Result<Self, Invalid> {
        let table = format!("{}.{}", wire.name, wire.namespace);
        let mut rules = Vec::with_capacity(wire.http.len());
        for (index, http) in wire.http.into_iter().enumerate() {
            rules.push(rule(http, &table, index).map_err(|error| error.within(format!("http[{index}]")))?);
        }
        Ok(Self {
            namespace: wire.namespace,
            name: wire.name,
            index: RuleIndex::new(&rules),
            rules,
        })
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
            if !keys.insert(cluster.key.clone()) {
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
