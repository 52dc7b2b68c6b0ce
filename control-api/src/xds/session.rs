//! What one connected proxy is sent, and when: a pure state machine, without I/O and without a clock.
//!
//! Called by `server` (and by the tests, back to back with the proxy's half). At most one response is in flight; what
//! changes meanwhile coalesces. A response carries every host that the proxy lacks together with the endpoints of all
//! that those hosts reach, so the proxy applies it whole. What the version in force at the proxy reaches stays there
//! until a later version of the host is acknowledged: a refused host keeps working with its last good version. The
//! rules of the transport are those of the delta variant in Envoy's xDS protocol document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsunagi_proto::names::{self, ResourceName};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tsunagi_proto::wire::google::rpc;

use super::batch::{Batch, InFlight, Sent};
use super::entry::{Entry, Host, InForce, Told};
use super::request;
use super::resources::Resources;
use crate::status::{Identity, Progress, Refused, Span};

/// Names that one proxy may subscribe to; further ones are answered as not existing.
const MOST_SUBSCRIPTIONS: usize = 10_000;
/// A host name has at most 253 characters; a workload has two names.
const LONGEST_NAME_BYTES: usize = 600;
/// That a proxy may come with: its hosts reach others.
const MOST_ENDPOINT_SETS: usize = 4 * MOST_SUBSCRIPTIONS;

/// Why a stream ends: the client does not speak this protocol.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    #[error("the first request must carry a node with an id (and metadata NAMESPACE) of at most 253 characters")]
    NoIdentity,
    #[error("resources of type {0:?} are not served here, only {type_url}", type_url = names::RESOURCE_TYPE_URL)]
    OtherType(String),
}

#[derive(Debug)]
pub struct Session<W> {
    world: Arc<W>,
    identity: Identity,
    hosts: BTreeMap<String, Host>,
    /// Of every host that the subscribed ones reach, and those that the proxy must still be told to drop.
    endpoints: BTreeMap<String, Entry>,
    workload: Option<Entry>,
    /// Names asked for that no resource of this proxy can have: answered once.
    absent: BTreeSet<String>,
    in_flight: Option<InFlight>,
    last_nonce: u64,
    answered: u64,
}

impl<W: Resources> Session<W> {
    /// Begins with the first request of a stream.
    pub fn new(world: Arc<W>, first: &DeltaDiscoveryRequest) -> Result<Self, Misuse> {
        let identity = first
            .node
            .as_ref()
            .and_then(request::identity)
            .ok_or(Misuse::NoIdentity)?;
        let mut session = Self {
            world,
            identity,
            hosts: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            workload: None,
            absent: BTreeSet::new(),
            in_flight: None,
            last_nonce: 0,
            answered: 0,
        };
        check_type(first)?;
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

    /// A later request of the stream: an answer, subscriptions, or both.
    pub fn request(&mut self, request: &DeltaDiscoveryRequest) -> Result<(), Misuse> {
        check_type(request)?;
        if self
            .in_flight
            .as_ref()
            .is_some_and(|flight| flight.nonce == request.response_nonce)
            && let Some(flight) = self.in_flight.take()
        {
            self.settle(flight, request.error_detail.as_ref());
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

    /// A newer world. Returns the revisions that it brings, when they concern this proxy.
    pub fn world(&mut self, world: Arc<W>) -> Option<Span> {
        let span = Span {
            after: self.world.revision(),
            upto: world.revision(),
        };
        self.world = world;
        self.observe(span).then_some(span)
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
        let refused: Vec<Refused> = self.refused().collect();
        let acknowledged = refused
            .iter()
            .map(|refused| refused.span.after)
            .fold(self.answered, u64::min);
        Progress {
            seen: self.world.revision(),
            answered: self.answered,
            acknowledged,
            subscriptions: self.subscriptions(),
            refused,
        }
    }

    fn refused(&self) -> impl Iterator<Item = Refused> {
        let hosts = self
            .hosts
            .iter()
            .filter_map(|(fqdn, host)| host.entry.refusal(|| names::host(fqdn)));
        let endpoints = self
            .endpoints
            .iter()
            .filter_map(|(fqdn, entry)| entry.refusal(|| names::endpoints(fqdn)));
        let workload = self
            .workload
            .iter()
            .filter_map(|entry| entry.refusal(|| self.workload_name()));
        hosts.chain(endpoints).chain(workload)
    }

    fn subscriptions(&self) -> usize {
        self.hosts.len() + usize::from(self.workload.is_some())
    }

    fn workload_name(&self) -> String {
        names::workload(&self.identity.namespace, &self.identity.node_id)
    }

    /// A name asked for again is answered again, whatever was sent before.
    fn subscribe(&mut self, name: &str) {
        let known = match parse(name) {
            Some(ResourceName::Host(fqdn)) => self.subscribe_host(fqdn),
            Some(ResourceName::Endpoints(fqdn)) => {
                let entry = self.endpoints.get_mut(fqdn).filter(|entry| entry.exists());
                entry.map(Entry::forget).is_some()
            }
            Some(ResourceName::Workload { namespace, node_id }) => {
                self.hold_workload(namespace, node_id, Told::Unknown)
            }
            None => false,
        };
        if !known {
            self.answer_absent(name);
        }
    }

    fn subscribe_host(&mut self, fqdn: &str) -> bool {
        if let Some(host) = self.hosts.get_mut(fqdn) {
            host.entry.forget();
            return true;
        }
        let room = self.subscriptions() < MOST_SUBSCRIPTIONS;
        if room {
            let (entry, reach) = self.look_up(fqdn, Told::Unknown);
            self.hosts.insert(
                fqdn.to_owned(),
                Host {
                    entry,
                    reach,
                    in_force: InForce::nothing(),
                },
            );
        }
        room
    }

    fn hold_workload(&mut self, namespace: &str, node_id: &str, held: Told) -> bool {
        let own = namespace == self.identity.namespace && node_id == self.identity.node_id;
        if own {
            let encoded = self.world.workload(namespace, node_id);
            self.workload = Some(Entry::new(held, Some(&encoded.version), self.world.revision()));
        }
        own
    }

    /// Once, and as far as there is room: a name that is no name is not worth more.
    fn answer_absent(&mut self, name: &str) {
        if self.absent.len() < MOST_SUBSCRIPTIONS && name.len() <= LONGEST_NAME_BYTES {
            self.absent.insert(name.to_owned());
        }
    }

    fn unsubscribe(&mut self, name: &str) {
        match parse(name) {
            Some(ResourceName::Host(fqdn)) => drop(self.hosts.remove(fqdn)),
            // They belong to their hosts' subscriptions: this only says that the proxy dropped them.
            Some(ResourceName::Endpoints(fqdn)) => {
                if let Some(entry) = self.endpoints.get_mut(fqdn) {
                    entry.forget();
                }
            }
            Some(ResourceName::Workload { .. }) if name == self.workload_name() => self.workload = None,
            Some(ResourceName::Workload { .. }) | None => {}
        }
    }

    /// The proxy comes with this version from an earlier stream.
    fn resume(&mut self, name: &str, version: &str) {
        let held = Told::Version(version.to_owned());
        let known = match parse(name) {
            Some(ResourceName::Host(fqdn)) if self.hosts.contains_key(fqdn) => {
                let (entry, reach) = self.look_up(fqdn, held);
                let in_force = if entry.owes() {
                    InForce::Unknown
                } else {
                    InForce::Reach(Arc::clone(&reach))
                };
                self.hosts.insert(fqdn.to_owned(), Host { entry, reach, in_force });
                true
            }
            Some(ResourceName::Endpoints(fqdn)) if self.endpoints.len() < MOST_ENDPOINT_SETS => {
                let current = self.world.endpoints(fqdn);
                let version = current.as_ref().map(|encoded| encoded.version.as_str());
                let entry = Entry::new(held, version, self.world.revision());
                self.endpoints.insert(fqdn.to_owned(), entry);
                true
            }
            Some(ResourceName::Workload { namespace, node_id }) => self.hold_workload(namespace, node_id, held),
            _ => false,
        };
        if !known {
            self.answer_absent(name);
        }
    }

    /// A name that was answered as absent may be one that goes out now.
    fn is_served(&self, name: &str) -> bool {
        match parse(name) {
            Some(ResourceName::Host(fqdn)) => self.hosts.contains_key(fqdn),
            Some(ResourceName::Endpoints(fqdn)) => self.endpoints.contains_key(fqdn),
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
    fn settle(&mut self, flight: InFlight, error: Option<&rpc::Status>) {
        let reasons = error.map(request::refusals);
        let reason = |name: &dyn Fn() -> String| match (&reasons, error) {
            (Some(reasons), Some(error)) if reasons.is_empty() => Some(request::shortened(error.message.clone())),
            (Some(reasons), _) => reasons.get(&name()).cloned(),
            (None, _) => None,
        };
        for sent in flight.sent {
            match sent {
                Sent::Host { fqdn, told, reach } => {
                    let refused = reason(&|| names::host(&fqdn));
                    if let Some(host) = self.hosts.get_mut(&fqdn)
                        && accepts(&mut host.entry, &told, refused)
                    {
                        host.in_force = InForce::Reach(reach);
                    }
                }
                Sent::Endpoints { fqdn, told } => {
                    let refused = reason(&|| names::endpoints(&fqdn));
                    if let Some(entry) = self.endpoints.get_mut(&fqdn) {
                        accepts(entry, &told, refused);
                    }
                }
                Sent::Workload { told } => {
                    let refused = reason(&|| self.workload_name());
                    if let Some(entry) = &mut self.workload {
                        accepts(entry, &told, refused);
                    }
                }
            }
        }
        if flight.complete {
            self.answered = flight.revision;
        }
    }

    /// Subscriptions or what is in force have changed, the world has not.
    fn refresh(&mut self) {
        let revision = self.world.revision();
        self.observe_endpoints(Span {
            after: revision.saturating_sub(1),
            upto: revision,
        });
    }

    /// Compares the world with what is subscribed; true when something of it has changed.
    fn observe(&mut self, span: Span) -> bool {
        let namespace = &self.identity.namespace;
        let mut changed = false;
        for (fqdn, host) in &mut self.hosts {
            let encoded = self.world.host(fqdn, namespace);
            let exists = encoded.is_some();
            changed |= host
                .entry
                .observe(encoded.as_ref().map(|encoded| encoded.version.as_str()), span);
            host.reach = if exists {
                self.world.reaches(fqdn, namespace)
            } else {
                Arc::new([])
            };
            if host.entry.is_settled() {
                // Also when the world came back to what the proxy had kept.
                host.in_force = InForce::Reach(Arc::clone(&host.reach));
            }
        }
        if let Some(entry) = &mut self.workload {
            let encoded = self.world.workload(namespace, &self.identity.node_id);
            changed |= entry.observe(Some(&encoded.version), span);
        }
        self.observe_endpoints(span) || changed
    }

    fn observe_endpoints(&mut self, span: Span) -> bool {
        let wanted = self.reached();
        let mut changed = false;
        for (fqdn, entry) in &mut self.endpoints {
            let encoded = if wanted.contains(fqdn) {
                self.world.endpoints(fqdn)
            } else {
                None
            };
            changed |= entry.observe(encoded.as_ref().map(|encoded| encoded.version.as_str()), span);
        }
        for fqdn in wanted {
            if !self.endpoints.contains_key(&fqdn)
                && let Some(encoded) = self.world.endpoints(&fqdn)
            {
                let entry = Entry::new(Told::Nothing, Some(&encoded.version), span.upto);
                self.endpoints.insert(fqdn, entry);
            }
        }
        self.endpoints.retain(|_, entry| entry.exists() || entry.may_be_held());
        changed
    }

    /// Of which hosts the proxy needs the endpoints: those that the current versions reach, and those that the
    /// versions in force there reach.
    fn reached(&self) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        for host in self.hosts.values() {
            reached.extend(host.reach.iter().cloned());
            match &host.in_force {
                InForce::Reach(reach) => reached.extend(reach.iter().cloned()),
                InForce::Unknown => reached.extend(self.endpoints.keys().cloned()),
            }
        }
        reached
    }

    fn batch(&mut self) -> Batch {
        let mut batch = Batch::default();
        for name in std::mem::take(&mut self.absent) {
            if !self.is_served(&name) {
                batch.remove(name);
            }
        }
        let workload = self.workload_name();
        if let Some(entry) = self.workload.as_mut().filter(|entry| entry.owes()) {
            let encoded = self.world.workload(&self.identity.namespace, &self.identity.node_id);
            batch.add(workload, Some(&encoded), Sent::Workload { told: entry.tell() });
        }
        let mut one_is_gone = false;
        for (fqdn, host) in self.hosts.iter_mut().filter(|(_, host)| host.entry.owes()) {
            if batch.is_full() {
                batch.postpone();
                return batch;
            }
            let encoded = self.world.host(fqdn, &self.identity.namespace);
            let (told, reach) = (host.entry.tell(), Arc::clone(&host.reach));
            if encoded.is_none() {
                // Nobody can refuse that, so what only it reached goes in the same response.
                host.in_force = InForce::nothing();
                one_is_gone = true;
            }
            for reached in reach.iter() {
                if let Some(entry) = self.endpoints.get_mut(reached).filter(|entry| entry.owes()) {
                    add_endpoints(&mut batch, self.world.as_ref(), reached, entry);
                }
            }
            batch.add(
                names::host(fqdn),
                encoded.as_deref(),
                Sent::Host {
                    fqdn: fqdn.clone(),
                    told,
                    reach,
                },
            );
        }
        if one_is_gone {
            self.refresh();
        }
        for (fqdn, entry) in self.endpoints.iter_mut().filter(|(_, entry)| entry.owes()) {
            if batch.is_full() {
                batch.postpone();
                return batch;
            }
            add_endpoints(&mut batch, self.world.as_ref(), fqdn, entry);
        }
        batch
    }
}

fn parse(name: &str) -> Option<ResourceName<'_>> {
    names::parse(name).filter(|_| name.len() <= LONGEST_NAME_BYTES)
}

fn check_type(request: &DeltaDiscoveryRequest) -> Result<(), Misuse> {
    if request.type_url == names::RESOURCE_TYPE_URL {
        return Ok(());
    }
    Err(Misuse::OtherType(request.type_url.chars().take(100).collect()))
}

/// False: refused, what was in force stays.
fn accepts(entry: &mut Entry, told: &Told, refused: Option<String>) -> bool {
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

fn add_endpoints(batch: &mut Batch, world: &impl Resources, fqdn: &str, entry: &mut Entry) {
    let encoded = if entry.exists() { world.endpoints(fqdn) } else { None };
    let acknowledged = entry.acknowledged().clone();
    batch.add_endpoints(fqdn, encoded.as_deref(), &acknowledged, entry.tell());
}

#[cfg(test)]
mod tests;
