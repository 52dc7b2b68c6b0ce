//! The documents by what the checks ask for: services by name, their endpoints, rules, where clients are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::WorkloadLabels;
use crate::config::{DestinationRule, Document, Kind, ServiceEndpoints, ServicePort, Spec, VirtualService};
use crate::snapshot::fqdns;

type Labels = BTreeMap<String, String>;

pub(super) struct Mesh<'a> {
    /// By FQDN, in order of precedence.
    services: BTreeMap<String, Vec<&'a Document>>,
    /// In order of precedence.
    pub virtual_services: Vec<(&'a Document, &'a VirtualService)>,
    pub destination_rules: Vec<(&'a Document, &'a DestinationRule)>,
    /// With their namespaces.
    workloads: Vec<(&'a str, &'a Labels)>,
    /// Where any document or workload is.
    namespaces: BTreeSet<&'a str>,
}

impl<'a> Mesh<'a> {
    pub fn new(documents: &'a [Arc<Document>], workloads: &'a [WorkloadLabels]) -> Self {
        let mut mesh = Self {
            services: BTreeMap::new(),
            virtual_services: Vec::new(),
            destination_rules: Vec::new(),
            workloads: workloads.iter().map(|it| (it.namespace.as_str(), &it.labels)).collect(),
            namespaces: workloads.iter().map(|it| it.namespace.as_str()).collect(),
        };
        let mut sorted: Vec<&Document> = documents.iter().map(|document| &**document).collect();
        sorted.sort_by(|one, other| one.by_age(other));
        for document in sorted {
            mesh.add(document);
        }
        mesh
    }

    fn add(&mut self, document: &'a Document) {
        let namespace = document.key.namespace.as_str();
        if document.key.kind == Kind::Node {
            return;
        }
        self.namespaces.insert(namespace);
        match &document.spec {
            Spec::Service(_) => self.add_service(document),
            Spec::ServiceEntry(entry) => {
                self.add_service(document);
                if let ServiceEndpoints::Listed(endpoints) = &entry.endpoints {
                    self.workloads
                        .extend(endpoints.iter().map(|endpoint| (namespace, &endpoint.labels)));
                }
            }
            Spec::WorkloadEntry(entry) => self.workloads.push((namespace, &entry.labels)),
            Spec::EndpointSlice(slice) => {
                self.workloads
                    .extend(slice.endpoints.iter().map(|endpoint| (namespace, &endpoint.labels)));
            }
            Spec::VirtualService(rule) => self.virtual_services.push((document, rule)),
            Spec::DestinationRule(rule) => self.destination_rules.push((document, rule)),
            Spec::Sidecar(_) | Spec::Node(_) => {}
        }
    }

    fn add_service(&mut self, document: &'a Document) {
        for fqdn in fqdns(document) {
            self.services.entry(fqdn).or_default().push(document);
        }
    }

    pub fn service(&self, fqdn: &str) -> Option<&'a Document> {
        self.services
            .get(fqdn)
            .or_else(|| self.wildcard(fqdn))?
            .first()
            .copied()
    }

    /// A ServiceEntry's `*.example.com` that covers the name.
    fn wildcard(&self, fqdn: &str) -> Option<&Vec<&'a Document>> {
        let mut rest = fqdn;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(found) = self.services.get(&format!("*.{suffix}")) {
                return Some(found);
            }
            rest = suffix;
        }
        None
    }

    /// Without any service nothing can be said of hosts: the rules are read alone.
    pub fn knows_services(&self) -> bool {
        !self.services.is_empty()
    }

    pub fn knows_workloads(&self) -> bool {
        !self.workloads.is_empty()
    }

    pub fn services(&self) -> impl Iterator<Item = (&str, &[&'a Document])> {
        self.services
            .iter()
            .map(|(fqdn, documents)| (fqdn.as_str(), documents.as_slice()))
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// Is there a workload with all of these labels? `namespace`: only there.
    pub fn has_workload(&self, namespace: Option<&str>, labels: &Labels) -> bool {
        let has = |(place, own): &(&str, &Labels)| {
            namespace.is_none_or(|wanted| wanted == *place)
                && labels.iter().all(|(key, value)| own.get(key) == Some(value))
        };
        self.workloads.iter().any(has)
    }

    /// DestinationRules for the host, in order of precedence.
    pub fn rules_for(&self, host: &str) -> impl Iterator<Item = (&'a Document, &'a DestinationRule)> {
        let rules = self.destination_rules.iter().copied();
        rules.filter(move |(_, rule)| covers_host(&rule.host, host))
    }

    /// Names that are like this one, for a suggestion.
    pub fn like(&self, fqdn: &str) -> Option<&str> {
        let names = self
            .services
            .keys()
            .map(|name| (strsim::damerau_levenshtein(name, fqdn), name));
        let (distance, name) = names.min()?;
        (distance <= 3).then_some(name.as_str())
    }
}

pub(super) fn ports(service: &Document) -> &[ServicePort] {
    match &service.spec {
        Spec::Service(service) => &service.ports,
        Spec::ServiceEntry(entry) => &entry.ports,
        _ => &[],
    }
}

/// How many endpoints it has, where they are all listed.
pub(super) fn listed_endpoints(service: &Document) -> Option<usize> {
    match &service.spec {
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Listed(endpoints) => Some(endpoints.len()),
            ServiceEndpoints::Selected(_) => None,
        },
        _ => None,
    }
}

/// Is `host` the one of a rule, or covered by its wildcard?
pub(super) fn covers_host(of_rule: &str, host: &str) -> bool {
    of_rule == host
        || of_rule
            .strip_prefix('*')
            .is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
}
