//! The attempts of one request, until one answers or none is left: each within its limits, its outcome told to outlier
//! detection, the next one after a backoff. Called by `request_path` once the request is routed; `retry` judges, `forward`
//! runs one attempt.

use std::time::Duration;

use tokio::time::{sleep, timeout_at};

use super::control_headers::count_attempt;
use super::deadline::{Deadline, Limits};
use super::downstream::{Downstream, unless_gone};
use super::exchange::Exchange;
use super::forward::{Answer, Attempt, Failure, Progress, attempt};
use super::local_reply::Cause;
use super::outcome::of_head;
use super::request_body::RequestBody;
use super::request_path::Proxy;
use super::response::Response;
use super::retry::Retries;
use super::route::Route;
use super::unanswered::Unanswered;
use crate::codec::RequestHead;
use crate::snapshot::Cluster;
use crate::telemetry::{Direction, Flags};
use crate::upstream::Outcome;

/// Attempts until one answers, or none is left. Dropping the future cancels the one that runs.
#[allow(
    clippy::too_many_arguments,
    reason = "the request's whole state, and it is called once"
)]
pub async fn dispatch<D: Downstream>(
    proxy: &Proxy,
    cluster: &Cluster,
    route: &Route<'_>,
    head: &mut RequestHead,
    body: &mut RequestBody,
    mut deadline: Deadline,
    hash: Option<u64>,
    client: &mut D,
    exchange: &mut Exchange<'_>,
) -> Result<Response, Cause> {
    let policy = route.retries();
    let mut retries = Retries::new(policy, &cluster.learned, &head.method);
    let mut unprocessed = true;
    cluster.learned.retries.count_request();
    let arrived = cluster;
    let mut renewed;
    loop {
        let has_waited = retries.attempt() > 1 || exchange.flags.contains(Flags::DI);
        renewed = has_waited.then(|| arrived.renewed());
        let cluster = renewed.as_ref().unwrap_or(arrived);
        announce(head, &deadline, policy.per_try_timeout, retries.attempt(), exchange);
        let mut progress = Progress::default();
        let of = Attempt {
            cluster,
            head,
            worker: proxy.worker,
            client: exchange.client,
            may_fail: retries.may_repeat(body.is_repeatable()),
            hash,
        };
        let mut limits = Limits::new(&mut deadline, policy.per_try_timeout);
        let outcome = attempt(&of, body, client, &retries, &mut progress, &mut limits).await;
        if let Some(endpoint) = progress.endpoint() {
            exchange.attempted(endpoint, progress.is_asked());
        }
        let at_once = match outcome {
            Ok(answer) => {
                let said = said_by_sidecar(&answer, exchange.direction());
                unprocessed &= said == Some(Unanswered::Unprocessed);
                let began = match said {
                    Some(Unanswered::Unprocessed) => Outcome::ConnectFailure,
                    Some(Unanswered::BrokenOff) => Outcome::Reset,
                    None => of_head(answer.lease.response(), exchange.grpc),
                };
                progress.observe(cluster, began);
                if !repeats_answer(&answer, said, &mut retries, body.is_repeatable()) {
                    accepted(&answer, said, &retries, exchange);
                    return accept(answer, progress, began, deadline).ok_or(Cause::NoHealthyUpstream);
                }
                said == Some(Unanswered::Unprocessed) && cluster.members.are_several()
            }
            Err(failure) => {
                progress.observe_failure(cluster, &failure);
                unprocessed &= failure.is_unprocessed();
                if !retries.after_failure(&failure, progress.endpoint(), body.is_repeatable()) {
                    exchange.received(|| body.bytes);
                    exchange.unanswered = Unanswered::of(&failure, unprocessed);
                    retries.record(false);
                    retries.flag(&mut exchange.flags);
                    return Err(failure.cause());
                }
                matches!(failure, Failure::Stale) || (failure.is_unprocessed() && cluster.members.are_several())
            }
        };
        body.rewind();
        drop(progress);
        let wait = Box::pin(back_off(retries.backoff(at_once, rand::random()), &deadline));
        unless_gone(client, wait).await.unwrap_or(Err(Cause::ClientGone))?;
    }
}

/// What the endpoint is told of the attempt.
fn announce(
    head: &mut RequestHead,
    deadline: &Deadline,
    per_try: Option<Duration>,
    attempt: u32,
    exchange: &Exchange<'_>,
) {
    if exchange.direction() == Direction::Outbound {
        count_attempt(&mut head.headers, attempt);
    }
    if exchange.grpc {
        deadline.tell(&mut head.headers, per_try, attempt == 1);
    }
}

/// Inbound it is the application that answered, and has no sidecar of its own.
fn said_by_sidecar(answer: &Answer, direction: Direction) -> Option<Unanswered> {
    match direction {
        Direction::Outbound => Unanswered::read(answer.lease.response(), answer.lease.endpoint().shown_address()),
        Direction::Inbound => None,
    }
}

/// Is there another attempt in place of this answer?
fn repeats_answer(answer: &Answer, said: Option<Unanswered>, retries: &mut Retries<'_>, repeatable: bool) -> bool {
    let (response, endpoint) = (answer.lease.response(), answer.lease.endpoint());
    match said {
        Some(Unanswered::Unprocessed) => retries.after_unprocessed(response.status.as_u16(), endpoint, repeatable),
        Some(Unanswered::BrokenOff) => {
            retries.after_failure(&Failure::Reset { remote: true }, Some(endpoint), repeatable)
        }
        None => retries.after_response(response, endpoint, repeatable),
    }
}

/// The answer is the request's.
fn accepted(answer: &Answer, said: Option<Unanswered>, retries: &Retries<'_>, exchange: &mut Exchange<'_>) {
    let status = answer.lease.response().status.as_u16();
    retries.record(status < 500 && said.is_none());
    match said {
        Some(Unanswered::Unprocessed) => exchange.flags.insert(Flags::UF),
        Some(Unanswered::BrokenOff) => exchange.flags.insert(Flags::UR),
        None => {}
    }
    retries.flag(&mut exchange.flags);
}

async fn back_off(interval: Duration, deadline: &Deadline) -> Result<(), Cause> {
    if interval.is_zero() {
        return Ok(());
    }
    let wait = sleep(interval);
    match deadline.at() {
        None => wait.await,
        Some(at) => timeout_at(at, wait).await.map_err(|_| Cause::Timeout)?,
    }
    Ok(())
}

pub(super) fn accept(answer: Answer, progress: Progress, began: Outcome, deadline: Deadline) -> Option<Response> {
    let keep_alive = answer.lease.response().keeps_alive();
    Some(Response {
        lease: answer.lease,
        active: progress.active?,
        began,
        permit: answer.permit,
        upload: answer.upload,
        upload_refused: false,
        keep_alive,
        deadline,
        grpc_status: None,
    })
}
