//! The kinds of document, their names on the command line and in paths, and the key of one document.

use std::fmt;

use super::names;
use super::scalar::shown;

/// What a document may be. The order is the one in which documents are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Service,
    VirtualService,
    DestinationRule,
    ServiceEntry,
    WorkloadEntry,
    Sidecar,
    /// Not a kind that people write: what a cluster says of a Service's endpoints, already joined with its Pods.
    EndpointSlice,
    /// Nor this one: a machine of a cluster, which has no namespace.
    Node,
}

/// API group of Istio's networking kinds.
pub(super) const NETWORKING: &str = "networking.istio.io";
/// API group of Istio's security kinds, none of which is supported yet.
pub(super) const SECURITY: &str = "security.istio.io";

impl Kind {
    /// Every kind that people write.
    pub const ALL: [Kind; 6] = [
        Kind::Service,
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::ServiceEntry,
        Kind::WorkloadEntry,
        Kind::Sidecar,
    ];

    /// By name in any case, plural or short name (`vs`, `dr`, `se`, `we`, `svc`, `sidecar`), as people type it.
    pub fn parse(text: &str) -> Option<Kind> {
        let text = text.to_ascii_lowercase();
        Kind::ALL
            .into_iter()
            .find(|kind| text == kind.as_str().to_ascii_lowercase() || text == kind.plural() || text == kind.short())
    }

    /// Exactly as it is written in a document.
    pub(super) fn of_document(text: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Service => "Service",
            Kind::VirtualService => "VirtualService",
            Kind::DestinationRule => "DestinationRule",
            Kind::ServiceEntry => "ServiceEntry",
            Kind::WorkloadEntry => "WorkloadEntry",
            Kind::Sidecar => "Sidecar",
            Kind::EndpointSlice => "EndpointSlice",
            Kind::Node => "Node",
        }
    }

    /// As in a Kubernetes path.
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Service => "services",
            Kind::VirtualService => "virtualservices",
            Kind::DestinationRule => "destinationrules",
            Kind::ServiceEntry => "serviceentries",
            Kind::WorkloadEntry => "workloadentries",
            Kind::Sidecar => "sidecars",
            Kind::EndpointSlice => "endpointslices",
            Kind::Node => "nodes",
        }
    }

    fn short(self) -> &'static str {
        match self {
            Kind::Service => "svc",
            Kind::VirtualService => "vs",
            Kind::DestinationRule => "dr",
            Kind::ServiceEntry => "se",
            Kind::WorkloadEntry => "we",
            Kind::Sidecar => "sidecar",
            Kind::EndpointSlice | Kind::Node => "",
        }
    }

    /// API group; empty for Kubernetes' core group.
    pub fn group(self) -> &'static str {
        match self {
            Kind::Service | Kind::Node => "",
            Kind::EndpointSlice => "discovery.k8s.io",
            _ => NETWORKING,
        }
    }

    /// API versions in which the kind may be written, the current one first.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::Service | Kind::EndpointSlice | Kind::Node => &["v1"],
            _ => &["v1", "v1beta1", "v1alpha3"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Names one document: there is never a second with the same key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub kind: Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// Why no document can have this key.
    pub fn check(&self) -> Result<(), String> {
        check_namespace(&self.namespace)?;
        let name = &self.name;
        let good = match self.kind {
            Kind::Service => names::is_dns_label(name),
            _ => names::is_dns_subdomain(name),
        };
        if good {
            Ok(())
        } else {
            Err(format!(
                "{} is not the name of a {}: use a-z, 0-9 and -",
                shown(name),
                self.kind
            ))
        }
    }
}

/// Why there can be no such namespace.
pub fn check_namespace(text: &str) -> Result<(), String> {
    if names::is_dns_label(text) {
        Ok(())
    } else {
        Err(format!("{} is not a namespace name: use a-z, 0-9 and -", shown(text)))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
    }
}

/// Kinds of Istio that are named by a refusal, with their API group: known, not supported yet.
pub(super) const LATER: [(&str, &str); 10] = [
    ("Gateway", NETWORKING),
    ("WorkloadGroup", NETWORKING),
    ("EnvoyFilter", NETWORKING),
    ("ProxyConfig", NETWORKING),
    ("PeerAuthentication", SECURITY),
    ("AuthorizationPolicy", SECURITY),
    ("RequestAuthentication", SECURITY),
    ("Telemetry", "telemetry.istio.io"),
    ("WasmPlugin", "extensions.istio.io"),
    ("Ingress", "networking.k8s.io"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_every_name_people_use() {
        for text in ["VirtualService", "virtualservice", "virtualservices", "vs", "VS"] {
            assert_eq!(Kind::parse(text), Some(Kind::VirtualService), "{text}");
        }
        for (text, kind) in [
            ("svc", Kind::Service),
            ("dr", Kind::DestinationRule),
            ("se", Kind::ServiceEntry),
            ("workloadentries", Kind::WorkloadEntry),
            ("sidecar", Kind::Sidecar),
            ("sidecars", Kind::Sidecar),
        ] {
            assert_eq!(Kind::parse(text), Some(kind), "{text}");
        }
        assert_eq!(Kind::parse("pods"), None);
        assert_eq!(Kind::of_document("virtualservice"), None);
    }

    #[test]
    fn a_key_shows_kind_namespace_and_name() {
        let key = Key {
            kind: Kind::Service,
            namespace: "shop".into(),
            name: "user".into(),
        };
        assert_eq!(key.to_string(), "Service/shop/user");
    }
}
