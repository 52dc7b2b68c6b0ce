//! One attempt: an endpoint, a connection to it, the request out, the response's head in.

use std::sync::Arc;

use http::{Request, Response, request};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tsunagi_proto::model::Protocol;

use super::head;
use super::local_reply::Cause;
use super::retry::Retries;
use crate::limits::Permit;
use crate::net::ConnectError;
use crate::snapshot::Cluster;
use crate::upstream::{AcquireError, ActiveRequest, Endpoint, Lease, Outcome, RequestBody, acquire, choose};

/// Why an attempt gave no response.
#[derive(Debug)]
pub enum Failure {
    NoEndpoint,
    Overflow(&'static str),
    Connect(Arc<ConnectError>),
    /// The connection had closed before anything was sent: not an attempt.
    Stale,
    /// A new connection closed before anything was sent.
    ResetBeforeRequest,
    /// The endpoint refused the stream: provably not processed.
    Refused,
    Reset {
        remote: bool,
    },
    Protocol,
    TryTimeout,
    Timeout,
    BrokenRequestBody,
}

impl Failure {
    pub fn cause(self) -> Cause {
        match self {
            Self::NoEndpoint => Cause::NoHealthyUpstream,
            Self::Overflow(limit) => Cause::Overflow(limit),
            Self::Connect(error) => Cause::ConnectFailure(error.to_string()),
            Self::Stale | Self::ResetBeforeRequest => Cause::UpstreamReset { remote: false },
            Self::Refused => Cause::UpstreamReset { remote: true },
            Self::Reset { remote } => Cause::UpstreamReset { remote },
            Self::Protocol => Cause::UpstreamProtocol,
            Self::TryTimeout | Self::Timeout => Cause::Timeout,
            Self::BrokenRequestBody => Cause::BrokenRequestBody,
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Connect(error) => (!error.is_local()).then_some(Outcome::ConnectFailure),
            Self::ResetBeforeRequest | Self::Refused | Self::Reset { .. } | Self::Protocol => Some(Outcome::Reset),
            Self::TryTimeout | Self::Timeout => Some(Outcome::Timeout),
            Self::NoEndpoint | Self::Overflow(_) | Self::Stale | Self::BrokenRequestBody => None,
        }
    }
}

/// A response's head, and what is held until its body has ended.
pub struct Answer {
    pub response: Response<Incoming>,
    pub lease: Lease,
    pub permit: Permit,
}

/// What outlives an attempt that is cut off by a timeout.
#[derive(Default)]
pub struct Progress {
    pub active: Option<ActiveRequest>,
    /// The head, should the request be sent again.
    pub spare: Option<request::Parts>,
    sent: bool,
}

impl Progress {
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.active.as_ref().map(|active| &active.endpoint)
    }

    /// Tells outlier detection. A timeout counts only when the endpoint had the request.
    pub fn observe_failure(&mut self, cluster: &Cluster, failure: &Failure) {
        let timeout = matches!(failure, Failure::TryTimeout | Failure::Timeout);
        if let Some(outcome) = failure.outcome().filter(|_| self.sent || !timeout) {
            self.observe(cluster, outcome);
        }
    }

    pub fn observe(&mut self, cluster: &Cluster, outcome: Outcome) {
        if let Some(active) = &mut self.active {
            active.observe(&cluster.learned, cluster.told.outlier_detection.as_ref(), outcome);
        }
    }
}

/// Does the endpoint get HTTP/2? Where nothing is declared, what the client speaks.
pub fn speaks_http2(cluster: &Cluster, parts: &request::Parts) -> bool {
    match cluster.told.protocol {
        Protocol::Http2 => true,
        Protocol::Detect => parts.version == http::Version::HTTP_2,
        _ => false,
    }
}

/// Runs one attempt. Dropping the future cancels it: the queue is left, the connection closed or the stream reset.
pub async fn attempt(
    cluster: &Cluster,
    request: Request<RequestBody>,
    retries: &Retries<'_>,
    progress: &mut Progress,
    worker: usize,
) -> Result<Answer, Failure> {
    let (mut parts, body) = request.into_parts();
    let http2 = speaks_http2(cluster, &parts);
    if retries.may_be_cut_off() {
        progress.spare = Some(copy(&parts));
    }
    let (mut lease, permit) = match connection(cluster, http2, retries, progress, worker).await {
        Ok(connection) => connection,
        Err(failure) => {
            progress.spare = Some(parts);
            return Err(failure);
        }
    };
    if progress.spare.is_none() && retries.may_repeat_sent(lease.is_reused(), http2) {
        progress.spare = Some(copy(&parts));
    }
    if http2 {
        head::write_for_http2(&mut parts)
    } else {
        head::write_for_http1(&mut parts)
    }
    progress.sent = true;
    let watched = body.watch();
    match lease.send(Request::from_parts(parts, body)).await {
        Ok(response) => Ok(Answer {
            response,
            lease,
            permit,
        }),
        Err(error) => Err(failure(error, &watched, lease.is_reused(), progress)),
    }
}

/// An endpoint, a connection to it, and a place among the requests in flight. Requests that share a connection take their
/// place before they wait for it; those that have one each take it with the connection.
async fn connection(
    cluster: &Cluster,
    http2: bool,
    retries: &Retries<'_>,
    progress: &mut Progress,
    worker: usize,
) -> Result<(Lease, Permit), Failure> {
    let active = choose(
        &cluster.learned,
        &cluster.told,
        &cluster.members,
        &retries.tried,
        &mut rand::random::<u64>,
    )
    .ok_or(Failure::NoEndpoint)?;
    let endpoint = Arc::clone(&active.endpoint);
    progress.active = Some(active);
    let early = if http2 { Some(request_permit(cluster)?) } else { None };
    let lease = acquire(
        &cluster.learned,
        &endpoint,
        &cluster.told,
        &cluster.members,
        http2,
        worker,
    )
    .await
    .map_err(|error| match error {
        AcquireError::Connect(error) => Failure::Connect(error),
        AcquireError::PendingOverflow => {
            cluster.learned.series.overflow_pending_requests.increment(1);
            Failure::Overflow("pending_requests")
        }
    })?;
    if !Arc::ptr_eq(lease.endpoint(), &endpoint) {
        progress.active = Some(lease.endpoint().begin());
    }
    let permit = match early {
        Some(permit) => permit,
        None => match request_permit(cluster) {
            Ok(permit) => permit,
            Err(overflow) => {
                lease.give_back(true);
                return Err(overflow);
            }
        },
    };
    Ok((lease, permit))
}

/// A copy to send again. The spelling of header names, which lives in the extensions, is not worth its cost here: should
/// the request be repeated, it goes out in lower case.
fn copy(parts: &request::Parts) -> request::Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy
}

fn request_permit(cluster: &Cluster) -> Result<Permit, Failure> {
    cluster.learned.requests.acquire().ok_or_else(|| {
        cluster.learned.series.overflow_requests.increment(1);
        Failure::Overflow("requests")
    })
}

/// What hyper's error means for the request and for its endpoint.
fn failure(
    mut error: TrySendError<Request<RequestBody>>,
    body: &RequestBody,
    reused: bool,
    progress: &mut Progress,
) -> Failure {
    if let Some(unsent) = error.take_message() {
        progress.spare = Some(unsent.into_parts().0);
        return if reused {
            Failure::Stale
        } else {
            Failure::ResetBeforeRequest
        };
    }
    if body.is_broken() {
        return Failure::BrokenRequestBody;
    }
    let error = error.into_error();
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<h2::Error>());
    match source {
        Some(h2) if h2.reason() == Some(h2::Reason::REFUSED_STREAM) => Failure::Refused,
        // A GOAWAY without an error: streams above the last one named were not processed.
        Some(h2) if h2.is_go_away() && h2.reason() == Some(h2::Reason::NO_ERROR) => Failure::Refused,
        Some(h2) if h2.is_reset() && h2.is_remote() => Failure::Reset { remote: true },
        _ if error.is_parse() || error.is_parse_too_large() => Failure::Protocol,
        _ => Failure::Reset { remote: false },
    }
}
