//! The Endpoints resource of one FQDN: whole, and as a change since the version before.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use tsunagi_proto::names::{DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};
use tsunagi_proto::wire::mesh::{self, Discovery, resource};
use tsunagi_proto::{model, names};

use super::catalog::{Catalog, selector};
use super::departures::Departures;
use super::encoded::encode;
use super::service::discovery;
use super::{Encoded, EncodedChange, clusters, judge, service, slices};
use crate::config::{
    Address, Document, Key, Kind, Problem, ServiceEndpoints, ServicePort, Spec, TargetPort, WorkloadEntry,
};

/// What is told of one host's endpoints.
#[derive(Debug)]
pub(super) struct EndpointsEntry {
    pub encoded: Arc<Encoded>,
    /// Sorted by id.
    set: Vec<mesh::Endpoint>,
    checksum: u64,
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
}

impl EndpointsEntry {
    /// How many there are at each locality; those that nobody calls do not count.
    pub(super) fn by_locality(&self) -> BTreeMap<&str, u32> {
        let mut counts = BTreeMap::new();
        let serving = self
            .set
            .iter()
            .filter(|endpoint| endpoint.health() != mesh::Health::Unhealthy);
        for endpoint in serving {
            *counts.entry(endpoint.locality.as_str()).or_default() += 1;
        }
        counts
    }
}

/// The previous entry itself where nothing changed. `None`: there is no such host.
pub(super) fn build(
    catalog: &Catalog,
    departures: &Departures,
    fqdn: &str,
    previous: Option<&Arc<EndpointsEntry>>,
) -> Option<Arc<EndpointsEntry>> {
    let services = catalog.services(fqdn);
    if services.is_empty() && !catalog.has_rules(fqdn) {
        return None;
    }
    let mut found = Found::new(departures);
    for service in &services {
        found.add_service(catalog, service, fqdn);
    }
    found.warn_of_idle_selectors();
    found.warn_of_repeated(fqdn);
    let set: Vec<mesh::Endpoint> = found.endpoints.into_values().collect();
    if let Some(previous) = previous.filter(|previous| previous.set == set && previous.warnings == found.warnings) {
        return Some(Arc::clone(previous));
    }
    let checksum = model::endpoints_checksum(&set);
    let whole = mesh::Endpoints {
        fqdn: fqdn.to_owned(),
        upserts: set.clone(),
        checksum,
        ..mesh::Endpoints::default()
    };
    let mut encoded = Encoded::whole(names::endpoints(fqdn), resource::Kind::Endpoints(whole.clone()));
    encoded.change = previous.and_then(|previous| change(previous, &set, &encoded, &whole));
    Some(Arc::new(EndpointsEntry {
        encoded: Arc::new(encoded),
        problems: judge::endpoints(whole, services.iter()).into_iter().collect(),
        set,
        checksum,
        warnings: found.warnings,
    }))
}

/// `None` where the whole set is not longer.
fn change(
    previous: &EndpointsEntry,
    set: &[mesh::Endpoint],
    encoded: &Encoded,
    whole: &mesh::Endpoints,
) -> Option<EncodedChange> {
    if previous.encoded.version == encoded.version {
        return previous.encoded.change.clone();
    }
    let of = |set: &[mesh::Endpoint], id: &str| set.binary_search_by(|endpoint| endpoint.id.as_str().cmp(id)).ok();
    let same = |endpoint: &&mesh::Endpoint| {
        of(&previous.set, &endpoint.id).and_then(|index| previous.set.get(index)) == Some(*endpoint)
    };
    let message = mesh::Endpoints {
        fqdn: whole.fqdn.clone(),
        base_checksum: previous.checksum,
        change: true,
        upserts: set.iter().filter(|endpoint| !same(endpoint)).cloned().collect(),
        removals: previous
            .set
            .iter()
            .map(|old| &old.id)
            .filter(|id| of(set, id).is_none())
            .cloned()
            .collect(),
        checksum: whole.checksum,
    };
    let bytes = encode(resource::Kind::Endpoints(message));
    (bytes.len() < encoded.bytes.len()).then(|| EncodedChange {
        base_version: previous.encoded.version.clone(),
        bytes,
    })
}

struct Found<'a> {
    departures: &'a Departures,
    endpoints: BTreeMap<String, mesh::Endpoint>,
    /// Address and first port -> the id of the endpoint that was found there first.
    places: HashMap<String, String>,
    /// How often an id was asked for that had been given away.
    uses: HashMap<String, u32>,
    /// By the document in which they are written again.
    repeated: BTreeMap<Key, Repeated>,
    /// Of documents that select nothing.
    idle: Vec<Key>,
    warnings: Vec<String>,
}

/// Endpoints that are there already.
struct Repeated {
    /// Where the first of them is.
    place: String,
    /// Who has written it there.
    by: String,
    /// Beside that one.
    more: usize,
}

/// Is nothing that tells endpoints of one address apart, the labels of a subset least of all, another?
fn are_alike(one: &mesh::Endpoint, other: &mesh::Endpoint) -> bool {
    let what = |it: &'_ mesh::Endpoint| (it.address.clone(), it.hostname.clone(), it.locality.clone());
    one.ports == other.ports && one.labels == other.labels && what(one) == what(other)
}

impl<'a> Found<'a> {
    fn new(departures: &'a Departures) -> Self {
        Self {
            departures,
            endpoints: BTreeMap::new(),
            places: HashMap::new(),
            uses: HashMap::new(),
            repeated: BTreeMap::new(),
            idle: Vec::new(),
            warnings: Vec::new(),
        }
    }

    fn add_service(&mut self, catalog: &Catalog, service: &Document, fqdn: &str) {
        if discovery(service) == Discovery::OriginalDestination {
            if selector(service).is_some() {
                self.warnings.push(format!(
                    "{}: spec.workloadSelector: with resolution NONE, which is the default, requests go where their client connects to: nothing is selected",
                    service.key
                ));
            }
            return;
        }
        if let Some(selector) = selector(service) {
            let selected = catalog.selected(&service.key.namespace, selector);
            if selected.is_empty() && catalog.slices(service).is_empty() {
                self.idle.push(service.key.clone());
            }
            for document in selected {
                if let Spec::WorkloadEntry(entry) = &document.spec {
                    self.add(service, &document, entry);
                }
            }
        }
        if service.key.kind == Kind::Service {
            let found = slices::endpoints(service, &catalog.slices(service), self.departures);
            for endpoint in found {
                let place = endpoint.id.rsplit('/').next().unwrap_or_default();
                let first = self.places.entry(place.to_owned());
                first.or_insert_with(|| endpoint.id.clone());
                self.endpoints.insert(endpoint.id.clone(), endpoint);
            }
        }
        if let Spec::ServiceEntry(service_entry) = &service.spec
            && let ServiceEndpoints::Listed(entries) = &service_entry.endpoints
        {
            for entry in entries {
                self.add(service, service, entry);
            }
            if entries.is_empty() && service_entry.resolution.is_dns() {
                self.add_names(service, &service_entry.hosts, fqdn);
            }
        }
    }

    fn warn_of_idle_selectors(&mut self) {
        let consequence = if self.endpoints.is_empty() {
            "requests get 503 UH"
        } else {
            "it adds no endpoint"
        };
        for key in &self.idle {
            let field = match key.kind {
                Kind::Service => "spec.selector",
                _ => "spec.workloadSelector",
            };
            self.warnings.push(format!(
                "{key}: {field}: selects no WorkloadEntry of namespace {}: {consequence}",
                key.namespace
            ));
        }
    }

    /// A service whose endpoints are what DNS says of its own name.
    fn add_names(&mut self, service: &Document, hosts: &[String], fqdn: &str) {
        let namespace = &service.key.namespace;
        let is_it = |host: &&String| *host == fqdn || resolve_in_rule(host, namespace, DEFAULT_CLUSTER_DOMAIN) == fqdn;
        for host in hosts.iter().filter(is_it) {
            self.add(service, service, &WorkloadEntry::at(Address::Name(host.clone())));
        }
    }

    /// `owner`: the document in which the endpoint is written.
    fn add(&mut self, service: &Document, owner: &Document, entry: &WorkloadEntry) {
        let mut ports = Vec::new();
        for port in service::ports(service) {
            match port_of(entry, port) {
                Some(number) => ports.push(mesh::EndpointPort {
                    service_port: port.number.into(),
                    port: number.into(),
                }),
                None => self.warnings.push(format!(
                    "{}: spec.ports: has neither {:?} nor the target port of {}, port {}: it gets no requests there",
                    owner.key, port.name, service.key, port.number
                )),
            }
        }
        ports.sort_by_key(|port| port.service_port);
        let Some(first) = ports.first().and_then(|port| u16::try_from(port.port).ok()) else {
            return;
        };
        let place = match &entry.address {
            Address::Ip(address) => SocketAddr::new(*address, first).to_string(),
            Address::Name(_) if !matches!(discovery(service), Discovery::Dns | Discovery::DnsRoundRobin) => {
                self.warnings.push(format!(
                    "{}: spec.address: a name is an endpoint only of a ServiceEntry with resolution DNS or DNS_ROUND_ROBIN: it gets no requests of {}",
                    owner.key, service.key
                ));
                return;
            }
            Address::Name(name) => format!("{name}:{first}"),
        };
        // A ServiceEntry's list has no names.
        let name = match owner.key.kind {
            Kind::WorkloadEntry => owner.key.name.as_str(),
            _ => "",
        };
        let address = entry.address.ip();
        let health = if address.is_some_and(|address| self.departures.is_leaving(&owner.key, name, address)) {
            mesh::Health::Draining
        } else if entry.healthy {
            mesh::Health::Healthy
        } else {
            mesh::Health::Unhealthy
        };
        let endpoint = mesh::Endpoint {
            id: format!("{}/{place}", owner.key),
            address: address.map(|address| address.to_string()).unwrap_or_default(),
            hostname: match &entry.address {
                Address::Ip(_) => String::new(),
                Address::Name(name) => name.clone(),
            },
            ports,
            labels: clusters::labels(&entry.labels),
            locality: entry.locality.clone(),
            // 0 counts as 1, so that both have the same bytes.
            weight: entry.weight.max(1),
            health: health.into(),
            service_account: entry.service_account.clone(),
            ..mesh::Endpoint::default()
        };
        self.insert(owner, place, endpoint);
    }

    /// What is written again is one endpoint, whose first state but the better counts; with other labels it may be one of
    /// other subsets, and it is left to the proxies to see to it that no cluster has it twice.
    fn insert(&mut self, owner: &Document, place: String, mut endpoint: mesh::Endpoint) {
        let Some(first) = self.places.get(&place) else {
            self.places.insert(place, endpoint.id.clone());
            self.endpoints.insert(endpoint.id.clone(), endpoint);
            return;
        };
        let by = || first.strip_suffix(&place).unwrap_or(first).trim_end_matches('/');
        let repeated = self.repeated.entry(owner.key.clone()).and_modify(|it| it.more += 1);
        repeated.or_insert_with(|| Repeated {
            by: by().to_owned(),
            place: place.clone(),
            more: 0,
        });
        if let Some(known) = self
            .endpoints
            .get_mut(first)
            .filter(|known| are_alike(known, &endpoint))
        {
            known.health = known.health.min(endpoint.health);
            return;
        }
        endpoint.id = self.free_id(endpoint.id);
        self.endpoints.insert(endpoint.id.clone(), endpoint);
    }

    fn free_id(&mut self, id: String) -> String {
        let is_taken = self.endpoints.contains_key(&id);
        let uses = self.uses.entry(id.clone()).or_insert(u32::from(is_taken));
        *uses += 1;
        if *uses == 1 { id } else { format!("{id}#{uses}") }
    }

    fn warn_of_repeated(&mut self, fqdn: &str) {
        for (owner, Repeated { place, by, more }) in &self.repeated {
            let field = match owner.kind {
                Kind::WorkloadEntry => "spec.address",
                _ => "spec.endpoints",
            };
            let more = match more {
                0 => String::new(),
                more => format!(" (and {more} more like this)"),
            };
            self.warnings.push(if *by == owner.to_string() {
                format!("{owner}: {field}: {place} is listed more than once{more}: it is one endpoint, with the share of one")
            } else {
                format!(
                    "{owner}: {field}: {place} is an endpoint of {fqdn} already, by {by}{more}: it is one endpoint, with the share of one"
                )
            });
        }
    }
}

/// The endpoint's port of the same name, else the target port.
pub fn port_of(entry: &WorkloadEntry, port: &ServicePort) -> Option<u16> {
    let named = entry.ports.get(&port.name).filter(|_| !port.name.is_empty());
    named.copied().or(match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => entry.ports.get(name).copied(),
    })
}
