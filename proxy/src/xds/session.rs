//! What the proxy asks the control plane for, and what it makes of the answers: a pure state machine, without I/O.
//!
//! Called by `client` (and by the tests, back to back with the control plane's half). One response becomes one
//! [`Update`], applied whole; a bad resource in it is refused alone and what was in force stays. Hosts are subscribed
//! to when first called; their endpoints come and go with them, as the control plane says. Nothing that is in force is
//! given up because of a disconnection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost_types::value::Kind as ValueKind;
use prost_types::{Any, Struct, Value};
use tokio::time::Instant;
use tsunagi_proto::names::{self, ResourceName};
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource};
use tsunagi_proto::wire::mesh;

use super::check::{self, Checked};
use super::held::{Held, HeldEndpoints, Unusable};
use super::outbox::Outbox;
use crate::drain::Callers;
use crate::snapshot::Update;

/// Hosts that were asked for and are not there (yet): names come from clients, so they are bounded.
const MOST_UNRESOLVED: usize = 1_000;
const UNRESOLVED_KEPT: Duration = Duration::from_secs(60);
/// Far above what a workload reaches; a bound only on what a broken control plane can do.
const MOST_ENDPOINT_SETS: usize = 50_000;
const LONGEST_FQDN_BYTES: usize = 253;

/// Proxies that have not answered, as far as they are worth a log line.
const MOST_UNANSWERED: usize = 100;

/// Who this proxy is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub node_id: String,
    pub namespace: String,
    pub service_account: String,
    pub labels: Vec<(String, String)>,
    /// Of its machine; empty: not known.
    pub node_name: String,
    /// By which the control plane knows this proxy's endpoints.
    pub instance_ips: Vec<IpAddr>,
}

impl Identity {
    /// The name of the resource that concerns this proxy alone.
    pub fn resource_name(&self) -> String {
        names::workload(&self.namespace, &self.node_id)
    }

    /// The name of the resource that comes when callers know that this proxy leaves.
    fn departure_name(&self) -> String {
        names::departure(&self.namespace, &self.node_id)
    }
}

/// What became of one response.
#[derive(Debug)]
pub struct Outcome {
    /// `None`: nothing changes.
    pub update: Option<Update>,
    /// At least one of its resources was refused.
    pub refused: bool,
    /// While leaving: what the control plane says of those who call this proxy.
    pub callers: Option<Callers>,
}

#[derive(Debug)]
pub struct Session {
    identity: Identity,
    hosts: BTreeMap<String, Held>,
    unresolved: BTreeMap<String, Unresolved>,
    endpoints: BTreeMap<String, HeldEndpoints>,
    workload: Option<Held>,
    version: String,
    outbox: Outbox,
    /// Connected, and the request that names everything has not been taken yet.
    greeting: bool,
    connected: bool,
    /// Until the end, over reconnections, and never remembered: the next process of this name does not leave.
    leaving: bool,
    /// From the response at hand.
    callers: Option<Callers>,
    /// What is held has changed since it was last remembered.
    unsaved: bool,
}

/// A host that was asked for: not answered yet, or known not to exist.
#[derive(Debug)]
struct Unresolved {
    absent: bool,
    last_wanted: Instant,
}

enum Refused {
    Because(String),
    /// Nothing is wrong with it, but only the whole helps.
    BaseLost,
}

impl Session {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn new(identity: Identity) -> Self {
        Self {
            identity,
            hosts: BTreeMap::new(),
            unresolved: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            workload: None,
            version: String::new(),
            outbox: Outbox::default(),
            greeting: false,
            connected: false,
            leaving: false,
            callers: None,
            unsaved: false,
        }
    }

    /// The data path needs this host. Returns the hosts that had to make room.
    pub fn want(&mut self, fqdn: &str, now: Instant) -> Vec<String> {
        if self.hosts.contains_key(fqdn) || fqdn.is_empty() || fqdn.len() > LONGEST_FQDN_BYTES {
            return Vec::new();
        }
        if let Some(known) = self.unresolved.get_mut(fqdn) {
            known.last_wanted = now;
            return Vec::new();
        }
        let evicted = if self.unresolved.len() >= MOST_UNRESOLVED {
            self.oldest_unresolved()
        } else {
            None
        };
        if let Some(oldest) = &evicted {
            self.unwant(oldest);
        }
        self.unresolved.insert(
            fqdn.to_owned(),
            Unresolved {
                absent: false,
                last_wanted: now,
            },
        );
        if self.connected {
            self.outbox.subscribe(names::host(fqdn));
        }
        evicted.into_iter().collect()
    }

    /// Nobody needs this host any more. Its endpoints go when the control plane says that nothing reaches them.
    pub fn unwant(&mut self, fqdn: &str) {
        let held = self.hosts.remove(fqdn).is_some();
        self.unsaved |= held;
        if (held | self.unresolved.remove(fqdn).is_some()) && self.connected {
            self.outbox.unsubscribe(names::host(fqdn));
        }
    }

    /// Gives up names that are not there and that nobody has asked for in a while; returns them.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        let old = |unresolved: &Unresolved| now.duration_since(unresolved.last_wanted) >= UNRESOLVED_KEPT;
        let expired: Vec<String> = self
            .unresolved
            .iter()
            .filter(|(_, unresolved)| old(unresolved))
            .map(|(fqdn, _)| fqdn.clone())
            .collect();
        for fqdn in &expired {
            self.unwant(fqdn);
        }
        expired
    }

    /// Asks that callers be told, on this stream and on every later one.
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) && self.connected {
            self.outbox.subscribe(self.identity.departure_name());
        }
    }

    /// A new stream: it begins with everything that is wanted and held.
    pub fn connected(&mut self) {
        self.outbox = Outbox::default();
        for fqdn in self.hosts.keys().chain(self.unresolved.keys()) {
            self.outbox.subscribe(names::host(fqdn));
        }
        self.outbox.subscribe(self.identity.resource_name());
        if self.leaving {
            self.outbox.subscribe(self.identity.departure_name());
        }
        self.greeting = true;
        self.connected = true;
    }

    /// What is in force stays in force.
    pub fn disconnected(&mut self) {
        self.outbox = Outbox::default();
        self.greeting = false;
        self.connected = false;
    }

    pub fn has_request(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// The next request to send.
    pub fn request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let mut request = self.outbox.take()?;
        if std::mem::take(&mut self.greeting) {
            request.node = Some(node(&self.identity));
            let versions = self.resources().map(|(name, held)| (name, held.version.clone()));
            request.initial_resource_versions = versions.collect();
        }
        Some(request)
    }

    /// A response came. Its answer is the next request: to be sent once the update is in force.
    pub fn response(&mut self, response: DeltaDiscoveryResponse, now: Instant) -> Outcome {
        let nonce = response.nonce.clone();
        let (update, refused) = self.apply(response, now);
        let outcome = Outcome {
            update,
            refused: !refused.is_empty(),
            callers: self.callers.take(),
        };
        self.outbox.answer(nonce, refused);
        outcome
    }

    /// Takes up what an earlier run has remembered, subscriptions included.
    pub fn restore(&mut self, remembered: DeltaDiscoveryResponse, now: Instant) -> Option<Update> {
        for resource in &remembered.resources {
            if let Some(ResourceName::Host(fqdn)) = names::parse(&resource.name) {
                self.unresolved.insert(
                    fqdn.to_owned(),
                    Unresolved {
                        absent: false,
                        last_wanted: now,
                    },
                );
            }
        }
        let (update, refused) = self.apply(remembered, now);
        for refusal in refused {
            tracing::warn!(
                resource = refusal.resource_name,
                reason = refusal.reason,
                "remembered, but not usable"
            );
        }
        self.unsaved = false;
        update
    }

    /// What to write to disk, when it differs from what was taken last: the form of a response that carries everything
    /// held, whole.
    pub fn remember(&mut self) -> Option<DeltaDiscoveryResponse> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        let any = |held: &Held| Any {
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            value: held.bytes.to_vec(),
        };
        let resource = |(name, held): (String, &Held)| Resource {
            name,
            version: held.version.clone(),
            resource: Some(any(held)),
            aliases: Vec::new(),
        };
        Some(DeltaDiscoveryResponse {
            system_version_info: self.version.clone(),
            resources: self.resources().map(resource).collect(),
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            ..DeltaDiscoveryResponse::default()
        })
    }

    /// Of everything that is remembered.
    pub fn held_bytes(&self) -> usize {
        self.resources().map(|(name, held)| name.len() + held.bytes.len()).sum()
    }

    pub fn has_unsaved(&self) -> bool {
        self.unsaved
    }

    /// Everything held, by resource name, with its version; empty: only the whole will do.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.resources()
            .map(|(name, held)| (name, held.version.clone()))
            .collect()
    }

    fn resources(&self) -> impl Iterator<Item = (String, &Held)> {
        let hosts = self.hosts.iter().map(|(fqdn, held)| (names::host(fqdn), held));
        let endpoints = self
            .endpoints
            .iter()
            .map(|(fqdn, endpoints)| (names::endpoints(fqdn), &endpoints.held));
        let workload = self.workload.iter().map(|held| (self.identity.resource_name(), held));
        hosts.chain(endpoints).chain(workload)
    }

    fn oldest_unresolved(&self) -> Option<String> {
        let oldest = self
            .unresolved
            .iter()
            .min_by_key(|(_, unresolved)| unresolved.last_wanted);
        oldest.map(|(fqdn, _)| fqdn.clone())
    }

    fn apply(&mut self, response: DeltaDiscoveryResponse, now: Instant) -> (Option<Update>, Vec<mesh::Refusal>) {
        let mut update = Update::default();
        let mut refused = Vec::new();
        for mut resource in response.resources {
            let (resource_name, version) = (resource.name.clone(), resource.version.clone());
            match self.take(&mut resource, &mut update) {
                Ok(()) => {}
                Err(Refused::Because(reason)) => refused.push(mesh::Refusal {
                    resource_name,
                    version,
                    reason,
                }),
                Err(Refused::BaseLost) => self.outbox.subscribe(resource_name),
            }
        }
        for name in &response.removed_resources {
            self.remove(name, now, &mut update);
        }
        let changes = !update.hosts.is_empty() || !update.endpoints.is_empty() || update.workload.is_some();
        if !changes {
            return (None, refused);
        }
        self.unsaved = true;
        self.version.clone_from(&response.system_version_info);
        update.version = response.system_version_info;
        (Some(update), refused)
    }

    fn take(&mut self, resource: &mut Resource, update: &mut Update) -> Result<(), Refused> {
        let full_name = std::mem::take(&mut resource.name);
        let name =
            names::parse(&full_name).ok_or_else(|| Refused::Because("no resource has such a name".to_owned()))?;
        if self.is_unasked(&name, &full_name) {
            // Unsubscribed while it was on its way.
            return Ok(());
        }
        let bytes = Bytes::from(check::payload(resource).map_err(Refused::Because)?);
        let checked = check::check(&name, &bytes).map_err(Refused::Because)?;
        let held = Held {
            version: std::mem::take(&mut resource.version),
            bytes,
        };
        match checked {
            Checked::Host(host) => {
                self.unresolved.remove(&host.fqdn);
                self.hosts.insert(host.fqdn.clone(), held);
                update.hosts.push((host.fqdn.clone(), Some(Arc::new(host))));
            }
            Checked::Endpoints(endpoints) => self.take_endpoints(endpoints, held, update)?,
            Checked::Workload(workload) => {
                self.workload = Some(held);
                update.workload = Some(Arc::new(workload));
            }
            Checked::Departure(departure) => {
                let mut unanswered = departure.unanswered;
                unanswered.truncate(MOST_UNANSWERED);
                self.callers = Some(Callers::Told { unanswered });
            }
        }
        Ok(())
    }

    fn is_unasked(&self, name: &ResourceName<'_>, full_name: &str) -> bool {
        match *name {
            ResourceName::Host(fqdn) => !self.hosts.contains_key(fqdn) && !self.unresolved.contains_key(fqdn),
            ResourceName::Endpoints(fqdn) => {
                !self.endpoints.contains_key(fqdn) && self.endpoints.len() >= MOST_ENDPOINT_SETS
            }
            ResourceName::Workload { .. } => full_name != self.identity.resource_name(),
            ResourceName::Departure { .. } => !self.is_own_departure(full_name),
        }
    }

    fn is_own_departure(&self, full_name: &str) -> bool {
        self.leaving && full_name == self.identity.departure_name()
    }

    fn take_endpoints(&mut self, wire: mesh::Endpoints, held: Held, update: &mut Update) -> Result<(), Refused> {
        let fqdn = wire.fqdn.clone();
        let next = match (wire.change, self.endpoints.get(&fqdn)) {
            (false, _) => HeldEndpoints::whole(held.version, held.bytes, wire),
            (true, Some(current)) => current.changed(held.version, wire),
            (true, None) => Err(Unusable::BaseLost),
        };
        match next {
            Ok(next) => {
                update.endpoints.push((fqdn.clone(), Some(Arc::clone(&next.set))));
                self.endpoints.insert(fqdn, next);
                Ok(())
            }
            Err(Unusable::Invalid(reason)) => Err(Refused::Because(reason)),
            Err(Unusable::BaseLost) => {
                // What is held stays in force, but is no version that the server could build on.
                if let Some(current) = self.endpoints.get_mut(&fqdn) {
                    current.held.version.clear();
                }
                Err(Refused::BaseLost)
            }
        }
    }

    fn remove(&mut self, name: &str, now: Instant, update: &mut Update) {
        match names::parse(name) {
            Some(ResourceName::Host(fqdn)) => {
                if self.hosts.remove(fqdn).is_some() {
                    self.unresolved.insert(
                        fqdn.to_owned(),
                        Unresolved {
                            absent: false,
                            last_wanted: now,
                        },
                    );
                }
                if let Some(unresolved) = self.unresolved.get_mut(fqdn)
                    && !std::mem::replace(&mut unresolved.absent, true)
                {
                    update.hosts.push((fqdn.to_owned(), None));
                }
            }
            Some(ResourceName::Endpoints(fqdn)) => {
                if self.endpoints.remove(fqdn).is_some() {
                    update.endpoints.push((fqdn.to_owned(), None));
                }
            }
            Some(ResourceName::Departure { .. }) if self.is_own_departure(name) => {
                self.callers = Some(Callers::NotTold {
                    reason: "the control plane knows of no departures, it is an older one".to_owned(),
                });
            }
            // There is always one; a name that was never asked for is nothing to remove.
            Some(ResourceName::Workload { .. } | ResourceName::Departure { .. }) | None => {}
        }
    }
}

fn node(identity: &Identity) -> Node {
    let text = |text: &str| Value {
        kind: Some(ValueKind::StringValue(text.to_owned())),
    };
    let labels = identity
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), text(value)))
        .collect();
    let labels = Value {
        kind: Some(ValueKind::StructValue(Struct { fields: labels })),
    };
    let instance_ips: Vec<String> = identity.instance_ips.iter().map(ToString::to_string).collect();
    let fields = [
        ("INSTANCE_IPS".to_owned(), text(&instance_ips.join(","))),
        ("NAMESPACE".to_owned(), text(&identity.namespace)),
        ("SERVICE_ACCOUNT".to_owned(), text(&identity.service_account)),
        ("LABELS".to_owned(), labels),
        ("NODE_NAME".to_owned(), text(&identity.node_name)),
    ];
    Node {
        id: identity.node_id.clone(),
        cluster: String::new(),
        metadata: Some(Struct {
            fields: fields.into_iter().collect(),
        }),
        user_agent_name: concat!("tsunagi-proxy/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

#[cfg(test)]
mod tests;
