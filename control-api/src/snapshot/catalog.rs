//! Which document concerns which host: kept up by adding and removing single documents, never rebuilt.

mod of_node;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use ipnet::IpNet;
use tsunagi_proto::names::{DEFAULT_CLUSTER_DOMAIN, resolve_in_rule};

use super::addresses;
use super::documents::{Act, Documents, by_age, named, put, take};
use super::places::places;
use super::policy_index::{self, PolicyIndex};
use super::ranges::{self, Ranges};
use super::rule_index::RuleIndex;
use super::wildcards::{self, Wildcards};
use crate::config::{Document, Key, Kind, ServiceEndpoints, Spec};

#[derive(Clone, Debug)]
pub(super) struct Catalog {
    /// Whose DestinationRules and Sidecars are for every namespace that has none.
    root_namespace: Arc<str>,
    /// FQDN -> Services and ServiceEntries of that name.
    services: Documents,
    rules: RuleIndex,
    /// Of VirtualServices and ServiceEntries.
    wildcards: Wildcards,
    policies: PolicyIndex,
    /// Namespace and one label -> WorkloadEntries that have it.
    workloads: Documents,
    /// Namespace and the first label of a selector -> Services and ServiceEntries that select by it.
    selectors: Documents,
    /// Virtual address, or a ServiceEntry's host without a dot -> Services and ServiceEntries that have it.
    virtual_addresses: Documents,
    ranges: Ranges,
    /// Namespace, and the name or an address of endpoints -> WorkloadEntries, ServiceEntries and EndpointSlices that write
    /// them.
    endpoints: Documents,
    /// FQDN of a Service -> EndpointSlices of it.
    slices: Documents,
    /// Namespace -> Sidecars.
    sidecars: Documents,
}

/// Hosts that a change of documents concerns.
#[derive(Default)]
pub(super) struct Touched {
    pub hosts: BTreeSet<String>,
    pub endpoints: BTreeSet<String>,
    /// Wildcards whose rules are others now for the services that they cover.
    wildcards: BTreeSet<String>,
    /// Wildcards of DestinationRules that came or went.
    policies: BTreeSet<String>,
    /// VirtualServices of which there may be something else to say.
    pub rules: BTreeSet<Key>,
    /// WorkloadEntries that may be selected now, or not any more.
    pub workloads: BTreeSet<Key>,
    /// Virtual addresses.
    pub addresses: BTreeSet<String>,
    /// Ranges of them.
    pub ranges: BTreeSet<IpNet>,
    /// Namespaces whose proxies may be told otherwise of themselves.
    pub namespaces: BTreeSet<String>,
    /// The same for all namespaces.
    pub all_namespaces: bool,
    /// Namespaces whose Sidecars changed.
    pub sidecars: BTreeSet<String>,
}

impl Touched {
    fn add_host(&mut self, host: &str) {
        self.hosts.insert(host.to_owned());
        if wildcards::ending(host).is_some() {
            self.wildcards.insert(host.to_owned());
        }
    }
}

fn labelled(namespace: &str, (key, value): (&String, &String)) -> String {
    format!("{namespace}\n{key}\n{value}")
}

/// Labels that the endpoints of a service must have; `None`: they are not selected.
pub(super) fn selector(document: &Document) -> Option<&BTreeMap<String, String>> {
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

/// FQDNs of a Service or a ServiceEntry, each once. A ServiceEntry's host without a dot is what every other name without a
/// dot is: a name in its namespace. Elsewhere the word alone stands for that, see `addresses`.
pub fn fqdns(document: &Document) -> Vec<String> {
    let namespace = &document.key.namespace;
    let qualified = |name: &String| resolve_in_rule(name, namespace, DEFAULT_CLUSTER_DOMAIN);
    match &document.spec {
        Spec::Service(_) => vec![service_fqdn(&document.key.name, namespace)],
        Spec::ServiceEntry(entry) => {
            let mut seen = HashSet::with_capacity(entry.hosts.len());
            let names = entry.hosts.iter().map(qualified);
            names.filter(|name| seen.insert(name.clone())).collect()
        }
        _ => Vec::new(),
    }
}

fn service_fqdn(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{DEFAULT_CLUSTER_DOMAIN}")
}

impl Catalog {
    pub(super) fn new(root_namespace: &str) -> Self {
        Self {
            root_namespace: root_namespace.into(),
            services: Documents::default(),
            rules: RuleIndex::default(),
            wildcards: Wildcards::default(),
            policies: PolicyIndex::default(),
            workloads: Documents::default(),
            selectors: Documents::default(),
            virtual_addresses: Documents::default(),
            ranges: Ranges::default(),
            endpoints: Documents::default(),
            slices: Documents::default(),
            sidecars: Documents::default(),
        }
    }

    pub(super) fn root_namespace(&self) -> &str {
        &self.root_namespace
    }

    pub(super) fn add(&mut self, document: &Arc<Document>) {
        self.each_place(document, put);
        self.ranges.add(document);
        self.policies.add(document);
        let names = self.names(document);
        names.iter().for_each(|name| self.wildcards.add(name));
    }

    pub(super) fn remove(&mut self, document: &Arc<Document>) {
        self.each_place(document, take);
        self.ranges.remove(document);
        self.policies.remove(document);
        let names = self.names(document);
        names.iter().for_each(|name| self.wildcards.remove(name));
    }

    fn each_place(&mut self, document: &Arc<Document>, act: Act) {
        let namespace = &document.key.namespace;
        for place in places(document) {
            act(&mut self.endpoints, &place, document);
        }
        match &document.spec {
            Spec::Service(_) | Spec::ServiceEntry(_) => {
                for address in addresses::names_of(document) {
                    act(&mut self.virtual_addresses, &address, document);
                }
                for fqdn in fqdns(document) {
                    act(&mut self.services, &fqdn, document);
                }
                if let Some(first) = selector(document).and_then(BTreeMap::first_key_value) {
                    act(&mut self.selectors, &labelled(namespace, first), document);
                }
            }
            Spec::VirtualService(_) => self.rules.each_place(document, act),
            Spec::DestinationRule(_) => {}
            Spec::Sidecar(_) => act(&mut self.sidecars, namespace, document),
            Spec::WorkloadEntry(entry) => {
                for label in &entry.labels {
                    act(&mut self.workloads, &labelled(namespace, label), document);
                }
            }
            Spec::EndpointSlice(slice) => act(&mut self.slices, &service_fqdn(&slice.service, namespace), document),
            Spec::Node(_) => {}
        }
    }

    /// Adds to `touched` what a document concerns that came or went.
    pub(super) fn touch(&self, document: &Document, touched: &mut Touched) {
        match &document.spec {
            Spec::Service(_) | Spec::ServiceEntry(_) => {
                self.touch_service(document, touched);
                for fqdn in fqdns(document) {
                    // Whose name it is may be another now.
                    for claimant in self.services.get(&fqdn).into_iter().flat_map(|list| list.iter()) {
                        self.touch_service(claimant, touched);
                    }
                    self.touch_host(&fqdn, touched);
                    touched.endpoints.insert(fqdn);
                }
                if let Some(selector) = selector(document) {
                    let selected = self.selected(&document.key.namespace, selector);
                    touched
                        .workloads
                        .extend(selected.iter().map(|workload| workload.key.clone()));
                }
            }
            Spec::DestinationRule(rule) => self.touch_policy(&document.key.namespace, &rule.host, touched),
            Spec::Sidecar(_) => {
                touched.sidecars.insert(document.key.namespace.clone());
                touched.namespaces.insert(document.key.namespace.clone());
            }
            Spec::VirtualService(_) => self.touch_rule(document, touched),
            Spec::WorkloadEntry(entry) => {
                touched.workloads.insert(document.key.clone());
                touched.namespaces.insert(document.key.namespace.clone());
                for service in self.selecting(&document.key.namespace, &entry.labels) {
                    touched.endpoints.extend(fqdns(&service));
                }
            }
            Spec::EndpointSlice(slice) => {
                let fqdn = service_fqdn(&slice.service, &document.key.namespace);
                touched.endpoints.insert(fqdn);
                touched.namespaces.insert(document.key.namespace.clone());
            }
            Spec::Node(_) => {}
        }
    }

    fn touch_service(&self, document: &Document, touched: &mut Touched) {
        touched.addresses.extend(addresses::names_of(document));
        touched.ranges.extend(ranges::of(document));
        touched.namespaces.insert(document.key.namespace.clone());
    }

    /// A VirtualService, with those that it delegates to and those that delegate to it.
    fn touch_rule(&self, document: &Document, touched: &mut Touched) {
        for host in self.rules.hosts(document) {
            touched.add_host(host);
            touched.endpoints.insert(host.to_owned());
        }
        touched.rules.insert(document.key.clone());
        touched
            .rules
            .extend(self.rules.related(document).map(|other| other.key.clone()));
    }

    /// A DestinationRule of the namespace. What the services take in follows the rules of their own namespace and of the
    /// root namespace.
    fn touch_policy(&self, namespace: &str, host: &str, touched: &mut Touched) {
        let services = self.services.get(host).into_iter().flat_map(|list| list.iter());
        let of_services = services.map(|service| service.key.namespace.as_str());
        let follow = |service: &&str| *service == namespace || namespace == self.root_namespace();
        touched.namespaces.extend(of_services.filter(follow).map(str::to_owned));
        if policy_index::is_wildcard(host) {
            touched.policies.insert(host.to_owned());
            touched.namespaces.insert(namespace.to_owned());
            touched.all_namespaces |= namespace == self.root_namespace();
        }
        self.touch_host(host, touched);
    }

    /// The host, and every host whose rules lead there.
    fn touch_host(&self, fqdn: &str, touched: &mut Touched) {
        touched.add_host(fqdn);
        for host in self.rules.hosts_leading_to(fqdn) {
            touched.add_host(host);
        }
    }

    /// Adds the services that touched wildcards cover: one pass over all names, however many wildcards there are.
    pub(super) fn spread(&self, touched: &mut Touched) {
        let policies = std::mem::take(&mut touched.policies);
        if !policies.is_empty() {
            let names = self.services.iter().map(|(name, _)| &**name);
            for name in policy_index::covered(names, &policies) {
                self.touch_host(name, touched);
            }
        }
        let wildcards = std::mem::take(&mut touched.wildcards);
        if !wildcards.is_empty() {
            let names = self.services.iter().map(|(name, _)| &**name);
            let covered = wildcards::covered(names, &wildcards);
            touched.hosts.extend(covered.map(str::to_owned));
        }
    }

    /// Hosts that the document names, wildcards among them.
    fn names(&self, document: &Document) -> Vec<String> {
        match &document.spec {
            Spec::VirtualService(rule) if rule.concerns_sidecars() => rule.hosts.clone(),
            _ => fqdns(document),
        }
    }

    /// What makes the host: Services before ServiceEntries, then the oldest first, all of one namespace.
    pub(super) fn services(&self, fqdn: &str) -> Vec<Arc<Document>> {
        self.claims(fqdn).0
    }

    /// The documents that make the host, and those of other namespaces that would like to.
    pub(super) fn claims(&self, fqdn: &str) -> (Vec<Arc<Document>>, Vec<Arc<Document>>) {
        owners(named(&self.services, fqdn).to_vec())
    }

    /// VirtualServices for sidecars that name this host, or this wildcard, the oldest first.
    pub(super) fn rules(&self, host: &str) -> Vec<Arc<Document>> {
        self.rules.of_host(host)
    }

    /// Hosts and wildcards that several VirtualServices for sidecars name.
    pub(super) fn hosts_of_several_rules(&self) -> impl Iterator<Item = &str> {
        self.rules.hosts_of_several()
    }

    pub(super) fn has_rules(&self, host: &str) -> bool {
        self.rules.has_host(host)
    }

    /// A VirtualService without hosts, by `namespace/name`.
    pub(super) fn delegate(&self, name: &str) -> Option<&Arc<Document>> {
        self.rules.delegate(name)
    }

    /// VirtualServices that delegate to this one.
    pub(super) fn roots(&self, key: &Key) -> &[Arc<Document>] {
        self.rules.roots(key)
    }

    /// Wildcards that may cover the name, the longest first.
    pub(super) fn wildcards_over(&self, name: &str) -> impl Iterator<Item = String> {
        self.wildcards.over(name)
    }

    /// DestinationRules by host.
    pub(super) fn policies(&self) -> &PolicyIndex {
        &self.policies
    }

    /// WorkloadEntries of the namespace that have all these labels, by key.
    pub(super) fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Arc<Document>> {
        let having = |label| {
            self.workloads
                .get(&labelled(namespace, label))
                .map(|list| list.as_slice())
                .unwrap_or(&[])
        };
        let fewest = selector.iter().map(having).min_by_key(|list| list.len()).unwrap_or(&[]);
        let mut found: Vec<Arc<Document>> = fewest
            .iter()
            .filter(|document| has_labels(document, selector))
            .cloned()
            .collect();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        found
    }

    /// EndpointSlices of a Service, by key.
    pub(super) fn slices(&self, service: &Document) -> Vec<Arc<Document>> {
        let fqdn = service_fqdn(&service.key.name, &service.key.namespace);
        let mut found = self.slices.get(&fqdn).map(|list| list.to_vec()).unwrap_or_default();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        found
    }

    /// Hosts whose rules, subsets or policies a document has a part in.
    pub(super) fn concerns(&self, document: &Document) -> BTreeSet<String> {
        let mut touched = Touched::default();
        self.touch(document, &mut touched);
        self.spread(&mut touched);
        touched.hosts
    }

    /// Services and ServiceEntries of the namespace that select these labels.
    pub(super) fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Arc<Document>> {
        let of_label = |label| self.selectors.get(&labelled(namespace, label));
        let candidates = labels.iter().filter_map(of_label).flat_map(|list| list.iter());
        candidates.filter(|service| selects(service, labels)).cloned().collect()
    }

    /// The services whose endpoints this document writes.
    pub(super) fn services_with(&self, document: &Arc<Document>) -> Vec<Arc<Document>> {
        match &document.spec {
            Spec::WorkloadEntry(entry) => self.selecting(&document.key.namespace, &entry.labels),
            Spec::ServiceEntry(_) => vec![Arc::clone(document)],
            Spec::EndpointSlice(slice) => {
                let namespace = &document.key.namespace;
                let named = self.services.get(&service_fqdn(&slice.service, namespace));
                let named = named.into_iter().flat_map(|list| list.iter());
                // A ServiceEntry may have the name too; slices are of the Service.
                named.filter(|named| named.key.kind == Kind::Service).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The FQDN by which a Service or a ServiceEntry is called; `None`: all its names belong to somebody else.
    pub(super) fn name_in_force(&self, document: &Document) -> Option<String> {
        fqdns(document)
            .into_iter()
            .find(|fqdn| self.is_in_force(document, fqdn))
    }

    /// Is the FQDN the document's own?
    pub(super) fn is_in_force(&self, document: &Document, fqdn: &str) -> bool {
        self.services(fqdn).iter().any(|own| own.key == document.key)
    }

    /// Services and ServiceEntries that have this virtual address, or this one word for a host, the oldest first.
    pub(super) fn at_virtual_address(&self, address: &str) -> Vec<Arc<Document>> {
        by_age(&self.virtual_addresses, address)
    }

    /// Services that have a range around this address, that of the narrowest one first.
    pub(super) fn at_range(&self, address: IpAddr) -> impl Iterator<Item = Arc<Document>> {
        self.ranges.around(address)
    }

    /// The oldest first.
    pub(super) fn sidecars(&self, namespace: &str) -> Vec<Arc<Document>> {
        by_age(&self.sidecars, namespace)
    }

    /// Is it an endpoint of any service?
    pub(super) fn is_selected(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        let selecting = |label| self.selectors.get(&labelled(namespace, label));
        labels
            .iter()
            .filter_map(selecting)
            .any(|services| services.iter().any(|service| selects(service, labels)))
    }
}

/// Of the Services and ServiceEntries that have one FQDN those that make the host, in order of precedence, and those of
/// other namespaces that would like to. A Service owns its FQDN; a name that only ServiceEntries have is of the namespace
/// that had it first. Otherwise anyone could put endpoints of theirs behind a service of somebody else's.
pub fn owners<D: Deref<Target = Document>>(mut documents: Vec<D>) -> (Vec<D>, Vec<D>) {
    documents.sort_by(|one, other| one.key.kind.cmp(&other.key.kind).then_with(|| one.by_age(other)));
    let owner = documents.first().map(|first| first.key.namespace.clone());
    let is_owners = |document: &D| Some(&document.key.namespace) == owner.as_ref();
    documents.into_iter().partition(is_owners)
}

fn selects(service: &Document, labels: &BTreeMap<String, String>) -> bool {
    selector(service).is_some_and(|selector| selector.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

fn has_labels(document: &Document, selector: &BTreeMap<String, String>) -> bool {
    let Spec::WorkloadEntry(entry) = &document.spec else {
        return false;
    };
    selector.iter().all(|(key, value)| entry.labels.get(key) == Some(value))
}
