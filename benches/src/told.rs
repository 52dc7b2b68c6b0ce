//! What a control plane would tell a proxy: services with the rules of README's example (a header to v2, the rest split
//! 90 to 10, limits, outlier detection). Called by the benchmarks that run without one.

use std::net::SocketAddr;
use std::sync::Arc;

use tsunagi_proto::model::{self, EndpointSet, endpoints_checksum};
use tsunagi_proto::wire::mesh::{self, string_match};
use tsunagi_proxy::snapshot::Update;

pub const HOST: &str = "user-service.default.svc.cluster.local";

/// Of the service with this number, where there are many.
pub fn fqdn(number: usize) -> String {
    format!("service-{number:05}.default.svc.cluster.local")
}

pub fn destination(host: &str, subset: &str, weight: u32) -> mesh::WeightedDestination {
    mesh::WeightedDestination {
        host: host.to_owned(),
        subset: subset.to_owned(),
        weight,
        ..mesh::WeightedDestination::default()
    }
}

pub fn exact(text: &str) -> Option<mesh::StringMatch> {
    Some(mesh::StringMatch {
        kind: Some(string_match::Kind::Exact(text.to_owned())),
    })
}

/// A header route, then 90/10.
pub fn split(host: &str) -> mesh::RouteTable {
    let header = mesh::NamedMatch {
        name: "version".to_owned(),
        value: exact("v2"),
    };
    let to_v2 = mesh::HttpRule {
        matches: vec![mesh::HttpMatch {
            headers: vec![header],
            ..mesh::HttpMatch::default()
        }],
        route: vec![destination(host, "v2", 100)],
        ..mesh::HttpRule::default()
    };
    let split = mesh::HttpRule {
        route: vec![destination(host, "v1", 90), destination(host, "v2", 10)],
        ..mesh::HttpRule::default()
    };
    mesh::RouteTable {
        namespace: "default".to_owned(),
        name: "user-service".to_owned(),
        http: vec![to_v2, split],
        ..mesh::RouteTable::default()
    }
}

/// A rule for each path, or for each tenant of one path.
pub fn many_rules(host: &str, rules: usize, by_tenant: bool) -> mesh::RouteTable {
    let rule = |number: usize| {
        let (uri, headers) = if by_tenant {
            let tenant = mesh::NamedMatch {
                name: "x-tenant".to_owned(),
                value: exact(&format!("tenant-{number:05}")),
            };
            ("/".to_owned(), vec![tenant])
        } else {
            (format!("/api/v1/service-{number:05}/"), Vec::new())
        };
        let uri = mesh::StringMatch {
            kind: Some(string_match::Kind::Prefix(uri)),
        };
        mesh::HttpRule {
            matches: vec![mesh::HttpMatch {
                uri: Some(uri),
                headers,
                ..mesh::HttpMatch::default()
            }],
            route: vec![destination(host, "v1", 100)],
            ..mesh::HttpRule::default()
        }
    };
    mesh::RouteTable {
        namespace: "default".to_owned(),
        name: "user-service".to_owned(),
        http: (0..rules).map(rule).collect(),
        ..mesh::RouteTable::default()
    }
}

/// A service on port 80 whose endpoints speak `protocol`.
pub fn host(fqdn: &str, protocol: mesh::Protocol, routes: mesh::RouteTable) -> mesh::Host {
    let cluster = |subset: &str| mesh::Cluster {
        host: fqdn.to_owned(),
        port: 80,
        subset: subset.to_owned(),
        labels: label(subset).into_iter().collect(),
        protocol: protocol.into(),
        connection_pool: Some(mesh::ConnectionPool {
            max_connections: 100,
            max_pending_requests: 50,
            max_requests: 100,
            ..mesh::ConnectionPool::default()
        }),
        outlier_detection: Some(mesh::OutlierDetection {
            consecutive_5xx: 5,
            ..mesh::OutlierDetection::default()
        }),
        ..mesh::Cluster::default()
    };
    mesh::Host {
        fqdn: fqdn.to_owned(),
        namespace: "default".to_owned(),
        ports: vec![mesh::Port {
            number: 80,
            name: "http".to_owned(),
            protocol: protocol.into(),
        }],
        routes: Some(routes),
        clusters: ["", "v1", "v2"].map(cluster).into(),
        ..mesh::Host::default()
    }
}

fn label(version: &str) -> Option<mesh::Label> {
    (!version.is_empty()).then(|| mesh::Label {
        key: "version".to_owned(),
        value: version.to_owned(),
    })
}

/// The last is v2, the others are v1.
pub fn endpoints(fqdn: &str, addresses: &[SocketAddr]) -> mesh::Endpoints {
    let endpoint = |(index, address): (usize, &SocketAddr)| mesh::Endpoint {
        id: format!("endpoint-{index:05}"),
        address: address.ip().to_string(),
        ports: vec![mesh::EndpointPort {
            service_port: 80,
            port: address.port().into(),
        }],
        labels: label(if index + 1 == addresses.len() { "v2" } else { "v1" })
            .into_iter()
            .collect(),
        ..mesh::Endpoint::default()
    };
    let upserts: Vec<_> = addresses.iter().enumerate().map(endpoint).collect();
    mesh::Endpoints {
        fqdn: fqdn.to_owned(),
        checksum: endpoints_checksum(&upserts),
        upserts,
        ..mesh::Endpoints::default()
    }
}

/// As many addresses as asked for; nothing listens there.
pub fn addresses(count: usize) -> Vec<SocketAddr> {
    let address = |number: usize| {
        let [.., high, low] = number.to_be_bytes();
        SocketAddr::from(([127, 1, high, low], 8080))
    };
    (0..count).map(address).collect()
}

pub fn endpoint_set(wire: mesh::Endpoints) -> Arc<EndpointSet> {
    Arc::new(EndpointSet::whole(wire).expect("valid endpoints"))
}

/// Checked, as one response would bring them.
pub fn update(hosts: Vec<mesh::Host>, endpoints: Vec<mesh::Endpoints>) -> Update {
    let checked = |host: mesh::Host| {
        let host = model::Host::try_from(host).expect("a valid host");
        (host.fqdn.clone(), Some(Arc::new(host)))
    };
    Update {
        hosts: hosts.into_iter().map(checked).collect(),
        endpoints: endpoints
            .into_iter()
            .map(|wire| (wire.fqdn.clone(), Some(endpoint_set(wire))))
            .collect(),
        workload: None,
        version: "1".to_owned(),
    }
}
