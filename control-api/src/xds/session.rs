//! What one connected proxy is sent, and when: a pure state machine, without I/O and without a clock.
//!
//! Called by `server` (and by the tests, back to back with the proxy's half). At most one response is in flight; what
//! changes meanwhile coalesces. A response carries every host that the proxy lacks together with the endpoints of all
//! that those hosts reach, so the proxy applies it whole. What the version in force at the proxy reaches stays there
//! until a later version of the host is acknowledged: a refused host keeps working with its last good version. The
//! rules of the transport are those of the delta variant in Envoy's xDS protocol document.
//!
//! A request costs as much as it names and answers, and a world as much as it changes, however many resources the proxy
//! uses: `entries` and `reaches` keep count, `compare` looks at the world.

mod compare;

use std::collections::BTreeSet;
use std::sync::Arc;

use prost::Message;
use tsunagi_proto::names::{self, ResourceName};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};

use super::batch::{Batch, InFlight, Sent};
use super::coming::Coming;
use super::entries::Entries;
use super::entry::{Entry, Told};
use super::own::Own;
use super::reaches::{InForce, Reaches};
use super::request::{self, Verdict};
use super::resources::Resources;
use crate::snapshot::{Encoded, Node};
use crate::status::{Identity, Progress, Span};

/// Names that one proxy may subscribe to; further ones are answered as not existing.
const MOST_SUBSCRIPTIONS: usize = 10_000;
/// A host name has at most 253 characters; a workload has two names.
const LONGEST_NAME_BYTES: usize = 600;
/// That a proxy may come with: its hosts reach others.
const MOST_ENDPOINT_SETS: usize = 4 * MOST_SUBSCRIPTIONS;
/// In one request: twice all that there can be.
const MOST_NAMES: usize = 2 * (MOST_SUBSCRIPTIONS + MOST_ENDPOINT_SETS);
/// Versions that come from here are hashes.
const LONGEST_VERSION_BYTES: usize = 64;
/// Encoded: a name, a namespace and labels.
const LARGEST_NODE_BYTES: usize = 64 << 10;

/// Why a stream ends: the client does not speak this protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    #[error("the first request must carry a node with an id (and metadata NAMESPACE) of at most 253 characters")]
    NoIdentity,
    #[error("the node is larger than {LARGEST_NODE_BYTES} bytes")]
    LargeNode,
    #[error("a request names more than {MOST_NAMES} resources")]
    TooManyNames,
    #[error("resources of type {0:?} are not served here, only {type_url}", type_url = names::RESOURCE_TYPE_URL)]
    OtherType(String),
}

#[derive(Debug)]
pub struct Session<W> {
    world: Arc<W>,
    identity: Identity,
    hosts: Entries,
    /// Of every host that the subscribed ones reach, and those that the proxy must still be told to drop.
    endpoints: Entries,
    own: Own,
    reaches: Reaches,
    /// Names asked for that no resource of this proxy can have: answered once.
    absent: BTreeSet<String>,
    in_flight: Option<InFlight>,
    last_nonce: u64,
    answered: u64,
    coming: Coming,
    reported: Option<Reported>,
}

/// Progress is told when one of these has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reported {
    seen: u64,
    answered: u64,
    subscriptions: usize,
    refusal_changes: u64,
    leaving: bool,
}

impl<W: Resources> Session<W> {
    /// Begins with the first request of a stream.
    pub fn new(world: Arc<W>, first: &DeltaDiscoveryRequest) -> Result<Self, Misuse> {
        let node = first.node.as_ref().ok_or(Misuse::NoIdentity)?;
        if node.encoded_len() > LARGEST_NODE_BYTES {
            return Err(Misuse::LargeNode);
        }
        let node = request::node(node).ok_or(Misuse::NoIdentity)?;
        let identity = Identity {
            namespace: node.namespace.clone(),
            node_id: node.node_id.clone(),
        };
        check(first)?;
        let mut session = Self {
            identity,
            own: Own::new(node),
            hosts: Entries::default(),
            endpoints: Entries::default(),
            reaches: Reaches::default(),
            absent: BTreeSet::new(),
            in_flight: None,
            last_nonce: 0,
            answered: 0,
            coming: Coming::since(world.revision()),
            reported: None,
            world,
        };
        for name in &first.resource_names_subscribe {
            session.subscribe(name);
        }
        for (name, version) in &first.initial_resource_versions {
            session.resume(name, version);
        }
        session.refresh();
        Ok(session)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn node(&self) -> &Node {
        self.own.node()
    }

    /// Has the proxy asked for its departure?
    pub fn is_leaving(&self) -> bool {
        self.own.is_leaving()
    }

    /// Once for each time that the proxy asks for its departure and none is under way.
    pub fn take_departure(&mut self) -> bool {
        self.own.take_departure()
    }

    /// What a proxy that leaves is told in the end.
    pub fn depart(&mut self, departure: Encoded) {
        self.own.depart(departure, self.world.revision());
    }

    /// Before the first response: does the proxy come with something else than there is?
    pub fn is_behind(&self) -> bool {
        self.hosts.is_behind() || self.endpoints.is_behind()
    }

    /// Is it the answer to the response in flight, and not to an earlier one?
    pub fn is_answered_by(&self, request: &DeltaDiscoveryRequest) -> bool {
        let flight = self.in_flight.as_ref();
        flight.is_some_and(|flight| flight.nonce == request.response_nonce)
    }

    /// A later request of the stream: an answer, subscriptions, or both.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Misuse> {
        check(request)?;
        if self.is_answered_by(request)
            && let Some(flight) = self.in_flight.take()
        {
            let verdict = Verdict::of(request.error_detail.as_ref(), &flight.sent);
            self.settle(flight, &verdict);
        }
        for name in &request.resource_names_unsubscribe {
            self.unsubscribe(name);
        }
        for name in &request.resource_names_subscribe {
            self.subscribe(name);
        }
        self.refresh();
        Ok(())
    }

    /// A newer world is there, and will be pushed in a while, alone or together with those that follow it.
    pub fn notice(&mut self, world: &W) {
        if world.revision() > self.coming.upto() {
            self.coming.notice(world);
        }
    }

    /// A newer world. Returns the revisions that it brings, when they concern this proxy.
    pub fn world(&mut self, world: Arc<W>) -> Option<Span> {
        let span = Span {
            after: self.world.revision(),
            upto: world.revision(),
        };
        self.notice(&world);
        let coming = std::mem::replace(&mut self.coming, Coming::since(span.upto));
        let most = self.hosts.len() + self.endpoints.len();
        let changed = coming.names_upto(span, most);
        self.world = world;
        self.observe(changed, span).then_some(span)
    }

    /// The next response to send, if there is one and none is in flight.
    pub fn response(&mut self) -> Option<DeltaDiscoveryResponse> {
        if self.in_flight.is_some() {
            return None;
        }
        let revision = self.world.revision();
        let Some((response, flight)) = self.batch().finish(self.last_nonce + 1, revision) else {
            self.answered = revision;
            return None;
        };
        self.last_nonce += 1;
        self.in_flight = Some(flight);
        Some(response)
    }

    pub fn progress(&self) -> Progress {
        let refused_after = [&self.hosts, &self.endpoints, self.own.entries()].map(Entries::refused_after);
        let acknowledged = refused_after.into_iter().flatten().fold(self.answered, u64::min);
        let mut refused = self.hosts.refused(names::host);
        refused.extend(self.endpoints.refused(names::endpoints));
        refused.extend(self.own.entries().refused(str::to_owned));
        Progress {
            seen: self.world.revision(),
            answered: self.answered,
            acknowledged,
            subscriptions: self.subscriptions(),
            hosts: self.hosts.sorted_names(),
            refused,
            leaving: self.is_leaving(),
        }
    }

    /// The progress, when it is another than at the last call.
    pub fn news(&mut self) -> Option<Progress> {
        let entries = [&self.hosts, &self.endpoints, self.own.entries()];
        let reported = Some(Reported {
            seen: self.world.revision(),
            answered: self.answered,
            subscriptions: self.subscriptions(),
            refusal_changes: entries.map(Entries::refusal_changes).iter().sum(),
            leaving: self.is_leaving(),
        });
        if self.reported == reported {
            return None;
        }
        self.reported = reported;
        Some(self.progress())
    }

    fn subscriptions(&self) -> usize {
        self.hosts.len() + self.own.entries().len()
    }

    /// A name asked for again is answered again, whatever was sent before.
    fn subscribe(&mut self, name: &str) {
        let known = match parse(name) {
            Some(ResourceName::Host(fqdn)) => self.subscribe_host(fqdn),
            Some(ResourceName::Endpoints(fqdn)) => {
                let exists = self.endpoints.get(fqdn).is_some_and(Entry::exists);
                exists && self.endpoints.change(fqdn, Entry::forget).is_some()
            }
            Some(ResourceName::Workload { .. } | ResourceName::Departure { .. }) => {
                self.own.subscribe(name, Told::Unknown, &*self.world)
            }
            None => false,
        };
        if !known {
            self.answer_absent(name);
        }
    }

    fn subscribe_host(&mut self, fqdn: &str) -> bool {
        if self.hosts.change(fqdn, Entry::forget).is_some() {
            return true;
        }
        let room = self.subscriptions() < MOST_SUBSCRIPTIONS;
        if room {
            let (entry, reach) = self.look_up(fqdn, Told::Unknown);
            self.hosts.insert(fqdn, entry);
            self.reaches.insert(fqdn, reach, InForce::nothing());
        }
        room
    }

    /// Once, and as far as there is room: a name that is no name is not worth more.
    fn answer_absent(&mut self, name: &str) {
        if self.absent.len() < MOST_SUBSCRIPTIONS && name.len() <= LONGEST_NAME_BYTES {
            self.absent.insert(name.to_owned());
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        match parse(name) {
            Some(ResourceName::Host(fqdn)) => {
                self.hosts.remove(fqdn);
                self.reaches.remove(fqdn);
            }
            // They belong to their hosts' subscriptions: this only says that the proxy dropped them.
            Some(ResourceName::Endpoints(fqdn)) => drop(self.endpoints.change(fqdn, Entry::forget)),
            Some(ResourceName::Workload { .. } | ResourceName::Departure { .. }) => self.own.unsubscribe(name),
            None => {}
        }
    }

    /// The proxy comes with this version from an earlier stream.
    fn resume(&mut self, name: &str, version: &str) {
        let held = if version.len() <= LONGEST_VERSION_BYTES {
            Told::Version(version.to_owned())
        } else {
            Told::Unknown
        };
        let known = match parse(name) {
            Some(ResourceName::Host(fqdn)) if self.hosts.contains(fqdn) => {
                let (entry, reach) = self.look_up(fqdn, held);
                let in_force = if entry.owes() {
                    InForce::Unknown
                } else {
                    InForce::Reach(Arc::clone(&reach))
                };
                self.hosts.insert(fqdn, entry);
                self.reaches.insert(fqdn, reach, in_force);
                true
            }
            Some(ResourceName::Endpoints(fqdn)) if self.endpoints.len() < MOST_ENDPOINT_SETS => {
                let current = self.world.endpoints(fqdn);
                let version = current.as_ref().map(|encoded| encoded.version.as_str());
                let entry = Entry::new(held, version, self.world.revision());
                self.endpoints.insert(fqdn, entry);
                self.reaches.touch(fqdn);
                true
            }
            Some(ResourceName::Workload { .. }) => self.own.subscribe(name, held, &*self.world),
            // A departure of an earlier stream is over.
            Some(ResourceName::Departure { .. }) => self.own.part(name).is_some(),
            _ => false,
        };
        if !known {
            self.answer_absent(name);
        }
    }

    /// A name that was answered as absent may be one that goes out now.
    fn is_served(&self, name: &str) -> bool {
        match parse(name) {
            Some(ResourceName::Host(fqdn)) => self.hosts.contains(fqdn),
            Some(ResourceName::Endpoints(fqdn)) => self.endpoints.contains(fqdn),
            _ => false,
        }
    }

    fn look_up(&self, fqdn: &str, held: Told) -> (Entry, Arc<[String]>) {
        let encoded = self.world.host(fqdn, &self.identity.namespace);
        let version = encoded.as_ref().map(|encoded| encoded.version.as_str());
        (
            Entry::new(held, version, self.world.revision()),
            self.reach(fqdn, version),
        )
    }

    fn reach(&self, fqdn: &str, version: Option<&str>) -> Arc<[String]> {
        match version {
            Some(_) => self.world.reaches(fqdn, &self.identity.namespace),
            None => Arc::new([]),
        }
    }

    /// The proxy has answered the response in flight.
    fn settle(&mut self, flight: InFlight, verdict: &Verdict) {
        for sent in flight.sent {
            let refused = verdict.refusal(&sent);
            match sent {
                Sent::Host { fqdn, told, reach } => {
                    let accepted = |entry: &mut Entry| (accepts(entry, &told, refused), entry.is_settled());
                    match self.hosts.change(&fqdn, accepted) {
                        Some((true, true)) => self.reaches.settle(&fqdn),
                        Some((true, false)) => self.reaches.set_in_force(&fqdn, reach),
                        _ => {}
                    }
                }
                Sent::Endpoints { fqdn, told } => {
                    self.endpoints.change(&fqdn, |entry| accepts(entry, &told, refused));
                    // Those that are gone need not be remembered any more.
                    self.reaches.touch(&fqdn);
                }
                Sent::Own { name, told } => {
                    self.own.change(&name, |entry| accepts(entry, &told, refused));
                }
            }
        }
        if flight.complete {
            self.answered = flight.revision;
        }
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for name in std::mem::take(&mut self.absent) {
            if !self.is_served(&name) {
                batch.remove(name);
            }
        }
        while let Some((name, encoded)) = self.own.first_owed() {
            if let Some(told) = self.own.change(&name, Entry::tell) {
                batch.add(name.to_string(), Some(&encoded), Sent::Own { name, told });
            }
        }
        let mut one_is_gone = false;
        while let Some(fqdn) = self.hosts.first_owed() {
            if batch.is_full() {
                batch.postpone();
                return batch;
            }
            one_is_gone |= !self.add_host(&mut batch, fqdn);
        }
        if one_is_gone {
            self.refresh();
        }
        while let Some(fqdn) = self.endpoints.first_owed() {
            if batch.is_full() {
                batch.postpone();
                return batch;
            }
            self.add_endpoints(&mut batch, &fqdn);
        }
        batch
    }

    /// With what it reaches; false: there is no such host.
    fn add_host(&mut self, batch: &mut Batch, fqdn: Arc<str>) -> bool {
        let encoded = self.world.host(&fqdn, &self.identity.namespace);
        if encoded.is_none() {
            // Nobody can refuse that, so what only it reached goes in the same response.
            self.reaches.set_in_force(&fqdn, Arc::new([]));
        }
        let reach = self.reaches.current(&fqdn);
        for reached in reach.iter() {
            if self.endpoints.get(reached).is_some_and(Entry::owes) {
                self.add_endpoints(batch, &reached.as_str().into());
            }
        }
        if let Some(told) = self.hosts.change(&fqdn, Entry::tell) {
            batch.add(names::host(&fqdn), encoded.as_deref(), Sent::Host { fqdn, told, reach });
        }
        encoded.is_some()
    }

    fn add_endpoints(&mut self, batch: &mut Batch, fqdn: &Arc<str>) {
        let tell = |entry: &mut Entry| (entry.exists(), entry.acknowledged().clone(), entry.tell());
        if let Some((exists, acknowledged, told)) = self.endpoints.change(fqdn, tell) {
            let encoded = if exists { self.world.endpoints(fqdn) } else { None };
            batch.add_endpoints(fqdn, encoded.as_deref(), &acknowledged, told);
        }
    }
}

fn parse(name: &str) -> Option<ResourceName<'_>> {
    names::parse(name).filter(|_| name.len() <= LONGEST_NAME_BYTES)
}

fn check(request: &DeltaDiscoveryRequest) -> Result<(), Misuse> {
    if request.type_url != names::RESOURCE_TYPE_URL {
        return Err(Misuse::OtherType(request.type_url.chars().take(100).collect()));
    }
    let subscriptions = request.resource_names_subscribe.len() + request.resource_names_unsubscribe.len();
    if subscriptions + request.initial_resource_versions.len() > MOST_NAMES {
        return Err(Misuse::TooManyNames);
    }
    Ok(())
}

/// False: refused, what was in force stays.
fn accepts(entry: &mut Entry, told: &Told, refused: Option<Arc<str>>) -> bool {
    match (refused, told) {
        (Some(reason), Told::Version(_)) => {
            entry.refuse(told, &reason);
            false
        }
        _ => {
            entry.acknowledge(told);
            true
        }
    }
}

#[cfg(test)]
mod tests;
