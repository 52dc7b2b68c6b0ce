//! Where the endpoints of a request's cluster are, when that is not simply as told: where its connection was headed, or names
//! whose first lookup is under way. Called by `request_path` and `tunnel`, for clusters of that kind only.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::downstream::DownstreamConnection;
use super::head::Authority;
use super::local_reply::Cause;
use crate::snapshot::Cluster;

/// Where the client connected to, as far as it can be known: of a connection that was not redirected, an address that it
/// names.
pub fn headed(downstream: &DownstreamConnection, authority: &Authority<'_>, port: u16) -> Option<SocketAddr> {
    downstream.original_destination.or_else(|| {
        let address: IpAddr = authority.host.parse().ok()?;
        Some(SocketAddr::new(address, authority.port.unwrap_or(port)))
    })
}

/// The cluster with the endpoints that it has for this request, where it is not simply as told. Dropping the future changes
/// nothing.
pub async fn locate(cluster: &Cluster, headed: Option<SocketAddr>, limit: Duration) -> Result<Cluster, Cause> {
    let located = cluster.locate(headed, limit).await;
    located.map_err(|_| Cause::NoDestination(cluster.headed_nowhere()))
}

/// What there is to say of a cluster without an endpoint.
pub fn without_endpoint(cluster: &Cluster) -> Cause {
    match cluster.unresolved() {
        Some(reason) => Cause::Unresolved(reason.to_string()),
        None => Cause::NoHealthyUpstream,
    }
}
