//! The endpoints of a service, and how a change turns one set into the next.
//!
//! The checksum is a sum of hashes, one an endpoint, so a change costs what it changes; it tells a proxy that lost a
//! change to ask for the whole.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{Invalid, Locality, NODE_NAME_LABEL, host};
use crate::wire::mesh;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub id: String,
    /// Unspecified where there is a `hostname`.
    pub address: IpAddr,
    /// For a cluster whose discovery is DNS: its addresses are asked for.
    pub hostname: Option<String>,
    /// Service port -> endpoint port, sorted by service port.
    pub ports: Vec<(u16, u16)>,
    /// Sorted by key.
    pub labels: Vec<(String, String)>,
    /// `region/zone/subzone`.
    pub locality: String,
    /// At least 1.
    pub weight: u32,
    pub health: Health,
    pub service_account: String,
    /// Since when it is ready.
    pub ready_since: Option<SystemTime>,
    /// Of its machine; empty: not known.
    pub node_name: String,
}

/// The best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Healthy,
    Draining,
    Unhealthy,
}

impl Endpoint {
    /// A healthy one of which nothing more is known.
    pub fn new(id: impl Into<String>, address: IpAddr, ports: Vec<(u16, u16)>) -> Self {
        Self {
            id: id.into(),
            address,
            hostname: None,
            ports,
            labels: Vec::new(),
            locality: String::new(),
            weight: 1,
            health: Health::Healthy,
            service_account: String::new(),
            ready_since: None,
            node_name: String::new(),
        }
    }

    /// Where a request to `service_port` goes; `None`: the endpoint does not serve that port.
    pub fn socket_address(&self, service_port: u16) -> Option<SocketAddr> {
        let (_, port) = self.ports.iter().find(|(service, _)| *service == service_port)?;
        Some(SocketAddr::new(self.address, *port))
    }

    /// One of its labels. Where it is known to be goes over what its labels say of that, as in Istio.
    pub fn label(&self, key: &str) -> Option<&str> {
        let node_name = Some(self.node_name.as_str()).filter(|name| key == NODE_NAME_LABEL && !name.is_empty());
        let own = || self.labels.iter().find(|(own, _)| own == key);
        let place = Locality::of(&self.locality).label(key).or(node_name);
        place.or_else(|| own().map(|(_, value)| value.as_str()))
    }

    pub fn has_labels(&self, wanted: &[(String, String)]) -> bool {
        wanted.iter().all(|(key, value)| self.label(key) == Some(value))
    }
}

/// Leaves of the endpoints that serve `service_port` at one address only one: as in Envoy (`EdsClusterImpl`), where an
/// address is one endpoint of a cluster however often it is listed, the first; of several states the best.
pub fn keep_one_an_address(endpoints: &mut Vec<Arc<Endpoint>>, service_port: u16) {
    let mut places = HashMap::with_capacity(endpoints.len());
    let mut kept: Vec<Arc<Endpoint>> = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints.drain(..) {
        let Some(address) = endpoint.socket_address(service_port) else {
            continue;
        };
        // What a name stands for is not known yet.
        let name = endpoint.hostname.clone().filter(|_| address.ip().is_unspecified());
        match places.entry((address, name)) {
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push(endpoint);
            }
            Entry::Occupied(place) => {
                if let Some(first) = kept.get_mut(*place.get())
                    && endpoint.health < first.health
                {
                    *first = endpoint;
                }
            }
        }
    }
    *endpoints = kept;
}

/// The endpoints of one service, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSet {
    pub fqdn: String,
    endpoints: BTreeMap<String, (Arc<Endpoint>, u64)>,
    checksum: u64,
}

fn hash(wire: &mesh::Endpoint) -> u64 {
    xxh3_64(&wire.encode_to_vec())
}

/// Of a whole set: the wrapping sum of the hash of each endpoint's encoding.
pub fn endpoints_checksum(endpoints: &[mesh::Endpoint]) -> u64 {
    endpoints.iter().map(hash).fold(0, u64::wrapping_add)
}

impl EndpointSet {
    /// From a message that carries the whole set.
    pub fn whole(wire: mesh::Endpoints) -> Result<Self, Invalid> {
        if wire.change {
            return Err(Invalid::new("change", "a change came where the whole set was expected"));
        }
        Self {
            fqdn: wire.fqdn.clone(),
            ..Self::default()
        }
        .changed(wire)
    }

    /// The set after a change; refused when the change does not start from this set.
    pub fn apply(&self, wire: mesh::Endpoints) -> Result<Self, Invalid> {
        if !wire.change {
            return Self::whole(wire);
        }
        if wire.base_checksum != self.checksum {
            return Err(Invalid::new(
                "base_checksum",
                "the change does not start from the endpoints held here",
            ));
        }
        self.clone().changed(wire)
    }

    fn changed(mut self, wire: mesh::Endpoints) -> Result<Self, Invalid> {
        for id in &wire.removals {
            self.remove(id);
        }
        for endpoint in wire.upserts {
            let hash = hash(&endpoint);
            let endpoint = Endpoint::try_from(endpoint)?;
            self.remove(&endpoint.id);
            self.checksum = self.checksum.wrapping_add(hash);
            self.endpoints.insert(endpoint.id.clone(), (Arc::new(endpoint), hash));
        }
        if self.checksum != wire.checksum {
            return Err(Invalid::new(
                "checksum",
                "the endpoints do not add up to the checksum sent with them",
            ));
        }
        Ok(self)
    }

    fn remove(&mut self, id: &str) {
        if let Some((_, hash)) = self.endpoints.remove(id) {
            self.checksum = self.checksum.wrapping_sub(hash);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values().map(|(endpoint, _)| endpoint)
    }

    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    pub fn checksum(&self) -> u64 {
        self.checksum
    }
}

impl TryFrom<mesh::Endpoint> for Endpoint {
    type Error = Invalid;

    fn try_from(wire: mesh::Endpoint) -> Result<Self, Invalid> {
        let within = |error: Invalid| error.within(format!("endpoints[{}]", wire.id));
        if wire.id.is_empty() {
            return Err(Invalid::new("endpoints", "an endpoint without an id"));
        }
        let health = match wire.health() {
            mesh::Health::Healthy => Health::Healthy,
            mesh::Health::Draining => Health::Draining,
            mesh::Health::Unhealthy => Health::Unhealthy,
        };
        let hostname = (!wire.hostname.is_empty()).then_some(wire.hostname);
        let address = match hostname {
            Some(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            None => wire.address.parse().map_err(|_| {
                Invalid::new("address", format!("{:?} is not an IP address", wire.address))
                    .within(format!("endpoints[{}]", wire.id))
            })?,
        };
        let ports = wire
            .ports
            .iter()
            .map(|pair| Ok((host::port("ports", pair.service_port)?, host::port("ports", pair.port)?)))
            .collect::<Result<_, Invalid>>()
            .map_err(within)?;
        Ok(Self {
            address,
            ports,
            labels: wire.labels.into_iter().map(|label| (label.key, label.value)).collect(),
            locality: wire.locality,
            weight: wire.weight.max(1),
            health,
            service_account: wire.service_account,
            ready_since: (wire.ready_since != 0)
                .then(|| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(wire.ready_since)))
                .flatten(),
            node_name: wire.node_name,
            hostname,
            id: wire.id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(id: &str, weight: u32) -> mesh::Endpoint {
        mesh::Endpoint {
            id: id.into(),
            address: "10.0.0.1".into(),
            weight,
            ..Default::default()
        }
    }

    #[test]
    fn where_an_endpoint_is_goes_over_what_its_labels_say_of_that() {
        let endpoint = Endpoint {
            locality: "eu/a".into(),
            node_name: "n1".into(),
            labels: vec![
                ("app".into(), "x".into()),
                ("kubernetes.io/hostname".into(), "mine".into()),
                ("topology.istio.io/subzone".into(), "rack-1".into()),
                ("topology.kubernetes.io/zone".into(), "b".into()),
            ],
            ..Endpoint::new("a", "10.0.0.1".parse().unwrap(), Vec::new())
        };
        let of = |key| endpoint.label(key);
        assert_eq!((of("app"), of("version")), (Some("x"), None));
        assert_eq!(of("topology.kubernetes.io/region"), Some("eu"));
        assert_eq!(of("topology.kubernetes.io/zone"), Some("a"));
        assert_eq!(of("topology.istio.io/subzone"), Some("rack-1"));
        assert_eq!(of("kubernetes.io/hostname"), Some("n1"));
        assert!(endpoint.has_labels(&[("topology.kubernetes.io/zone".into(), "a".into())]));
        assert!(!endpoint.has_labels(&[("topology.kubernetes.io/zone".into(), "b".into())]));
    }

    #[test]
    fn an_address_is_one_endpoint_of_a_port_however_often_it_is_listed() {
        let at = |id: &str, ports: &[(u16, u16)], health: Health| {
            Arc::new(Endpoint {
                health,
                ..Endpoint::new(id, "10.0.0.1".parse().unwrap(), ports.to_vec())
            })
        };
        let named = |id: &str, name: &str| {
            Arc::new(Endpoint {
                hostname: Some(name.into()),
                ..Endpoint::new(id, "0.0.0.0".parse().unwrap(), vec![(80, 1)])
            })
        };
        let all = [
            at("a", &[(80, 1), (81, 1)], Health::Healthy),
            at("b", &[(80, 1), (81, 2)], Health::Healthy),
            at("c", &[(80, 2)], Health::Draining),
            at("d", &[(80, 2)], Health::Healthy),
            at("e", &[(80, 2)], Health::Healthy),
            named("f", "x"),
            named("g", "y"),
            named("h", "x"),
        ];
        let kept = |port| {
            let mut endpoints = all.to_vec();
            keep_one_an_address(&mut endpoints, port);
            endpoints.iter().map(|it| it.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(kept(80), ["a", "d", "f", "g"]);
        assert_eq!(kept(81), ["a", "b"]);
    }

    fn whole(endpoints: Vec<mesh::Endpoint>) -> mesh::Endpoints {
        let checksum = endpoints_checksum(&endpoints);
        mesh::Endpoints {
            fqdn: "a".into(),
            upserts: endpoints,
            checksum,
            ..Default::default()
        }
    }

    #[test]
    fn a_change_leads_to_the_same_set_as_the_whole() {
        let before = EndpointSet::whole(whole(vec![endpoint("a", 1), endpoint("b", 1)])).unwrap();
        let after = whole(vec![endpoint("b", 2), endpoint("c", 1)]);
        let change = mesh::Endpoints {
            change: true,
            base_checksum: before.checksum(),
            upserts: after.upserts.clone(),
            removals: vec!["a".into()],
            ..after.clone()
        };
        assert_eq!(before.apply(change).unwrap(), EndpointSet::whole(after).unwrap());
    }

    #[test]
    fn a_change_from_another_base_is_refused() {
        let before = EndpointSet::whole(whole(vec![endpoint("a", 1)])).unwrap();
        let change = mesh::Endpoints {
            change: true,
            base_checksum: 1,
            ..Default::default()
        };
        assert_eq!(before.apply(change).unwrap_err().field, "base_checksum");
        let lost = mesh::Endpoints {
            change: true,
            base_checksum: before.checksum(),
            checksum: 1,
            ..Default::default()
        };
        assert_eq!(before.apply(lost).unwrap_err().field, "checksum");
    }

    #[test]
    fn an_address_that_is_none_is_refused_by_name() {
        let bad = mesh::Endpoint {
            id: "x".into(),
            address: "nowhere".into(),
            ..Default::default()
        };
        let error = EndpointSet::whole(whole(vec![bad])).unwrap_err();
        assert_eq!(error.field, "endpoints[x].address");
    }
}
