//! Which endpoints of a service are preferred: `spec.trafficDistribution` of a Service, and Istio's annotation of Services
//! and ServiceEntries, which counts where the field says nothing (Istio's `GetTrafficDistribution`). Called by `service`
//! and `reader`.

use super::Spec;
use super::read::Field;
use super::scalar::shown;

pub const DISTRIBUTION_ANNOTATION: &str = "networking.istio.io/traffic-distribution";

/// Others serve when too few of the preferred ones are healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// `PreferSameZone`, and `PreferClose`, its older name: of the client's zone, then of its region.
    SameZone,
    /// `PreferSameNode`: of the client's machine, then as near as there are.
    SameNode,
}

impl TrafficDistribution {
    /// As Kubernetes writes it.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "PreferClose" | "PreferSameZone" => Some(Self::SameZone),
            "PreferSameNode" => Some(Self::SameNode),
            _ => None,
        }
    }

    /// As in an annotation: in any case. `Some(None)`: it says that none is preferred.
    pub fn parse_annotation(text: &str) -> Option<Option<Self>> {
        match text.to_ascii_lowercase().as_str() {
            "" | "any" => Some(None),
            "preferclose" | "prefersamezone" => Some(Some(Self::SameZone)),
            "prefersamenode" => Some(Some(Self::SameNode)),
            _ => None,
        }
    }
}

pub(super) fn of_field(field: &Field<'_>) -> Option<TrafficDistribution> {
    let text = field.text()?;
    let parsed = TrafficDistribution::parse(text);
    if parsed.is_none() {
        refuse(field, text);
    }
    parsed
}

/// Gives the service what its annotation says.
pub(super) fn annotate(spec: &mut Spec, annotations: &Field<'_>) {
    let own = match spec {
        Spec::Service(service) => &mut service.distribution,
        Spec::ServiceEntry(entry) => &mut entry.distribution,
        _ => return,
    };
    let Some(field) = annotations.get(DISTRIBUTION_ANNOTATION) else {
        return;
    };
    let Some(text) = field.text() else { return };
    match TrafficDistribution::parse_annotation(text) {
        Some(said) => *own = own.or(said),
        None => refuse(&field, text),
    }
}

fn refuse(field: &Field<'_>, text: &str) {
    field.refuse(format!(
        "{} is neither PreferSameZone, PreferSameNode nor PreferClose",
        shown(text)
    ));
}
