//! For whoever runs the control plane: `/healthz`, `/readyz`, `/metrics`.

use std::sync::atomic::Ordering;

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Api, text};

/// Prometheus' text format.
const METRICS_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// 200 as long as this process answers at all.
pub(super) async fn healthy() -> impl IntoResponse {
    text(StatusCode::OK, "ok")
}

/// 200 from the first request (the store is loaded before a socket is opened) until shutdown begins; but with a config
/// folder and an empty store only from its first good content, and with Kubernetes only once every kind was listed:
/// before that nothing of what proxies need is known.
pub(super) async fn ready(State(api): State<Api>) -> impl IntoResponse {
    if api.stopping.load(Ordering::Relaxed) {
        return text(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
    }
    if let Some(reason) = api.ingest.awaits_source() {
        return text(StatusCode::SERVICE_UNAVAILABLE, &reason);
    }
    match api.ingest.awaits_folder() {
        None => text(StatusCode::OK, "ok"),
        Some(folder) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!(
                "nothing from the config folder {} was in force yet, and nothing else is stored; the log says why",
                folder.display()
            ),
        ),
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], api.metrics.render()).into_response()
}
