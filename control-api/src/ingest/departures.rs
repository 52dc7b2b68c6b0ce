//! Proxies that leave, and that are back, become a revision of their own: nothing is stored but its number.
//!
//! Called by `xds`. They take turns with transactions; whoever has the turn publishes for all that wait, so that many who
//! leave at once wait for one another no longer than one of them takes.

use std::sync::{Arc, Mutex};

use tokio::task::spawn_blocking;

use super::{Ingest, Inner, Refused, lock};
use crate::snapshot::{Node, Passage};

#[derive(Default)]
pub(super) struct Passages(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    queue: Vec<Passage>,
    /// Some that were in the queue are being published.
    publishing: bool,
}

impl Ingest {
    /// From the revision that is returned on, the endpoints of this proxy are told as DRAINING. `None`: it has none.
    /// Dropping the future changes nothing.
    pub async fn leave(&self, node: Node) -> Result<Option<u64>, Refused> {
        let (namespace, node_id) = (node.namespace.clone(), node.node_id.clone());
        self.pass(Passage::Leaves(node)).await?;
        Ok(self.held().world.leaving_since(&namespace, &node_id))
    }

    /// The proxy is there and does not leave. Dropping the future changes nothing.
    pub async fn stay(&self, node: Node) -> Result<(), Refused> {
        if self.may_be_leaving(&node) {
            self.pass(Passage::Returns(node)).await?;
        }
        Ok(())
    }

    fn may_be_leaving(&self, node: &Node) -> bool {
        let waiting = lock(&self.0.passages.0);
        let coming = waiting.publishing || !waiting.queue.is_empty();
        // Whoever publishes says so until it is held.
        coming
            || self
                .held()
                .world
                .leaving_since(&node.namespace, &node.node_id)
                .is_some()
    }

    /// Returns when it is in force.
    async fn pass(&self, passage: Passage) -> Result<(), Refused> {
        lock(&self.0.passages.0).queue.push(passage);
        let inner = Arc::clone(&self.0);
        let work = tokio::spawn(async move {
            let turn = Arc::clone(&inner.turn);
            let turn = turn.acquire_owned().await.map_err(|_| Refused::Stopped)?;
            if lock(&inner.passages.0).queue.is_empty() {
                return Ok(());
            }
            let publish = spawn_blocking(move || {
                let _turn = turn;
                inner.publish_passages()
            });
            publish.await.unwrap_or(Err(Refused::Failed))
        });
        work.await.unwrap_or(Err(Refused::Failed))
    }
}

impl Inner {
    fn publish_passages(&self) -> Result<(), Refused> {
        let passages = {
            let mut waiting = lock(&self.passages.0);
            waiting.publishing = true;
            std::mem::take(&mut waiting.queue)
        };
        let result = self.put_in_force(&passages);
        let mut waiting = lock(&self.passages.0);
        waiting.publishing = false;
        if result.is_err() {
            // The next one tries again, in the same order.
            let later = std::mem::replace(&mut waiting.queue, passages);
            waiting.queue.extend(later);
        }
        result
    }

    fn put_in_force(&self, passages: &[Passage]) -> Result<(), Refused> {
        let held = self.held();
        let base = held.world.revision();
        let Some(world) = held.world.passed(passages, base + 1) else {
            return Ok(());
        };
        // What is kept elsewhere has no number there: here it is the next one.
        if let Some(store) = &self.store {
            lock(store).commit(base, &[])?;
        }
        tracing::info!(
            revision = world.revision(),
            "proxies leave or are back: their endpoints change"
        );
        self.publish(held.documents, world);
        Ok(())
    }
}

#[cfg(test)]
#[path = "departures_tests.rs"]
mod tests;
