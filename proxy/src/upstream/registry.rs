//! The registry: every cluster that we learned something about. It survives every push.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use dashmap::DashMap;
use tsunagi_proto::model::{self, ClusterKey};

use super::cluster::Shared;
use super::{Cluster, OwnConnections};
use crate::telemetry::{Direction, Telemetry};
use crate::tls;

/// Some seconds: forgetting looks at every cluster.
const SWEEPS_UNTIL_FORGOTTEN: u32 = 64;

#[derive(Debug)]
pub struct Registry {
    clusters: DashMap<ClusterKey, Weak<Cluster>>,
    shared: Shared,
    sweeps: AtomicU32,
    telemetry: Telemetry,
    workers: usize,
}

impl Registry {
    /// Without credentials.
    pub fn new(telemetry: Telemetry, workers: usize) -> Arc<Self> {
        Self::with_credentials(telemetry, workers, PathBuf::new())
    }

    /// `credentials`: the folder whose folders are what `credentialName` means.
    pub fn with_credentials(telemetry: Telemetry, workers: usize, credentials: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            clusters: DashMap::with_shard_amount(2),
            shared: Shared::of(tls::Store::new(credentials)),
            sweeps: AtomicU32::new(0),
            telemetry,
            workers,
        })
    }

    /// The cluster of this key, with all that is known about it; made on first use. It lives as long as a snapshot, a
    /// request or a connection holds it.
    pub fn cluster(&self, policy: &Arc<model::Cluster>) -> Arc<Cluster> {
        self.shown_as(
            policy,
            Direction::Outbound,
            policy.key.to_string(),
            &policy.key.host,
            &policy.key.subset,
        )
    }

    /// As `cluster`, for one of many that operators see as one: they share the name and the series of `key.host`.
    pub fn nameless_cluster(&self, policy: &Arc<model::Cluster>) -> Arc<Cluster> {
        let host = &policy.key.host;
        self.shown_as(policy, Direction::Outbound, host.clone(), host, "")
    }

    /// The same for a port of the application beside this proxy. Under the name of another service its counts begin anew.
    pub fn local_cluster(&self, policy: &Arc<model::Cluster>, service: &str) -> Arc<Cluster> {
        self.shown_as(
            policy,
            Direction::Inbound,
            policy.key.to_string(),
            service,
            &policy.key.subset,
        )
    }

    /// Of clients that have connections to endpoints for themselves.
    pub fn own_connections(&self) -> &Arc<OwnConnections> {
        &self.shared.own
    }

    fn shown_as(
        &self,
        policy: &Arc<model::Cluster>,
        direction: Direction,
        name: String,
        service: &str,
        subset: &str,
    ) -> Arc<Cluster> {
        let mut entry = self.clusters.entry(policy.key.clone()).or_default();
        if let Some(cluster) = entry.upgrade().filter(|cluster| cluster.series.service() == service) {
            return cluster;
        }
        let series = self.telemetry.cluster_series(direction, service, subset);
        let cluster = Cluster::called(name, Arc::clone(policy), series, self.workers, self.shared.clone());
        *entry = Arc::downgrade(&cluster);
        cluster
    }

    /// The files of `tls` blocks.
    pub fn credentials(&self) -> &Arc<tls::Store> {
        &self.shared.credentials
    }

    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        let mut clusters: Vec<_> = self.clusters.iter().filter_map(|entry| entry.upgrade()).collect();
        clusters.sort_by(|a, b| a.key.cmp(&b.key));
        clusters
    }

    /// Idle connections expire, ejected endpoints return; now and then what nobody holds is forgotten.
    pub fn sweep(&self, now: Instant) {
        for cluster in self.shared.awake.take() {
            if let Some(cluster) = cluster.upgrade() {
                cluster.sweep(now);
            }
        }
        if self
            .sweeps
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(SWEEPS_UNTIL_FORGOTTEN)
        {
            self.clusters.retain(|_, cluster| cluster.strong_count() > 0);
        }
    }

    /// Those of which something is not as it was told, or that have a connection.
    pub(super) fn awake_clusters(&self) -> Vec<Arc<Cluster>> {
        self.shared.awake.upgraded()
    }

    /// How many clusters the next sweep visits.
    #[cfg(test)]
    pub fn awake(&self) -> usize {
        self.shared.awake.len()
    }

    /// Sets the gauges; called before a scrape, so that a request pays nothing for them. Clusters of several ports share
    /// the series of their service and subset, which show the sum.
    pub fn refresh_gauges(&self) {
        let clusters = self.clusters();
        clusters.iter().for_each(|cluster| cluster.clear_gauges());
        clusters.iter().for_each(|cluster| cluster.add_to_gauges());
    }
}
