//! Asking for hosts when they are first called. Names come from clients, so what may be asked for at once is bounded, and
//! however many requests wait for a host, it is asked for once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// A name is not asked for again within this time.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// Sends wanted FQDNs to the control thread.
#[derive(Debug, Clone)]
pub struct Demand {
    wanted: mpsc::Sender<String>,
    asked: Arc<Mutex<HashMap<String, Instant>>>,
}

impl Demand {
    /// Names that may be on their way to the control thread at once, and be asked for within a second: enough for a
    /// gateway that calls every service of a large mesh as soon as it starts.
    pub const CAPACITY: usize = 4096;

    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (wanted, receiver) = mpsc::channel(Self::CAPACITY);
        let asked = Arc::default();
        (Self { wanted, asked }, receiver)
    }

    /// False when too much is being asked for; the caller answers at once.
    pub fn want(&self, names: Vec<String>) -> bool {
        self.want_at(Instant::now(), names)
    }

    fn want_at(&self, now: Instant, names: Vec<String>) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            if asked
                .get(&name)
                .is_some_and(|at| now.saturating_duration_since(*at) < REPEAT_AFTER)
            {
                continue;
            }
            if asked.len() >= Self::CAPACITY {
                asked.retain(|_, at| now.saturating_duration_since(*at) < REPEAT_AFTER);
            }
            if asked.len() >= Self::CAPACITY || self.wanted.try_send(name.clone()).is_err() {
                return false;
            }
            asked.insert(name, now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_asked_for_once_however_many_requests_wait_for_it() {
        let (demand, mut wanted) = Demand::new();
        for _ in 0..1000 {
            assert!(demand.want(vec!["a".into(), "b".into()]));
        }
        let asked: Vec<_> = std::iter::from_fn(|| wanted.try_recv().ok()).collect();
        assert_eq!(asked, ["a", "b"]);
    }

    #[test]
    fn what_may_be_asked_for_at_once_is_bounded() {
        let (demand, mut wanted) = Demand::new();
        let now = Instant::now();
        let granted = (0..10_000).filter(|n| demand.want_at(now, vec![n.to_string()])).count();
        assert_eq!(granted, Demand::CAPACITY);
        // Although all of it was passed on, no more is asked for within the same second.
        while wanted.try_recv().is_ok() {}
        assert!(!demand.want_at(now, vec!["one more".into()]));
        assert!(demand.want_at(now + REPEAT_AFTER, vec!["one more".into()]));
    }
}
