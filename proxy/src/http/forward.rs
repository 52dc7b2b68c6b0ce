//! One attempt: an endpoint, a connection to it, the request out, the response's head in.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tsunagi_proto::model::{self, H2UpgradePolicy, Protocol};

use super::deadline::{Late, Limits};
use super::downstream::{Downstream, unless_gone};
use super::head::authority;
use super::local_reply::Cause;
use super::request_body::{Attempted, RequestBody};
use super::retry::Retries;
use crate::codec::{Broken, RequestHead, Transfer};
use crate::limits::Permit;
use crate::net::ConnectError;
use crate::snapshot::Cluster;
use crate::tls::{CERTIFICATE_WANTED, Offer};
use crate::upstream::{
    AcquireError, ActiveRequest, Binding, Caller, ClientAddresses, Endpoint, Lease, Need, Outcome, UpstreamError,
    acquire, acquire_ready, choose,
};

/// Endpoints that a request may pass over because each awaits a probe.
const MOST_PROBES_LEFT: usize = 4;

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
    /// The endpoint speaks HTTP/2 and lets no stream become anything else.
    NoUpgrade,
    /// `sent`: the endpoint may have it.
    TryTimeout {
        sent: bool,
    },
    Timeout,
    BrokenRequestBody,
    ClientGone,
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
            Self::NoUpgrade => Cause::NoUpgrade,
            Self::TryTimeout { .. } => Cause::TryTimeout,
            Self::Timeout => Cause::Timeout,
            Self::BrokenRequestBody => Cause::BrokenRequestBody,
            Self::ClientGone => Cause::ClientGone,
        }
    }

    /// Can the endpoint not have processed anything of the request?
    pub fn is_unprocessed(&self) -> bool {
        match self {
            Self::NoEndpoint
            | Self::Overflow(_)
            | Self::Connect(_)
            | Self::Stale
            | Self::ResetBeforeRequest
            | Self::NoUpgrade
            | Self::TryTimeout { sent: false }
            | Self::Refused => true,
            Self::Reset { .. }
            | Self::Protocol
            | Self::TryTimeout { sent: true }
            | Self::Timeout
            | Self::BrokenRequestBody
            | Self::ClientGone => false,
        }
    }

    fn late(late: Late, sent: bool) -> Self {
        match late {
            Late::Request => Self::Timeout,
            Late::Try => Self::TryTimeout { sent },
        }
    }

    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Connect(error) => (!error.is_local()).then_some(Outcome::ConnectFailure),
            Self::ResetBeforeRequest | Self::Refused | Self::Reset { .. } | Self::Protocol => Some(Outcome::Reset),
            Self::TryTimeout { .. } | Self::Timeout => Some(Outcome::Timeout),
            Self::NoEndpoint
            | Self::Overflow(_)
            | Self::Stale
            | Self::NoUpgrade
            | Self::BrokenRequestBody
            | Self::ClientGone => None,
        }
    }
}

/// A response's head, and what is held until its body has ended.
pub struct Answer {
    pub lease: Lease,
    pub permit: Permit,
    /// The request's body, which may still be on its way.
    pub upload: Transfer,
}

/// What outlives an attempt that failed.
#[derive(Default)]
pub struct Progress {
    pub active: Option<ActiveRequest>,
    /// The endpoint has the request, is waited for to take a connection, or took none.
    at_endpoint: bool,
}

impl Progress {
    pub fn endpoint(&self) -> Option<&Arc<Endpoint>> {
        self.active.as_ref().map(|active| &active.endpoint)
    }

    /// Was the endpoint asked? Else the request only waited, or was over a limit.
    pub fn is_asked(&self) -> bool {
        self.at_endpoint
    }

    /// The request is at this endpoint, which can be another than the one chosen.
    fn is_at(&mut self, endpoint: &Arc<Endpoint>) {
        if !self.endpoint().is_some_and(|chosen| Arc::ptr_eq(chosen, endpoint)) {
            self.active = Some(endpoint.begin());
        }
    }

    fn unconnected(&mut self, cluster: &Cluster, error: AcquireError) -> Failure {
        match error {
            AcquireError::Connect { error, endpoint } => {
                self.is_at(&endpoint);
                self.at_endpoint = true;
                Failure::Connect(error)
            }
            AcquireError::PendingOverflow => {
                cluster.learned.series.overflow_pending_requests.increment(1);
                Failure::Overflow("pending_requests")
            }
            AcquireError::Occupied => Failure::Overflow("connections"),
        }
    }

    /// Tells outlier detection. A timeout counts only when it was the endpoint that took the time.
    pub fn observe_failure(&mut self, cluster: &Cluster, failure: &Failure) {
        let timeout = matches!(failure, Failure::TryTimeout { .. } | Failure::Timeout);
        if let Some(outcome) = failure.outcome().filter(|_| self.at_endpoint || !timeout) {
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
pub fn speaks_http2(cluster: &Cluster, head: &RequestHead) -> bool {
    spoken(&cluster.told, head, head.upgrade.is_some())
}

/// The same if the request asks for another protocol: a port that says HTTP/1.1, or nothing, is asked for that over HTTP/1.1,
/// which every endpoint understands.
pub fn upgrades_http2(cluster: &Cluster, head: &RequestHead) -> bool {
    spoken(&cluster.told, head, true)
}

fn spoken(told: &model::Cluster, head: &RequestHead, upgrade: bool) -> bool {
    let by_client = head.version == http::Version::HTTP_2 && !head.by_upgrade;
    let pool = &told.connection_pool;
    match (told.protocol, pool.h2_upgrade_policy) {
        _ if pool.use_client_protocol => by_client,
        (Protocol::Http2, _) => true,
        (Protocol::Http1 | Protocol::Detect, H2UpgradePolicy::Upgrade) => !upgrade,
        (Protocol::Detect, _) => by_client,
        _ => false,
    }
}

/// What is said on the connection. Where TLS lets the endpoint choose, and nothing says otherwise, it does.
fn offer(cluster: &Cluster, head: &RequestHead) -> Offer {
    let told = &*cluster.told;
    let pool = &told.connection_pool;
    let open = told.protocol != Protocol::Http2
        && pool.h2_upgrade_policy == H2UpgradePolicy::Default
        && !pool.use_client_protocol;
    if told.tls.is_some() && open {
        // What else may be spoken is asked for over HTTP/1.1, which every endpoint understands.
        return if head.upgrade.is_some() {
            Offer::Http1
        } else {
            Offer::Either
        };
    }
    if speaks_http2(cluster, head) {
        Offer::Http2
    } else {
        Offer::Http1
    }
}

/// What stays the same from one attempt to the next.
pub struct Attempt<'a> {
    pub cluster: &'a Cluster,
    pub head: &'a RequestHead,
    pub worker: usize,
    /// Whose request it is.
    pub client: Option<ClientAddresses>,
    /// Nobody sees it when it fails: there is another attempt, or nobody waits.
    pub may_fail: bool,
    /// Of the request's key.
    pub hash: Option<u64>,
}

/// Runs one attempt, within its limits. Dropping the future cancels it: the queue is left, the connection closed or the stream reset.
pub async fn attempt<D: Downstream>(
    of: &Attempt<'_>,
    body: &mut RequestBody,
    client: &mut D,
    retries: &Retries<'_>,
    progress: &mut Progress,
    limits: &mut Limits<'_>,
) -> Result<Answer, Failure> {
    let (mut lease, permit) = connection(of, client, retries, progress, limits).await?;
    progress.at_endpoint = true;
    let reused = lease.is_reused();
    let mut upload = Transfer::default();
    lease
        .send_head(of.head, body.length)
        .map_err(|error| failure(error, reused))?;
    exchange_heads(&mut lease, &mut upload, body, client, limits)
        .await?
        .map_err(|error| failure(error, reused))?;
    Ok(Answer { lease, permit, upload })
}

/// Sends the request, as much as is there of it, until the response's head has come. Whether a client that asked first may
/// send its body is for the endpoint to say.
async fn exchange_heads<D: Downstream>(
    lease: &mut Lease,
    upload: &mut Transfer,
    body: &mut RequestBody,
    client: &mut D,
    limits: &mut Limits<'_>,
) -> Result<Result<(), UpstreamError>, Failure> {
    let mut refused = false;
    let mut timer = pin!(None);
    poll_fn(|cx| {
        loop {
            if !upload.is_flushed() && !refused {
                match upload.poll_flushed(&mut Attempted { body, client }, lease, cx) {
                    Poll::Ready(Err(Broken::Source(error))) if error.is_departure() => {
                        return Poll::Ready(Err(Failure::ClientGone));
                    }
                    Poll::Ready(Err(Broken::Source(_))) => return Poll::Ready(Err(Failure::BrokenRequestBody)),
                    // The endpoint reads no further; it may have answered before it closed.
                    Poll::Ready(Err(Broken::Sink(_))) => refused = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            match lease.poll_response_head(cx) {
                Poll::Ready(result) => return Poll::Ready(Ok(result)),
                // Its word has to leave, and the body may come.
                Poll::Pending if lease.take_continue() => client.tell_to_continue(),
                Poll::Pending => break,
            }
        }
        if client.poll_gone(cx).is_ready() {
            return Poll::Ready(Err(Failure::ClientGone));
        }
        limits.follow(body, refused);
        limits
            .poll(timer.as_mut(), cx)
            .map(|late| Err(Failure::late(late, true)))
    })
    .await
}

/// An endpoint, a connection to it, and a place among the requests in flight. Requests that share a connection take their
/// place before they wait for it; those that have one each take it with the connection.
async fn connection<D: Downstream>(
    of: &Attempt<'_>,
    client: &mut D,
    retries: &Retries<'_>,
    progress: &mut Progress,
    limits: &mut Limits<'_>,
) -> Result<(Lease, Permit), Failure> {
    let cluster = of.cluster;
    let need = Need {
        offer: offer(cluster, of.head),
        binding: binding(of),
    };
    let active = choose_endpoint(of, retries).ok_or(Failure::NoEndpoint)?;
    let endpoint = Arc::clone(&active.endpoint);
    progress.active = Some(active);
    let early = if need.is_http2(&endpoint) {
        Some(request_permit(cluster)?)
    } else {
        None
    };
    let lease = match acquire_ready(&endpoint, &cluster.told, &need, of.worker) {
        Some(lease) => lease,
        // Boxed: what is rare should not make every request's state larger.
        None => match Box::pin(wait_for_connection(of, &endpoint, &need, client, limits)).await {
            Ok(acquired) => acquired?.map_err(|error| progress.unconnected(cluster, error))?,
            Err(Unconnected { late, unanswered }) => {
                progress.at_endpoint = unanswered;
                return Err(Failure::late(late, false));
            }
        },
    };
    progress.is_at(lease.endpoint());
    if let Some(active) = &progress.active {
        active.observe_acquired(cluster.told.outlier_detection.as_ref());
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

/// Which requests may share the connection that this one needs.
fn binding(of: &Attempt<'_>) -> Binding {
    let told = &of.cluster.told;
    Binding {
        client: of.client.filter(|_| told.proxy_protocol.is_some()),
        server_name: if told.asks_for_hosts_of_requests() {
            authority(of.head).ok().map(|authority| authority.host.into())
        } else {
            None
        },
    }
}

/// A request that would be seen to fail leaves a probe to others, if there are any, and takes another endpoint.
fn choose_endpoint(of: &Attempt<'_>, retries: &Retries<'_>) -> Option<ActiveRequest> {
    let cluster = of.cluster;
    let (tried, left) = (retries.avoided(of.hash.is_some()), retries.left());
    let choose = |tried: &[Arc<Endpoint>]| {
        let caller = Caller {
            tried,
            left,
            hash: of.hash,
            worker: of.worker,
            client: None,
        };
        choose(&cluster.told, &cluster.members, &caller, &mut rand::random::<u64>)
    };
    let mut chosen = choose(tried)?;
    if of.may_fail || !chosen.is_hasty_probe() {
        return Some(chosen);
    }
    let mut avoided = tried.to_vec();
    for _ in 0..MOST_PROBES_LEFT {
        avoided.push(Arc::clone(&chosen.endpoint));
        // Others may probe from here on.
        drop(chosen);
        chosen = choose(&avoided)?;
        if !chosen.is_hasty_probe() {
            break;
        }
    }
    Some(chosen)
}

/// There was no connection in time.
struct Unconnected {
    late: Late,
    /// Nobody answers there: at the connection limit there would be none that is being opened.
    unanswered: bool,
}

/// Within the limits, of which that of a try does not run in the queue. Inside, the error is that the client has gone.
async fn wait_for_connection<D: Downstream>(
    of: &Attempt<'_>,
    endpoint: &Arc<Endpoint>,
    need: &Need,
    client: &mut D,
    limits: &mut Limits<'_>,
) -> Result<Result<Result<Lease, AcquireError>, Failure>, Unconnected> {
    let Cluster {
        learned, told, members, ..
    } = of.cluster;
    let waits = AtomicBool::new(false);
    let acquired = acquire(learned, endpoint, told, members, need, of.worker, &waits);
    let mut acquired = pin!(unless_gone(client, acquired));
    let (mut timer, mut waited) = (pin!(None), false);
    poll_fn(|cx| {
        let acquired = acquired.as_mut().poll(cx);
        match (waited, waits.load(Ordering::Relaxed)) {
            (false, true) => limits.hold_try(),
            (true, false) => limits.begin_try(),
            _ => {}
        }
        waited = waits.load(Ordering::Relaxed);
        match acquired {
            Poll::Ready(acquired) => Poll::Ready(Ok(acquired.ok_or(Failure::ClientGone))),
            Poll::Pending => limits.poll(timer.as_mut(), cx).map(|late| {
                let unanswered = endpoint.is_opening();
                Err(Unconnected { late, unanswered })
            }),
        }
    })
    .await
}

fn request_permit(cluster: &Cluster) -> Result<Permit, Failure> {
    cluster.learned.requests.acquire().ok_or_else(|| {
        cluster.learned.series.overflow_requests.increment(1);
        Failure::Overflow("requests")
    })
}

fn failure(error: UpstreamError, reused: bool) -> Failure {
    match error {
        UpstreamError::Unsent if reused => Failure::Stale,
        UpstreamError::Unsent => Failure::ResetBeforeRequest,
        UpstreamError::Refused => Failure::Refused,
        UpstreamError::Reset { remote } => Failure::Reset { remote },
        UpstreamError::Protocol => Failure::Protocol,
        UpstreamError::NoUpgrade => Failure::NoUpgrade,
        UpstreamError::ClientCertificate { wanted } => {
            let reason = if wanted {
                CERTIFICATE_WANTED
            } else {
                "the endpoint refused the client certificate"
            };
            Failure::Connect(Arc::new(ConnectError::Tls {
                reason: reason.to_owned(),
                local: false,
            }))
        }
    }
}
