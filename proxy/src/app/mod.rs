//! Wiring of the sidecar, and nothing else: what exists, which thread runs it, how it ends.
//!
//! The main thread is the control thread: config, admin, metrics, health, signals, on one current-thread runtime.
//! `--workers` data threads carry the traffic, each with a runtime, accept sockets and connection pools of its own.

mod config;
mod data_threads;
mod ending;
mod listening;
mod pages;
mod wait;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime;
use tokio::sync::mpsc;

use crate::admin::{self, Readiness};
use crate::bootstrap::Options;
use crate::drain::Drain;
use crate::error::StartError;
use crate::snapshot::{Demand, Shared};
use crate::telemetry::log::{self, LogLevels};
use crate::telemetry::{AccessLog, Telemetry};
use crate::upstream::Registry;
use data_threads::DataThreads;
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
    let telemetry = Telemetry::new(options.workload_name());
    let (demand, wants) = Demand::new();
    let parts = Parts {
        access_log: start_access_log(&options, &telemetry)?,
        log_levels,
        readiness: Readiness::default(),
        drain: Drain::new(),
        shared: Shared::new(&options.namespace),
        registry: Registry::new(telemetry.clone(), options.workers),
        demand,
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
    // Everything on this thread outlives the traffic and closes with this.
    let closing = Drain::new();

    open_doors(parts, &closing, sockets.doors, &announcement)?;
    let config = config::start(parts, wants, closing.watch());
    let data_threads = DataThreads::start(parts, sockets.workers)?;
    listening::announce(&announcement);

    let ended = ending::when_told(parts, signals, data_threads).await;
    closing.signal();
    let _ = tokio::time::timeout(ending::LAST_WORDS, config).await;
    closing.drained(ending::LAST_WORDS).await;
    ended
}

/// Opens admin, metrics and health.
fn open_doors(
    parts: &Parts,
    closing: &Drain,
    sockets: listening::Doors,
    listeners: &[(&'static str, SocketAddr)],
) -> Result<(), StartError> {
    let door = |source| StartError::Thread {
        what: "an operator's door",
        source,
    };
    let listen = |socket| tokio::net::TcpListener::from_std(socket).map_err(door);
    let (admin, metrics, health) = (
        listen(sockets.admin)?,
        listen(sockets.metrics)?,
        listen(sockets.health)?,
    );

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
    tokio::spawn(admin::serve_metrics(metrics, exposition, closing.watch()));
    let probes = parts.options.app_probes.clone();
    tokio::spawn(admin::serve_health(health, readiness, drain, probes, closing.watch()));
    Ok(())
}

#[cfg(test)]
mod tests;
