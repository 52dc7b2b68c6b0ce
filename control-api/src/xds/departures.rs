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
    /// The stream of a proxy that leaves has ended; completes when nothing of it is left, which takes a while.
    fn forget(&self, node: Node, is_leaving: impl Fn() -> bool + Send) -> impl Future<Output = ()> + Send;
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

    async fn forget(&self, node: Node, is_leaving: impl Fn() -> bool + Send) {
        let name = node.node_id.clone();
        if let Err(error) = Ingest::forget(self, node, is_leaving).await {
            tracing::debug!(%error, node = name, "a proxy that left is not forgotten");
        }
    }
}

/// Marks the proxy's endpoints and waits, for a while, until those who call them know: what the proxy is told then.
/// Where another proxy of its name stays (`has_namesake`), the endpoints are that one's, and nobody is told. Dropping the
/// future leaves the mark.
pub(super) async fn depart(
    departures: impl Departures,
    status: Arc<Status>,
    node: Node,
    has_namesake: bool,
) -> Encoded {
    let identity = Identity {
        namespace: node.namespace.clone(),
        node_id: node.node_id.clone(),
    };
    let mut unanswered = Vec::new();
    let since = if has_namesake {
        None
    } else {
        departures.leave(node).await
    };
    if let Some(revision) = since {
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

/// To be called when the stream of a proxy that leaves has ended.
pub(super) async fn forget(departures: impl Departures, status: Arc<Status>, node: Node) {
    let identity = Identity {
        namespace: node.namespace.clone(),
        node_id: node.node_id.clone(),
    };
    departures.forget(node, || status.is_leaving(&identity)).await;
}
