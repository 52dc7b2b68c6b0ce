//! Finding a host in the current snapshot. A worker keeps the pointer that it read last and looks at one counter to know
//! whether it is still the current one: no lock on the way of a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tsunagi_proto::model::{OutboundTrafficPolicy, Workload};
use tsunagi_proto::names::{self, DEFAULT_CLUSTER_DOMAIN};
use tsunagi_proto::shards::Shards;

use super::compile::Host;
use super::naming::Named;

#[derive(Debug, Default)]
pub struct Snapshot {
    /// By every name that a client of this namespace may use. `None`: known not to exist.
    pub(super) names: Shards<Option<Named>>,
    pub hosts: Shards<Option<Arc<Host>>>,
    pub workload: Option<Arc<Workload>>,
    pub version: String,
}

/// The current snapshot, shared by all threads.
#[derive(Debug)]
pub struct Shared {
    current: Mutex<Arc<Snapshot>>,
    generation: AtomicU64,
    changed: watch::Sender<u64>,
    pub namespace: String,
}

/// A worker's view.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    cached: Mutex<(u64, Arc<Snapshot>)>,
}

#[derive(Debug)]
pub enum Lookup {
    Found(Arc<Host>),
    /// The control plane said that there is no such host.
    Absent,
    /// Not asked yet: these names are to be subscribed to.
    Unknown(Vec<String>),
}

impl Snapshot {
    /// Where a redirected connection may go whose destination nobody registered.
    pub fn outbound_traffic_policy(&self) -> OutboundTrafficPolicy {
        self.workload
            .as_ref()
            .map_or_else(OutboundTrafficPolicy::default, |workload| {
                workload.outbound_traffic_policy
            })
    }

    /// The host of a name that is lower-case and has no port.
    pub fn known(&self, name: &str) -> Option<Arc<Host>> {
        let named = self.names.get(name)?.as_ref()?;
        if let Some(alias) = &named.alias {
            alias.touch();
        }
        Some(Arc::clone(&named.host))
    }

    /// As `known`; what is not known is to be asked for, or does not exist.
    pub fn find(&self, name: &str, namespace: &str) -> Lookup {
        if let Some(host) = self.known(name) {
            return Lookup::Found(host);
        }
        let domain = self
            .workload
            .as_ref()
            .map_or(DEFAULT_CLUSTER_DOMAIN, |workload| &workload.cluster_domain);
        let candidates = names::candidates(name, namespace, domain);
        let unknown: Vec<_> = candidates
            .into_iter()
            .filter_map(|name| match self.hosts.get(&name) {
                None => Some(name),
                // An address, or a name that a wildcard covers: the host that it stands for is asked for in turn.
                Some(Some(host)) => host.told.alias_of.clone().filter(|fqdn| !self.hosts.contains(fqdn)),
                Some(None) => None,
            })
            .collect();
        if unknown.is_empty() {
            Lookup::Absent
        } else {
            Lookup::Unknown(unknown)
        }
    }
}

impl Shared {
    pub fn new(namespace: &str) -> Arc<Self> {
        Arc::new(Self {
            current: Mutex::default(),
            generation: AtomicU64::new(0),
            changed: watch::Sender::new(0),
            namespace: namespace.to_owned(),
        })
    }

    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn publish(&self, snapshot: Snapshot) {
        let previous = std::mem::replace(
            &mut *self.current.lock().unwrap_or_else(PoisonError::into_inner),
            Arc::new(snapshot),
        );
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.changed.send_replace(generation);
        drop(previous);
    }

    /// Told of every publish.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Reader {
    pub fn new(shared: Arc<Shared>) -> Self {
        let cached = Mutex::new((0, shared.current()));
        Self { shared, cached }
    }

    /// Runs with the current snapshot. The lock is this worker's own: never waited for.
    pub fn with<T>(&self, run: impl FnOnce(&Snapshot) -> T) -> T {
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.shared.generation.load(Ordering::Acquire);
        if cached.0 != generation {
            *cached = (generation, self.shared.current());
        }
        run(&cached.1)
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}
