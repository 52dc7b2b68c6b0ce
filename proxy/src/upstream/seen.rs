//! Endpoints that are not as they were told: what people ask about, and the control plane is told. Called by `xds` once a
//! second.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tsunagi_proto::model::ClusterKey;

use super::{Cause, Cluster, Member, Registry, Standing};

/// An endpoint of a cluster that gets no requests, or not its share, or has it although it fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenEndpoint {
    pub key: ClusterKey,
    /// The name that has this address, where it is told by name.
    pub hostname: Option<String>,
    /// Unspecified: the whole of a name whose connections take turns.
    pub address: SocketAddr,
    /// Healthy: it fails, and the pool cannot spare it.
    pub standing: Standing,
    /// Of its ejection, or why it would have been ejected.
    pub cause: Option<Cause>,
    /// Until it may return. `None`: that does not depend on time.
    pub left: Option<Duration>,
    /// Ever since it is known.
    pub ejections: u32,
    /// It gets its part of the requests all the same: too few are healthy.
    pub in_panic: bool,
}

impl Registry {
    /// The first `most` of them by cluster and address, and how many more there are.
    pub fn seen_endpoints(&self, most: usize) -> (Vec<SeenEndpoint>, usize) {
        let mut seen: Vec<SeenEndpoint> = self.awake_clusters().iter().flat_map(|cluster| of(cluster)).collect();
        seen.sort_by(|one, other| {
            (&one.key, &one.hostname, one.address).cmp(&(&other.key, &other.hostname, other.address))
        });
        let omitted = seen.len().saturating_sub(most);
        seen.truncate(most);
        (seen, omitted)
    }
}

fn of(cluster: &Cluster) -> Vec<SeenEndpoint> {
    let (policy, members) = cluster.told();
    let detection = policy.outlier_detection.as_ref();
    let now = Instant::now();
    let seen = members.list.iter().enumerate().filter_map(|(place, member)| {
        let Member { endpoint, told, .. } = member;
        let health = endpoint.outlier_health(detection);
        health.is_otherwise().then(|| SeenEndpoint {
            key: cluster.key.clone(),
            hostname: told.hostname.clone(),
            address: endpoint.address,
            standing: health.standing,
            cause: health.cause.or(health.kept),
            left: health
                .until
                .filter(|_| health.standing == Standing::Ejected)
                .map(|until| until.saturating_duration_since(now)),
            ejections: health.ejections,
            in_panic: members.groups.is_panic_at(place),
        })
    });
    seen.collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use tsunagi_proto::model::{Endpoint, LoadBalancer};

    use super::super::testing::{endpoint, policy, strict};
    use super::super::{Caller, Outcome, choose};
    use super::*;
    use crate::telemetry::Telemetry;

    /// An endpoint that is a name, at port 9.
    fn named() -> Arc<Endpoint> {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Arc::new(Endpoint {
            hostname: Some("db.example.com".to_owned()),
            ..Endpoint::new("name", nowhere, vec![(80, 9)])
        })
    }

    #[test]
    fn an_ejected_name_is_seen_by_its_name_and_to_look_at_it_takes_no_turn_of_its_addresses() {
        let policy = policy(LoadBalancer::RoundRobin, Some(strict()));
        let registry = Registry::new(Telemetry::new("test"), 1);
        let cluster = registry.cluster(&policy);
        let members = cluster.reconcile(Arc::clone(&policy), &[named(), endpoint(1, 1)]);
        let addresses = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        cluster.rotate("name", &addresses);
        while registry.seen_endpoints(9).0.is_empty() {
            let mut request = choose(&policy, &members, &Caller::default(), &mut || 0).unwrap();
            let status = if request.endpoint.id == "name" { 500 } else { 200 };
            request.observe(&cluster, policy.outlier_detection.as_ref(), Outcome::Status(status));
        }
        let shown = members.list[0].endpoint.shown_address();
        let (seen, omitted) = registry.seen_endpoints(9);
        let [seen] = &seen[..] else { unreachable!("{seen:?}") };
        assert_eq!(
            (seen.hostname.as_deref(), seen.address, seen.standing),
            (
                Some("db.example.com"),
                (Ipv4Addr::UNSPECIFIED, 9).into(),
                Standing::Ejected
            )
        );
        assert_eq!((seen.cause, omitted), (Some(Cause::Consecutive5xx), 0));
        assert_eq!(members.list[0].endpoint.shown_address(), shown);
        assert_eq!(registry.seen_endpoints(0).1, 1);
    }
}
