//! Copies of a request to other destinations, fired and forgotten: within the limits of the destination's cluster and seen
//! by its outlier detection, never repeated, never waited for; what they answer is read and dropped.
//!
//! Source: Envoy's router and shadow writer: the copy is of the request as it leaves, its host with `-shadow`. Ours on
//! purpose: a copy takes no longer than the rule's timeout, without one a minute from its last byte on, and there are at
//! most 1024 at once, of which one cluster has at most 256.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::HeaderValue;
use tsunagi_proto::decide::shadow_authority;
use tsunagi_proto::model::{RetryPolicy, draws};

use super::attempts::accept;
use super::deadline::{Deadline, Limits};
use super::forward::{Attempt, Failure, Progress, attempt};
use super::hash_key::hash_request;
use super::mirror_body::MirrorBody;
use super::outcome::{observe_end, of_head};
use super::request_body::RequestBody;
use super::response::{End, relay};
use super::retry::Retries;
use super::route::Route;
use crate::codec::{Known, RequestHead};
use crate::limits::{Limit, Permit};
use crate::snapshot::Cluster;
use crate::telemetry::Mirrored;

const MAX_AT_ONCE: u32 = 1024;
const TIME: Duration = Duration::from_secs(60);

static AT_ONCE: LazyLock<Arc<Limit>> = LazyLock::new(|| Limit::new(MAX_AT_ONCE));
static NO_RETRIES: LazyLock<RetryPolicy> = LazyLock::new(|| RetryPolicy {
    attempts: 0,
    ..RetryPolicy::default()
});

/// Among all copies, and among those to one cluster: one that hangs does not take the others' places.
#[derive(Debug)]
struct Place {
    _of_cluster: Permit,
    _of_process: Permit,
}

impl Place {
    fn take(of_cluster: &Arc<Limit>, of_process: &Arc<Limit>) -> Option<Self> {
        Some(Self {
            _of_cluster: of_cluster.acquire()?,
            _of_process: of_process.acquire()?,
        })
    }
}

/// One copy on its way.
struct Copy {
    cluster: Arc<Cluster>,
    head: RequestHead,
    body: RequestBody,
    client: MirrorBody,
    timeout: Duration,
    grpc: bool,
    worker: usize,
    /// Of its key.
    hash: Option<u64>,
    _place: Place,
}

/// Sends a copy to every mirror that is drawn. `head` is the request as it leaves, `remote` its client.
pub fn mirror(
    route: &Route<'_>,
    head: &RequestHead,
    body: &mut RequestBody,
    grpc: bool,
    remote: Option<SocketAddr>,
    worker: usize,
) {
    for (wanted, target) in route.mirrors() {
        if !draws(wanted.per_million, rand::random()) {
            continue;
        }
        let Some(cluster) = &target.cluster else {
            target.series.count(Mirrored::NoCluster);
            continue;
        };
        let Some(place) = Place::take(&cluster.learned.copies, &AT_ONCE) else {
            target.series.count(Mirrored::Overflow);
            continue;
        };
        let copy = Copy {
            cluster: Arc::clone(cluster),
            head: addressed(head),
            body: RequestBody::new(body.length, true),
            client: body.copied(),
            timeout: route.timeout().unwrap_or(TIME),
            grpc,
            worker,
            hash: hash_request(cluster, head, remote),
            _place: place,
        };
        let series = Arc::clone(&target.series);
        tokio::spawn(Box::pin(async move { series.count(copy.run().await) }));
    }
}

/// A copy of the head, which says so.
fn addressed(head: &RequestHead) -> RequestHead {
    let mut copy = head.clone();
    // Whether the body comes is for the request's own endpoint to say.
    copy.headers.remove_known(Known::Expect);
    let host = head
        .headers
        .known(Known::Host)
        .and_then(|host| str::from_utf8(host).ok());
    let authority = head.authority().or(host).unwrap_or_default();
    if let Ok(authority) = HeaderValue::try_from(shadow_authority(authority)) {
        copy.set_authority(&authority);
    }
    copy
}

impl Copy {
    async fn run(mut self) -> Mirrored {
        let mut retries = Retries::new(&NO_RETRIES, &self.cluster.learned, &self.head.method);
        let now = std::time::Instant::now();
        let mut deadline = Deadline::new(Some(self.timeout), &self.head.headers, self.grpc, now);
        loop {
            let mut progress = Progress::default();
            let of = Attempt {
                cluster: &self.cluster,
                head: &self.head,
                worker: self.worker,
                // Nobody waits for what it answers.
                may_fail: true,
                hash: self.hash,
            };
            let mut limits = Limits::new(&mut deadline, None);
            let tried = attempt(
                &of,
                &mut self.body,
                &mut self.client,
                &retries,
                &mut progress,
                &mut limits,
            );
            match tried.await {
                Ok(answer) => {
                    let began = of_head(answer.lease.response(), self.grpc);
                    progress.observe(&self.cluster, began);
                    let Some(mut response) = accept(answer, progress, began, deadline) else {
                        return Mirrored::Failed;
                    };
                    let Ok(length) = response.length(&self.head.method) else {
                        return Mirrored::Failed;
                    };
                    let (end, _) = relay(&mut response, &mut self.body, length, &mut self.client).await;
                    observe_end(&response, &self.cluster, end);
                    response.release(end);
                    return if end == End::Whole {
                        Mirrored::Answered
                    } else {
                        Mirrored::Failed
                    };
                }
                Err(failure) => {
                    progress.observe_failure(&self.cluster, &failure);
                    // Only a connection that had closed before anything was sent is no attempt.
                    if !retries.after_failure(&failure, progress.endpoint(), self.body.is_repeatable()) {
                        return result(&failure);
                    }
                    self.body.rewind();
                }
            }
        }
    }
}

fn result(failure: &Failure) -> Mirrored {
    match failure {
        Failure::Overflow(_) => Mirrored::Overflow,
        Failure::BrokenRequestBody | Failure::ClientGone => Mirrored::Dropped,
        _ => Mirrored::Failed,
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;
    use crate::codec::parse_request;

    #[test]
    fn a_copy_says_so_in_its_host_and_the_request_does_not() {
        let mut head = RequestHead::default();
        parse_request(b"GET /a HTTP/1.1\r\nHost: users:81\r\nX-A: b\r\n\r\n", &mut head).unwrap();
        let copy = addressed(&head);
        assert_eq!(copy.headers.get(&header::HOST), Some(&b"users-shadow:81"[..]));
        assert_eq!(head.headers.get(&header::HOST), Some(&b"users:81"[..]));
        let request = http::Request::get("http://users/a").body(()).unwrap();
        let copy = addressed(&RequestHead::from_http2(request.into_parts().0));
        assert_eq!(copy.authority(), Some("users-shadow"));
    }
}
