//! A service as the documents of its host make it, and those of its endpoints that documents write: listed twice, with a
//! weight that is none. Whose host it is `snapshot` decides, as for the proxies.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::mesh::has_labels;
use super::{Check, Findings, Severity};
use crate::config::{Address, Document, Resolution, ServiceEndpoints, ServicePort, Spec, WorkloadEntry};
use crate::snapshot::{owners, port_of};

const TWICE: Check = ("TSU-ENDPOINT-TWICE", Severity::Warning);
const WEIGHT: Check = ("TSU-WEIGHTS", Severity::Info);

type Labels = BTreeMap<String, String>;
/// A WorkloadEntry, by its document.
pub(super) type Selectable<'a> = (&'a Document, &'a WorkloadEntry);

pub(super) struct Service<'a> {
    first: &'a Document,
    /// All of one namespace, in order of precedence, the first among them.
    pub documents: Vec<&'a Document>,
    /// Of other namespaces: they add nothing to it.
    pub others: Vec<&'a Document>,
}

/// An endpoint that a document writes.
pub(super) struct Known<'a> {
    /// The Service or ServiceEntry that has it.
    pub service: &'a Document,
    /// Where it is written.
    pub document: &'a Document,
    /// In the ServiceEntry's list; `None`: it is a WorkloadEntry.
    index: Option<usize>,
    pub entry: &'a WorkloadEntry,
}

impl<'a> Known<'a> {
    fn field(&self, name: &str) -> String {
        match self.index {
            Some(index) => format!("spec.endpoints[{index}].{name}"),
            None => format!("spec.{name}"),
        }
    }

    /// As in `spec.endpoints[0] of ServiceEntry/default/e`.
    fn place(&self) -> String {
        match self.index {
            Some(index) => format!("spec.endpoints[{index}] of {}", self.document.key),
            None => self.document.key.to_string(),
        }
    }

    /// Two with the same are one: its address, and where its ports lead.
    pub fn identity(&self, ports: &[&ServicePort]) -> (&'a Address, Vec<Option<u16>>) {
        let ports = ports.iter().map(|port| port_of(self.entry, port));
        (&self.entry.address, ports.collect())
    }
}

/// As it is written.
pub(super) fn ports(document: &Document) -> &[ServicePort] {
    match &document.spec {
        Spec::Service(service) => &service.ports,
        Spec::ServiceEntry(entry) => &entry.ports,
        _ => &[],
    }
}

/// Labels that the endpoints must have; `None`: they are not selected.
pub(super) fn selector(document: &Document) -> Option<&Labels> {
    let selector = match &document.spec {
        Spec::Service(service) => &service.selector,
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Selected(selector) => selector,
            ServiceEndpoints::Listed(_) => return None,
        },
        _ => return None,
    };
    (!selector.is_empty()).then_some(selector)
}

fn listed(document: &Document) -> Option<&[WorkloadEntry]> {
    match &document.spec {
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Listed(endpoints) => Some(endpoints),
            ServiceEndpoints::Selected(_) => None,
        },
        _ => None,
    }
}

fn resolution(document: &Document) -> Option<Resolution> {
    match &document.spec {
        Spec::ServiceEntry(entry) => Some(entry.resolution),
        _ => None,
    }
}

impl<'a> Service<'a> {
    /// Of all documents that have its FQDN.
    pub fn of(documents: Vec<&'a Document>) -> Option<Self> {
        let (documents, others) = owners(documents);
        let first = documents.first().copied()?;
        Some(Self {
            first,
            documents,
            others,
        })
    }

    pub fn first(&self) -> &'a Document {
        self.first
    }

    pub fn namespace(&self) -> &'a str {
        &self.first.key.namespace
    }

    /// Of a number that several declare, the first counts.
    pub fn ports(&self) -> Vec<&'a ServicePort> {
        let mut ports: BTreeMap<u16, &ServicePort> = BTreeMap::new();
        for port in self.documents.iter().flat_map(|document| self::ports(document)) {
            ports.entry(port.number).or_insert(port);
        }
        ports.into_values().collect()
    }

    pub(super) fn endpoints(&self, selectable: &[Selectable<'a>]) -> Vec<Known<'a>> {
        let mut known = Vec::new();
        for service in self.documents.iter().copied() {
            let entries = listed(service).unwrap_or_default().iter().enumerate();
            known.extend(entries.map(|(index, entry)| Known {
                service,
                document: service,
                index: Some(index),
                entry,
            }));
            let Some(selector) = selector(service) else { continue };
            let selected = selectable.iter().filter(|(document, entry)| {
                document.key.namespace == service.key.namespace && has_labels(&entry.labels, selector)
            });
            known.extend(selected.map(|(document, entry)| Known {
                service,
                document,
                index: None,
                entry,
            }));
        }
        known
    }

    /// Do documents write all of them, each at an address of its own? `has_pod`: may there be one that the document selects?
    pub fn lists_all(&self, has_pod: impl Fn(&Document, &Labels) -> bool) -> bool {
        self.documents.iter().all(|document| match selector(document) {
            _ if !matches!(resolution(document), None | Some(Resolution::Static)) => false,
            Some(selector) => !has_pod(document, selector),
            None => listed(document).is_some(),
        })
    }

    /// May an endpoint with these labels be there, as far as anybody knows? `has_workload`: is there one of its namespace
    /// that has all of these?
    pub fn may_have(&self, labels: &Labels, has_workload: impl Fn(&Labels) -> bool) -> bool {
        self.documents.iter().any(|document| match listed(document) {
            Some(_) if resolution(document) == Some(Resolution::None) => true,
            Some(endpoints) if !endpoints.is_empty() => endpoints.iter().any(|it| has_labels(&it.labels, labels)),
            // The hosts themselves, without any label.
            Some(_) => labels.is_empty(),
            None => {
                let selector = selector(document);
                let contradicts = |(key, value): (&String, &String)| {
                    let wanted = selector.and_then(|selector| selector.get(key));
                    wanted.is_some_and(|wanted| wanted != value)
                };
                let mut all = selector.cloned().unwrap_or_default();
                all.extend(labels.clone());
                !labels.iter().any(contradicts) && (all.is_empty() || has_workload(&all))
            }
        })
    }
}

/// Of each pair that is told, where its documents have it.
pub(super) type Told = HashSet<(*const WorkloadEntry, *const Document)>;

pub(super) fn check(findings: &mut Findings<'_>, fqdn: &str, service: &Service<'_>, told: &mut Told) {
    let (mesh, ports) = (findings.mesh, service.ports());
    let mut first_at = HashMap::new();
    for known in mesh.endpoints(service) {
        let identity = known.identity(&ports);
        let Some(first) = first_at.get(&identity) else {
            first_at.insert(identity, known);
            continue;
        };
        // A ServiceEntry with several hosts has it for each.
        if told.insert((std::ptr::from_ref(known.entry), std::ptr::from_ref(known.service))) {
            twice(findings, fqdn, first, &known);
        }
    }
}

fn twice(findings: &mut Findings<'_>, fqdn: &str, first: &Known<'_>, again: &Known<'_>) {
    if std::ptr::eq(first.entry, again.entry) {
        let what = format!(
            "selects {}, which is an endpoint of {fqdn} by {} already",
            again.document.key, first.service.key
        );
        return findings.add(TWICE, again.service, "spec", what, "one document for both");
    }
    let what = format!("is an endpoint of {fqdn} already, by {}: it counts once", first.place());
    let instead = "a weight, if it is to get more requests";
    findings.add(TWICE, again.document, again.field("address"), what, instead);
}

/// A weight that is written, and is not what it says.
pub(super) fn weights(findings: &mut Findings<'_>, document: &Document) {
    let said = |pointer: &str| {
        let weight = document.object.pointer(pointer);
        weight.is_some_and(|weight| *weight == 0)
    };
    let what = "0 counts as 1, as if it were not set: the endpoint gets requests";
    let instead = "no such endpoint, if it is to get none";
    if matches!(document.spec, Spec::WorkloadEntry(_)) && said("/spec/weight") {
        findings.add(WEIGHT, document, "spec.weight", what, instead);
    }
    for index in 0..listed(document).unwrap_or_default().len() {
        if said(&format!("/spec/endpoints/{index}/weight")) {
            let field = format!("spec.endpoints[{index}].weight");
            findings.add(WEIGHT, document, field, what, instead);
        }
    }
}
