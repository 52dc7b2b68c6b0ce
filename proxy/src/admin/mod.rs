//! The operator's doors: admin pages, metrics and health, each a small HTTP/1 server on the control thread.
//!
//! `app` opens them and says where their content comes from; nothing here is on the request path, and no page shows a
//! secret. They stay open while the proxy leaves, so that readiness is seen to fail, and close last.

mod answer;
mod health;
mod metrics;
mod operator;
mod probes;
mod server;

use std::sync::Arc;

use http::request::Parts;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::bootstrap::AppProbes;
use crate::drain::{Drain, DrainWatch};
use crate::telemetry::log::LogLevels;

pub use health::Readiness;

/// Where the admin pages come from: each is asked once per request.
pub struct AdminSources {
    /// The snapshot in force, for `/config_dump`.
    pub config_dump: Box<dyn Fn() -> Value + Send + Sync>,
    /// Clusters and their endpoints with health and load, a line each, for `/clusters`.
    pub clusters: Box<dyn Fn() -> String + Send + Sync>,
    /// Names and addresses, for `/listeners`.
    pub listeners: Box<dyn Fn() -> Value + Send + Sync>,
}

/// Serves the admin pages until `closing`. Dropping this stops accepting and leaves open connections to themselves.
pub async fn serve_admin(
    listener: TcpListener,
    sources: AdminSources,
    log_levels: LogLevels,
    drain: Drain,
    closing: DrainWatch,
) {
    let operator = operator::Operator {
        sources,
        log_levels,
        drain,
    };
    server::serve(listener, Arc::new(move |request| operator.answer(request)), closing).await;
}

/// Serves `/metrics` until `closing`. Dropping this stops accepting and leaves open connections to themselves.
///
/// `exposition` makes the page, as OpenMetrics when it is told `true`.
pub async fn serve_metrics(
    listener: TcpListener,
    exposition: impl Fn(bool) -> String + Send + Sync + 'static,
    closing: DrainWatch,
) {
    server::serve(
        listener,
        Arc::new(move |request: &Parts| metrics::answer(request, &exposition)),
        closing,
    )
    .await;
}

/// Serves the probes of the sidecar, and those of the application that lead through it, until `closing`. Dropping this
/// stops accepting and leaves open connections to themselves.
pub async fn serve_health(
    listener: TcpListener,
    readiness: Readiness,
    drain: Drain,
    probes: AppProbes,
    closing: DrainWatch,
) {
    let answers = Arc::new(move |request: &Parts| health::answer(request, &readiness, &drain));
    let probes = Arc::new(probes::Probes::new(probes));
    server::serve_with_probes(listener, answers, Some(probes), closing).await;
}
