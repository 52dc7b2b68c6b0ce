//! Names and versions of resources, and which service a name in a request may mean.

use std::net::IpAddr;

use xxhash_rust::xxh3::xxh3_64;

/// The one type URL under which every resource travels, so that one response is one transaction.
pub const RESOURCE_TYPE_URL: &str = "type.googleapis.com/tsunagi.mesh.v1.Resource";

/// Type URL of the detail that names a refused resource in a NACK.
pub const REFUSAL_TYPE_URL: &str = "type.googleapis.com/tsunagi.mesh.v1.Refusal";

/// Suffix of Kubernetes service names unless the control plane says otherwise.
pub const DEFAULT_CLUSTER_DOMAIN: &str = "cluster.local";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceName<'a> {
    Host(&'a str),
    Endpoints(&'a str),
    Workload { namespace: &'a str, node_id: &'a str },
    Departure { namespace: &'a str, node_id: &'a str },
}

pub fn host(fqdn: &str) -> String {
    format!("host/{fqdn}")
}

/// The host that stands for a port of every address that no service has: a service of TCP without an address.
pub fn any_address(port: u16) -> String {
    format!("*:{port}")
}

pub fn endpoints(fqdn: &str) -> String {
    format!("endpoints/{fqdn}")
}

pub fn workload(namespace: &str, node_id: &str) -> String {
    format!("workload/{namespace}/{node_id}")
}

pub fn departure(namespace: &str, node_id: &str) -> String {
    format!("departure/{namespace}/{node_id}")
}

/// `None` for a name that no resource can have.
pub fn parse(name: &str) -> Option<ResourceName<'_>> {
    let (kind, rest) = name.split_once('/')?;
    if rest.is_empty() {
        return None;
    }
    match kind {
        "host" => Some(ResourceName::Host(rest)),
        "endpoints" => Some(ResourceName::Endpoints(rest)),
        "workload" => {
            let (namespace, node_id) = proxy(rest)?;
            Some(ResourceName::Workload { namespace, node_id })
        }
        "departure" => {
            let (namespace, node_id) = proxy(rest)?;
            Some(ResourceName::Departure { namespace, node_id })
        }
        _ => None,
    }
}

fn proxy(name: &str) -> Option<(&str, &str)> {
    let (namespace, node_id) = name.split_once('/')?;
    (!namespace.is_empty() && !node_id.is_empty()).then_some((namespace, node_id))
}

/// Version of a resource: a hash of its canonical encoding, 16 hex digits. Equal meaning has an equal version on every
/// replica and after every restart, which is what lets a proxy resume without a resend.
pub fn version_of(encoded: &[u8]) -> String {
    format!("{:016x}", xxh3_64(encoded))
}

/// The FQDNs that a client in `namespace` may mean by `name` (no port), the likeliest first; the first that exists wins.
/// Follows the search list of a Kubernetes pod: `svc`, `svc.ns`, `svc.ns.svc`, else the name itself. An IP address means
/// the service that has it, a name of `any_address` itself.
pub fn candidates(name: &str, namespace: &str, domain: &str) -> Vec<String> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return vec![address.to_string()];
    }
    if name.starts_with("*:") {
        return vec![name.to_owned()];
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let labels = name.split('.').count();
    if name.is_empty() || name.len() > 253 || name.split('.').any(str::is_empty) {
        return Vec::new();
    }
    match labels {
        1 => vec![format!("{name}.{namespace}.svc.{domain}"), name],
        2 => vec![format!("{name}.svc.{domain}"), name],
        3 if name.ends_with(".svc") => vec![format!("{name}.{domain}"), name],
        _ => vec![name],
    }
}

/// A host in a rule, as Istio resolves it: a name without a dot is a service of the rule's namespace.
pub fn resolve_in_rule(host: &str, namespace: &str, domain: &str) -> String {
    let host = host.to_ascii_lowercase();
    if host.contains('.') || host == "*" {
        host
    } else {
        format!("{host}.{namespace}.svc.{domain}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_name_is_read_back_as_it_was_made() {
        assert_eq!(parse(&host("a.b")), Some(ResourceName::Host("a.b")));
        assert_eq!(parse(&endpoints("a.b")), Some(ResourceName::Endpoints("a.b")));
        assert_eq!(
            parse(&workload("ns", "pod/1")),
            Some(ResourceName::Workload {
                namespace: "ns",
                node_id: "pod/1"
            })
        );
        assert_eq!(
            parse(&departure("ns", "pod")),
            Some(ResourceName::Departure {
                namespace: "ns",
                node_id: "pod"
            })
        );
        for bad in ["", "host", "host/", "workload/ns", "workload//x", "x/y"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_short_name_means_a_service_of_the_clients_namespace_first() {
        let names = |name| candidates(name, "shop", "cluster.local");
        assert_eq!(names("user"), ["user.shop.svc.cluster.local", "user"]);
        assert_eq!(names("User.Other"), ["user.other.svc.cluster.local", "user.other"]);
        assert_eq!(
            names("user.other.svc"),
            ["user.other.svc.cluster.local", "user.other.svc"]
        );
        assert_eq!(names("user.other.svc.cluster.local."), ["user.other.svc.cluster.local"]);
        assert_eq!(names("10.96.0.1"), ["10.96.0.1"]);
        assert_eq!(names("FD00:0::1"), ["fd00::1"]);
        assert!(names("").is_empty() && names("a..b").is_empty() && names(&"a".repeat(254)).is_empty());
    }
}
