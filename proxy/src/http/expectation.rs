//! `Expect: 100-continue` (RFC 9110, 10.1.1): whether a client may send its body is for the endpoint to say. One that knows
//! nothing of this says nothing: after a while the client is told to go on, as if it had waited long enough itself.
//!
//! Kept by each client's side of a request, which has the words for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// What clients wait that do not wait for ever; curl does.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub struct Expectation {
    /// The client has not been told to send its body, and has not sent any of it.
    waits: bool,
    /// Runs from when the endpoint has the request's head and could say something.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Expectation {
    pub fn begin(&mut self, waits: bool) {
        *self = Self { waits, patience: None };
    }

    /// Nothing is to be said any more: the body has begun, or the answer has. Did the client wait?
    pub fn end(&mut self) -> bool {
        self.patience = None;
        std::mem::take(&mut self.waits)
    }

    /// Asked while there is nothing of the body. Ready: the client has waited for long enough.
    pub fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waits {
            return Poll::Pending;
        }
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        patience.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{Instant, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_client_that_still_waits_has_patience_and_it_ends() {
        let started = Instant::now();
        let mut expectation = Expectation::default();
        expectation.begin(true);
        poll_fn(|cx| expectation.poll_patience(cx)).await;
        assert_eq!(started.elapsed(), PATIENCE);
        assert!(expectation.end() && !expectation.end());
        let never = timeout(Duration::from_secs(60), poll_fn(|cx| expectation.poll_patience(cx)));
        assert!(never.await.is_err());
    }
}
