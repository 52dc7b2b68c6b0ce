//! The application beside this proxy, as a host: inbound requests walk the same path as outbound ones, with it as their
//! cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tsunagi_proto::model::{self, ClusterKey, ConnectionPool, Endpoint, Health, LoadBalancer, Port, Protocol};

use super::compile::{Cluster, Destination, Host, Port as CompiledPort, Rule};
use crate::telemetry::{Direction, Telemetry};
use crate::upstream::Registry;

/// No request can name this host: it is in no snapshot. Its cluster is shown as `inbound|8080||`.
const NAME: &str = "";
const ENDPOINT_ID: &str = "application";
const ROUTE: &str = "inbound";

/// One host with one port and one endpoint: `--app-addr`.
pub fn application(registry: &Registry, telemetry: &Telemetry, address: SocketAddr) -> Arc<Host> {
    let port = address.port();
    let told = Arc::new(model::Cluster {
        key: ClusterKey {
            host: NAME.to_owned(),
            port,
            subset: String::new(),
        },
        labels: Vec::new(),
        protocol: Protocol::Detect,
        connection_pool: ConnectionPool::default(),
        load_balancer: LoadBalancer::default(),
        outlier_detection: None,
    });
    let endpoint = Arc::new(Endpoint {
        id: ENDPOINT_ID.to_owned(),
        address: address.ip(),
        ports: vec![(port, port)],
        labels: Vec::new(),
        locality: String::new(),
        weight: 1,
        health: Health::Healthy,
        service_account: String::new(),
    });
    let learned = registry.cluster(&told);
    let members = learned.reconcile(Arc::clone(&told), &[endpoint]);
    let series = telemetry.request_series(Direction::Inbound, ROUTE, "", "");
    let cluster = Arc::new(Cluster { told, members, learned });
    let plain = Rule {
        destinations: vec![Destination {
            cluster: Some(cluster),
            series: Arc::clone(&series),
        }],
    };
    let host = model::Host {
        fqdn: NAME.to_owned(),
        namespace: String::new(),
        ports: vec![Port {
            number: port,
            name: String::new(),
            protocol: Protocol::Detect,
        }],
        routes: None,
        clusters: Vec::new(),
        addresses: Vec::new(),
        alias_of: None,
    };
    let ports = vec![CompiledPort {
        number: port,
        protocol: Protocol::Detect,
        routed: false,
        rules: Vec::new(),
        plain,
        tcp: telemetry.tcp_series(Direction::Inbound, "", ""),
    }];
    Arc::new(Host::new(Arc::new(host), ports, series, Instant::now()))
}
