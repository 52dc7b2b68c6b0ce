//! Which DestinationRule is in force for a host, and the policy of one of its subsets.
//!
//! As in Istio: the first of the client's namespace, the service's and the root namespace that has a rule for the host;
//! rules of one host and namespace are merged, rules of several namespaces never.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::Catalog;
use crate::config::{DestinationRule, Document, Spec, Subset, TrafficPolicy};

/// The merged rule for a host.
#[derive(Default)]
pub(super) struct Policy {
    /// Where it comes from; empty: there is no rule.
    pub documents: Vec<Arc<Document>>,
    top: TrafficPolicy,
    subsets: BTreeMap<String, Subset>,
    pub warnings: Vec<String>,
}

fn rule(document: &Document) -> Option<&DestinationRule> {
    match &document.spec {
        Spec::DestinationRule(rule) => Some(rule.as_ref()),
        _ => None,
    }
}

/// Namespaces whose clients see the host differently from everyone else.
pub(super) fn special_clients(catalog: &Catalog, fqdn: &str, service_namespace: &str) -> BTreeSet<String> {
    let rules = catalog.destination_rules(fqdn);
    let namespaces = rules.iter().map(|rule| rule.key.namespace.as_str());
    namespaces
        .filter(|ns| *ns != catalog.root_namespace() && *ns != service_namespace)
        .map(str::to_owned)
        .collect()
}

impl Policy {
    /// `client`: the namespace of the client; `None`: one without a rule of its own.
    pub(super) fn find(catalog: &Catalog, fqdn: &str, service_namespace: &str, client: Option<&str>) -> Policy {
        let all = catalog.destination_rules(fqdn);
        let own = client.filter(|client| *client != catalog.root_namespace());
        let places = own.into_iter().chain([service_namespace, catalog.root_namespace()]);
        for namespace in places {
            let here: Vec<_> = all
                .iter()
                .filter(|rule| rule.key.namespace == namespace)
                .cloned()
                .collect();
            if !here.is_empty() {
                return Policy::merged(here);
            }
        }
        Policy::default()
    }

    /// Subsets are put together, the first top-level policy and the first subset of a name win.
    fn merged(documents: Vec<Arc<Document>>) -> Policy {
        let mut policy = Policy::default();
        let mut top: Option<(&TrafficPolicy, &Document)> = None;
        for document in &documents {
            let Some(rule) = rule(document) else { continue };
            match (&rule.policy, top) {
                (Some(own), None) => top = Some((own, document)),
                (Some(_), Some((_, first))) => policy.warnings.push(format!(
                    "{}: spec.trafficPolicy: hidden by the one of {}",
                    document.key, first.key
                )),
                (None, _) => {}
            }
            for subset in &rule.subsets {
                if policy.subsets.contains_key(&subset.name) {
                    let name = &subset.name;
                    policy.warnings.push(format!(
                        "{}: subset {name}: hidden by the one of an older rule",
                        document.key
                    ));
                } else {
                    policy.subsets.insert(subset.name.clone(), subset.clone());
                }
            }
        }
        policy.top = top.map(|(top, _)| top.clone()).unwrap_or_default();
        policy.documents = documents;
        policy
    }

    /// Labels and policy of a subset, blocks that it lacks taken from the host's; an empty name is the host as a whole.
    /// `None`: there is no such subset.
    pub(super) fn of_subset(&self, name: &str) -> Option<(BTreeMap<String, String>, TrafficPolicy)> {
        if name.is_empty() {
            return Some((BTreeMap::new(), self.top.clone()));
        }
        let subset = self.subsets.get(name)?;
        let own = subset.policy.clone().unwrap_or_default();
        let policy = TrafficPolicy {
            connection_pool: own.connection_pool.or_else(|| self.top.connection_pool.clone()),
            load_balancer: own.load_balancer.or_else(|| self.top.load_balancer.clone()),
            outlier_detection: own.outlier_detection.or_else(|| self.top.outlier_detection.clone()),
            tls: own.tls.or_else(|| self.top.tls.clone()),
            proxy_protocol: own.proxy_protocol.or(self.top.proxy_protocol),
            retry_budget: own.retry_budget.or(self.top.retry_budget),
            port_level: own.port_level,
        };
        Some((subset.labels.clone(), policy))
    }

    /// What a rule can name, for a message.
    pub(super) fn subset_names(&self) -> Vec<&str> {
        self.subsets.keys().map(String::as_str).collect()
    }
}
