//! The application beside this proxy, compiled as a host for one of the addresses that it is called at: inbound requests walk
//! the same path as outbound ones, with it as their cluster. Called by `inbound`, which decides which addresses there are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tsunagi_proto::model::{
    self, ClusterKey, ConnectionPool, Endpoint, H2UpgradePolicy, InboundPort, Port, Protocol, Workload,
};

use super::compile::{Cluster, Destination, Host, Port as CompiledPort, Rule};
use super::connections::ConnectionRoutes;
use crate::telemetry::{Direction, Telemetry};
use crate::upstream::{self, Local, Members, Registry};

const ENDPOINT_ID: &str = "application";
const ROUTE: &str = "inbound";
/// Istio's name for the ports that no service leads to. They are one cluster.
pub(super) const PASSTHROUGH: &str = "InboundPassthroughCluster";
pub(super) const PASSTHROUGH_PORT: u16 = 0;
/// The packet filter leaves connections from these alone, as Istio's does.
const SOURCE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6));
const SOURCE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// Where a connection from the mesh was meant to go; `None`: to this proxy itself, and so to `--app-addr`.
pub(super) type Called = Option<SocketAddr>;

/// A port of the application, with the policy in force for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalPort {
    /// Of the cluster; `PASSTHROUGH_PORT` for those that no service leads to.
    pub number: u16,
    pub service: String,
    protocol: Protocol,
    connection_pool: ConnectionPool,
}

/// It has what its addresses share: limits, connections, counts.
#[derive(Debug)]
pub(super) struct LocalCluster {
    pub port: LocalPort,
    told: Arc<model::Cluster>,
    members: Arc<Members>,
    pub learned: Arc<upstream::Cluster>,
}

impl LocalPort {
    /// As a service declares it. What was not redirected speaks HTTP: a protocol that is not is not served there.
    pub fn of(workload: Option<&Workload>, called: Called, app: SocketAddr) -> Self {
        let number = called.unwrap_or(app).port();
        let declared = workload.and_then(|workload| declared(workload, number));
        let Some(declared) = declared else {
            let (number, service) = if called.is_some() {
                (PASSTHROUGH_PORT, PASSTHROUGH)
            } else {
                (number, "")
            };
            return Self {
                number,
                service: service.to_owned(),
                protocol: Protocol::Detect,
                connection_pool: workload.map_or_else(ConnectionPool::default, |workload| {
                    workload.inbound_connection_pool.clone()
                }),
            };
        };
        Self {
            number,
            service: declared.service.clone(),
            protocol: declared.protocol,
            connection_pool: declared.connection_pool.clone(),
        }
    }

    fn told(&self) -> Arc<model::Cluster> {
        let key = ClusterKey {
            // No request can name it, and it is in no snapshot.
            host: String::new(),
            port: self.number,
            subset: String::new(),
        };
        Arc::new(model::Cluster {
            connection_pool: ConnectionPool {
                // What the application is asked for is asked of it: Istio upgrades outbound connections only.
                h2_upgrade_policy: H2UpgradePolicy::Default,
                ..self.connection_pool.clone()
            },
            ..model::Cluster::new(key, self.protocol)
        })
    }
}

/// Its ports are sorted.
fn declared(workload: &Workload, number: u16) -> Option<&InboundPort> {
    let ports = &workload.inbound_ports;
    let index = ports.binary_search_by_key(&number, |port| port.port).ok()?;
    ports.get(index)
}

impl LocalCluster {
    /// What was learned lives on; limits change in place, and whoever waited for them to be raised is served.
    pub fn reconcile(registry: &Registry, port: LocalPort, called: &[Called], app: SocketAddr) -> Self {
        let told = port.told();
        let learned = registry.local_cluster(&told, &port.service);
        let local: Vec<_> = called.iter().map(|called| local(*called, app, port.number)).collect();
        let members = learned.reconcile_local(Arc::clone(&told), &local);
        learned.serve_waiting();
        Self {
            port,
            told,
            members,
            learned,
        }
    }

    /// No connection to the application is kept any more.
    pub fn let_go(&self) {
        self.members.list.iter().for_each(|member| member.endpoint.let_go());
    }

    /// The host for one of its addresses.
    pub fn host(&self, telemetry: &Telemetry, called: Called, app: SocketAddr, epoch: Instant) -> Arc<Host> {
        let LocalPort { service, protocol, .. } = &self.port;
        let address = called.unwrap_or(app);
        let protocol = if called.is_some() || protocol.is_http() {
            *protocol
        } else {
            Protocol::Detect
        };
        let series = telemetry.request_series(Direction::Inbound, ROUTE, service, "");
        let cluster = Arc::new(Cluster {
            told: Arc::clone(&self.told),
            members: self.members.only(&self.told, endpoint_id(called), address),
            learned: Arc::clone(&self.learned),
        });
        let host = model::Host {
            fqdn: service.clone(),
            namespace: String::new(),
            ports: vec![Port {
                number: address.port(),
                name: String::new(),
                protocol,
            }],
            routes: None,
            clusters: Vec::new(),
            addresses: Vec::new(),
            alias_of: None,
        };
        let ports = vec![CompiledPort {
            number: address.port(),
            protocol,
            routed: false,
            rules: Vec::new(),
            plain: Rule::plain(Destination {
                cluster: Some(cluster),
                series: Arc::clone(&series),
            }),
            tcp: telemetry.tcp_series(Direction::Inbound, service, ""),
            connections: ConnectionRoutes::default(),
        }];
        Arc::new(Host::new(Arc::new(host), ports, series, epoch))
    }
}

/// `--app-addr` and the same address called by a redirected connection are reached differently, so they are two endpoints.
fn endpoint_id(called: Called) -> &'static str {
    if called.is_some() { "redirected" } else { ENDPOINT_ID }
}

fn local(called: Called, app: SocketAddr, cluster_port: u16) -> Local {
    let address = called.unwrap_or(app);
    let ports = vec![(cluster_port, address.port())];
    let told = Endpoint::new(endpoint_id(called), address.ip(), ports);
    let source = called.map(|called| if called.is_ipv4() { SOURCE_V4 } else { SOURCE_V6 });
    Local {
        told: Arc::new(told),
        source,
    }
}
