//! `POST /v1/explain`: what a request gets and why, in the world that is in force.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use tokio::sync::Semaphore;

use super::{
    Api,
    failure::Failure,
    request::{self, Format, Query},
};
use crate::explain::{self, Question};

/// Explanations in the making.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Of a question: a request's head and a client's labels.
const LONGEST_BYTES: usize = 1 << 20;

pub(super) async fn explain(State(api): State<Api>, request: Request) -> Result<Response, Failure> {
    Query::of(request.uri(), &[])?;
    let format = Format::wanted(request.headers());
    let body = request::body(request).await?;
    if body.len() > LONGEST_BYTES {
        return Err(Failure::too_large(LONGEST_BYTES));
    }
    let question: Question = serde_json::from_str(&body).map_err(|error| {
        let form = r#"{"url", "method", "headers", "fromNamespace", "fromLabels"}"#;
        Failure::bad_request(format!("the body is not {form} in JSON: {error}"))
    })?;
    let world = api.ingest.held().world;
    // A decision by many regexes may take long: it keeps nobody else waiting, and only so many run.
    let _place = AT_ONCE.acquire().await;
    let explained = tokio::task::spawn_blocking(move || explain::explain(&world, &question)).await;
    let answer = explained
        .map_err(|_| Failure::internal("the explanation was cut off"))?
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(format.reply(StatusCode::OK, &answer))
}
