//! A connection to an endpoint for bytes that nobody looks at: TCP, and tunnels to TCP ports. It is not pooled.
//!
//! Nothing was sent before the connection stands, so another endpoint is tried when one cannot be connected to.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tsunagi_proto::model;

use super::connection::OpenConnection;
use super::stream::UpstreamStream;
use super::{
    ActiveRequest, Binding, Caller, Cluster, ConnectionPermit, Endpoint, LateOutcome, Members, Need, Outcome, choose,
};
use crate::codec::{Lifetime, Speaker};
use crate::net::ConnectError;
use crate::tls::Offer;

/// The first endpoint and two more.
const MAX_ATTEMPTS: u32 = 3;

#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    #[error("no endpoint is healthy")]
    NoEndpoint,
    #[error("the connection limit is reached")]
    Overflow,
    #[error("{source}")]
    Connect {
        source: ConnectError,
        /// The endpoint that was tried last.
        endpoint: Arc<Endpoint>,
        attempts: u32,
    },
}

/// Counted as a connection and as a request of its endpoint until it is dropped.
#[derive(Debug)]
pub struct PlainConnection {
    pub stream: UpstreamStream,
    pub attempts: u32,
    lifetime: Box<Lifetime>,
    active: ActiveRequest,
    open: OpenConnection,
}

impl PlainConnection {
    /// How long it is kept.
    pub fn lifetime(&self) -> Box<Lifetime> {
        self.lifetime.clone()
    }

    /// Tells outlier detection how it ended: an endpoint that takes connections and resets each before it has said anything
    /// has nobody behind it. `said`: it has said something.
    pub fn observe_end(&self, said: bool, reset: bool) {
        let outcome = match (said, reset) {
            (true, _) => LateOutcome::Whole,
            (false, true) => LateOutcome::BrokenOff,
            (false, false) => return,
        };
        let cluster = self.open.cluster();
        let (policy, _) = cluster.told();
        if let Some(detection) = policy.outlier_detection.as_ref().filter(|it| !it.as_envoy) {
            let began = Outcome::Connected;
            self.active.observe_late(cluster, detection, began, outcome);
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.active.endpoint
    }
}

impl Speaker for PlainConnection {
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_speaks(cx)
    }
}

/// Connects to an endpoint of the cluster, for a caller who has tried none. Dropping the future closes the half-open socket.
pub async fn open_plain(
    cluster: &Arc<Cluster>,
    policy: &model::Cluster,
    members: &Members,
    caller: Caller<'_>,
) -> Result<PlainConnection, PlainError> {
    let Some(permit) = ConnectionPermit::try_open(cluster) else {
        cluster.series.overflow_connections.increment(1);
        return Err(PlainError::Overflow);
    };
    let detection = policy.outlier_detection.as_ref();
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut last = None;
    for attempts in 1..=MAX_ATTEMPTS {
        let caller = Caller {
            tried: &tried,
            ..caller
        };
        let Some(mut active) = choose(policy, members, &caller, &mut rand::random::<u64>) else {
            break;
        };
        if tried.iter().any(|endpoint| Arc::ptr_eq(endpoint, &active.endpoint)) {
            break;
        }
        let pool = &policy.connection_pool;
        let need = Need {
            offer: Offer::Bytes,
            binding: Binding::of_client(caller.client),
        };
        let begun = cluster
            .beginning
            .begin(&active.endpoint, pool, &need, &cluster.series)
            .await;
        match begun {
            Ok(begun) => {
                active.observe(cluster, detection, Outcome::Connected);
                return Ok(PlainConnection {
                    stream: begun.stream,
                    attempts,
                    lifetime: Box::new(Lifetime {
                        idle: pool.tcp_idle_timeout,
                        ends_at: Instant::now().checked_add(pool.max_connection_duration),
                    }),
                    open: OpenConnection::new(&active.endpoint, permit, None),
                    active,
                });
            }
            Err(source) => {
                if !source.is_local() {
                    active.observe(cluster, detection, Outcome::ConnectFailure);
                }
                tried.push(Arc::clone(&active.endpoint));
                last = Some(PlainError::Connect {
                    source,
                    endpoint: Arc::clone(&active.endpoint),
                    attempts,
                });
            }
        }
    }
    Err(last.unwrap_or(PlainError::NoEndpoint))
}

#[cfg(test)]
#[path = "plain_tests.rs"]
mod tests;
