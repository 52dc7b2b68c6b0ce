//! For whoever runs the control plane: `/healthz`, `/readyz`, `/metrics`.

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

/// 200 from the first request (the store is loaded before a socket is opened) until shutdown begins.
pub(super) async fn ready(State(api): State<Api>) -> impl IntoResponse {
    if api.ready() {
        text(StatusCode::OK, "ok")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "shutting down")
    }
}

pub(super) async fn metrics(State(api): State<Api>) -> Response {
    ([(header::CONTENT_TYPE, METRICS_MEDIA_TYPE)], api.metrics.render()).into_response()
}
