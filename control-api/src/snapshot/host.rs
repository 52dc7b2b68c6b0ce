//! The Host resource of one FQDN: for everyone, and for the clients of a namespace that has a DestinationRule of its
//! own for something that the host reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

use super::catalog::Catalog;
use super::clusters::{self, Clusters};
use super::service::{Port, Service};
use super::{Encoded, judge, policy, routes};
use crate::config::{Document, Problem, Spec, VirtualService};

/// What is told of one host, and what is to say about it.
#[derive(Debug, Default)]
pub(super) struct HostEntry {
    /// `None`: there is no such host, though a DestinationRule names it.
    pub everyone: Option<Arc<Encoded>>,
    /// Namespace of the client -> what its clients are told instead.
    pub special: BTreeMap<String, Arc<Encoded>>,
    /// FQDNs that exist and can be reached, the host itself included.
    pub reaches: Arc<[String]>,
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
}

impl HostEntry {
    pub(super) fn told(&self, client_namespace: &str) -> Option<&Arc<Encoded>> {
        self.special.get(client_namespace).or(self.everyone.as_ref())
    }
}

/// What the documents say of the host, whoever asks.
struct Facts<'a> {
    fqdn: &'a str,
    service: Option<Service>,
    rule: Option<(Arc<Document>, &'a VirtualService)>,
    ports: BTreeMap<u16, Port>,
}

/// `None`: no document says anything of this FQDN.
pub(super) fn build(catalog: &Catalog, fqdn: &str, previous: Option<&HostEntry>) -> Option<HostEntry> {
    let rules = catalog.rules(fqdn);
    let service = Service::find(catalog, fqdn);
    let in_force = rules.first().and_then(|document| match &document.spec {
        Spec::VirtualService(rule) => Some((Arc::clone(document), rule)),
        _ => None,
    });
    if service.is_none() && in_force.is_none() {
        return orphan(catalog, fqdn);
    }
    // One that was refused is judged again.
    let previous = previous.filter(|previous| previous.problems.is_empty());
    let mut entry = HostEntry::default();
    entry
        .warnings
        .extend(service.iter().flat_map(|service| service.warnings.iter().cloned()));
    entry.warnings.extend(rule_warnings(&rules, service.is_some(), fqdn));
    let ports = ports(catalog, service.as_ref(), in_force.as_ref().map(|(_, rule)| *rule));
    let facts = Facts {
        fqdn,
        service,
        rule: in_force,
        ports,
    };
    let destinations = destinations(catalog, &facts);

    let everyone = entry.add(
        catalog,
        &facts,
        None,
        previous.and_then(|previous| previous.everyone.as_ref()),
    );
    let clients: BTreeSet<String> = destinations
        .iter()
        .flat_map(|(host, namespace)| policy::special_clients(catalog, host, namespace))
        .collect();
    for client in clients {
        let before = previous.and_then(|previous| previous.special.get(&client));
        let special = entry.add(catalog, &facts, Some(&client), before);
        if special.version != everyone.version {
            entry.special.insert(client, special);
        }
    }
    entry.reaches = destinations
        .into_keys()
        .chain([fqdn.to_owned()])
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    entry.everyone = Some(everyone);
    entry.warnings.sort();
    entry.warnings.dedup();
    entry.problems.sort();
    entry.problems.dedup();
    Some(entry)
}

/// DestinationRules for a host that is not there.
fn orphan(catalog: &Catalog, fqdn: &str) -> Option<HostEntry> {
    let rules = catalog.destination_rules(fqdn);
    let warnings: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}: spec.host: no service has the host {fqdn}", rule.key))
        .collect();
    (!warnings.is_empty()).then(|| HostEntry {
        warnings,
        ..HostEntry::default()
    })
}

fn rule_warnings(rules: &[Arc<Document>], has_service: bool, fqdn: &str) -> Vec<String> {
    let Some((first, hidden)) = rules.split_first() else {
        return Vec::new();
    };
    let mut warnings: Vec<String> = hidden
        .iter()
        .map(|rule| {
            format!(
                "{}: spec.hosts: {} is older and in force for {fqdn}: this one is not",
                rule.key, first.key
            )
        })
        .collect();
    if !has_service {
        warnings.push(format!("{}: spec.hosts: no service has the host {fqdn}", first.key));
    }
    let Spec::VirtualService(rule) = &first.spec else {
        return warnings;
    };
    if let Some(all) = rule.http.iter().position(routes::catches_all) {
        for (index, _) in rule.http.iter().enumerate().skip(all + 1) {
            let reason = format!("spec.http[{index}]: hidden by spec.http[{all}], which matches every request");
            warnings.push(format!("{}: {reason}", first.key));
        }
    }
    for (index, http) in rule.http.iter().enumerate() {
        for number in routes::forgotten(http) {
            let reason = "is not given: beside others such a destination gets no requests";
            warnings.push(format!(
                "{}: spec.http[{index}].route[{number}].weight: {reason}",
                first.key
            ));
        }
    }
    warnings
}

/// The service's; for a host that only a VirtualService knows, those of its first destination that exists.
fn ports(catalog: &Catalog, service: Option<&Service>, rule: Option<&VirtualService>) -> BTreeMap<u16, Port> {
    if let Some(service) = service {
        return service.ports.clone();
    }
    let mut hosts = rule
        .into_iter()
        .flat_map(|rule| &rule.http)
        .flat_map(|http| &http.route)
        .map(|to| &to.host);
    hosts
        .find_map(|host| Service::find(catalog, host))
        .map(|service| service.ports)
        .unwrap_or_default()
}

/// Services that requests can reach, the host's own included, with their namespaces.
fn destinations(catalog: &Catalog, facts: &Facts<'_>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if let Some(service) = &facts.service {
        found.insert(facts.fqdn.to_owned(), service.namespace.clone());
    }
    let rules = facts.rule.iter().flat_map(|(_, rule)| &rule.http);
    for (_, to) in rules.flat_map(routes::reachable) {
        if !found.contains_key(&to.host) {
            found.extend(Service::find(catalog, &to.host).map(|service| (to.host.clone(), service.namespace)));
        }
    }
    found
}

impl HostEntry {
    /// Makes the resource for clients of one namespace; takes the previous one where it is the same.
    fn add(
        &mut self,
        catalog: &Catalog,
        facts: &Facts<'_>,
        client: Option<&str>,
        previous: Option<&Arc<Encoded>>,
    ) -> Arc<Encoded> {
        let (host, warnings) = message(catalog, facts, client);
        self.warnings.extend(warnings);
        let encoded = Encoded::whole(names::host(facts.fqdn), Kind::Host(host.clone()));
        if let Some(same) = previous.filter(|previous| previous.version == encoded.version) {
            return Arc::clone(same);
        }
        let documents = facts.rule.iter().map(|(document, _)| document);
        let documents = documents.chain(facts.service.iter().flat_map(|service| &service.documents));
        self.problems.extend(judge::host(host, documents));
        Arc::new(encoded)
    }
}

fn message(catalog: &Catalog, facts: &Facts<'_>, client: Option<&str>) -> (mesh::Host, Vec<String>) {
    let mut clusters = Clusters::new(catalog, client, facts.ports.keys().copied().collect());
    if facts.service.is_some() {
        clusters.add_plain(facts.fqdn);
    }
    if let Some((document, rule)) = &facts.rule {
        let name = document.key.to_string();
        for (index, http) in rule.http.iter().enumerate() {
            clusters.add_rule(&name, index, http);
        }
    }
    let (clusters, warnings) = clusters.finish();
    let namespace = match (&facts.service, &facts.rule) {
        (Some(service), _) => service.namespace.clone(),
        (None, Some((document, _))) => document.key.namespace.clone(),
        (None, None) => String::new(),
    };
    let port = |(number, port): (&u16, &Port)| mesh::Port {
        number: u32::from(*number),
        name: port.name.clone(),
        protocol: clusters::protocol(port.protocol).into(),
    };
    let mut addresses: Vec<String> = facts
        .service
        .iter()
        .flat_map(|service| &service.addresses)
        .map(ToString::to_string)
        .collect();
    addresses.sort();
    let host = mesh::Host {
        fqdn: facts.fqdn.to_owned(),
        namespace,
        ports: facts.ports.iter().map(port).collect(),
        routes: facts
            .rule
            .as_ref()
            .map(|(document, rule)| routes::table(&document.key, rule)),
        clusters,
        addresses,
        alias_of: String::new(),
    };
    (host, warnings)
}
