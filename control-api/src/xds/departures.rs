//! What a session's stream asks of whoever publishes worlds when its proxy leaves, or is back. A trait, so that the
//! protocol is tested without documents. Called by `server`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::ingest::Ingest;
use crate::snapshot::{self, Encoded, Node};
use crate::status::{Identity, State, Status};

/// How long a proxy that leaves waits for its callers: they answer within milliseconds, or are stuck.
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Publishes that proxies leave.
pub trait Departures: Clone + Send + Sync + 'static {
    /// The revision from which on all are told that the endpoints of this proxy are leaving; `None`: it has none.
    fn leave(&self, node: Node) -> impl Future<Output = Option<u64>> + Send;
    /// The proxy is there and does not leave.
    fn stay(&self, node: Node) -> impl Future<Output = ()> + Send;
}

impl Departures for Ingest {
    async fn leave(&self, node: Node) -> Option<u64> {
        let name = node.node_id.clone();
        let since = Ingest::leave(self, node).await;
        since.unwrap_or_else(|error| {
            tracing::warn!(%error, node = name, "a proxy leaves and nobody is told");
            None
        })
    }

    async fn stay(&self, node: Node) {
        let name = node.node_id.clone();
        if let Err(error) = Ingest::stay(self, node).await {
            tracing::warn!(%error, node = name, "a proxy is back and nobody is told");
        }
    }
}

/// Marks the proxy's endpoints and waits, for a while, until those who call them know: what the proxy is told then.
/// Dropping the future leaves the mark.
pub(super) async fn depart(departures: impl Departures, status: Arc<Status>, node: Node) -> Encoded {
    let identity = Identity {
        namespace: node.namespace.clone(),
        node_id: node.node_id.clone(),
    };
    let mut unanswered = Vec::new();
    if let Some(revision) = departures.leave(node).await {
        let found = status.wait_for_others(revision, LONGEST_WAIT, Some(&identity)).await;
        let missing = found.into_iter().filter(|one| one.state != State::Acknowledged);
        unanswered.extend(missing.map(|one| format!("{}/{}", one.namespace, one.node_id)));
    }
    tracing::info!(
        node = identity.node_id,
        namespace = identity.namespace,
        unanswered = unanswered.join(" "),
        "a proxy leaves"
    );
    snapshot::departure(&identity.namespace, &identity.node_id, unanswered)
}
