//! The end of a proxy's life, without failing a request: who is told, who is waited for, and how far it has come.
//!
//! It has two sides, because callers and the application are done with a proxy at different times: inbound goes
//! serving -> leaving (the control plane tells callers; all is served) -> draining (requests in flight finish, idle
//! connections end, who comes late is served) -> closing (no more comes in) -> over (what is left is cut off). Outbound serves until the process is told to
//! quit and the application has exited; outside of a pod nobody can tell when that is, and it closes when inbound drains.
//!
//! `app` moves it on; the admin room and signals start it; `xds` says when callers were told; listeners and connections
//! hold a [`DrainWatch`] of their side. Nothing of it is ever taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How far a side has come; only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// All is served, and new clients should look for somebody else.
    Leaving,
    /// Connections end as soon as nothing is in flight on them; new ones are still served.
    Draining,
    /// Nobody else is let in.
    Closing,
    /// There is no more time: what has not ended is cut off.
    Over,
}

/// Whether those who call this proxy know that it leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// All of them, but for these (`namespace/node id`), who have not answered in time.
    Told { unanswered: Vec<String> },
    /// Nobody can tell them.
    NotTold { reason: String },
}

/// The end of one side: of inbound, of outbound, or of an operator's door. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Side {
    phase: watch::Sender<Phase>,
    connections: Arc<Connections>,
}

/// The end of the whole proxy. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Drain {
    inbound: Side,
    outbound: Side,
    callers: watch::Sender<Option<Callers>>,
    quitting: watch::Sender<bool>,
    in_pod: Arc<AtomicBool>,
}

/// The receiving side, for a listener or a connection.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    phase: watch::Receiver<Phase>,
    connections: Arc<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    all: Counts,
    /// Those among them that came before their side was draining.
    early: Counts,
    quiet: Notify,
}

/// In one number, so that both are read at once: connections below, silent ones among them above.
#[derive(Debug, Default)]
struct Counts(AtomicU64);

/// For the first bytes of a connection that was there when the last door closed.
const LAST_MOMENT: Duration = Duration::from_millis(50);

const LIVE: u64 = 1;
const SILENT: u64 = 1 << 32;

/// A live connection: [`Side::drained`] waits until the last of these is dropped.
#[derive(Debug)]
#[must_use = "the connection is waited for while this lives"]
pub struct LiveConnectionGuard(Counted);

/// A live connection that has not said anything yet: nothing is lost when it ends.
#[derive(Debug)]
#[must_use = "the connection counts as silent while this lives"]
pub struct SilentGuard(Counted);

/// Where a guard counts.
#[derive(Debug)]
struct Counted {
    connections: Arc<Connections>,
    early: bool,
}

impl Default for Side {
    fn default() -> Self {
        Side::new()
    }
}

impl Side {
    pub fn new() -> Side {
        Side {
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

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to a later phase; an earlier one changes nothing.
    pub fn rise(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let rises = to > *phase;
            if rises {
                *phase = to;
            }
            rises
        });
    }

    /// Connections that live now.
    pub fn live_connections(&self) -> usize {
        self.connections.all.live()
    }

    /// Those of them that have said something.
    pub fn busy_connections(&self) -> usize {
        self.connections.all.busy()
    }

    /// Waits until no connection lives, at most for `limit`; says how many are left. Dropping this changes nothing.
    pub async fn drained(&self, limit: Duration) -> usize {
        // The wait may fail only by running out of time, and what is left says so.
        let _ = tokio::time::timeout(limit, self.connections.until(|it| it.all.live() == 0)).await;
        self.live_connections()
    }

    /// Waits until no connection is busy. Dropping this changes nothing.
    pub async fn quiet(&self) {
        self.connections.until(|it| it.all.busy() == 0).await;
    }

    /// Waits until none is busy of those that came before this side was draining: those who keep coming are not waited
    /// for, they would have no end. Dropping this changes nothing.
    pub async fn early_ones_quiet(&self) {
        self.connections.until(|it| it.early.busy() == 0).await;
    }
}

impl Default for Drain {
    fn default() -> Self {
        Drain::new()
    }
}

impl Drain {
    pub fn new() -> Drain {
        Drain {
            inbound: Side::new(),
            outbound: Side::new(),
            callers: watch::Sender::new(None),
            quitting: watch::Sender::new(false),
            in_pod: Arc::default(),
        }
    }

    pub fn inbound(&self) -> &Side {
        &self.inbound
    }

    pub fn outbound(&self) -> &Side {
        &self.outbound
    }

    /// Somebody else tells the proxy's traffic where to go: it shares a pod with an application that it can see.
    pub fn set_in_pod(&self) {
        // Mostly it is known already, and then nothing is written.
        if !self.is_in_pod() {
            self.in_pod.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_in_pod(&self) -> bool {
        self.in_pod.load(Ordering::Relaxed)
    }

    /// Starts to leave. The process goes on until it is told to quit.
    pub fn leave(&self) {
        self.inbound.rise(Phase::Leaving);
    }

    pub fn is_leaving(&self) -> bool {
        self.inbound.phase() >= Phase::Leaving
    }

    /// Returns when somebody has called [`Drain::leave`]. Dropping this changes nothing.
    pub async fn leaving(&self) {
        reach(&mut self.inbound.phase.subscribe(), Phase::Leaving).await;
    }

    /// Starts to leave, if that has not begun, and asks the process to exit when done.
    pub fn quit(&self) {
        self.leave();
        self.quitting.send_replace(true);
    }

    /// Returns when somebody has called [`Drain::quit`]. Dropping this changes nothing.
    pub async fn quitting(&self) {
        // It fails when the sender is gone, and that is here.
        let _ = self.quitting.subscribe().wait_for(|quitting| *quitting).await;
    }

    /// The answer to a departure; the first one counts.
    pub fn tell(&self, callers: Callers) {
        self.callers.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(callers);
            }
            first
        });
    }

    /// What is known of them now.
    pub fn callers_now(&self) -> Option<Callers> {
        self.callers.borrow().clone()
    }

    /// Returns when there is an answer. Dropping this changes nothing.
    pub async fn callers(&self) -> Callers {
        let mut callers = self.callers.subscribe();
        let known = callers.wait_for(Option::is_some).await;
        let known = known.ok().and_then(|known| known.clone());
        match known {
            Some(known) => known,
            // The sender is here, and what was waited for is there.
            None => std::future::pending().await,
        }
    }

    /// Callers know, or have had their time.
    pub fn start_draining(&self) {
        self.inbound.rise(Phase::Draining);
    }

    /// The application has exited, or nobody can tell.
    pub fn close_outbound(&self) {
        self.outbound.rise(Phase::Closing);
    }

    /// Returns when inbound drains. Dropping this changes nothing.
    pub async fn draining(&self) {
        reach(&mut self.inbound.phase.subscribe(), Phase::Draining).await;
    }

    /// Everything that was waited for is over.
    pub fn close(&self) {
        self.inbound.rise(Phase::Closing);
        self.close_outbound();
    }

    /// There is no more time, on either side.
    pub fn cut_off(&self) {
        self.inbound.rise(Phase::Over);
        self.outbound.rise(Phase::Over);
    }

    pub fn is_over(&self) -> bool {
        self.inbound.phase() >= Phase::Over
    }

    /// Connections that live now, on both sides.
    pub fn live_connections(&self) -> usize {
        self.inbound.live_connections() + self.outbound.live_connections()
    }

    /// In one word, for the operator: `drained` when the last inbound request has finished.
    pub fn stage(&self) -> &'static str {
        match self.inbound.phase() {
            Phase::Serving => "serving",
            Phase::Leaving => "leaving",
            Phase::Draining | Phase::Closing | Phase::Over if self.inbound.busy_connections() > 0 => "draining",
            Phase::Draining | Phase::Closing | Phase::Over => "drained",
        }
    }
}

impl DrainWatch {
    /// Returns once draining has begun, at once if it has. Dropping this changes nothing.
    pub async fn draining(&mut self) {
        reach(&mut self.phase, Phase::Draining).await;
    }

    /// Returns once nobody else is let in. Dropping this changes nothing.
    pub async fn closing(&mut self) {
        reach(&mut self.phase, Phase::Closing).await;
    }

    /// Returns once what has not ended is cut off. Dropping this changes nothing.
    pub async fn over(&mut self) {
        reach(&mut self.phase, Phase::Over).await;
    }

    pub fn is_leaving(&self) -> bool {
        *self.phase.borrow() >= Phase::Leaving
    }

    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() >= Phase::Draining
    }

    /// Counts a connection for as long as the guard lives.
    pub fn connection(&self) -> LiveConnectionGuard {
        LiveConnectionGuard(self.count(LIVE))
    }

    /// When a connection that has not said anything ends: what is on its way to it as the last door closes is waited for.
    pub async fn last_moment(&mut self) {
        self.closing().await;
        tokio::time::sleep(LAST_MOMENT).await;
    }

    /// A counted connection has not said anything for as long as the guard lives.
    pub fn silent(&self) -> SilentGuard {
        let counted = self.count(SILENT);
        // It was busy until now.
        self.connections.notify_if_quiet();
        SilentGuard(counted)
    }

    fn count(&self, what: u64) -> Counted {
        let early = !self.is_draining();
        self.connections.all.0.fetch_add(what, Ordering::SeqCst);
        if early {
            self.connections.early.0.fetch_add(what, Ordering::SeqCst);
        }
        Counted {
            connections: Arc::clone(&self.connections),
            early,
        }
    }
}

impl Counts {
    fn live(&self) -> usize {
        (self.0.load(Ordering::SeqCst) % SILENT) as usize
    }

    fn busy(&self) -> usize {
        let counts = self.0.load(Ordering::SeqCst);
        (counts % SILENT).saturating_sub(counts / SILENT) as usize
    }
}

impl Counted {
    fn uncount(&self, what: u64) {
        self.connections.all.0.fetch_sub(what, Ordering::SeqCst);
        if self.early {
            self.connections.early.0.fetch_sub(what, Ordering::SeqCst);
        }
    }
}

impl Connections {
    /// None busy, which includes none live; of all, or of those that are waited for.
    fn notify_if_quiet(&self) {
        if self.early.busy() == 0 || self.all.busy() == 0 {
            self.quiet.notify_waiters();
        }
    }

    async fn until(&self, condition: impl Fn(&Connections) -> bool) {
        loop {
            // Registered before the count is read: a guard dropped in between still wakes this.
            let quiet = self.quiet.notified();
            if condition(self) {
                return;
            }
            quiet.await;
        }
    }
}

impl Drop for LiveConnectionGuard {
    fn drop(&mut self) {
        self.0.uncount(LIVE);
        self.0.connections.notify_if_quiet();
    }
}

impl Drop for SilentGuard {
    fn drop(&mut self) {
        self.0.uncount(SILENT);
    }
}

async fn reach(phase: &mut watch::Receiver<Phase>, wanted: Phase) {
    if phase.wait_for(|phase| *phase >= wanted).await.is_err() {
        // The sender is gone without a word: nobody will ever ask for it.
        std::future::pending().await
    }
}

#[cfg(test)]
#[path = "drain_tests.rs"]
mod tests;
