//! Worlds: what is told to whom, what is warned of, and that a world made step by step is the world made at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use tsunagi_proto::model;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::*;
use crate::config::{Document, Problem, from_stored, parse};

mod accepted;
mod accepted_policies;
mod clients;
mod delegation;
mod departures;
mod encoding;
mod endpoints;
mod lookup;
mod policies;
mod routing;
mod scope;
mod slices;
mod steps;
mod told_policies;
mod warnings;
mod workload;

const USER: &str = "user-service.default.svc.cluster.local";

/// Where the owner's service is: a Service and three WorkloadEntries.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: user-service}
spec:
  selector: {app: user-service}
  clusterIP: 10.96.0.7
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: user-v1, labels: {app: user-service, version: v1}}
spec: {address: 127.0.0.1, ports: {http: 9001}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: user-v2, labels: {app: user-service, version: v2}}
spec: {address: 127.0.0.1, ports: {http: 9002}, weight: 2, serviceAccount: user}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: other, labels: {app: other}}
spec: {address: 127.0.0.1}
---
";

const RULES: &str = "
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: user-service}
spec:
  hosts: [user-service]
  http:
  - match: [{headers: {version: {exact: v2}}}]
    route: [{destination: {host: user-service, subset: v2}, weight: 100}]
  - route:
    - {destination: {host: user-service, subset: v1}, weight: 90}
    - {destination: {host: user-service, subset: v2}, weight: 10}
---
apiVersion: networking.istio.io/v1alpha3
kind: DestinationRule
metadata: {name: user-service}
spec:
  host: user-service
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 100}, http: {http1MaxPendingRequests: 50, http2MaxRequests: 100}}
    loadBalancer: {simple: LEAST_REQUEST}
    outlierDetection: {consecutiveErrors: 5, interval: 30s, baseEjectionTime: 30s}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
";

fn documents(text: &str) -> Vec<Arc<Document>> {
    let parsed = parse("w.yaml", text, "default");
    parsed
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .into_iter()
        .map(Arc::new)
        .collect()
}

/// The rules of one VirtualService as they are told, as if there were nothing else.
fn table_of(document: &Arc<Document>) -> mesh::RouteTable {
    let catalog = catalog::Catalog::new("");
    let rules = super::scope::Rules::in_force(&catalog, &[document]);
    routes::table(&rules).unwrap_or_default()
}

fn world(text: &str) -> World {
    World::build(documents(text).into_iter(), 1, None)
}

fn decoded(encoded: &Encoded) -> Kind {
    assert_eq!(encoded.version, tsunagi_proto::names::version_of(&encoded.bytes));
    mesh::Resource::decode(encoded.bytes.clone()).unwrap().kind.unwrap()
}

fn host_for(world: &World, fqdn: &str, client: &str) -> mesh::Host {
    let encoded = world.host(fqdn, client).unwrap();
    assert_eq!(encoded.name, format!("host/{fqdn}"));
    match decoded(&encoded) {
        Kind::Host(host) => host,
        other => panic!("{other:?}"),
    }
}

fn host(world: &World, fqdn: &str) -> mesh::Host {
    host_for(world, fqdn, "default")
}

fn endpoints_of(world: &World, fqdn: &str) -> mesh::Endpoints {
    match decoded(&world.endpoints(fqdn).unwrap()) {
        Kind::Endpoints(endpoints) => endpoints,
        other => panic!("{other:?}"),
    }
}

/// `port|subset|host` of each cluster.
fn cluster_names(host: &mesh::Host) -> Vec<String> {
    let name = |cluster: &mesh::Cluster| {
        let short = cluster.host.split('.').next().unwrap_or_default();
        format!("{}|{}|{short}", cluster.port, cluster.subset)
    };
    host.clusters.iter().map(name).collect()
}

fn cluster<'a>(host: &'a mesh::Host, name: &str, subset: &str) -> &'a mesh::Cluster {
    let found = host
        .clusters
        .iter()
        .find(|cluster| cluster.host.starts_with(name) && cluster.subset == subset);
    found.unwrap_or_else(|| panic!("no {name} {subset} in {:?}", cluster_names(host)))
}

#[test]
fn the_owners_configuration_becomes_a_host_and_its_endpoints() {
    let world = world(&format!("{SERVICE}{RULES}"));
    assert_eq!(world.problems(), []);
    // That it leads nowhere is nobody's mistake but its own.
    let others = |warning: &String| !warning.starts_with("WorkloadEntry/default/other: ");
    assert!(!world.warnings().iter().any(others), "{:?}", world.warnings());
    let host = host(&world, USER);
    assert_eq!((host.fqdn.as_str(), host.namespace.as_str()), (USER, "default"));
    assert_eq!(host.addresses, ["10.96.0.7"]);
    assert_eq!(
        cluster_names(&host),
        ["80||user-service", "80|v1|user-service", "80|v2|user-service"]
    );
    let v1 = cluster(&host, "user-service", "v1");
    assert_eq!(
        v1.labels,
        [mesh::Label {
            key: "version".into(),
            value: "v1".into()
        }]
    );
    assert_eq!(v1.protocol(), mesh::Protocol::Http1);
    let pool = v1.connection_pool.unwrap();
    assert_eq!(
        (pool.max_connections, pool.max_pending_requests, pool.max_requests),
        (100, 50, 100)
    );
    let outlier = v1.outlier_detection.as_ref().unwrap();
    assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_percent), (5, 10));
    assert_eq!(outlier.interval.unwrap().seconds, 30);
    let routes = host.routes.clone().unwrap();
    assert_eq!(
        (routes.namespace.as_str(), routes.name.as_str()),
        ("default", "user-service")
    );
    assert_eq!(
        routes.http[1].route.iter().map(|to| to.weight).collect::<Vec<_>>(),
        [90, 10]
    );
    assert!(model::Host::try_from(host).is_ok());

    let endpoints = endpoints_of(&world, USER);
    let ids: Vec<_> = endpoints.upserts.iter().map(|endpoint| endpoint.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "WorkloadEntry/default/user-v1/127.0.0.1:9001",
            "WorkloadEntry/default/user-v2/127.0.0.1:9002"
        ]
    );
    assert_eq!(
        endpoints.upserts[1].ports,
        [mesh::EndpointPort {
            service_port: 80,
            port: 9002
        }]
    );
    assert_eq!((endpoints.upserts[0].weight, endpoints.upserts[1].weight), (1, 2));
    assert!(model::EndpointSet::whole(endpoints).is_ok());
    assert_eq!(*world.reaches(USER, "default"), [USER.to_owned()]);
    assert_eq!(world.host_names(), [USER]);
    assert_eq!(world.revision(), 1);
}

#[test]
fn a_service_entry_is_a_host_as_written() {
    let world = world(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: users}
spec:
  hosts: [users.mesh, short]
  addresses: [10.0.0.3]
  resolution: STATIC
  ports: [{number: 80, name: http}, {number: 9000, name: grpc}]
  endpoints:
  - {address: 127.0.0.1, ports: {http: 1000}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {http: 1001}}
  - {address: 127.0.0.1, ports: {http: 1001}, labels: {version: v2}}
",
    );
    assert_eq!(world.problems(), []);
    assert_eq!(cluster_names(&host(&world, "users.mesh")), ["80||users", "9000||users"]);
    let ids: Vec<String> = endpoints_of(&world, "users.mesh")
        .upserts
        .into_iter()
        .map(|endpoint| endpoint.id)
        .collect();
    assert_eq!(
        ids,
        [
            "ServiceEntry/default/users/127.0.0.1:1000",
            "ServiceEntry/default/users/127.0.0.1:1001",
            "ServiceEntry/default/users/127.0.0.1:1001#2"
        ]
    );
    // A name without a dot is found both ways.
    assert!(world.host("short", "x").is_some() && world.host("short.default.svc.cluster.local", "x").is_some());
    assert!(world.host("nobody", "x").is_none() && world.endpoints("nobody").is_none());
    assert!(world.reaches("nobody", "x").is_empty());
}

#[test]
fn what_a_proxy_would_refuse_is_a_problem() {
    let host = mesh::Host {
        fqdn: "a".into(),
        ports: vec![mesh::Port::default()],
        ..Default::default()
    };
    let made_by = documents(RULES);
    let problem = judge::host(host, made_by.iter()).unwrap();
    assert_eq!(
        (problem.kind.as_str(), problem.field.as_str(), problem.line),
        ("VirtualService", "ports", 2)
    );
    assert!(
        problem
            .to_string()
            .starts_with("w.yaml:2: VirtualService/user-service: ports: 0 is not a port")
    );
}
