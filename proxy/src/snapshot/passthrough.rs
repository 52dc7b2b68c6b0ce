//! Destinations that nobody registered, as hosts: what redirected requests to them are for.
//!
//! One for each address, in a bounded cache of each worker; they share their series, so that whatever addresses an
//! application calls, `/metrics` does not grow.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tsunagi_proto::model::{self, ClusterKey, ConnectionPool, Endpoint, Protocol};

use super::compile::{Cluster, Destination, Host, Port, Rule};
use super::connections::ConnectionRoutes;
use crate::telemetry::{Direction, RequestSeries, TcpSeries, Telemetry};
use crate::upstream::Registry;

/// Istio's names, which dashboards know.
const PASSTHROUGH: &str = "PassthroughCluster";
const BLACK_HOLE: &str = "BlackHoleCluster";
const PASSTHROUGH_ROUTE: &str = "passthrough";
const BLOCKED_ROUTE: &str = "block_all";
/// Addresses that a worker knows at once; beyond that the one that was used longest ago is made anew.
const CAPACITY: usize = 256;
/// Nobody may ever call them again: their connections are not kept for as long as those of services.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// One worker's.
#[derive(Debug)]
pub struct Passthrough {
    registry: Arc<Registry>,
    telemetry: Telemetry,
    /// The lock is this worker's own: never waited for.
    hosts: Mutex<HashMap<SocketAddr, (Arc<Host>, Instant)>>,
    /// Of connections that are passed on to an address as they are.
    pub tcp: Arc<TcpSeries>,
    /// Of connections and requests that the policy does not let out.
    pub blocked_tcp: Arc<TcpSeries>,
    pub blocked: Arc<RequestSeries>,
    /// Of connections for a name that nobody has.
    pub unrouted_tcp: Arc<TcpSeries>,
    epoch: Instant,
}

impl Passthrough {
    pub const BLOCKED_ROUTE: &'static str = BLOCKED_ROUTE;
    pub const BLACK_HOLE: &'static str = BLACK_HOLE;
    pub const NAME: &'static str = PASSTHROUGH;

    pub fn new(registry: &Arc<Registry>, telemetry: &Telemetry) -> Self {
        Self {
            registry: Arc::clone(registry),
            telemetry: telemetry.clone(),
            hosts: Mutex::default(),
            tcp: telemetry.tcp_series(Direction::Outbound, PASSTHROUGH, ""),
            blocked_tcp: telemetry.tcp_series(Direction::Outbound, BLACK_HOLE, ""),
            blocked: telemetry.request_series(Direction::Outbound, BLOCKED_ROUTE, BLACK_HOLE, ""),
            unrouted_tcp: telemetry.tcp_series(Direction::Outbound, "", ""),
            epoch: Instant::now(),
        }
    }

    /// A host with one port and one endpoint: this address.
    pub fn host(&self, address: SocketAddr) -> Arc<Host> {
        let now = Instant::now();
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((host, used)) = hosts.get_mut(&address) {
            *used = now;
            return Arc::clone(host);
        }
        if hosts.len() >= CAPACITY {
            let oldest = hosts
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(address, _)| *address);
            oldest.and_then(|oldest| hosts.remove(&oldest));
        }
        let host = self.make(address);
        hosts.insert(address, (Arc::clone(&host), now));
        host
    }

    fn make(&self, address: SocketAddr) -> Arc<Host> {
        let number = address.port();
        // A subset cannot look like this, so it is nobody else's key.
        let key = ClusterKey {
            host: PASSTHROUGH.to_owned(),
            port: number,
            subset: address.ip().to_string(),
        };
        let told = Arc::new(model::Cluster {
            connection_pool: ConnectionPool {
                idle_timeout: IDLE_TIMEOUT,
                ..ConnectionPool::default()
            },
            ..model::Cluster::new(key, Protocol::Detect)
        });
        let endpoint = Arc::new(Endpoint::new(PASSTHROUGH, address.ip(), vec![(number, number)]));
        let learned = self.registry.nameless_cluster(&told);
        let members = learned.reconcile(Arc::clone(&told), &[endpoint]);
        let series = self
            .telemetry
            .request_series(Direction::Outbound, PASSTHROUGH_ROUTE, PASSTHROUGH, "");
        let port = Port {
            number,
            protocol: Protocol::Detect,
            routed: false,
            rules: Vec::new(),
            plain: Rule::plain(Destination {
                cluster: Some(Arc::new(Cluster { told, members, learned })),
                series: Arc::clone(&series),
            }),
            tcp: Arc::clone(&self.tcp),
            connections: ConnectionRoutes::default(),
        };
        let host = model::Host {
            fqdn: PASSTHROUGH.to_owned(),
            namespace: String::new(),
            ports: Vec::new(),
            routes: None,
            clusters: Vec::new(),
            addresses: Vec::new(),
            ranges: Vec::new(),
            alias_of: None,
        };
        Arc::new(Host::new(Arc::new(host), vec![port], series, self.epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_addresses_are_called_the_cache_and_the_series_stay_bounded() {
        let telemetry = Telemetry::new("test");
        let registry = Registry::new(telemetry.clone(), 1);
        let passthrough = Passthrough::new(&registry, &telemetry);
        let address = |n: u16| SocketAddr::from(([198, 51, 100, 1], n));
        let kept = passthrough.host(address(1));
        for n in 1..=3 * CAPACITY as u16 {
            let host = passthrough.host(address(n));
            assert_eq!(host.ports[0].number, n);
            assert!(Arc::ptr_eq(&kept, &passthrough.host(address(1))), "in use all the time");
        }
        assert_eq!(passthrough.hosts.lock().expect("no panic").len(), CAPACITY);
        registry.sweep(Instant::now());
        assert_eq!(registry.clusters().len(), CAPACITY);
        registry.refresh_gauges();
        let page = telemetry.render(false);
        let gauges = page
            .lines()
            .filter(|line| line.starts_with("tsunagi_upstream_connections{"));
        assert_eq!(gauges.count(), 1);
    }
}
