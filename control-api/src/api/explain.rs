//! `POST /v1/explain`: what a request gets and why, in the world that is in force; of endpoints, what the proxies say that
//! have ejected them, or that resolve them where they are names.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

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
    sightings::{Place, Sighting, Sightings},
};
use crate::explain::{
    self, Question,
    answer::{Answer, Endpoint, Seen},
};
use crate::status::SeenState;

/// In what state a proxy sees an endpoint.
type Said = (SeenState, Seen);

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
        let form = r#"{"url", "method", "headers", "fromNamespace", "fromLabels", "fromAddress"}"#;
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
    complete(&mut answer, &Sightings::of(&reports));
    Ok(format.reply(StatusCode::OK, &answer))
}

/// What the proxies know of the endpoints: the explanation is made without asking anybody.
fn complete(answer: &mut Answer, sightings: &Sightings<'_>) {
    let mut notes = BTreeSet::new();
    for to in &mut answer.destinations {
        for endpoint in &mut to.endpoints {
            if endpoint.state == "UNKNOWN" {
                notes.extend(resolve(&to.host, endpoint, sightings));
            }
            let port = to.port.unwrap_or_default();
            let seen = seen(&to.host, port, &to.subset, endpoint, sightings);
            if let Some(state) = state(&seen).filter(|_| endpoint.state == "HEALTHY") {
                endpoint.state = state.to_owned();
            }
            endpoint.seen_by = seen.into_iter().flatten().map(|(_, seen)| seen).collect();
        }
    }
    let more = notes.len().saturating_sub(MOST_NOTES);
    answer.notes.extend(notes.into_iter().take(MOST_NOTES));
    if more > 0 {
        answer.notes.push(format!("and {more} more are not resolved"));
    }
}

/// The addresses of a name, and who has none for it.
fn resolve(host: &str, endpoint: &mut Endpoint, sightings: &Sightings<'_>) -> Vec<String> {
    let Some((name, _)) = endpoint.address.rsplit_once(':') else {
        return Vec::new();
    };
    let looked = sightings.of_name(host, name);
    let note = |Sighting { reply, .. }| {
        let (namespace, node_id, reason) = (&reply.namespace, &reply.node_id, &reply.reason);
        format!("{name} is not resolved by {namespace}/{node_id}: {reason}")
    };
    let notes = looked.unresolved().into_iter().map(note).collect();
    let resolved = looked.addresses().iter().map(ToString::to_string).collect();
    if !looked.by_none() {
        endpoint.resolved = resolved;
        let state = if endpoint.resolved.is_empty() {
            "UNRESOLVED"
        } else {
            "HEALTHY"
        };
        state.clone_into(&mut endpoint.state);
    }
    notes
}

/// What proxies say that see the endpoint otherwise than healthy in the destination's own cluster: for each of its addresses.
fn seen(host: &str, port: u16, subset: &str, endpoint: &Endpoint, sightings: &Sightings<'_>) -> Vec<Vec<Said>> {
    let at = |name: &str, address: SocketAddr, shown: &str| -> Vec<Said> {
        let seen = sightings.at(Place { host, port, name }, address).into_iter();
        seen.filter(|sighting| sighting.reply.subset == subset)
            .map(|Sighting { state, reply }| {
                let seen = Seen {
                    node_id: reply.node_id,
                    namespace: reply.namespace,
                    address: shown.to_owned(),
                    state: reply.state,
                    reason: reply.reason,
                };
                (state, seen)
            })
            .collect()
    };
    if let Ok(address) = endpoint.address.parse() {
        return vec![at("", address, "")];
    }
    let Some((name, number)) = endpoint.address.rsplit_once(':') else {
        return Vec::new();
    };
    let number = number.parse().unwrap_or_default();
    if sightings.of_name(host, name).is_in_turns() {
        return vec![at(name, (Ipv4Addr::UNSPECIFIED, number).into(), "")];
    }
    let addresses = endpoint
        .resolved
        .iter()
        .filter_map(|ip| Some((ip, ip.parse::<IpAddr>().ok()?)));
    addresses
        .map(|(shown, ip)| at(name, (ip, number).into(), shown))
        .collect()
}

/// The worst that is said, where something is said of every address. `None`: as it is told.
fn state(seen: &[Vec<Said>]) -> Option<&'static str> {
    let worst = |said: &Vec<Said>| said.iter().map(|(state, _)| *state).max();
    let best = seen.iter().map(worst).min().flatten()?;
    match best {
        SeenState::Ejected => Some("EJECTED"),
        SeenState::Probing => Some("PROBING"),
        SeenState::AwaitingProbe => Some("AWAITING_PROBE"),
        SeenState::Healthy | SeenState::Failing | SeenState::Unresolved => None,
    }
}
