//! The documents by what the checks ask for: services by name, rules, workloads, where clients are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

use super::endpoints::{Known, Selectable, Service};
use super::{Surroundings, WorkloadLabels};
use crate::config::{DestinationRule, Document, Kind, ServiceEndpoints, Spec, VirtualService};
use crate::snapshot::fqdns;

type Labels = BTreeMap<String, String>;

pub(super) struct Mesh<'a> {
    /// By FQDN.
    services: BTreeMap<String, Service<'a>>,
    /// In order of precedence.
    pub virtual_services: Vec<(&'a Document, &'a VirtualService)>,
    pub destination_rules: Vec<(&'a Document, &'a DestinationRule)>,
    /// With their namespaces.
    workloads: Vec<(&'a str, &'a Labels)>,
    /// Of which it is only known that they call others.
    clients: Vec<(&'a str, &'a Labels)>,
    /// Of those workloads the ones that are no document's own endpoints: pods, as far as they are known.
    pods: Vec<(&'a str, &'a Labels)>,
    /// Services of which an EndpointSlice lists endpoints, with their namespaces.
    sliced: BTreeSet<(&'a str, &'a str)>,
    /// WorkloadEntries.
    selectable: Vec<Selectable<'a>>,
    /// Where any document or workload is.
    namespaces: BTreeSet<&'a str>,
    /// Hosts with the ports that rules for requests name.
    led_to: BTreeSet<(&'a str, u16)>,
    pub root_namespace: &'a str,
}

impl<'a> Mesh<'a> {
    pub fn new(documents: &'a [Arc<Document>], surroundings: Surroundings<'a>) -> Self {
        let Surroundings { workloads, clients, .. } = surroundings;
        let placed = |list: &'a [WorkloadLabels]| list.iter().map(|it| (it.namespace.as_str(), &it.labels)).collect();
        let mut mesh = Self {
            services: BTreeMap::new(),
            virtual_services: Vec::new(),
            destination_rules: Vec::new(),
            workloads: placed(workloads),
            clients: placed(clients),
            pods: placed(workloads),
            sliced: BTreeSet::new(),
            selectable: Vec::new(),
            namespaces: workloads
                .iter()
                .chain(clients)
                .map(|it| it.namespace.as_str())
                .collect(),
            led_to: BTreeSet::new(),
            root_namespace: surroundings.root_namespace,
        };
        let mut sorted: Vec<&Document> = documents.iter().map(|document| &**document).collect();
        sorted.sort_by(|one, other| one.by_age(other));
        let mut named: BTreeMap<String, Vec<&Document>> = BTreeMap::new();
        for document in sorted {
            mesh.add(document);
            for fqdn in fqdns(document) {
                named.entry(fqdn).or_default().push(document);
            }
        }
        let services = named.into_iter();
        mesh.services = services
            .filter_map(|(fqdn, documents)| Some((fqdn, Service::of(documents)?)))
            .collect();
        mesh
    }

    fn add(&mut self, document: &'a Document) {
        let namespace = document.key.namespace.as_str();
        if document.key.kind == Kind::Node {
            return;
        }
        self.namespaces.insert(namespace);
        match &document.spec {
            Spec::ServiceEntry(entry) => {
                if let ServiceEndpoints::Listed(endpoints) = &entry.endpoints {
                    self.workloads
                        .extend(endpoints.iter().map(|endpoint| (namespace, &endpoint.labels)));
                }
            }
            Spec::WorkloadEntry(entry) => {
                self.workloads.push((namespace, &entry.labels));
                self.selectable.push((document, entry));
            }
            Spec::EndpointSlice(slice) => {
                self.sliced.insert((namespace, &slice.service));
                let labels = slice.endpoints.iter().map(|endpoint| (namespace, &endpoint.labels));
                self.workloads.extend(labels.clone());
                self.pods.extend(labels);
            }
            Spec::VirtualService(rule) => {
                let targets = rule.http.iter().flat_map(|rule| &rule.route);
                self.led_to
                    .extend(targets.filter_map(|to| Some((to.host.as_str(), to.port?))));
                self.virtual_services.push((document, rule));
            }
            Spec::DestinationRule(rule) => self.destination_rules.push((document, rule)),
            Spec::Service(_) | Spec::Sidecar(_) | Spec::Node(_) => {}
        }
    }

    pub fn service(&self, fqdn: &str) -> Option<&Service<'a>> {
        self.services.get(fqdn).or_else(|| self.wildcard(fqdn))
    }

    /// A ServiceEntry's `*.example.com` that covers the name.
    fn wildcard(&self, fqdn: &str) -> Option<&Service<'a>> {
        let mut rest = fqdn;
        while let Some((_, suffix)) = rest.split_once('.') {
            if let Some(found) = self.services.get(&format!("*.{suffix}")) {
                return Some(found);
            }
            rest = suffix;
        }
        None
    }

    pub fn workload_entries(&self) -> &[Selectable<'a>] {
        &self.selectable
    }

    /// Those endpoints of a service that documents write with their labels.
    pub fn endpoints(&self, service: &Service<'a>) -> Vec<Known<'a>> {
        service.endpoints(&self.selectable)
    }

    /// Are those all that it has? A pod that nobody told of may be there, too.
    pub fn knows_all_endpoints(&self, service: &Service<'_>) -> bool {
        service.lists_all(|document, selector| {
            let namespace = document.key.namespace.as_str();
            self.sliced.contains(&(namespace, &document.key.name)) || has(&self.pods, Some(namespace), selector)
        })
    }

    /// Without any service nothing can be said of hosts: the rules are read alone.
    pub fn knows_services(&self) -> bool {
        !self.services.is_empty()
    }

    pub fn knows_workloads(&self) -> bool {
        !self.workloads.is_empty()
    }

    pub fn services(&self) -> impl Iterator<Item = (&str, &Service<'a>)> {
        self.services.iter().map(|(fqdn, service)| (fqdn.as_str(), service))
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// Is there a workload with all of these labels that can be an endpoint? `namespace`: only there.
    pub fn has_workload(&self, namespace: Option<&str>, labels: &Labels) -> bool {
        has(&self.workloads, namespace, labels)
    }

    /// The same of those that call others.
    pub fn has_client(&self, namespace: Option<&str>, labels: &Labels) -> bool {
        self.has_workload(namespace, labels) || has(&self.clients, namespace, labels)
    }

    pub fn knows_clients(&self) -> bool {
        self.knows_workloads() || !self.clients.is_empty()
    }

    /// DestinationRules for the host, in order of precedence.
    pub fn rules_for(&self, host: &str) -> impl Iterator<Item = (&'a Document, &'a DestinationRule)> {
        let rules = self.destination_rules.iter().copied();
        rules.filter(move |(_, rule)| covers_host(&rule.host, host))
    }

    /// Does a VirtualService lead requests to this port of the host, or of one that its wildcard covers?
    pub fn leads_requests_to(&self, host: &str, port: u16) -> bool {
        let covered = |(to, number): &(&str, u16)| *number == port && covers_host(host, to);
        self.led_to.contains(&(host, port)) || (host.starts_with('*') && self.led_to.iter().any(covered))
    }

    /// A name that is like this one, for a suggestion.
    pub fn like(&self, fqdn: &str) -> Option<String> {
        let distant = || {
            let names = self
                .services
                .keys()
                .map(|name| (strsim::damerau_levenshtein(name, fqdn), name));
            let (distance, name) = names.min()?;
            (distance <= 3).then(|| name.clone())
        };
        self.in_full(fqdn).or_else(distant)
    }

    /// Of `name.namespace` and `name.namespace.svc`, which clients may call a Service and rules may not: its whole name.
    pub fn in_full(&self, host: &str) -> Option<String> {
        let missing = match host.ends_with(".svc") {
            true => DEFAULT_CLUSTER_DOMAIN.to_owned(),
            false => format!("svc.{DEFAULT_CLUSTER_DOMAIN}"),
        };
        let full = format!("{host}.{missing}");
        let is_service = |name: &str| {
            if name.starts_with('*') {
                self.services.keys().any(|fqdn| covers_host(name, fqdn))
            } else {
                self.services.contains_key(name)
            }
        };
        is_service(&full).then_some(full)
    }
}

fn has(workloads: &[(&str, &Labels)], namespace: Option<&str>, labels: &Labels) -> bool {
    let mut there = workloads
        .iter()
        .filter(|(place, _)| namespace.is_none_or(|it| it == *place));
    there.any(|(_, own)| has_labels(own, labels))
}

pub(super) fn has_labels(own: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| own.get(key) == Some(value))
}

/// Is `host` the one of a rule, or covered by its wildcard?
pub(super) fn covers_host(of_rule: &str, host: &str) -> bool {
    of_rule == host
        || of_rule
            .strip_prefix('*')
            .is_some_and(|suffix| host.len() > suffix.len() && host.ends_with(suffix))
}
