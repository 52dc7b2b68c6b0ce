//! The Host resource of one FQDN: for everyone, and for the clients of a namespace that see other rules or policies, by
//! what is exported to them or by a DestinationRule of their own for something that the host reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::clusters::{self, Clusters};
use super::scope::{HiddenRules, Rules, Scope};
use super::service::{Port, Service};
use super::unseen::{self, UnseenSubset};
use super::{Encoded, judge, policy, policy_index, route_warnings, routes, wildcards};
use crate::config::{Document, Key, Problem, Protocol};

/// What is told of one host, and what is to say about it.
#[derive(Debug, Default)]
pub(super) struct HostEntry {
    /// `None`: there is no such host, though documents name it, or not for everyone.
    pub everyone: Option<Told>,
    /// Namespace of the client -> what its clients are told instead.
    pub special: BTreeMap<String, Told>,
    pub warnings: Vec<String>,
    /// Those of the warnings that are of such.
    pub unseen: Vec<UnseenSubset>,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub encoded: Arc<Encoded>,
    /// FQDNs that exist and can be reached, the host itself included, sorted.
    pub reaches: Arc<[String]>,
}

impl HostEntry {
    pub(super) fn told(&self, client_namespace: &str) -> Option<&Told> {
        self.special.get(client_namespace).or(self.everyone.as_ref())
    }
}

/// The host as clients see it for whom the same rules are in force.
struct View<'a> {
    rules: Rules<'a>,
    ports: BTreeMap<u16, Port>,
    /// Namespaces with DestinationRules of their own.
    own_policies: BTreeSet<String>,
    /// What clients without one are told, once it is made.
    told: Option<Told>,
}

/// `None`: no document says anything of this FQDN.
pub(super) fn build(catalog: &Catalog, fqdn: &str, previous: Option<&HostEntry>) -> Option<HostEntry> {
    let service = Service::find(catalog, fqdn);
    let scope = Scope::of(catalog, fqdn, service.is_some());
    let mut builder = Builder {
        catalog,
        fqdn,
        service: service.as_ref(),
        scope: &scope,
        // One that was refused is judged again.
        previous: previous.filter(|previous| previous.problems.is_empty()),
        views: BTreeMap::new(),
        hidden: HiddenRules::default(),
        entry: HostEntry::default(),
    };
    if service.is_none() && scope.is_empty() {
        return orphan(catalog, fqdn);
    }
    builder.add_everyone();
    for client in builder.clients() {
        builder.add_client(&client);
    }
    Some(builder.finish())
}

/// DestinationRules for a host that is not there.
fn orphan(catalog: &Catalog, fqdn: &str) -> Option<HostEntry> {
    if policy_index::is_wildcard(fqdn) {
        // Of a wildcard it is its purpose to be for services that are not there yet.
        return None;
    }
    let rules = catalog.policies().named(fqdn);
    let warnings: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}: spec.host: no service has the host {fqdn}", rule.key))
        .collect();
    (!warnings.is_empty()).then(|| HostEntry {
        warnings,
        ..HostEntry::default()
    })
}

/// What a host that only a VirtualService knows has for requests, as in Istio.
const DEFAULT_HTTP_PORT: u16 = 80;

/// The service's; for a host that only a VirtualService knows, those of its first destination that exists, and 80 for
/// requests, which it may redirect or answer without any destination.
fn ports(catalog: &Catalog, service: Option<&Service>, rules: &Rules<'_>) -> BTreeMap<u16, Port> {
    if let Some(service) = service {
        return service.ports.clone();
    }
    let http = rules.http.iter().flat_map(|placed| &placed.rule.route);
    let connections = rules.tls.iter().chain(&rules.tcp);
    let mut routes = http.chain(connections.flat_map(|placed| &placed.rule.route));
    let mut ports = routes
        .find_map(|to| Service::find(catalog, &to.host))
        .map(|service| service.ports)
        .unwrap_or_default();
    if !rules.http.is_empty() {
        ports.entry(DEFAULT_HTTP_PORT).or_insert_with(|| Port {
            name: "http".to_owned(),
            protocol: Protocol::Http1,
            destination_port: None,
        });
    }
    ports
}

struct Builder<'a> {
    catalog: &'a Catalog,
    fqdn: &'a str,
    service: Option<&'a Service>,
    scope: &'a Scope,
    previous: Option<&'a HostEntry>,
    /// By the VirtualServices that clients may see, in order of precedence.
    views: BTreeMap<Vec<&'a Key>, View<'a>>,
    hidden: HiddenRules,
    entry: HostEntry,
}

impl<'a> Builder<'a> {
    /// Namespaces that may be told something else than everyone.
    fn clients(&self) -> BTreeSet<String> {
        let exported = self.scope.clients().into_iter().map(str::to_owned);
        let everyone = self.views.values().flat_map(|view| view.own_policies.iter().cloned());
        exported.chain(everyone).collect()
    }

    fn add_everyone(&mut self) {
        let previous = self.previous.and_then(|previous| previous.everyone.as_ref());
        self.entry.everyone = self.told(None, previous);
    }

    fn add_client(&mut self, client: &str) {
        let previous = self.previous.and_then(|previous| previous.told(client));
        let told = self.told(Some(client), previous);
        if let Some(told) = told.filter(|told| self.entry.everyone.as_ref() != Some(told)) {
            self.entry.special.insert(client.to_owned(), told);
        }
    }

    /// `None`: for these clients there is no such host.
    fn told(&mut self, client: Option<&str>, previous: Option<&Told>) -> Option<Told> {
        let visible = self.scope.visible(client);
        let keys: Vec<&'a Key> = visible.iter().map(|document| &document.key).collect();
        let view = match self.views.remove(&keys) {
            Some(view) => view,
            None => self.view(&visible),
        };
        self.hidden.note(&visible, &view.rules, client);
        let own_policy = client.filter(|client| view.own_policies.contains(*client));
        let told = match (&view.told, own_policy) {
            _ if self.service.is_none() && view.rules.are_none() => None,
            (Some(told), None) => Some(told.clone()),
            _ => Some(self.make(&view, own_policy, previous)),
        };
        let for_all = told.clone().filter(|_| own_policy.is_none()).or(view.told.clone());
        self.views.insert(keys, View { told: for_all, ..view });
        told
    }

    fn view(&mut self, visible: &[&'a Arc<Document>]) -> View<'a> {
        let rules = Rules::in_force(self.catalog, visible);
        self.entry.warnings.extend(route_warnings::of_rules(&rules.http));
        let ports = ports(self.catalog, self.service, &rules);
        let mut view = View {
            rules,
            ports,
            own_policies: BTreeSet::new(),
            told: None,
        };
        for (host, namespace) in self.destinations(&view.rules) {
            view.own_policies
                .extend(policy::special_clients(self.catalog, &host, &namespace));
        }
        view
    }

    /// Services that requests can reach, the host's own included, with their namespaces.
    fn destinations(&self, rules: &Rules<'_>) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        if let Some(service) = self.service {
            found.insert(self.fqdn.to_owned(), service.namespace.clone());
        }
        let http = rules.http.iter().map(|placed| &placed.rule.route);
        let connections = rules.tls.iter().chain(&rules.tcp).map(|placed| &placed.rule.route);
        let routes = http.chain(connections).flat_map(|route| routes::reachable(route));
        let mirrors = rules.http.iter().flat_map(|placed| &placed.rule.mirrors);
        let hosts = routes
            .map(|(_, to)| to.host.as_str())
            .chain(mirrors.map(|mirror| mirror.host.as_str()));
        for host in hosts {
            if !found.contains_key(host) {
                found.extend(Service::find(self.catalog, host).map(|service| (host.to_owned(), service.namespace)));
            }
        }
        found
    }

    /// The resource; the previous one where it is the same.
    fn make(&mut self, view: &View<'a>, client: Option<&str>, previous: Option<&Told>) -> Told {
        let mut clusters = self.clusters(view, client);
        self.entry.warnings.append(&mut clusters.warnings);
        self.entry.unseen.append(&mut clusters.unseen);
        let host = self.message(view, clusters.clusters);
        let encoded = Encoded::whole(names::host(self.fqdn), Kind::Host(host.clone()));
        if let Some(same) = previous.filter(|previous| previous.encoded.version == encoded.version) {
            return same.clone();
        }
        let mut reaches: BTreeSet<String> = host.clusters.iter().map(|cluster| cluster.host.clone()).collect();
        reaches.insert(self.fqdn.to_owned());
        let documents = view.rules.documents.iter().copied();
        let documents = documents.chain(self.service.iter().flat_map(|service| &service.documents));
        self.entry.problems.extend(judge::host(host, documents));
        Told {
            encoded: Arc::new(encoded),
            reaches: reaches.into_iter().collect(),
        }
    }

    fn clusters(&self, view: &View<'_>, client: Option<&str>) -> clusters::Found {
        let rules = &view.rules;
        let mut clusters = Clusters::new(self.catalog, client, self.fqdn, &view.ports);
        if self.service.is_some() {
            clusters.add_plain(self.fqdn);
        }
        for placed in &rules.http {
            clusters.add_http(placed);
        }
        for (list, rules) in [("tls", &rules.tls), ("tcp", &rules.tcp)] {
            rules.iter().for_each(|placed| clusters.add_connections(list, placed));
        }
        clusters.finish()
    }

    fn message(&self, view: &View<'_>, clusters: Vec<mesh::Cluster>) -> mesh::Host {
        let rules = &view.rules;
        let namespace = match (self.service, rules.key()) {
            (Some(service), _) => service.namespace.clone(),
            (None, Some(key)) => key.namespace.clone(),
            (None, None) => String::new(),
        };
        let port = |(number, port): (&u16, &Port)| mesh::Port {
            number: u32::from(*number),
            name: port.name.clone(),
            protocol: clusters::protocol(port.protocol).into(),
        };
        let addresses = self.service.iter().flat_map(|service| &service.addresses);
        let mut addresses: Vec<String> = addresses.map(ToString::to_string).collect();
        addresses.sort();
        let ranges = self.service.iter().flat_map(|service| &service.ranges);
        mesh::Host {
            fqdn: self.fqdn.to_owned(),
            namespace,
            ports: view.ports.iter().map(port).collect(),
            routes: routes::table(rules),
            clusters,
            addresses,
            ranges: ranges.map(ToString::to_string).collect(),
            alias_of: String::new(),
        }
    }

    fn finish(self) -> HostEntry {
        let mut entry = self.entry;
        entry.warnings.extend(self.hidden.warnings(self.fqdn));
        match self.service {
            Some(service) => entry.warnings.extend(service.warnings.iter().cloned()),
            // Of a wildcard it is its purpose.
            None if wildcards::ending(self.fqdn).is_some() => {}
            None => {
                let documents: BTreeMap<&Key, ()> = self
                    .views
                    .values()
                    .flat_map(|view| view.rules.documents.iter().map(|document| (&document.key, ())))
                    .collect();
                let unknown = |key: &&Key| format!("{key}: spec.hosts: no service has the host {}", self.fqdn);
                entry.warnings.extend(documents.keys().map(unknown));
            }
        }
        unseen::settle(&mut entry.unseen);
        entry.warnings.extend(entry.unseen.iter().map(ToString::to_string));
        entry.warnings.sort();
        entry.warnings.dedup();
        entry.problems.sort();
        entry.problems.dedup();
        entry
    }
}
