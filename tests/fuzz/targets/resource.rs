//! The check of what a control plane sends: bytes -> protobuf -> `model`, and the decision on whatever passes.

use prost::Message;
use tsunagi_proto::model::{EndpointSet, Host, Invalid, Workload, endpoints_checksum};
use tsunagi_proto::wire::mesh::{self, resource::Kind};

/// Is it a valid resource?
pub fn resource(input: &[u8]) -> bool {
    let Ok(resource) = mesh::Resource::decode(input) else {
        return false;
    };
    let again = mesh::Resource::decode(resource.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&resource), "not the same once encoded and decoded");
    match resource.kind {
        Some(Kind::Host(wire)) => host(wire),
        Some(Kind::Endpoints(wire)) => endpoints(wire),
        Some(Kind::Workload(wire)) => taken(Workload::try_from(wire)).is_some(),
        Some(Kind::Departure(_)) | None => false,
    }
}

fn taken<T>(checked: Result<T, Invalid>) -> Option<T> {
    checked
        .inspect_err(|invalid| assert!(!invalid.reason.is_empty() && !invalid.field.is_empty(), "{invalid:?}"))
        .ok()
}

fn host(wire: mesh::Host) -> bool {
    let Some(host) = taken(Host::try_from(wire)) else {
        return false;
    };
    assert!(
        host.ports.is_sorted_by(|one, other| one.number < other.number),
        "{:?}",
        host.ports
    );
    if let Some(table) = &host.routes {
        for route in table.rules.iter().filter_map(|rule| rule.route()) {
            let sum: u64 = route.destinations.iter().map(|to| u64::from(to.weight)).sum();
            assert!(sum > 0 && sum == route.total_weight);
        }
        super::judged::table(table);
    }
    true
}

fn endpoints(mut wire: mesh::Endpoints) -> bool {
    let as_sent = EndpointSet::whole(wire.clone());
    // No damage hits upon the right one.
    wire.checksum = endpoints_checksum(&wire.upserts);
    wire.change = false;
    let Some(whole) = taken(EndpointSet::whole(wire.clone())) else {
        return as_sent.is_ok();
    };
    let change = mesh::Endpoints {
        fqdn: wire.fqdn,
        base_checksum: whole.checksum(),
        change: true,
        removals: wire.upserts.into_iter().map(|endpoint| endpoint.id).collect(),
        ..mesh::Endpoints::default()
    };
    let emptied = whole.apply(change).expect("without its own endpoints it is empty");
    assert!(emptied.is_empty());
    true
}
