//! What keeps the configuration up to date, on the control thread: the client of the control plane, which feeds the
//! publisher of snapshots, and the sweep of what was learned.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tsunagi_proto::model::Source;

use super::Parts;
use crate::admin::Readiness;
use crate::dns::{self, Resolver};
use crate::drain::DrainWatch;
use crate::net;
use crate::snapshot::{Publisher, Update};
use crate::upstream::Registry;
use crate::xds::{Client, ClientConfig, Seen, Sink};

/// How finely ejection times and idle timeouts are kept.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// How often the files of certificates are looked at.
const CREDENTIALS_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the client and the sweep. The client ends with `closing`, and its handle is done when it has saved what it
/// holds; the sweep goes on for as long as the runtime.
pub(super) fn start(parts: &Parts, wants: mpsc::Receiver<String>, mut closing: DrainWatch) -> JoinHandle<()> {
    tokio::spawn(sweep(Arc::clone(&parts.registry)));
    tokio::spawn(refresh_credentials(Arc::clone(&parts.registry)));
    let options = &parts.options;
    let config = ClientConfig {
        control_plane: options.control_plane.clone(),
        node_id: options.node_id.clone(),
        namespace: options.namespace.clone(),
        service_account: options.service_account.clone(),
        labels: options.labels.0.clone(),
        node_name: options.node_name.clone(),
        instance_ips: net::instance_ips(),
        state_dir: Some(options.state_dir.clone()),
    };
    let shutdown = async move { closing.draining().await };
    let publisher = publisher(parts);
    tokio::spawn(resolve(parts, Arc::clone(&publisher)));
    tokio::spawn(Client::run(
        config,
        wants,
        sink(parts, publisher),
        parts.telemetry.clone(),
        parts.drain.clone(),
        shutdown,
    ))
}

/// What makes snapshots of updates, and of what DNS says. Both come to it on the control thread: its lock is never waited
/// for.
pub(super) fn publisher(parts: &Parts) -> Arc<Mutex<Publisher>> {
    let (registry, shared) = (Arc::clone(&parts.registry), Arc::clone(&parts.shared));
    let source = Source {
        namespace: parts.options.namespace.clone(),
        labels: parts.options.labels.0.iter().cloned().collect(),
    };
    let publisher = Publisher::new(registry, parts.telemetry.clone(), shared)
        .with_inbound(Arc::clone(&parts.inbound))
        .with_book(Arc::clone(&parts.book))
        .for_source(source)
        .at_locality(parts.options.locality.clone());
    Arc::new(Mutex::new(publisher))
}

/// Where updates go.
pub(super) fn sink(parts: &Parts, publisher: Arc<Mutex<Publisher>>) -> impl Sink + use<> {
    Announced {
        publisher,
        readiness: parts.readiness.clone(),
    }
}

/// Asks for the names of endpoints as long as the runtime lives.
fn resolve(parts: &Parts, publisher: Arc<Mutex<Publisher>>) -> impl Future<Output = ()> + Send + use<> {
    let resolver = Resolver::new(parts.options.dns_resolver, &net::instance_ips());
    let ask = move |name| resolver.clone().ask(name);
    let (book, telemetry) = (Arc::clone(&parts.book), parts.telemetry.clone());
    dns::run(book, telemetry, ask, move |names| lock(&publisher).resolved(names))
}

fn lock(publisher: &Mutex<Publisher>) -> MutexGuard<'_, Publisher> {
    publisher.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The publisher, and the proxy's readiness once it has published.
struct Announced {
    publisher: Arc<Mutex<Publisher>>,
    readiness: Readiness,
}

impl Sink for Announced {
    fn apply(&mut self, update: Update) {
        Sink::apply(&mut *lock(&self.publisher), update);
    }

    fn settled(&mut self) {
        self.readiness.config_applied();
    }

    fn forget(&mut self, fqdns: &[String]) {
        Sink::forget(&mut *lock(&self.publisher), fqdns);
    }

    fn idle(&mut self) -> Vec<String> {
        Sink::idle(&mut *lock(&self.publisher))
    }

    fn surplus(&mut self) -> Vec<String> {
        Sink::surplus(&mut *lock(&self.publisher))
    }

    fn seen(&self) -> Seen {
        Sink::seen(&*lock(&self.publisher))
    }
}

/// Puts new certificates in force.
async fn refresh_credentials(registry: Arc<Registry>) {
    let mut ticks = interval(CREDENTIALS_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.credentials().refresh();
    }
}

/// Lets idle connections expire and ejected endpoints return.
async fn sweep(registry: Arc<Registry>) {
    let mut ticks = interval(SWEEP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        registry.sweep(Instant::now());
    }
}
