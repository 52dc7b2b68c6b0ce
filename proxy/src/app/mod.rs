//! Wiring of the sidecar, and nothing else: what exists, which thread runs it, how it ends.
//!
//! The main thread is the control thread: config, admin, metrics, health, signals, on one current-thread runtime.
//! `--workers` data threads carry the traffic, each with a runtime, accept sockets and connection pools of its own.

mod data_threads;
mod ending;
mod listening;

use std::sync::Arc;

use serde_json::json;
use tokio::runtime;

use crate::admin::{self, AdminSources, Readiness};
use crate::bootstrap::Options;
use crate::drain::Drain;
use crate::error::StartError;
use crate::telemetry::log::{self, LogLevels};
use crate::telemetry::{AccessLog, Telemetry};
use data_threads::DataThreads;
use ending::Signals;
use listening::Sockets;

/// What every part of the proxy is given. Clones are handles to the same things.
#[derive(Clone)]
struct Parts {
    options: Arc<Options>,
    telemetry: Telemetry,
    access_log: AccessLog,
    log_levels: LogLevels,
    readiness: Readiness,
    drain: Drain,
}

/// Runs the sidecar until it is told to end and has drained.
pub fn run(options: Options) -> Result<(), StartError> {
    let log_levels = log::start(options.log_level.clone());
    let telemetry = Telemetry::new(options.workload_name());
    let access_log = start_access_log(&options, &telemetry)?;
    let parts = Parts {
        options: Arc::new(options),
        telemetry,
        access_log,
        log_levels,
        readiness: Readiness::default(),
        drain: Drain::new(),
    };
    let control = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::Thread {
            what: "the control thread's runtime",
            source,
        })?;
    let ended = control.block_on(serve(&parts));
    // What still runs on it holds nothing that must be finished.
    control.shutdown_background();
    parts.access_log.flush(ending::LAST_WORDS);
    ended
}

/// The life of the proxy, on the control thread.
async fn serve(parts: &Parts) -> Result<(), StartError> {
    let signals = Signals::watch()?;
    let sockets = Sockets::bind(&parts.options)?;
    let announcement = sockets.announcement();
    let doors = Drain::new();

    open_doors(parts, &doors, sockets.doors, &announcement)?;
    start_config(parts);
    let data_threads = DataThreads::start(parts, sockets.workers)?;
    listening::announce(&announcement);

    let ended = ending::when_told(parts, signals, data_threads).await;
    doors.signal();
    doors.drained(ending::LAST_WORDS).await;
    ended
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

/// Opens admin, metrics and health. They close with `doors`, after everything else.
fn open_doors(
    parts: &Parts,
    doors: &Drain,
    sockets: listening::Doors,
    listeners: &[(&'static str, std::net::SocketAddr)],
) -> Result<(), StartError> {
    let runtime = |source| StartError::Thread {
        what: "an operator's door",
        source,
    };
    let listen = |socket| tokio::net::TcpListener::from_std(socket).map_err(runtime);
    let Parts {
        telemetry,
        log_levels,
        readiness,
        drain,
        ..
    } = parts.clone();
    let sources = admin_sources(listeners);
    tokio::spawn(admin::serve_admin(
        listen(sockets.admin)?,
        sources,
        log_levels,
        drain.clone(),
        doors.watch(),
    ));
    tokio::spawn(admin::serve_metrics(listen(sockets.metrics)?, telemetry, doors.watch()));
    tokio::spawn(admin::serve_health(
        listen(sockets.health)?,
        readiness,
        drain,
        doors.watch(),
    ));
    Ok(())
}

/// Where the admin pages come from.
fn admin_sources(listeners: &[(&'static str, std::net::SocketAddr)]) -> AdminSources {
    let listeners = listeners
        .iter()
        .map(|(name, address)| json!({ "name": name, "address": address.to_string() }));
    let listeners = serde_json::Value::Array(listeners.collect());
    AdminSources {
        config_dump: Box::new(|| json!({})),
        clusters: Box::new(String::new),
        listeners: Box::new(move || listeners.clone()),
    }
}

/// Starts what keeps the configuration up to date: the xDS client, and the compiler of snapshots.
fn start_config(_parts: &Parts) {}

#[cfg(test)]
mod tests;
