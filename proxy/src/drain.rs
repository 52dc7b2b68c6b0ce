//! The end of a proxy's life, without failing a request: who is told, and who is waited for.
//!
//! `app` starts it on SIGTERM, the admin room on `POST /drain` and `POST /quitquitquit`. Listeners and connections hold
//! a [`DrainWatch`]: listeners stop accepting, HTTP/1 connections finish the request at hand, HTTP/2 ones say GOAWAY.
//! Draining is never taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far the end has come; only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    Draining,
    /// Draining, and the process exits when done.
    Quitting,
}

/// The sending side. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Drain {
    phase: watch::Sender<Phase>,
    connections: Arc<Connections>,
}

/// The receiving side, for a listener or a connection.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    phase: watch::Receiver<Phase>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    live: AtomicUsize,
    none_left: Notify,
}

/// A live connection: [`Drain::drained`] waits until the last of these is dropped.
#[derive(Debug)]
#[must_use = "the connection is waited for while this lives"]
pub struct LiveConnectionGuard {
    connections: Arc<Connections>,
}

impl Default for Drain {
    fn default() -> Self {
        Drain::new()
    }
}

impl Drain {
    pub fn new() -> Drain {
        Drain {
            phase: watch::Sender::new(Phase::Serving),
            connections: Arc::default(),
        }
    }

    pub fn watch(&self) -> DrainWatch {
        DrainWatch {
            phase: self.phase.subscribe(),
            connections: Arc::clone(&self.connections),
        }
    }

    /// Starts draining. The process goes on until it is told to quit.
    pub fn signal(&self) {
        self.rise(Phase::Draining);
    }

    /// Starts draining, if that has not begun, and asks the process to exit when done.
    pub fn quit(&self) {
        self.rise(Phase::Quitting);
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Connections that live now.
    pub fn live_connections(&self) -> usize {
        self.connections.live.load(Ordering::SeqCst)
    }

    /// Returns when somebody has called [`Drain::quit`]. Dropping this changes nothing.
    pub async fn quitting(&self) {
        reach(&mut self.phase.subscribe(), Phase::Quitting).await;
    }

    /// Waits until no connection lives, at most for `limit`; says how many are left. Dropping this changes nothing.
    pub async fn drained(&self, limit: Duration) -> usize {
        // The wait may fail only by running out of time, and what is left says so.
        let _ = tokio::time::timeout(limit, self.connections.emptied()).await;
        self.live_connections()
    }

    fn rise(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let rises = to > *phase;
            if rises {
                *phase = to;
            }
            rises
        });
    }
}

impl DrainWatch {
    /// Returns once draining has begun, at once if it has. Dropping this changes nothing.
    pub async fn draining(&mut self) {
        reach(&mut self.phase, Phase::Draining).await;
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Counts a connection for as long as the guard lives.
    pub fn connection(&self) -> LiveConnectionGuard {
        self.connections.live.fetch_add(1, Ordering::SeqCst);
        LiveConnectionGuard {
            connections: Arc::clone(&self.connections),
        }
    }
}

impl Connections {
    async fn emptied(&self) {
        loop {
            // Registered before the count is read: a guard dropped in between still wakes this.
            let none_left = self.none_left.notified();
            if self.live.load(Ordering::SeqCst) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

impl Drop for LiveConnectionGuard {
    fn drop(&mut self) {
        if self.connections.live.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.connections.none_left.notify_waiters();
        }
    }
}

async fn reach(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        // The sender is gone without a word: nobody will ever ask for it.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test]
    async fn every_watch_learns_of_the_drain_also_one_made_later() {
        let drain = Drain::new();
        let mut early = drain.watch();
        assert!(!early.is_draining());
        drain.signal();
        early.draining().await;
        let mut late = drain.watch();
        late.draining().await;
        assert!(late.is_draining() && drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn drained_waits_for_the_last_connection() {
        let drain = Drain::new();
        let (one, two) = (drain.watch().connection(), drain.watch().connection());
        drain.signal();
        let began = Instant::now();
        let ending = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(one);
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(two);
        };
        let (left, ()) = tokio::join!(drain.drained(Duration::from_secs(30)), ending);
        assert_eq!(left, 0);
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn drained_gives_up_after_its_limit_and_says_what_is_left() {
        let drain = Drain::new();
        let _stuck = drain.watch().connection();
        let began = Instant::now();
        assert_eq!(drain.drained(Duration::from_secs(30)).await, 1);
        assert_eq!(began.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn draining_alone_does_not_quit_and_a_quit_is_not_taken_back() {
        let drain = Drain::new();
        drain.signal();
        assert!(
            tokio::time::timeout(Duration::from_secs(1), drain.quitting())
                .await
                .is_err()
        );
        drain.quit();
        drain.signal();
        drain.quitting().await;
        assert!(drain.is_draining());
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_whose_drain_is_gone_waits_instead_of_draining() {
        let drain = Drain::new();
        let mut watch = drain.watch();
        drop(drain);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), watch.draining())
                .await
                .is_err()
        );
    }
}
