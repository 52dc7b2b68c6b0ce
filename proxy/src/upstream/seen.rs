//! Endpoints that are not as they were told: what people ask about, and the control plane is told. Called by `xds` once a
//! second.

use std::net::SocketAddr;
use std::time::Duration;

use tsunagi_proto::model::ClusterKey;

use super::{Cluster, Registry};

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
    /// In a row so far.
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
    let (_, members) = cluster.told();
    let endpoints = members.list.iter().map(|member| &member.endpoint);
    let unusual = endpoints.filter(|endpoint| !endpoint.health.is_healthy());
    unusual
        .map(|endpoint| SeenEndpoint {
            key: cluster.key.clone(),
            address: endpoint.address,
            state: endpoint.health_name(),
            cause: "",
            left: None,
            ejections: 0,
        })
        .collect()
}
