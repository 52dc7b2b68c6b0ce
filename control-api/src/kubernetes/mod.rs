//! Kubernetes mode: config and endpoints come from the Kubernetes API, which is the store. Any number of replicas run at
//! once; each watches everything, serves whichever proxies come, and writes into the statuses what it knows.
//!
//! One watch for each kind (`watch`, which asks for the few fields of `object`) -> joined into documents (`index`, which
//! makes a cluster's Services fit by `service`) -> batches that `ingest` brings into force (`follow`). What became of
//! each VirtualService and DestinationRule (`records`) is compared with its status (`conditions`) and written
//! (`writer`). Called by `app`.

mod conditions;
mod follow;
mod index;
mod object;
mod records;
mod service;
mod watch;
mod writer;

use std::{fs, sync::Arc};

use kube::{Client, Config};
use tokio::{
    sync::{mpsc, watch as signal},
    task::JoinSet,
};

use crate::{clock::Clock, ingest::Ingest, status::Status};
use conditions::Replica;
use follow::Follower;
use records::Records;
use watch::Source;
use writer::Writer;

/// Between the watches and the one that follows them: a list of a kind is one piece of news.
const NEWS: usize = 1_024;
/// Of a name that Kubernetes takes in a key of a status.
const LONGEST_REPLICA_NAME: usize = 63;

#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    #[error(
        "--kubernetes: there is neither a kubeconfig nor a service account to speak to the Kubernetes API with: {0}"
    )]
    Config(#[source] kube::config::InferConfigError),
    #[error("--kubernetes: the Kubernetes API cannot be spoken to: {0}")]
    Client(#[source] kube::Error),
}

/// A cluster that is not followed yet.
pub struct Cluster {
    client: Client,
    replica: String,
}

impl Cluster {
    /// As `kubectl` would find it, else from within a Pod. `replica`: what this one is called in statuses; by default its
    /// host's name, which is that of its Pod.
    pub async fn find(replica: Option<&str>) -> Result<Self, KubernetesError> {
        let config = Config::infer().await.map_err(KubernetesError::Config)?;
        tracing::info!("kubernetes={}", config.cluster_url);
        let client = Client::try_from(config).map_err(KubernetesError::Client)?;
        let replica = replica.map_or_else(host_name, str::to_owned);
        Ok(Self {
            client,
            replica: fit_name(&replica),
        })
    }

    /// For others who speak to this cluster.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Follows it into `ingest` until `stop` is true, and writes statuses. Dropping the future ends it at once.
    pub async fn follow(self, ingest: Ingest, status: Arc<Status>, clock: Clock, mut stop: signal::Receiver<bool>) {
        let (sender, news) = mpsc::channel(NEWS);
        let index = Arc::default();
        let records = Arc::new(Records::default());
        let mut tasks = JoinSet::new();
        for source in Source::all() {
            tasks.spawn(watch::watch(self.client.clone(), source, sender.clone()));
        }
        drop(sender);
        let writer = Writer {
            client: self.client,
            records: Arc::clone(&records),
            status,
            replica: Replica {
                name: self.replica,
                pod: None,
            },
            index: Arc::clone(&index),
            clock,
            begun: None,
        };
        tasks.spawn(Follower::new(ingest, records, index, news).run());
        tasks.spawn(writer.run());
        drop(stop.wait_for(|stop| *stop).await);
        tasks.shutdown().await;
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// As the key of an entry, and in the name by which it is written.
fn fit_name(name: &str) -> String {
    let fits = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' || c == '.' {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(fits).take(LONGEST_REPLICA_NAME).collect();
    if name.is_empty() { "tsunagi".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_has_a_name_that_fits_into_a_status() {
        assert_eq!(fit_name("tsunagi-7c9f-x2"), "tsunagi-7c9f-x2");
        assert_eq!(fit_name("My Host/1"), "my-host-1");
        assert_eq!(fit_name(""), "tsunagi");
        assert_eq!(fit_name(&"a".repeat(200)).len(), 63);
    }
}
