//! Which DestinationRules are in force for a host and a client, and the policy that they give to a port and a subset.
//!
//! As in Istio (`PushContext.destinationRule`, `mergeDestinationRule`): the client's namespace goes before the service's
//! and that before the root namespace; there the most specific host counts; rules of one host and namespace that are for
//! the same clients are merged, rules of several namespaces never. A rule that is not for a client (its `exportTo`, its
//! `workloadSelector`) is to it as if it were not there: as Istio documents it, where its code lets such a rule hide others.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::catalog::Catalog;
use super::policy_index::destination_rule;
use crate::config::{DestinationRule, Document, ExportTo, Subset, TrafficPolicy};

type Labels = BTreeMap<String, String>;

/// What is in force for the clients of one namespace.
#[derive(Default)]
pub(super) struct Policies {
    /// For clients that have all these labels: the first that fits.
    pub selected: Vec<(Labels, Policy)>,
    known_selectors: BTreeSet<Labels>,
    /// For those that none of these is for, and for what the host itself takes in.
    pub rest: Policy,
    pub warnings: Vec<String>,
}

/// Rules of one host and namespace, as they are merged.
#[derive(Default)]
struct Layer {
    /// Those for selected clients come first.
    merged: Vec<Policy>,
    /// Which of them is for clients with all these labels.
    selected: BTreeMap<Labels, usize>,
}

/// Rules that are merged.
#[derive(Default)]
pub(super) struct Policy {
    /// The first gives it its clients; empty: there is no rule.
    pub documents: Vec<Arc<Document>>,
    /// Which of them has the policy of the whole host.
    top: Option<usize>,
    /// Name -> which of them defines it, and where in its list.
    subsets: BTreeMap<String, (usize, usize)>,
}

fn selector(document: &Document) -> Option<&Labels> {
    destination_rule(document).map(|rule| &rule.workload_selector)
}

pub(super) fn is_selecting(document: &Document) -> bool {
    selector(document).is_some_and(|selector| !selector.is_empty())
}

/// May clients of the namespace see the rule, wherever the host is? `None`: such as nothing is exported to by name. A rule
/// with a selector is for its own namespace, whatever it is exported to.
pub fn is_for(document: &Document, client: Option<&str>) -> bool {
    if is_selecting(document) {
        return client == Some(document.key.namespace.as_str());
    }
    match (destination_rule(document).map(|rule| &rule.exports), client) {
        (Some(ExportTo::Everyone), _) => true,
        (Some(ExportTo::Namespaces(names)), Some(client)) => names.iter().any(|name| name == client),
        (Some(ExportTo::Namespaces(_)) | None, _) => false,
    }
}

/// Is it for nobody outside its own namespace?
pub fn is_private(document: &Document) -> bool {
    let own = |name: &String| *name == document.key.namespace;
    is_selecting(document)
        || destination_rule(document).is_some_and(|rule| match &rule.exports {
            ExportTo::Everyone => false,
            ExportTo::Namespaces(names) => names.iter().all(own),
        })
}

/// Is it for everyone alike?
pub fn is_public(document: &Document) -> bool {
    !is_selecting(document) && destination_rule(document).is_some_and(|rule| rule.exports == ExportTo::Everyone)
}

/// Namespaces that a rule is exported to by name.
pub(super) fn exported_to(document: &Document) -> BTreeSet<&str> {
    match destination_rule(document).map(|rule| &rule.exports) {
        _ if is_selecting(document) => BTreeSet::from([document.key.namespace.as_str()]),
        Some(ExportTo::Namespaces(names)) => names.iter().map(String::as_str).collect(),
        Some(ExportTo::Everyone) | None => BTreeSet::new(),
    }
}

/// Is the rule merged into what began with the older one? As in Istio: where both are for the same namespaces, or the
/// younger one for more; and one for all workloads also into one for some.
pub fn joins(document: &Document, older: &Document) -> bool {
    let namespaces = match (is_public(document), is_public(older)) {
        (true, true) => true,
        (false, false) => {
            let older = exported_to(older);
            !older.is_empty() && exported_to(document).is_superset(&older)
        }
        _ => false,
    };
    namespaces && (!is_selecting(document) || selector(document) == selector(older))
}

/// Namespaces whose clients may see the host differently from everyone else.
pub(super) fn special_clients(catalog: &Catalog, fqdn: &str, service_namespace: &str) -> BTreeSet<String> {
    let mut clients = BTreeSet::new();
    for rule in catalog.policies().of_host(fqdn) {
        let namespace = rule.key.namespace.as_str();
        let is_of_all = namespace == catalog.root_namespace() || namespace == service_namespace;
        if !is_of_all || !is_public(rule) {
            clients.insert(namespace.to_owned());
        }
        if is_of_all {
            clients.extend(exported_to(rule).into_iter().map(str::to_owned));
        }
    }
    clients
}

impl Policies {
    /// `client`: the namespace of the clients; `None`: one without a rule of its own that nothing is exported to by name.
    pub(super) fn find(catalog: &Catalog, fqdn: &str, service_namespace: &str, client: Option<&str>) -> Policies {
        let mut found = Policies::default();
        let root = catalog.root_namespace();
        if let Some(client) = client {
            // Rules of the root namespace are for everyone: the service's own go before them there, too.
            let own = |rule: &Document| is_for(rule, Some(client)) && (client != root || is_private(rule));
            if found.add_namespace(catalog, client, fqdn, own) {
                return found;
            }
        }
        for namespace in [service_namespace, root] {
            let exported = |rule: &Document| !is_private(rule) && is_for(rule, client);
            if found.add_namespace(catalog, namespace, fqdn, exported) {
                return found;
            }
        }
        found
    }

    /// True: it has a rule for all clients, nothing that comes later counts.
    fn add_namespace(
        &mut self,
        catalog: &Catalog,
        namespace: &str,
        fqdn: &str,
        is_seen: impl Fn(&Document) -> bool,
    ) -> bool {
        let mut layers = catalog.policies().of_namespace(namespace, fqdn);
        layers.any(|mut layer| {
            layer.retain(|rule| is_seen(rule));
            layer.sort_by_key(|rule| !is_selecting(rule));
            self.add_layer(fqdn, layer)
        })
    }

    /// Rules of one host and namespace, those with a selector first, then the oldest.
    fn add_layer(&mut self, fqdn: &str, rules: Vec<Arc<Document>>) -> bool {
        let mut layer = Layer::default();
        rules.iter().for_each(|rule| self.warnings.extend(layer.add(rule)));
        let (selected, mut rest) = layer.into_parts();
        for (labels, policy) in selected {
            // A less specific host for the same workloads is never asked about.
            if self.known_selectors.insert(labels.clone()) {
                self.selected.push((labels, policy));
            }
        }
        let Some(in_force) = rest.pop() else { return false };
        for hidden in rest.iter().filter_map(|policy| policy.documents.first()) {
            let by = in_force.documents.first().map(|first| first.key.to_string());
            self.warnings.push(format!(
                "{}: spec.exportTo: {} is exported otherwise and younger: it is in force for {fqdn} where both are seen, this one is not",
                hidden.key,
                by.unwrap_or_default()
            ));
        }
        self.rest = in_force;
        true
    }

    /// What is in force for a client.
    pub(super) fn of_client(&self, labels: &Labels) -> &Policy {
        let has = |wanted: &Labels| wanted.iter().all(|(key, value)| labels.get(key) == Some(value));
        let selected = self.selected.iter().find(|(wanted, _)| has(wanted));
        selected.map_or(&self.rest, |(_, policy)| policy)
    }
}

impl Layer {
    /// Of `merged` those that the rule may join: there may be thousands of selectors. All rules with one are for the same
    /// namespace: what joins one of them joins all.
    fn candidates(&self, rule: &Document) -> Range<usize> {
        let selecting = self.selected.len();
        if is_selecting(rule) {
            let at = selector(rule).and_then(|labels| self.selected.get(labels));
            return at.map_or(0..0, |at| *at..at + 1);
        }
        let selected = self.merged.first().filter(|_| selecting > 0);
        let first = selected.and_then(|policy| policy.documents.first());
        let joins_them = first.is_some_and(|first| joins(rule, first));
        let begin = if joins_them { 0 } else { selecting };
        begin..self.merged.len()
    }

    /// What is hidden by older ones is told.
    fn add(&mut self, rule: &Arc<Document>) -> Vec<String> {
        let (mut stands_alone, mut told) = (true, Vec::new());
        let candidates = self.candidates(rule);
        for policy in self.merged.get_mut(candidates).into_iter().flatten() {
            let Some(first) = policy.documents.first().filter(|first| joins(rule, first)) else {
                continue;
            };
            let same_clients = selector(rule) == selector(first);
            stands_alone &= !same_clients;
            let hidden = policy.add(rule);
            // Otherwise to go before it is what the selector is for.
            told.extend(hidden.into_iter().filter(|_| same_clients));
        }
        if stands_alone {
            if let Some(labels) = selector(rule).filter(|labels| !labels.is_empty()) {
                self.selected.insert(labels.clone(), self.merged.len());
            }
            let mut policy = Policy::default();
            policy.add(rule);
            self.merged.push(policy);
        }
        told
    }

    /// Those for selected clients, the oldest first, and those for the rest.
    fn into_parts(mut self) -> (Vec<(Labels, Policy)>, Vec<Policy>) {
        let rest = self.merged.split_off(self.selected.len());
        let mut labels: Vec<(Labels, usize)> = self.selected.into_iter().collect();
        labels.sort_by_key(|(_, at)| *at);
        let selected = labels.into_iter().map(|(labels, _)| labels).zip(self.merged);
        (selected.collect(), rest)
    }
}

impl Policy {
    /// Subsets are put together, the first policy of the whole host and the first subset of a name stay. What is hidden by
    /// that is told.
    fn add(&mut self, document: &Arc<Document>) -> Vec<String> {
        let Some(rule) = destination_rule(document) else {
            return Vec::new();
        };
        let (key, number) = (&document.key, self.documents.len());
        let mut hidden = Vec::new();
        match (&rule.policy, self.top.and_then(|top| self.documents.get(top))) {
            (Some(_), None) => self.top = Some(number),
            (Some(_), Some(first)) => {
                hidden.push(format!("{key}: spec.trafficPolicy: hidden by the one of {}", first.key));
            }
            (None, _) => {}
        }
        for (index, subset) in rule.subsets.iter().enumerate() {
            if self.subsets.contains_key(&subset.name) {
                let name = &subset.name;
                hidden.push(format!("{key}: subset {name}: hidden by the one of an older rule"));
            } else {
                self.subsets.insert(subset.name.clone(), (number, index));
            }
        }
        self.documents.push(Arc::clone(document));
        hidden
    }

    fn rule(&self, number: usize) -> Option<&DestinationRule> {
        self.documents
            .get(number)
            .and_then(|document| destination_rule(document))
    }

    fn subset(&self, name: &str) -> Option<&Subset> {
        let (number, index) = self.subsets.get(name)?;
        self.rule(*number)?.subsets.get(*index)
    }

    /// An empty name is the host as a whole, which is always there.
    pub(super) fn has_subset(&self, name: &str) -> bool {
        name.is_empty() || self.subsets.contains_key(name)
    }

    /// Labels of a subset, and its policy at a port of the service. `None`: there is no such subset.
    pub(super) fn of_subset(&self, name: &str, port: u16) -> Option<(Labels, TrafficPolicy)> {
        let top = self.top.and_then(|top| self.rule(top)?.policy.as_ref());
        if name.is_empty() {
            return Some((Labels::new(), at_port(top, None, port)));
        }
        let subset = self.subset(name)?;
        Some((subset.labels.clone(), at_port(top, subset.policy.as_ref(), port)))
    }

    /// What a route can name, for a message.
    pub(super) fn subset_names(&self) -> Vec<&str> {
        self.subsets.keys().map(String::as_str).collect()
    }
}

/// The policy at one port: of the whole host, with a subset's in its place block by block. As in Istio
/// (`GetPortLevelTrafficPolicy`, `MergeTrafficPolicy`) `portLevelSettings` of a port are in the place of all that is said
/// beside them, and those of a subset leave of the host's only what ports have no say in.
pub fn at_port(top: Option<&TrafficPolicy>, own: Option<&TrafficPolicy>, port: u16) -> TrafficPolicy {
    let (top, _) = top.map(|top| of_port(top, port)).unwrap_or_default();
    let Some((own, is_of_port)) = own.map(|own| of_port(own, port)) else {
        return top;
    };
    let inherited = if is_of_port {
        TrafficPolicy::default()
    } else {
        top.clone()
    };
    TrafficPolicy {
        connection_pool: own.connection_pool.or(inherited.connection_pool),
        load_balancer: own.load_balancer.or(inherited.load_balancer),
        outlier_detection: own.outlier_detection.or(inherited.outlier_detection),
        tls: own.tls.or(inherited.tls),
        proxy_protocol: own.proxy_protocol.or(top.proxy_protocol),
        retry_budget: own.retry_budget.or(top.retry_budget),
        port_level: BTreeMap::new(),
    }
}

/// Without settings for other ports. True: there are some for this one, and nothing else counts.
fn of_port(policy: &TrafficPolicy, port: u16) -> (TrafficPolicy, bool) {
    let Some(own) = policy.port_level.get(&port) else {
        let mut policy = policy.clone();
        policy.port_level.clear();
        return (policy, false);
    };
    let own = own.clone();
    let policy = TrafficPolicy {
        connection_pool: own.connection_pool,
        load_balancer: own.load_balancer,
        outlier_detection: own.outlier_detection,
        tls: own.tls,
        ..TrafficPolicy::default()
    };
    (policy, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn rule(name: usize, rest: &str) -> Arc<Document> {
        let text = format!(
            "{{apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{name: d{name}}}, spec: {{host: a, subsets: [{{name: v{name}, labels: {{v: a}}}}], {rest}}}}}"
        );
        Arc::new(parse("", &text, "").expect("valid").remove(0))
    }

    #[test]
    fn with_thousands_of_selectors_a_rule_is_compared_only_with_what_it_may_join() {
        let selecting = |name: usize| {
            rule(
                name,
                &format!("workloadSelector: {{matchLabels: {{app: w{}}}}}", name % 1000),
            )
        };
        let (mut layer, mut compared) = (Layer::default(), 0);
        for name in 0..2000 {
            let rule = selecting(name);
            compared += layer.candidates(&rule).len();
            layer.add(&rule);
        }
        // Each selector is there twice.
        assert_eq!((compared, layer.merged.len()), (1000, 1000));
        // For everyone: it joins no rule with a selector, and the other one for everyone.
        for (rest, candidates, documents) in [
            ("exportTo: ['*']", 0, 2),
            ("exportTo: ['*']", 1, 2),
            ("exportTo: ['.']", 1001, 3),
        ] {
            let rule = rule(3000, rest);
            assert_eq!(layer.candidates(&rule).len(), candidates, "{rest}");
            layer.add(&rule);
            assert!(
                layer.merged[..1000]
                    .iter()
                    .all(|policy| policy.documents.len() == documents),
                "{rest}"
            );
        }
        let (selected, rest) = layer.into_parts();
        assert_eq!((selected.len(), rest.len()), (1000, 2));
        assert!(
            selected
                .iter()
                .all(|(labels, policy)| selector(&policy.documents[0]) == Some(labels))
        );
    }
}
