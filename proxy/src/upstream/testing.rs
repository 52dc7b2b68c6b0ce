//! Clusters for the unit tests of this room and of those above.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tsunagi_proto::model::{
    Cluster as Told, ClusterKey, Endpoint as ToldEndpoint, LoadBalancer, OutlierDetection, Protocol,
};

use super::{Cluster, Members};
use crate::telemetry::{Direction, Telemetry};

/// For those who do not ask whether they wait.
pub(super) static WAITS: AtomicBool = AtomicBool::new(false);

pub(crate) fn policy(load_balancer: LoadBalancer, outlier_detection: Option<OutlierDetection>) -> Arc<Told> {
    let key = ClusterKey {
        host: "user".into(),
        port: 80,
        subset: String::new(),
    };
    Arc::new(Told {
        load_balancer,
        outlier_detection,
        ..Told::new(key, Protocol::Http1)
    })
}

/// One error ejects; all but the last may go.
pub(super) fn strict() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(1),
        consecutive_gateway_errors: None,
        split_local_origin_errors: false,
        consecutive_local_origin_failures: None,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 100,
        min_health_percent: 0,
        error_statuses: Vec::new(),
        as_envoy: false,
    }
}

pub(super) fn endpoint(port: u16, weight: u32) -> Arc<ToldEndpoint> {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    Arc::new(ToldEndpoint {
        weight,
        ..ToldEndpoint::new(port.to_string(), address, vec![(80, port)])
    })
}

/// A cluster with an endpoint of each weight, on ports 1, 2, 3 …
pub(crate) fn cluster(policy: &Arc<Told>, weights: &[u32]) -> (Arc<Cluster>, Arc<Members>) {
    let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
    let cluster = Cluster::new(Arc::clone(policy), series, 1);
    let told: Vec<_> = weights
        .iter()
        .zip(1..)
        .map(|(weight, port)| endpoint(port, *weight))
        .collect();
    let members = cluster.reconcile(Arc::clone(policy), &told);
    (cluster, members)
}
