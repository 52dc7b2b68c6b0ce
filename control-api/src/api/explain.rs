//! `POST /v1/explain`: what a request gets and why, in the world that is in force; of endpoints that are names, what the
//! proxies that resolve them say.

use std::collections::BTreeSet;

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
    sightings::{Sighting, Sightings},
};
use crate::explain::{self, Question, answer::Answer};

/// Explanations in the making.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Of names that somebody cannot resolve.
const MOST_NOTES: usize = 10;

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
    let mut answer = explained
        .map_err(|_| Failure::internal("the explanation was cut off"))?
        .map_err(|error| Failure::bad_request(error.to_string()))?;
    let reports = api.status.health();
    resolve(&mut answer, &Sightings::of(&reports));
    Ok(format.reply(StatusCode::OK, &answer))
}

/// What the proxies know of endpoints that are names: the explanation is made without asking anybody.
fn resolve(answer: &mut Answer, sightings: &Sightings<'_>) {
    let mut notes = BTreeSet::new();
    for to in &mut answer.destinations {
        for endpoint in to.endpoints.iter_mut().filter(|endpoint| endpoint.state == "UNKNOWN") {
            let Some((name, _)) = endpoint.address.rsplit_once(':') else {
                continue;
            };
            let looked = sightings.of_name(&to.host, name);
            notes.extend(looked.unresolved().iter().map(|Sighting { reply, .. }| {
                let (namespace, node_id, reason) = (&reply.namespace, &reply.node_id, &reply.reason);
                format!("{name} is not resolved by {namespace}/{node_id}: {reason}")
            }));
            endpoint.resolved = looked.addresses().iter().map(ToString::to_string).collect();
            endpoint.state = match (looked.by_none(), endpoint.resolved.is_empty()) {
                (true, _) => continue,
                (false, true) => "UNRESOLVED",
                (false, false) => "HEALTHY",
            }
            .to_owned();
        }
    }
    let more = notes.len().saturating_sub(MOST_NOTES);
    answer.notes.extend(notes.into_iter().take(MOST_NOTES));
    if more > 0 {
        answer.notes.push(format!("and {more} more are not resolved"));
    }
}
