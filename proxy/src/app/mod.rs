//! Wiring of the sidecar, and nothing else: what exists, which thread runs it, how it ends.
//!
//! The main thread is the control thread: config, admin, metrics, health, signals, on one current-thread runtime.
//! `--workers` data threads carry the traffic, each with a runtime, accept sockets and connection pools of its own.

mod application;
mod config;
mod data_threads;
mod descriptors;
mod drain_command;
mod ending;
mod leaving;
mod listening;
mod pages;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime;
use tokio::sync::mpsc;

use crate::admin::{self, Readiness};
use crate::bootstrap::Options;
use crate::dns::Book;
use crate::drain::{Drain, Phase, Side};
use crate::error::StartError;
use crate::net;
use crate::snapshot::{Demand, Inbound, Shared};
use crate::telemetry::log::{self, LogLevels};
use crate::telemetry::{AccessLog, Telemetry};
use crate::upstream::Registry;
use application::Application;
use data_threads::DataThreads;
pub use drain_command::drain;
use ending::Signals;
use listening::Sockets;
pub use wait::wait;

/// What every part of the proxy is given. Clones are handles to the same things.
#[derive(Clone)]
struct Parts {
    options: Arc<Options>,
    telemetry: Telemetry,
    access_log: AccessLog,
    log_levels: LogLevels,
    readiness: Readiness,
    drain: Drain,
    /// What we were told.
    shared: Arc<Shared>,
    /// What we learned.
    registry: Arc<Registry>,
    demand: Demand,
    /// Of the names of endpoints.
    book: Arc<Book>,
    /// The application beside this proxy.
    inbound: Arc<Inbound>,
}

/// Runs the sidecar until it is told to end and has drained.
pub fn run(options: Options) -> Result<(), StartError> {
    let (parts, wants) = make_parts(options)?;
    let control = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Thread {
            what: "the control thread's runtime",
            source,
        })?;
    let ended = control.block_on(serve(&parts, wants));
    // What still runs on it holds nothing that must be finished.
    control.shutdown_background();
    parts.access_log.flush(ending::LAST_WORDS);
    ended
}

/// The parts, and the hosts that the data threads will want.
fn make_parts(options: Options) -> Result<(Parts, mpsc::Receiver<String>), StartError> {
    let log_levels = log::start(options.log_level.clone());
    descriptors::raise_limit();
    let telemetry = Telemetry::new(options.workload_name());
    let (demand, wants) = Demand::new();
    let registry = Registry::with_credentials(telemetry.clone(), options.workers, options.credentials_dir.clone());
    let parts = Parts {
        access_log: start_access_log(&options, &telemetry)?,
        log_levels,
        readiness: Readiness::default(),
        drain: Drain::new(),
        shared: Shared::new(&options.namespace),
        inbound: Inbound::new(Arc::clone(&registry), telemetry.clone(), options.app_addr),
        registry,
        demand,
        book: Book::new(),
        options: Arc::new(options),
        telemetry,
    };
    Ok((parts, wants))
}

fn start_access_log(options: &Options, telemetry: &Telemetry) -> Result<AccessLog, StartError> {
    if !options.access_log.is_on() {
        return Ok(AccessLog::off());
    }
    AccessLog::to_stdout(telemetry).map_err(|source| StartError::Thread {
        what: "the access log's thread",
        source,
    })
}

/// The life of the proxy, on the control thread.
async fn serve(parts: &Parts, wants: mpsc::Receiver<String>) -> Result<(), StartError> {
    let signals = Signals::watch()?;
    let sockets = Sockets::bind(&parts.options)?;
    let announcement = sockets.announcement();
    if let Some(worker) = sockets.workers.first() {
        net::set_outbound_port(worker.outbound_addr.port());
    }
    // Everything on this thread outlives the traffic and closes with this.
    let closing = Side::new();

    let listeners = [announcement.clone(), sockets.companions()].concat();
    open_doors(parts, &closing, sockets.doors, &listeners)?;
    let config = config::start(parts, wants, closing.watch());
    let data_threads = DataThreads::start(parts, sockets.workers)?;
    listening::announce(&announcement);

    let application = Application::of_this_pod();
    start_leaving(parts, &application);
    let ended = ending::when_told(parts, &application, signals, data_threads).await;
    closing.rise(Phase::Closing);
    let _ = tokio::time::timeout(ending::LAST_WORDS, config).await;
    closing.drained(ending::LAST_WORDS).await;
    ended
}

/// Starts what waits for the proxy's end.
fn start_leaving(parts: &Parts, application: &Application) {
    let Parts { drain, options, .. } = parts;
    if options.await_application || options.exit_with_application {
        drain.set_in_pod();
    }
    let (told_to_leave, inbound) = (parts.drain.clone(), Arc::clone(&parts.inbound));
    tokio::spawn(async move {
        told_to_leave.leaving().await;
        inbound.let_go();
    });
    tokio::spawn(leaving::leave(
        drain.clone(),
        application.clone(),
        leaving::bound(options),
    ));
    if options.exit_with_application {
        let drain = drain.clone();
        tokio::spawn(async move {
            application::come_and_gone().await;
            tracing::info!("the application's processes have ended, exiting");
            drain.quit();
        });
    }
}

/// Opens admin, metrics and health.
fn open_doors(
    parts: &Parts,
    closing: &Side,
    sockets: listening::Doors,
    listeners: &[(&'static str, SocketAddr)],
) -> Result<(), StartError> {
    let door = |source| StartError::Thread {
        what: "an operator's door",
        source,
    };
    let listen = |socket| tokio::net::TcpListener::from_std(socket).map_err(door);
    let admin = listen(sockets.admin)?;
    let doors = |socket, beside: Option<_>| -> Result<Vec<_>, StartError> {
        std::iter::once(socket).chain(beside).map(listen).collect()
    };
    let metrics = doors(sockets.metrics, sockets.metrics_v6)?;
    let health = doors(sockets.health, sockets.health_v6)?;

    let Parts {
        telemetry,
        log_levels,
        readiness,
        drain,
        registry,
        ..
    } = parts.clone();
    let sources = pages::sources(parts, listeners);
    let exposition = move |openmetrics| {
        registry.refresh_gauges();
        telemetry.render(openmetrics)
    };
    tokio::spawn(admin::serve_admin(
        admin,
        sources,
        log_levels,
        drain.clone(),
        closing.watch(),
    ));
    for metrics in metrics {
        tokio::spawn(admin::serve_metrics(metrics, exposition.clone(), closing.watch()));
    }
    for health in health {
        let (readiness, drain, probes) = (readiness.clone(), drain.clone(), parts.options.app_probes.clone());
        tokio::spawn(admin::serve_health(health, readiness, drain, probes, closing.watch()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
