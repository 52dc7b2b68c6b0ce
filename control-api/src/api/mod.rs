//! The doors for people and tools: the HTTP API with its Kubernetes paths, and the same over gRPC. What may be asked and
//! how it is answered is decided here; what it does is decided by `ingest`. Called by `app`; the reply types are also
//! what `cli` reads.

mod connections;
mod delete_options;
mod documents;
mod endpoints;
mod explain;
pub mod failure;
mod grpc;
mod health;
mod operations;
mod proxies;
pub mod replies;
mod request;
mod resources;
mod server;
mod sightings;
mod transactions;

use std::sync::{Arc, atomic::AtomicBool};

use axum::{
    Router,
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::{ingest::Ingest, status::Status, telemetry};
use failure::Failure;

pub use documents::{FILES_MEDIA_TYPE, Files, NamedText};
pub use grpc::service as grpc_service;
pub use health::service as health_service;
pub use server::{serve_grpc, serve_http};

/// The largest body of a request, in bytes: 16 MiB, some 10,000 documents.
pub const BODY_LIMIT_BYTES: usize = 16 * 1024 * 1024;

/// What every door needs. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub ingest: Ingest,
    pub status: Arc<Status>,
    pub metrics: PrometheusHandle,
    /// True once shutdown began: `/readyz` fails from then on.
    pub stopping: Arc<AtomicBool>,
}

/// Everything that `--http-addr` answers.
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/healthz", get(operations::healthy))
        .route("/readyz", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .route("/v1/endpoints", get(endpoints::list))
        .route("/v1/explain", post(explain::explain))
        .route("/v1/proxies", get(proxies::list))
        .route("/v1/transactions", post(transactions::transact))
        .route("/api/{*path}", any(resources::serve))
        .route("/apis/{*path}", any(resources::serve))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(count))
        .with_state(api)
}

async fn unknown_path(State(_): State<Api>, request: Request) -> Failure {
    Failure::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn wrong_method(request: Request) -> Failure {
    let allowed = match request.uri().path() {
        "/v1/transactions" | "/v1/explain" => "POST",
        _ => "GET, HEAD",
    };
    Failure::method_not_allowed(request.method(), allowed)
}

async fn count(request: Request, next: Next) -> Response {
    let method = bounded(request.method());
    let response = next.run(request).await;
    telemetry::record_http_api_request(method, response.status().as_u16());
    response
}

/// A client can invent methods, but not series.
fn bounded(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// For answers that are plain text.
fn text(status: StatusCode, body: &str) -> (StatusCode, String) {
    (status, format!("{body}\n"))
}

#[cfg(test)]
mod tests;
