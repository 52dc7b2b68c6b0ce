//! Rules for connections: `tcp` by where they go, `tls` by the name that the client asks for as well.

use std::net::IpAddr;

use ipnet::IpNet;

use super::route_table::{self, Origin, WeightedDestination};
use super::{Invalid, SourceMatch, host};
use crate::wire::mesh;

#[derive(Clone, Debug)]
pub struct ConnectionRule {
    /// `VirtualService.namespace/tcp/index`, or `tls`.
    pub label: String,
    pub origin: Origin,
    /// Any one suffices; none: every connection matches.
    pub matches: Vec<ConnectionMatch>,
    /// Never empty; weights are the ones to draw by.
    pub destinations: Vec<WeightedDestination>,
    pub total_weight: u64,
}

/// All that is set must hold.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMatch {
    /// Any suffices; empty: any name, or none.
    pub sni_hosts: Vec<SniMatch>,
    /// Any suffices; empty: any.
    pub destination_subnets: Vec<IpNet>,
    pub source_subnet: Option<IpNet>,
    pub port: Option<u16>,
    pub source: SourceMatch,
}

/// In lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SniMatch {
    Exact(String),
    /// With its dot: `.example.com`. `*` has the empty one.
    Suffix(String),
}

impl SniMatch {
    /// `name` is in lower case.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == name,
            Self::Suffix(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        }
    }
}

fn sni(text: &str) -> Result<SniMatch, Invalid> {
    let refused = |reason: &str| Err(Invalid::new("sni_hosts", format!("{text:?} {reason}")));
    match text.strip_prefix('*') {
        _ if text.is_empty() || text.bytes().any(|byte| byte.is_ascii_uppercase()) => {
            refused("is not a host name in lower case")
        }
        None if text.contains('*') => refused("has a wildcard that is not its first label"),
        None => Ok(SniMatch::Exact(text.to_owned())),
        Some(suffix) if suffix.contains('*') || !(suffix.is_empty() || suffix.starts_with('.')) => {
            refused("has a wildcard that is not its first label")
        }
        Some(suffix) => Ok(SniMatch::Suffix(suffix.to_owned())),
    }
}

/// A CIDR, or an address.
fn subnet(field: &str, text: &str) -> Result<IpNet, Invalid> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse()
        .or_else(|_| address())
        .map_err(|_| Invalid::new(field, format!("{text:?} is neither a CIDR nor an IP address")))
}

/// May a rule have this text where it names a subnet?
pub fn is_subnet(text: &str) -> bool {
    subnet("", text).is_ok()
}

impl TryFrom<mesh::ConnectionMatch> for ConnectionMatch {
    type Error = Invalid;

    fn try_from(wire: mesh::ConnectionMatch) -> Result<Self, Invalid> {
        let subnets = wire.destination_subnets.iter();
        Ok(Self {
            sni_hosts: wire.sni_hosts.iter().map(|text| sni(text)).collect::<Result<_, _>>()?,
            destination_subnets: subnets
                .map(|text| subnet("destination_subnets", text))
                .collect::<Result<_, _>>()?,
            source_subnet: match wire.source_subnet.as_str() {
                "" => None,
                text => Some(subnet("source_subnet", text)?),
            },
            port: host::optional_port("port", wire.port)?,
            source: SourceMatch::new(wire.source_labels, wire.source_namespace),
        })
    }
}

/// `kind` is the rules' field, `tls` or `tcp`.
pub(super) fn checked(
    kind: &str,
    wire: Vec<mesh::ConnectionRule>,
    namespace: &str,
    name: &str,
) -> Result<Vec<ConnectionRule>, Invalid> {
    let rules = wire.into_iter().enumerate();
    let rules = rules.map(|(index, wire)| {
        let within = |error: Invalid| error.within(format!("{kind}[{index}]"));
        let origin = Origin::checked(wire.origin, namespace, name, index);
        let matches = wire.matches.into_iter().enumerate().map(|(number, item)| {
            ConnectionMatch::try_from(item).map_err(|error| error.within(format!("matches[{number}]")))
        });
        let matches: Vec<ConnectionMatch> = matches.collect::<Result<_, _>>().map_err(within)?;
        let no_sni = kind == "tls" && (matches.is_empty() || matches.iter().any(|item| item.sni_hosts.is_empty()));
        if no_sni {
            return Err(within(Invalid::new(
                "matches",
                "every match of a tls rule needs sni_hosts",
            )));
        }
        let destinations = route_table::weighted(wire.route).map_err(within)?;
        Ok(ConnectionRule {
            label: format!("{}.{}/{kind}/{}", origin.name, origin.namespace, origin.index),
            origin,
            matches,
            total_weight: route_table::total_weight(&destinations),
            destinations,
        })
    });
    rules.collect()
}
