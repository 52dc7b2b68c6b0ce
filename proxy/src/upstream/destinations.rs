//! The endpoints of a cluster that has none of its own: where its clients connect to (Envoy's `ORIGINAL_DST`).
//!
//! One is made for an address when a client first connects there, shares the limits of its cluster with the others, and is
//! forgotten when nobody has used it for a minute (Envoy's `cleanup_interval` is 5 s for any that a sweep finds unused). A
//! connection that one of them has is never given to a request for another.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tsunagi_proto::model::{self, Endpoint as Told, LoadBalancer};

use super::cluster::{Cluster, Members};

/// At once, of one cluster; beyond that the one that was used longest ago is made anew.
const MOST: usize = 1024;
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Destinations {
    known: Mutex<HashMap<SocketAddr, Known>>,
}

#[derive(Debug)]
struct Known {
    told: Arc<Told>,
    /// It alone, for requests that are for no other.
    members: Arc<Members>,
    used: Instant,
}

impl Destinations {
    fn known(&self) -> MutexGuard<'_, HashMap<SocketAddr, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// The endpoint where a client connected to.
    pub fn toward(&self, policy: &Arc<model::Cluster>, address: SocketAddr) -> Arc<Members> {
        let now = Instant::now();
        let mut known = self.destinations.known();
        if let Some(there) = known.get_mut(&address) {
            there.used = now;
            return Arc::clone(&there.members);
        }
        if known.len() >= MOST {
            let oldest = known
                .iter()
                .min_by_key(|(_, there)| there.used)
                .map(|(address, _)| *address);
            oldest.and_then(|oldest| known.remove(&oldest));
        }
        // It is to be forgotten again.
        self.wake();
        let ports = vec![(self.key.port, address.port())];
        let told = Arc::new(Told::new(address.to_string(), address.ip(), ports));
        let members = Arc::default();
        let used = now;
        known.insert(address, Known { told, members, used });
        let (policy, all) = self.tell_destinations(policy, &known);
        // What the others have is as it was: with a thousand of them nothing is made a thousand times.
        let at = all.list.iter().position(|member| member.endpoint.address == address);
        let members = at.map(|at| all.at(&policy, at)).unwrap_or_default();
        if let Some(there) = known.get_mut(&address) {
            there.members = Arc::clone(&members);
        }
        members
    }

    /// Another policy is in force from now on.
    pub fn reconcile_destinations(&self, policy: &Arc<model::Cluster>) {
        let mut known = self.destinations.known();
        let (policy, all) = self.tell_destinations(policy, &known);
        for (at, member) in all.list.iter().enumerate() {
            if let Some(there) = known.get_mut(&member.endpoint.address) {
                there.members = all.at(&policy, at);
            }
        }
    }

    /// The policy is as they have it.
    fn tell_destinations(
        &self,
        policy: &Arc<model::Cluster>,
        known: &HashMap<SocketAddr, Known>,
    ) -> (Arc<model::Cluster>, Arc<Members>) {
        let told: Vec<_> = known.values().map(|there| Arc::clone(&there.told)).collect();
        // There is nothing to choose: no table is made for it.
        let policy = match policy.load_balancer {
            LoadBalancer::ConsistentHash(_) => Arc::new(model::Cluster {
                load_balancer: LoadBalancer::default(),
                ..model::Cluster::clone(policy)
            }),
            _ => Arc::clone(policy),
        };
        let all = self.reconcile(Arc::clone(&policy), &told);
        (policy, all)
    }

    /// Forgets those that nobody has used for a while and that have nothing in flight. False: there are none any more.
    pub(super) fn sweep_destinations(&self, policy: &Arc<model::Cluster>, now: Instant) -> bool {
        let mut known = self.destinations.known();
        let before = known.len();
        known.retain(|_, there| {
            let busy = |members: &Members| members.list.iter().any(|member| member.endpoint.active_requests() > 0);
            now.saturating_duration_since(there.used) < FORGOTTEN_AFTER || busy(&there.members)
        });
        if known.len() < before {
            self.tell_destinations(policy, &known);
        }
        !known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use tsunagi_proto::model::Discovery;

    use super::*;
    use crate::telemetry::{Direction, Telemetry};
    use crate::upstream::testing::policy;

    fn address(n: u16) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], n))
    }

    fn cluster() -> (Arc<Cluster>, Arc<model::Cluster>) {
        let mut policy = Arc::unwrap_or_clone(policy(LoadBalancer::default(), None));
        policy.discovery = Discovery::OriginalDestination;
        let policy = Arc::new(policy);
        let series = Telemetry::new("test").cluster_series(Direction::Outbound, "user", "");
        (Cluster::new(Arc::clone(&policy), series, 1), policy)
    }

    #[test]
    fn an_address_is_one_endpoint_however_often_it_is_called_and_whatever_else_is() {
        let (cluster, policy) = cluster();
        let first = cluster.toward(&policy, address(1));
        assert_eq!((first.list.len(), first.list[0].endpoint.address), (1, address(1)));
        for n in 1..=2 * MOST as u16 {
            let there = cluster.toward(&policy, address(n));
            assert_eq!(there.list[0].endpoint.address, address(n));
            let again = cluster.toward(&policy, address(1));
            assert!(
                Arc::ptr_eq(&again, &first),
                "in use all the time, and not made anew for another"
            );
        }
        assert_eq!(cluster.told().1.list.len(), MOST);
    }

    #[test]
    fn what_nobody_uses_is_forgotten_unless_something_is_in_flight() {
        let (cluster, policy) = cluster();
        let busy = cluster.toward(&policy, address(1)).list[0].endpoint.begin();
        let idle = cluster.toward(&policy, address(2));
        let now = Instant::now();
        cluster.sweep(now + FORGOTTEN_AFTER / 2);
        assert_eq!(cluster.told().1.list.len(), 2);
        cluster.sweep(now + FORGOTTEN_AFTER * 2);
        assert_eq!(cluster.told().1.list.len(), 1);
        assert!(idle.list[0].endpoint.is_retired() && !busy.endpoint.is_retired());
        drop(busy);
        cluster.sweep(now + FORGOTTEN_AFTER * 3);
        assert!(cluster.told().1.list.is_empty());
    }

    #[test]
    fn another_policy_leaves_the_endpoints_as_they_are() {
        let (cluster, policy) = cluster();
        let before = cluster.toward(&policy, address(1));
        let mut other = model::Cluster::clone(&policy);
        other.connection_pool.max_requests = 7;
        let other = Arc::new(other);
        cluster.reconcile_destinations(&other);
        let after = cluster.toward(&other, address(1));
        assert!(Arc::ptr_eq(&before.list[0].endpoint, &after.list[0].endpoint));
        assert_eq!(cluster.told().0.connection_pool.max_requests, 7);
    }
}
