//! Who is connected, and what each proxy has acknowledged: what `tsunagi proxies` shows and `apply --wait` waits for.
//!
//! Sessions report here after every step; readers never ask a session. A proxy *answers* a revision when everything it
//! subscribes to that changed up to it is acknowledged or refused, and *acknowledges* it when nothing is refused. It is
//! concerned by a revision when a resource that it subscribes to got a new version by it. Revisions that one debounced
//! push carried together are answered together.

mod description;
mod health;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub use health::{HealthReport, SeenEndpoint, SeenName, SeenState};

/// After a start the proxies of the one before come back within this time (their longest pause is 3 s): until then nobody
/// can say whom a change concerns.
const RETURN_TIME: Duration = Duration::from_secs(5);
/// How many concerning pushes are remembered per proxy: a wait that begins later than this many does not see its own.
const CONCERNS_KEPT: usize = 64;

/// Who a proxy says it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    pub namespace: String,
    pub node_id: String,
}

/// Revisions greater than `after` up to and including `upto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub after: u64,
    pub upto: u64,
}

impl Span {
    pub fn contains(self, revision: u64) -> bool {
        self.after < revision && revision <= self.upto
    }
}

/// A version that the proxy refused and that is still the current one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub resource: String,
    pub version: String,
    pub reason: String,
    /// The changes that the refused version carries.
    pub span: Span,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.resource, self.reason)
    }
}

/// How far one session is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Newest revision that the session has compared with what its proxy holds.
    pub seen: u64,
    pub answered: u64,
    pub acknowledged: u64,
    pub subscriptions: usize,
    /// FQDNs of the hosts that it uses, sorted.
    pub hosts: Arc<[Arc<str>]>,
    pub refused: Vec<Refused>,
    /// It has asked for its departure.
    pub leaving: bool,
}

/// A line of `tsunagi proxies`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    pub node_id: String,
    pub namespace: String,
    /// Revision up to which everything that the proxy uses is in force there.
    pub revision_acknowledged: u64,
    /// Revisions behind the newest.
    pub lag: u64,
    /// `resource: reason` of the newest version that the proxy refuses and nothing has replaced yet.
    pub last_refusal: Option<String>,
    pub subscriptions: usize,
    /// It is about to end.
    pub leaving: bool,
    /// By which rules select it.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Acknowledged,
    Refused,
    Unanswered,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
        }
    }
}

/// What became of one revision at one proxy that it concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub node_id: String,
    pub namespace: String,
    pub state: State,
    /// Empty when acknowledged.
    pub reason: String,
}

/// The connected proxies; one for the whole control plane.
pub struct Status {
    connected: Mutex<Connected>,
    /// Until then proxies of an earlier run may return.
    complete_at: Instant,
    /// Counts reports, so that a waiter misses none.
    reports: watch::Sender<u64>,
}

#[derive(Default)]
struct Connected {
    last_id: u64,
    newest_revision: u64,
    /// One each live stream, also where two have one identity.
    proxies: BTreeMap<(Identity, u64), Connection>,
}

struct Connection {
    labels: BTreeMap<String, String>,
    progress: Progress,
    concerns: VecDeque<Span>,
    /// `None`: it has not said anything yet.
    health: Option<Arc<HealthReport>>,
}

/// One session's hold on the status: dropping it is disconnecting.
pub struct Reporter {
    status: Arc<Status>,
    identity: Identity,
    id: u64,
}

impl Status {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            connected: Mutex::default(),
            complete_at: Instant::now(),
            reports: watch::Sender::new(0),
        })
    }

    /// As `new`, for a control plane that has run before: its proxies are on their way back.
    pub fn after_restart() -> Arc<Self> {
        Arc::new(Self {
            complete_at: Instant::now() + RETURN_TIME,
            connected: Mutex::default(),
            reports: watch::Sender::new(0),
        })
    }

    /// The revisions that a proxy missed which comes now and lacks something: any up to `revision`, as far as anybody knows,
    /// while those of an earlier run return; later none that anybody waits for.
    pub fn missed(&self, revision: u64) -> Option<Span> {
        let span = Span {
            after: 0,
            upto: revision,
        };
        (Instant::now() < self.complete_at).then_some(span)
    }

    /// Is there a live stream on which this proxy says that it leaves?
    pub fn is_leaving(&self, identity: &Identity) -> bool {
        self.lock()
            .of(identity)
            .any(|(_, connection)| connection.progress.leaving)
    }

    /// How many proxies are connected.
    pub fn count(&self) -> usize {
        self.lock().proxies.len()
    }

    /// A session began. Two live ones with one identity are two proxies whose operator gave them one name: both are shown
    /// and waited for.
    pub fn connect(self: &Arc<Self>, identity: Identity, progress: Progress) -> Reporter {
        let mut connected = self.lock();
        connected.last_id += 1;
        let id = connected.last_id;
        connected.newest_revision = connected.newest_revision.max(progress.seen);
        if connected.of(&identity).next().is_some() {
            tracing::warn!(
                node = identity.node_id,
                namespace = identity.namespace,
                "another proxy of this name is connected; give each sidecar a --node-id of its own"
            );
        }
        let connection = Connection {
            labels: BTreeMap::new(),
            progress,
            concerns: VecDeque::new(),
            health: None,
        };
        connected.proxies.insert((identity.clone(), id), connection);
        drop(connected);
        self.notify();
        Reporter {
            status: Arc::clone(self),
            identity,
            id,
        }
    }

    /// Every connected proxy, by namespace and name.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        let connected = self.lock();
        let newest = connected.newest_revision;
        connected
            .proxies
            .iter()
            .map(|((identity, _), connection)| connection.line(identity, newest))
            .collect()
    }

    /// How the proxies that `revision` concerns have answered it, as soon as all have and at the latest after `limit`.
    /// A proxy that is not connected when its push goes out is not waited for; one that disconnects meanwhile is unanswered
    /// unless it returns in time, or had said that it leaves. Shortly after a restart it first gives the proxies time to return. Dropping the future
    /// changes nothing.
    pub async fn wait(&self, revision: u64, limit: Duration) -> Vec<Acknowledgement> {
        self.wait_for_others(revision, limit, None).await
    }

    /// As `wait`, but for every proxy other than `except`. Dropping the future changes nothing.
    pub async fn wait_for_others(
        &self,
        revision: u64,
        limit: Duration,
        except: Option<&Identity>,
    ) -> Vec<Acknowledgement> {
        let deadline = Instant::now() + limit;
        tokio::time::sleep_until(deadline.min(self.complete_at)).await;
        let mut reports = self.reports.subscribe();
        let mut waiting = Waiting {
            revision,
            except,
            proxies: BTreeMap::new(),
        };
        while !waiting.judge(&self.lock()) {
            if !matches!(tokio::time::timeout_at(deadline, reports.changed()).await, Ok(Ok(()))) {
                waiting.judge(&self.lock());
                waiting.add_unreached(&self.lock());
                break;
            }
        }
        waiting.outcome()
    }

    /// Changes whenever a session reports.
    pub fn reports(&self) -> watch::Receiver<u64> {
        self.reports.subscribe()
    }

    /// How far each connected proxy is with the hosts that it uses, by namespace and name.
    pub fn uses(&self) -> Vec<(Identity, Progress)> {
        let connected = self.lock();
        let one = |((identity, _), connection): (&(Identity, u64), &Connection)| {
            (identity.clone(), connection.progress.clone())
        };
        connected.proxies.iter().map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Connected> {
        // Nothing under this lock can panic halfway through a change.
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.reports.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Reporter {
    /// Is there another live stream of this identity, on which it does not leave?
    pub fn has_namesake(&self) -> bool {
        let connected = self.status.lock();
        connected
            .of(&self.identity)
            .any(|(id, connection)| id != self.id && !connection.progress.leaving)
    }

    /// The session made a step; `concern` when a new world changed something that the proxy subscribes to.
    pub fn report(&self, progress: Progress, concern: Option<Span>) {
        let mut connected = self.status.lock();
        connected.newest_revision = connected.newest_revision.max(progress.seen);
        if let Some(connection) = connected.proxies.get_mut(&(self.identity.clone(), self.id)) {
            if let Some(span) = concern {
                connection.concerns.push_back(span);
                while connection.concerns.len() > CONCERNS_KEPT {
                    connection.concerns.pop_front();
                }
            }
            connection.progress = progress;
        }
        drop(connected);
        self.status.notify();
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        let mut connected = self.status.lock();
        connected.proxies.remove(&(self.identity.clone(), self.id));
        drop(connected);
        self.status.notify();
    }
}

impl Connected {
    /// The live streams of one identity, oldest first.
    fn of(&self, identity: &Identity) -> impl DoubleEndedIterator<Item = (u64, &Connection)> {
        let range = (identity.clone(), 0)..=(identity.clone(), u64::MAX);
        self.proxies.range(range).map(|((_, id), connection)| (*id, connection))
    }
}

impl Connection {
    /// Something that the proxy uses changed by this revision, or it refuses what that brought.
    fn is_concerned(&self, revision: u64) -> bool {
        let refused = self.progress.refused.iter().map(|refused| refused.span);
        self.concerns
            .iter()
            .copied()
            .chain(refused)
            .any(|span| span.contains(revision))
    }

    fn line(&self, identity: &Identity, newest: u64) -> ProxyStatus {
        ProxyStatus {
            node_id: identity.node_id.clone(),
            namespace: identity.namespace.clone(),
            revision_acknowledged: self.progress.acknowledged,
            lag: newest.saturating_sub(self.progress.acknowledged),
            last_refusal: self
                .progress
                .refused
                .iter()
                .max_by_key(|refused| refused.span.upto)
                .map(Refused::to_string),
            subscriptions: self.progress.subscriptions,
            leaving: self.progress.leaving,
            labels: self.labels.clone(),
        }
    }
}

/// One `wait`: the proxies found concerned so far, by the connection in which they were.
struct Waiting<'a> {
    revision: u64,
    except: Option<&'a Identity>,
    proxies: BTreeMap<(Identity, u64), Interest>,
}

struct Interest {
    /// The newest connection of all when the revision was found to concern this one: that of a proxy which returns is
    /// newer, that of a namesake is not.
    newest: u64,
    state: State,
    reason: String,
    /// It was about to end when it was seen last.
    leaving: bool,
}

impl Waiting<'_> {
    /// True: every concerned proxy has answered, and no other can turn out to be concerned.
    fn judge(&mut self, connected: &Connected) -> bool {
        let mut all_seen = true;
        for (key, connection) in self.others(connected) {
            all_seen &= connection.progress.seen >= self.revision;
            if connection.is_concerned(self.revision) && !self.has_returned(key, connected) {
                self.proxies
                    .entry(key.clone())
                    .or_insert_with(|| Interest::new(connected.last_id));
            }
        }
        // One that was leaving and is gone calls nobody any more.
        self.proxies.retain(|key, interest| {
            interest.state != State::Unanswered || !interest.leaving || connected.proxies.contains_key(key)
        });
        for ((identity, id), interest) in &mut self.proxies {
            let same = connected
                .proxies
                .get(&(identity.clone(), *id))
                .map(|same| (false, same));
            let newest = interest.newest;
            let later = || connected.of(identity).next_back().filter(|(other, _)| *other > newest);
            interest.judge(self.revision, same.or_else(|| later().map(|(_, later)| (true, later))));
        }
        all_seen
            && self
                .proxies
                .values()
                .all(|interest| interest.state != State::Unanswered)
    }

    fn others<'c>(
        &self,
        connected: &'c Connected,
    ) -> impl Iterator<Item = (&'c (Identity, u64), &'c Connection)> + use<'c> {
        let except = self.except.cloned();
        let proxies = connected.proxies.iter();
        proxies.filter(move |((identity, _), _)| except.as_ref() != Some(identity))
    }

    /// Is this the new connection of a proxy that left while it was waited for? Then it is waited for already.
    fn has_returned(&self, (identity, id): &(Identity, u64), connected: &Connected) -> bool {
        let earlier = self.proxies.range((identity.clone(), 0)..(identity.clone(), *id));
        let mut left = earlier.filter(|(key, _)| !connected.proxies.contains_key(key));
        left.any(|(_, interest)| *id > interest.newest)
    }

    /// The time is over, and of these nobody can say yet whether the change concerns them.
    fn add_unreached(&mut self, connected: &Connected) {
        for (key, connection) in self.others(connected) {
            if connection.progress.seen < self.revision {
                self.proxies.entry(key.clone()).or_insert_with(|| Interest {
                    reason: "connected, but the change has not been sent to it yet".to_owned(),
                    ..Interest::new(connected.last_id)
                });
            }
        }
    }

    fn outcome(self) -> Vec<Acknowledgement> {
        let one = |((identity, _), interest): ((Identity, u64), Interest)| Acknowledgement {
            node_id: identity.node_id,
            namespace: identity.namespace,
            state: interest.state,
            reason: interest.reason,
        };
        self.proxies.into_iter().map(one).collect()
    }
}

impl Interest {
    fn new(newest: u64) -> Self {
        Self {
            newest,
            state: State::Unanswered,
            reason: String::new(),
            leaving: false,
        }
    }

    /// `found`: the proxy's connection, and whether it is a later one than the one that was concerned.
    fn judge(&mut self, revision: u64, found: Option<(bool, &Connection)>) {
        if self.state != State::Unanswered {
            return;
        }
        let Some((returned, connection)) = found else {
            self.reason = "disconnected before it answered".to_owned();
            return;
        };
        self.leaving = connection.progress.leaving;
        if connection.progress.answered < revision {
            self.reason = "connected, but has not answered".to_owned();
            return;
        }
        // After a reconnect it is no longer known which revisions a refused version carries: any refusal counts.
        let counts = |refused: &&Refused| returned || refused.span.contains(revision);
        let reasons: Vec<String> = connection
            .progress
            .refused
            .iter()
            .filter(counts)
            .map(Refused::to_string)
            .collect();
        self.state = if reasons.is_empty() {
            State::Acknowledged
        } else {
            State::Refused
        };
        self.reason = reasons.join("; ");
    }
}

#[cfg(test)]
mod tests;
