//! Whether the names of a cluster's endpoints are resolved: said by the publisher, which knows what DNS answered, and waited
//! for by the first requests.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Resolved {
    /// All of them, or there are none.
    #[default]
    Known,
    /// The first lookup of one has not ended, and there is no endpoint yet.
    Pending,
    /// There is no endpoint, because of this.
    Failed(Arc<str>),
}

/// Of one cluster.
#[derive(Debug, Default)]
pub struct Resolution {
    state: watch::Sender<Resolved>,
}

impl Resolution {
    /// Whoever waits goes on: the endpoints are to be there before this.
    pub fn set(&self, resolved: Resolved) {
        self.state.send_if_modified(|state| {
            let changes = *state != resolved;
            *state = resolved;
            changes
        });
    }

    /// Until it is no longer pending, at most for `limit`. Dropping the future changes nothing.
    pub async fn settled(&self, limit: Duration) {
        let mut state = self.state.subscribe();
        let settled = state.wait_for(|state| *state != Resolved::Pending);
        // Too late, or nobody will ever say it: the caller looks.
        let _ = tokio::time::timeout(limit, settled).await;
    }

    /// Why there is no endpoint, for people; `None`: for other reasons.
    pub fn failure(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            Resolved::Known => None,
            Resolved::Pending => Some("DNS has not answered yet".into()),
            Resolved::Failed(reason) => Some(Arc::clone(reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_until_a_name_is_resolved_and_no_longer_than_its_limit() {
        let resolution = Arc::new(Resolution::default());
        let started = tokio::time::Instant::now();
        assert_eq!(resolution.failure(), None);
        resolution.settled(LIMIT).await;
        assert_eq!(started.elapsed(), Duration::ZERO);

        resolution.set(Resolved::Pending);
        assert!(resolution.failure().is_some());
        resolution.settled(LIMIT).await;
        assert_eq!(started.elapsed(), LIMIT);

        let waiting = tokio::spawn({
            let resolution = Arc::clone(&resolution);
            async move { resolution.settled(LIMIT).await }
        });
        tokio::time::sleep(LIMIT / 4).await;
        resolution.set(Resolved::Failed("NXDOMAIN".into()));
        waiting.await.unwrap();
        assert_eq!(started.elapsed(), LIMIT + LIMIT / 4);
        assert_eq!(resolution.failure().as_deref(), Some("NXDOMAIN"));
        resolution.set(Resolved::Known);
        assert_eq!(resolution.failure(), None);
    }
}
