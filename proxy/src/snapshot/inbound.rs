//! Which application a connection from the mesh is for: the port and address that it was meant for, before the packet filter
//! led it here. Hosts are made when an address is first called, from what the control plane last said of this workload.
//!
//! Addresses come from whoever connects, so their number is bounded: ports that no service leads to are one cluster, and the
//! one of them that was called longest ago gives its place up. Each worker keeps what it found; it asks the others' table,
//! which has a lock, only for an address that is new to it or after a push.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tsunagi_proto::model::Workload;

use super::application::{Called, LocalCluster, LocalPort, PASSTHROUGH_PORT};
use super::compile::Host;
use crate::net::canonical;
use crate::telemetry::Telemetry;
use crate::upstream::Registry;

/// Addresses with a port that no service leads to.
const MAX_UNDECLARED: usize = 64;
/// Addresses with a port that one does: a pod has few addresses, and few of its ports are declared.
const MAX_DECLARED: usize = 1024;

/// The addresses that the application is called at, shared by all threads.
#[derive(Debug)]
pub struct Inbound {
    registry: Arc<Registry>,
    telemetry: Telemetry,
    app: SocketAddr,
    epoch: Instant,
    table: Mutex<Table>,
    /// Of what was told.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    workload: Option<Arc<Workload>>,
    clusters: BTreeMap<u16, LocalCluster>,
    hosts: HashMap<Called, Entry>,
    /// Addresses so far.
    made: u64,
    letting_go: bool,
}

#[derive(Debug)]
struct Entry {
    host: Arc<Host>,
    /// Of its cluster.
    port: u16,
    number: u64,
}

/// A worker's view.
#[derive(Debug)]
pub struct InboundReader {
    inbound: Arc<Inbound>,
    /// Of the listener: who calls that was not redirected.
    listener_port: u16,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    generation: u64,
    /// Most connections are for the same address.
    latest: Option<(Called, Arc<Host>)>,
    hosts: HashMap<Called, Arc<Host>>,
}

impl Inbound {
    pub fn new(registry: Arc<Registry>, telemetry: Telemetry, app: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            registry,
            telemetry,
            app,
            epoch: Instant::now(),
            table: Mutex::default(),
            generation: AtomicU64::new(1),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the control plane says of the application from now on: every address that is known meets it at once.
    pub(super) fn apply(&self, workload: &Arc<Workload>) {
        let mut table = self.table();
        if table.workload.as_ref() == Some(workload) {
            return;
        }
        table.workload = Some(Arc::clone(workload));
        let previous = std::mem::take(&mut table.hosts);
        let mut clusters = std::mem::take(&mut table.clusters);
        let mut groups: BTreeMap<u16, (LocalPort, Vec<Called>)> = BTreeMap::new();
        for called in previous.keys() {
            let port = LocalPort::of(Some(workload), *called, self.app);
            let group = groups.entry(port.number).or_insert_with(|| (port, Vec::new()));
            group.1.push(*called);
        }
        for (number, (port, called)) in groups {
            let cluster = LocalCluster::reconcile(&self.registry, port, &called, self.app);
            if let Some(former) = clusters.remove(&number)
                && !Arc::ptr_eq(&former.learned, &cluster.learned)
            {
                former.learned.retire();
            }
            for called in called {
                let host = cluster.host(&self.telemetry, called, self.app, self.epoch);
                let Some(before) = previous.get(&called) else { continue };
                host.continue_use_of(&before.host);
                let entry = Entry {
                    host,
                    port: number,
                    number: before.number,
                };
                table.hosts.insert(called, entry);
            }
            table.insert(number, cluster);
        }
        // No address that is known belongs to these any more.
        clusters.values().for_each(|cluster| cluster.learned.retire());
        while table.undeclared() > MAX_UNDECLARED && table.displace(true).is_some() {}
        self.settle(&mut table, PASSTHROUGH_PORT);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// This proxy leaves, and the application perhaps at the same time: no connection to it is kept any more.
    pub fn let_go(&self) {
        let mut table = self.table();
        table.letting_go = true;
        table.clusters.values().for_each(LocalCluster::let_go);
    }

    fn host(&self, called: Called) -> Arc<Host> {
        let mut table = self.table();
        if let Some(entry) = table.hosts.get(&called) {
            return Arc::clone(&entry.host);
        }
        let port = LocalPort::of(table.workload.as_deref(), called, self.app);
        let number = port.number;
        let undeclared = number == PASSTHROUGH_PORT;
        let full = if undeclared {
            table.undeclared() >= MAX_UNDECLARED
        } else {
            table.hosts.len() - table.undeclared() >= MAX_DECLARED
        };
        if full
            && let Some(other) = table.displace(undeclared)
            && other != number
        {
            self.settle(&mut table, other);
        }
        let mut group = table.called_at(number);
        group.push(called);
        let cluster = LocalCluster::reconcile(&self.registry, port, &group, self.app);
        let host = cluster.host(&self.telemetry, called, self.app, self.epoch);
        table.insert(number, cluster);
        table.made += 1;
        let entry = Entry {
            host: Arc::clone(&host),
            port: number,
            number: table.made,
        };
        table.hosts.insert(called, entry);
        host
    }

    /// Without the addresses that are gone.
    fn settle(&self, table: &mut Table, port: u16) {
        let left = table.called_at(port);
        let Some(cluster) = table.clusters.remove(&port) else {
            return;
        };
        if left.is_empty() {
            cluster.learned.retire();
            return;
        }
        let cluster = LocalCluster::reconcile(&self.registry, cluster.port, &left, self.app);
        table.insert(port, cluster);
    }
}

impl Table {
    fn insert(&mut self, port: u16, cluster: LocalCluster) {
        if self.letting_go {
            cluster.let_go();
        }
        self.clusters.insert(port, cluster);
    }

    /// Gives up the address that was called longest ago; of several, the newest: a scan displaces itself. Returns its
    /// cluster's port.
    fn displace(&mut self, undeclared: bool) -> Option<u16> {
        let (called, port) = self
            .hosts
            .iter()
            .filter(|(called, entry)| called.is_some() && (entry.port == PASSTHROUGH_PORT) == undeclared)
            .max_by_key(|(_, entry)| (entry.host.idle_seconds(), entry.number))
            .map(|(called, entry)| (*called, entry.port))?;
        self.hosts.remove(&called);
        Some(port)
    }

    fn undeclared(&self) -> usize {
        self.hosts
            .values()
            .filter(|entry| entry.port == PASSTHROUGH_PORT)
            .count()
    }

    fn called_at(&self, port: u16) -> Vec<Called> {
        self.hosts
            .iter()
            .filter(|(_, entry)| entry.port == port)
            .map(|(called, _)| *called)
            .collect()
    }
}

impl InboundReader {
    pub fn new(inbound: Arc<Inbound>, listener_port: u16) -> Self {
        Self {
            inbound,
            listener_port,
            cached: Mutex::default(),
        }
    }

    /// The application as it was called, by the destination that the connection had before it was redirected. A connection
    /// to the listener itself was not: passed on to where it was meant for, it would come back. The lock is this worker's
    /// own: never waited for.
    pub fn host(&self, original_destination: Option<SocketAddr>) -> Arc<Host> {
        let called = original_destination
            .filter(|address| address.port() != self.listener_port)
            .map(canonical);
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = self.inbound.generation.load(Ordering::Acquire);
        if cached.generation != generation {
            cached.latest = None;
            cached.hosts.clear();
            cached.generation = generation;
        }
        if let Some((latest, host)) = &cached.latest
            && *latest == called
            && !is_given_up(host)
        {
            return Arc::clone(host);
        }
        let known = cached.hosts.get(&called).filter(|host| !is_given_up(host));
        let host = match known {
            Some(host) => Arc::clone(host),
            None => self.fetch(&mut cached, called),
        };
        cached.latest = Some((called, Arc::clone(&host)));
        host
    }

    /// From the table of all workers.
    fn fetch(&self, cached: &mut Cached, called: Called) -> Arc<Host> {
        let host = self.inbound.host(called);
        if cached.hosts.len() >= MAX_DECLARED + MAX_UNDECLARED {
            cached.hosts.retain(|_, host| !is_given_up(host));
        }
        cached.hosts.insert(called, Arc::clone(&host));
        host
    }
}

/// Its place was needed: called again, it is made again.
fn is_given_up(host: &Host) -> bool {
    let mut clusters = host
        .ports
        .iter()
        .flat_map(|port| &port.plain.destinations)
        .filter_map(|destination| destination.cluster.as_deref());
    clusters.any(|cluster| cluster.members.list.iter().any(|member| member.endpoint.is_retired()))
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
