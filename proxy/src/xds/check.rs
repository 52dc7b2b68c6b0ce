//! Is one resource what its name says, and valid? Called by `session`; the judge is `tsunagi_proto::model`.

use prost::Message;
use tsunagi_proto::model;
use tsunagi_proto::names::{self, ResourceName};
use tsunagi_proto::wire::discovery::Resource;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

pub(super) enum Checked {
    Host(model::Host),
    /// Whole or a change: it is checked against what is held.
    Endpoints(mesh::Endpoints),
    Workload(model::Workload),
    Departure(mesh::Departure),
}

/// The reason of a refusal otherwise.
pub(super) fn check(name: &ResourceName<'_>, bytes: &[u8]) -> Result<Checked, String> {
    let decoded = mesh::Resource::decode(bytes).map_err(|error| format!("not a Resource: {error}"))?;
    let kind = decoded
        .kind
        .ok_or("a Resource of a kind that this proxy does not know")?;
    match (name, kind) {
        (ResourceName::Host(fqdn), Kind::Host(host)) => {
            same("fqdn", fqdn, &host.fqdn)?;
            model::Host::try_from(host)
                .map(Checked::Host)
                .map_err(|invalid| invalid.to_string())
        }
        (ResourceName::Endpoints(fqdn), Kind::Endpoints(endpoints)) => {
            same("fqdn", fqdn, &endpoints.fqdn)?;
            Ok(Checked::Endpoints(endpoints))
        }
        (ResourceName::Workload { namespace, node_id }, Kind::Workload(workload)) => {
            same("namespace", namespace, &workload.namespace)?;
            same("node_id", node_id, &workload.node_id)?;
            model::Workload::try_from(workload)
                .map(Checked::Workload)
                .map_err(|invalid| invalid.to_string())
        }
        (ResourceName::Departure { namespace, node_id }, Kind::Departure(departure)) => {
            same("namespace", namespace, &departure.namespace)?;
            same("node_id", node_id, &departure.node_id)?;
            Ok(Checked::Departure(departure))
        }
        _ => Err("the resource is of another kind than its name".to_owned()),
    }
}

/// The bytes that a resource of a response carries.
pub(super) fn payload(resource: &mut Resource) -> Result<Vec<u8>, String> {
    let any = resource.resource.take().ok_or("the resource is empty")?;
    if any.type_url != names::RESOURCE_TYPE_URL {
        return Err(format!(
            "the type is {:?}, not {}",
            any.type_url,
            names::RESOURCE_TYPE_URL
        ));
    }
    Ok(any.value)
}

fn same(field: &str, name: &str, found: &str) -> Result<(), String> {
    if name == found {
        Ok(())
    } else {
        Err(format!("{field}: is {found:?}, but the resource's name says {name:?}"))
    }
}
