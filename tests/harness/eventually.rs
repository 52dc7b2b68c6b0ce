//! Waiting for a condition, never for a clock. Called by every test that watches something change.

use std::future::Future;
use std::time::{Duration, Instant};

/// More than anything that works takes on a busy machine with two cores and debug builds.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Asks again until the answer is `Some`; fails the test with `what` once `limit` is over.
pub async fn eventually<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The future's result, or a failed test that names what hung.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
