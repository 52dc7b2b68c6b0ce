//! Where updates go: the publisher of snapshots; in tests and benchmarks, whatever they want to see.

use std::time::Duration;

use crate::snapshot::{Publisher, SeenName, Update};
use crate::upstream::SeenEndpoint;

/// How long a host is kept that nobody calls.
const IDLE_AFTER: Duration = Duration::from_secs(3600);

/// What the control plane takes in one report.
const MOST_ENDPOINTS: usize = 1_000;
const MOST_NAMES: usize = 500;

/// What people ask the control plane about endpoints.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Those that get no requests, or not their share.
    pub endpoints: Vec<SeenEndpoint>,
    pub names: Vec<SeenName>,
    /// There are so many more.
    pub omitted: usize,
}

pub trait Sink: Send {
    /// When this returns, the update is in force: only then is it acknowledged.
    fn apply(&mut self, update: Update);
    /// There is a config to serve by, as new as can be had: from the control plane, or remembered and the control plane does
    /// not answer. Called at least once then, perhaps more often.
    fn settled(&mut self) {}
    /// These hosts are no longer subscribed to: neither known nor known not to exist.
    fn forget(&mut self, fqdns: &[String]);
    /// Hosts whose subscription can be given up because nobody calls them; asked once a minute.
    fn idle(&mut self) -> Vec<String>;
    /// Names whose subscription is to be given up because there are too many of their kind; asked after each update.
    fn surplus(&mut self) -> Vec<String>;
    /// Asked once a second.
    fn seen(&self) -> Seen {
        Seen::default()
    }
}

impl Sink for Publisher {
    fn apply(&mut self, update: Update) {
        Publisher::apply(self, update);
    }

    fn forget(&mut self, fqdns: &[String]) {
        Publisher::forget(self, fqdns);
    }

    fn idle(&mut self) -> Vec<String> {
        self.idle_hosts(IDLE_AFTER.as_secs())
    }

    fn surplus(&mut self) -> Vec<String> {
        self.surplus_aliases()
    }

    fn seen(&self) -> Seen {
        let (endpoints, more) = self.registry().seen_endpoints(MOST_ENDPOINTS);
        let (names, more_names) = self.seen_names(MOST_NAMES);
        Seen {
            endpoints,
            names,
            omitted: more + more_names,
        }
    }
}
