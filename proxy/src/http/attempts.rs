//! The attempts of one request, until one answers or none is left: each under its time limit, its outcome told to outlier
//! detection, the next one after a backoff. Called by `request_path` once the request is routed; `retry` judges, `forward`
//! runs one attempt.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::downstream::{Downstream, unless_gone};
use super::exchange::Exchange;
use super::forward::{Answer, Failure, Progress, attempt};
use super::local_reply::Cause;
use super::request_body::RequestBody;
use super::request_path::Proxy;
use super::response::Response;
use super::retry::Retries;
use super::route::Route;
use super::unanswered::Unanswered;
use crate::codec::{Known, RequestHead, ResponseHead};
use crate::snapshot::Cluster;
use crate::telemetry::{Direction, Flags};
use crate::upstream::Outcome;

/// Attempts until one answers, or none is left.
#[allow(
    clippy::too_many_arguments,
    reason = "the request's whole state, and it is called once"
)]
pub async fn dispatch<D: Downstream>(
    proxy: &Proxy,
    cluster: &Cluster,
    route: &Route<'_>,
    head: &RequestHead,
    body: &mut RequestBody,
    deadline: Option<Instant>,
    client: &mut D,
    exchange: &mut Exchange<'_>,
) -> Result<Response, Cause> {
    let mut retries = Retries::new(route.retries(), &cluster.learned, &head.method);
    let mut unprocessed = true;
    loop {
        let mut progress = Progress::default();
        let per_try = route.retries().per_try_timeout;
        let outcome = {
            let worker = proxy.worker;
            let tried = pin!(attempt(cluster, head, body, client, &retries, &mut progress, worker));
            match time_limit(deadline, per_try) {
                None => tried.await,
                Some((limit, late)) => timeout_at(limit, tried).await.unwrap_or(Err(late)),
            }
        };
        if let Some(endpoint) = progress.endpoint() {
            exchange.attempted(endpoint);
        }
        let has_others = cluster.members.are_several();
        let at_once = match outcome {
            Ok(answer) => {
                let response = answer.lease.response();
                let status = response.status.as_u16();
                let repeatable = body.is_repeatable();
                let endpoint = answer.lease.endpoint();
                let said = match exchange.direction() {
                    Direction::Outbound => Unanswered::read(response, endpoint.address),
                    Direction::Inbound => None,
                };
                let again = match said {
                    Some(Unanswered::Unprocessed) => {
                        progress.observe(cluster, Outcome::ConnectFailure);
                        retries.after_unprocessed(status, endpoint, repeatable)
                    }
                    Some(Unanswered::BrokenOff) => {
                        unprocessed = false;
                        progress.observe(cluster, Outcome::Reset);
                        retries.after_failure(&Failure::Reset { remote: true }, Some(endpoint), repeatable)
                    }
                    None => {
                        unprocessed = false;
                        progress.observe(cluster, Outcome::Status(outlier_status(response)));
                        retries.after_response(status, &response.headers, endpoint, repeatable)
                    }
                };
                if !again {
                    retries.record(status < 500 && said.is_none());
                    match said {
                        Some(Unanswered::Unprocessed) => exchange.flags.insert(Flags::UF),
                        Some(Unanswered::BrokenOff) => exchange.flags.insert(Flags::UR),
                        None => {}
                    }
                    retries.flag(&mut exchange.flags);
                    return accept(answer, progress, deadline).ok_or(Cause::NoHealthyUpstream);
                }
                has_others && said == Some(Unanswered::Unprocessed)
            }
            Err(failure) => {
                progress.observe_failure(cluster, &failure);
                unprocessed &= failure.is_unprocessed();
                let endpoint = progress.endpoint();
                if !retries.after_failure(&failure, endpoint, body.is_repeatable()) {
                    exchange.received(|| body.bytes);
                    exchange.unanswered = Unanswered::of(&failure, unprocessed);
                    retries.record(false);
                    retries.flag(&mut exchange.flags);
                    return Err(failure.cause());
                }
                matches!(failure, Failure::Stale) || (has_others && failure.is_unprocessed())
            }
        };
        body.rewind();
        drop(progress);
        let wait = Box::pin(back_off(retries.backoff(at_once, rand::random()), deadline));
        unless_gone(client, wait).await.unwrap_or(Err(Cause::ClientGone))?;
    }
}

/// When an attempt is cut off, by its own time or by the request's, and what that means.
fn time_limit(deadline: Option<Instant>, per_try: Option<Duration>) -> Option<(Instant, Failure)> {
    match (deadline, per_try.map(|per_try| Instant::now() + per_try)) {
        (None, None) => None,
        (Some(deadline), Some(one)) if one < deadline => Some((one, Failure::TryTimeout)),
        (Some(deadline), _) => Some((deadline, Failure::Timeout)),
        (None, Some(one)) => Some((one, Failure::TryTimeout)),
    }
}

async fn back_off(interval: Duration, deadline: Option<Instant>) -> Result<(), Cause> {
    if interval.is_zero() {
        return Ok(());
    }
    let wait = sleep(interval);
    match deadline {
        None => wait.await,
        Some(deadline) => timeout_at(deadline, wait).await.map_err(|_| Cause::Timeout)?,
    }
    Ok(())
}

/// gRPC errors without a body count as the HTTP status that they stand for.
fn outlier_status(response: &ResponseHead) -> u16 {
    match response.headers.known(Known::GrpcStatus) {
        None | Some(b"0") => response.status.as_u16(),
        Some(b"14") => 503,
        Some(b"4") => 504,
        Some(b"2" | b"13" | b"15") => 500,
        Some(_) => response.status.as_u16(),
    }
}

fn accept(answer: Answer, progress: Progress, deadline: Option<Instant>) -> Option<Response> {
    let keep_alive = answer.lease.response().keeps_alive();
    Some(Response {
        lease: answer.lease,
        active: progress.active?,
        permit: answer.permit,
        upload: answer.upload,
        upload_refused: false,
        keep_alive,
        deadline,
    })
}
