//! Which clusters the sweep has to visit: those with a connection, or with an endpoint that is not as it was told. A mesh of
//! thousands of clusters costs nothing while nobody calls them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Cluster;

/// Shared by the clusters of one registry.
#[derive(Debug, Default)]
pub(super) struct AwakeList {
    clusters: Mutex<Vec<Weak<Cluster>>>,
}

impl AwakeList {
    /// What is there now; from here on it is empty.
    pub fn take(&self) -> Vec<Weak<Cluster>> {
        std::mem::take(&mut *self.clusters.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn upgraded(&self) -> Vec<Arc<Cluster>> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.iter().filter_map(Weak::upgrade).collect()
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn add(&self, cluster: Weak<Cluster>) {
        self.clusters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(cluster);
    }
}

/// Whether a cluster is in the list; it is there at most once.
#[derive(Debug)]
pub(super) struct Wakefulness {
    awake: AtomicBool,
    list: Arc<AwakeList>,
}

impl Wakefulness {
    pub fn new(list: Arc<AwakeList>) -> Self {
        Self {
            awake: AtomicBool::new(false),
            list,
        }
    }

    /// The next sweep visits the cluster.
    pub fn wake(&self, cluster: &Weak<Cluster>) {
        // A plain load keeps the cache line shared while it is awake already.
        if !self.awake.load(Ordering::Relaxed) && !self.awake.swap(true, Ordering::AcqRel) {
            self.list.add(Weak::clone(cluster));
        }
    }

    /// It was taken from the list; whatever happens from now on wakes it anew.
    pub fn sleep(&self) {
        self.awake.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tsunagi_proto::model::LoadBalancer;

    use super::super::testing::{cluster, policy};
    use super::super::{Caller, Outcome, choose};
    use super::*;

    #[test]
    fn a_cluster_is_awake_from_a_failure_or_a_connection_until_all_is_as_it_was_told() {
        let policy = policy(LoadBalancer::RoundRobin, None);
        let (cluster, members) = cluster(&policy, &[1, 1]);
        let list = Arc::clone(&cluster.wakefulness().list);
        let sweep = || {
            let awake = list.take();
            awake
                .iter()
                .filter_map(Weak::upgrade)
                .for_each(|cluster| cluster.sweep(Instant::now()));
            list.len()
        };
        assert_eq!(list.len(), 0);
        let mut request = choose(&policy, &members, &Caller::default(), &mut || 0).unwrap();
        request.observe(&cluster, None, Outcome::ConnectFailure);
        request.observe(&cluster, None, Outcome::ConnectFailure);
        assert_eq!(list.len(), 1, "once, however often it fails");
        let sweeps = std::iter::from_fn(|| (sweep() > 0).then_some(())).take(100).count();
        assert_eq!(sweeps, 1, "it is avoided for two sweeps");
        let permit = super::super::ConnectionPermit::try_open(&cluster).unwrap();
        assert_eq!((sweep(), sweep()), (1, 1), "it has a connection");
        drop(permit);
        assert_eq!((sweep(), sweep()), (0, 0));
    }
}
