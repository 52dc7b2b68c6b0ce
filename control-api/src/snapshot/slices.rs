//! The endpoints that a cluster's EndpointSlices give to a Service. Called by `endpoints`, and by `workload` for the ports.
//!
//! Two slices may name one Pod: while it moves from one to the other, and where it has an address of each family. It is
//! one endpoint all the same: the better state counts, and of two families IPv4.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tsunagi_proto::wire::mesh;

use super::departures::Departures;
use super::{clusters, service};
use crate::config::{Document, EndpointSlice, PodState, ServicePort, SliceEndpoint, Spec};

/// What is told of the endpoints of `service`, one for each Pod or other address.
pub(super) fn endpoints(service: &Document, slices: &[Arc<Document>], departures: &Departures) -> Vec<mesh::Endpoint> {
    let mut best: BTreeMap<String, Found<'_>> = BTreeMap::new();
    for document in slices {
        let Spec::EndpointSlice(slice) = &document.spec else {
            continue;
        };
        for endpoint in &slice.endpoints {
            let mut state = endpoint.state;
            if departures.is_leaving(&document.key, &endpoint.pod, endpoint.address) {
                state = PodState::Leaving;
            }
            let candidate = Found { slice, endpoint, state };
            let place = best.entry(owner(document, endpoint)).or_insert(candidate);
            if candidate.rank() < place.rank() {
                *place = candidate;
            }
        }
    }
    let made = best
        .into_iter()
        .filter_map(|(owner, found)| message(&owner, service, found));
    made.collect()
}

/// Ports of the Service that the endpoints of the slice serve, with their numbers there.
pub(super) fn ports<'a>(
    service: &'a Document,
    slice: &'a EndpointSlice,
) -> impl Iterator<Item = (&'a ServicePort, u16)> {
    let ports = service::ports(service).iter();
    ports.filter_map(|port| Some((port, *slice.ports.get(&port.name)?)))
}

/// An endpoint where it is written.
#[derive(Clone, Copy)]
struct Found<'a> {
    slice: &'a EndpointSlice,
    endpoint: &'a SliceEndpoint,
    /// With what its own proxy says.
    state: PodState,
}

impl Found<'_> {
    /// The least is the best.
    fn rank(&self) -> (bool, PodState) {
        (self.endpoint.address.is_ipv6(), self.state)
    }
}

/// Who an endpoint is, whichever slice names it.
fn owner(slice: &Document, endpoint: &SliceEndpoint) -> String {
    let key = &slice.key;
    if endpoint.pod.is_empty() {
        format!("{key}/{}", endpoint.address)
    } else {
        format!("Pod/{}/{}", key.namespace, endpoint.pod)
    }
}

/// `None`: it serves no port of the Service.
fn message(owner: &str, service: &Document, found: Found<'_>) -> Option<mesh::Endpoint> {
    let Found { slice, endpoint, state } = found;
    let mut ports: Vec<mesh::EndpointPort> = ports(service, slice)
        .map(|(port, number)| mesh::EndpointPort {
            service_port: port.number.into(),
            port: number.into(),
        })
        .collect();
    ports.sort_by_key(|port| port.service_port);
    let first = ports.first().and_then(|port| u16::try_from(port.port).ok())?;
    let health = match state {
        PodState::Ready => mesh::Health::Healthy,
        PodState::Leaving => mesh::Health::Draining,
        PodState::NotReady => mesh::Health::Unhealthy,
    };
    Some(mesh::Endpoint {
        id: format!("{owner}/{}", SocketAddr::new(endpoint.address, first)),
        address: endpoint.address.to_string(),
        ports,
        labels: clusters::labels(&endpoint.labels),
        locality: endpoint.locality.clone(),
        node_name: endpoint.node_name.clone(),
        weight: 1,
        health: health.into(),
        service_account: endpoint.service_account.clone(),
        ready_since: match state {
            PodState::Ready => endpoint.ready_since,
            PodState::Leaving | PodState::NotReady => 0,
        },
        ..mesh::Endpoint::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Kind, Origin, parse};

    fn service() -> Document {
        let text = "{apiVersion: v1, kind: Service, metadata: {name: user}, spec: {ports: [\
                    {name: http, port: 80, targetPort: web}, {name: admin, port: 81}]}}";
        parse("", text, "").unwrap().remove(0)
    }

    fn endpoint(pod: &str, address: &str, state: PodState) -> SliceEndpoint {
        SliceEndpoint {
            pod: pod.into(),
            address: address.parse().unwrap(),
            state,
            labels: BTreeMap::from([("version".to_owned(), "v1".to_owned())]),
            service_account: "user".into(),
            node_name: "n1".into(),
            locality: "eu/a".into(),
            ready_since: 1_700_000_000,
        }
    }

    fn slice(name: &str, endpoints: Vec<SliceEndpoint>) -> Arc<Document> {
        let mut document = service();
        document.key.kind = Kind::EndpointSlice;
        document.key.name = name.into();
        document.origin = Origin::default();
        document.spec = Spec::EndpointSlice(EndpointSlice {
            service: "user".into(),
            ports: BTreeMap::from([("http".to_owned(), 8080)]),
            endpoints,
        });
        Arc::new(document)
    }

    #[test]
    fn a_pod_is_an_endpoint_with_its_name_labels_and_account() {
        let slices = [slice("a", vec![endpoint("user-1", "10.0.0.1", PodState::Ready)])];
        let found = endpoints(&service(), &slices, &Departures::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].id, "Pod/default/user-1/10.0.0.1:8080");
        assert_eq!(found[0].ready_since, 1_700_000_000);
        let port = mesh::EndpointPort {
            service_port: 80,
            port: 8080,
        };
        // Port 81 is in no slice, so the pod does not serve it.
        assert_eq!(found[0].ports, [port]);
        assert_eq!(found[0].labels[0].value, "v1");
        assert_eq!(found[0].service_account, "user");
        assert_eq!(
            (found[0].locality.as_str(), found[0].node_name.as_str()),
            ("eu/a", "n1")
        );
    }

    #[test]
    fn a_pod_in_two_slices_is_one_endpoint_in_its_better_state() {
        let leaving = endpoint("user-1", "10.0.0.1", PodState::Leaving);
        let ready = endpoint("user-1", "10.0.0.1", PodState::Ready);
        for slices in [
            [slice("a", vec![leaving.clone()]), slice("b", vec![ready.clone()])],
            [slice("a", vec![ready]), slice("b", vec![leaving])],
        ] {
            let found = endpoints(&service(), &slices, &Departures::default());
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].health(), mesh::Health::Healthy);
        }
    }

    #[test]
    fn of_two_families_ipv4_is_called_and_a_pod_with_one_is_called_by_that() {
        let slices = [
            slice("a", vec![endpoint("user-1", "fd00::1", PodState::Ready)]),
            slice("b", vec![endpoint("user-1", "10.0.0.1", PodState::Ready)]),
            slice("c", vec![endpoint("user-2", "fd00::2", PodState::NotReady)]),
        ];
        let found = endpoints(&service(), &slices, &Departures::default());
        let seen: Vec<&str> = found.iter().map(|endpoint| endpoint.id.as_str()).collect();
        assert_eq!(
            seen,
            ["Pod/default/user-1/10.0.0.1:8080", "Pod/default/user-2/[fd00::2]:8080"]
        );
        assert_eq!(found[1].health(), mesh::Health::Unhealthy);
    }

    #[test]
    fn an_address_that_is_no_pod_is_named_by_its_slice() {
        let slices = [slice("a", vec![endpoint("", "10.0.0.9", PodState::Ready)])];
        assert_eq!(
            endpoints(&service(), &slices, &Departures::default())[0].id,
            "EndpointSlice/default/a/10.0.0.9/10.0.0.9:8080"
        );
    }
}
