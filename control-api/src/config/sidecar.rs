//! Sidecar: what the proxies of a namespace, or of some of its workloads, let out, and how much they let in.

use std::collections::BTreeMap;

use super::read::{Field, Fields};
use super::{ConnectionPool, connection_pool};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// `workloadSelector.labels`. Empty: every workload of the namespace.
    pub selector: BTreeMap<String, String>,
    pub outbound: OutboundTrafficPolicy,
    /// `None`: the services' DestinationRules say it.
    pub inbound_connection_pool: Option<ConnectionPool>,
}

/// `outboundTrafficPolicy.mode`: where a redirected connection goes whose destination nobody registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutboundTrafficPolicy {
    /// To its original destination.
    #[default]
    AllowAny,
    /// Nowhere.
    RegistryOnly,
}

const SPEC: Fields = Fields {
    supported: &["workloadSelector", "outboundTrafficPolicy", "inboundConnectionPool"],
    later: &["egress", "ingress"],
};
const SELECTOR: Fields = Fields {
    supported: &["labels"],
    later: &[],
};
const OUTBOUND: Fields = Fields {
    supported: &["mode"],
    later: &["egressProxy"],
};

pub(super) fn read(spec: &Field<'_>) -> Option<Sidecar> {
    let inner = [("workloadSelector", &SELECTOR), ("outboundTrafficPolicy", &OUTBOUND)];
    if !spec.is_message_around(&SPEC, &inner) {
        return None;
    }
    let selector = spec
        .get("workloadSelector")
        .filter(|selector| !selector.is_called("matchLabels", "labels") && selector.is_message(&SELECTOR));
    let labels = selector.and_then(|selector| Some(selector.get("labels")?.labels()));
    Some(Sidecar {
        selector: labels.unwrap_or_default(),
        outbound: spec
            .get("outboundTrafficPolicy")
            .map(|policy| outbound(&policy))
            .unwrap_or_default(),
        inbound_connection_pool: spec
            .get("inboundConnectionPool")
            .map(|pool| connection_pool::read(&pool)),
    })
}

/// An empty block means one thing in Istio's text and another in its code: it has to be said.
fn outbound(policy: &Field<'_>) -> OutboundTrafficPolicy {
    if !policy.is_message(&OUTBOUND) {
        return OutboundTrafficPolicy::default();
    }
    let mode = policy
        .required("mode")
        .and_then(|mode| mode.one_of(&["ALLOW_ANY", "REGISTRY_ONLY"]));
    match mode {
        Some("REGISTRY_ONLY") => OutboundTrafficPolicy::RegistryOnly,
        _ => OutboundTrafficPolicy::AllowAny,
    }
}
