//! Endpoints that are not as they were told: what people ask about, and the control plane is told. Called by `xds` once a
//! second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tsunagi_proto::model::ClusterKey;

use super::{Cause, Cluster, Registry, Standing};

/// An endpoint of a cluster that gets no requests, or not its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEndpoint {
    pub key: ClusterKey,
    pub address: SocketAddr,
    /// As `/clusters` says it.
    pub state: &'static str,
    /// Of its ejection; empty: it is not ejected.
    pub cause: &'static str,
    /// Until it may return. `None`: that does not depend on time.
    pub left: Option<Duration>,
    /// Ever since it is known.
    pub ejections: u32,
}

impl Registry {
    /// The first `most` of them by cluster and address, and how many more there are.
    pub fn seen_endpoints(&self, most: usize) -> (Vec<SeenEndpoint>, usize) {
        let mut seen: Vec<SeenEndpoint> = self.awake_clusters().iter().flat_map(|cluster| of(cluster)).collect();
        seen.sort_by(|one, other| (&one.key, one.address).cmp(&(&other.key, other.address)));
        let omitted = seen.len().saturating_sub(most);
        seen.truncate(most);
        (seen, omitted)
    }
}

fn of(cluster: &Cluster) -> Vec<SeenEndpoint> {
    let (policy, members) = cluster.told();
    let detection = policy.outlier_detection.as_ref();
    let now = Instant::now();
    let endpoints = members.list.iter().map(|member| &member.endpoint);
    let seen = endpoints.filter_map(|endpoint| {
        let health = endpoint.outlier_health(detection);
        (health.standing != Standing::Healthy).then(|| SeenEndpoint {
            key: cluster.key.clone(),
            address: endpoint.connect_address(),
            state: health.standing.as_str(),
            cause: health.cause.map(Cause::as_str).unwrap_or_default(),
            left: health
                .until
                .filter(|_| health.standing == Standing::Ejected)
                .map(|until| until.saturating_duration_since(now)),
            ejections: health.ejections,
        })
    });
    seen.collect()
}
