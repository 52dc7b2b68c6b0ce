//! Which DestinationRules are for which host: by its name, and by wildcards over it. Called by `catalog` alone.
//!
//! As in Istio a rule for `*.example.com` is for every service whose name ends in `.example.com`, and one for `*` for all;
//! of several the most specific one counts. Found by the lengths of endings that there are: neither a rule nor a service
//! costs anything that no name of the other covers.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::documents::{Act, Documents, by_age, named, put, take};
use super::wildcards::Wildcards;
use crate::config::{DestinationRule, Document, Spec};

/// Covers every name.
const ANY: &str = "*";

#[derive(Clone, Debug, Default)]
pub(super) struct PolicyIndex {
    /// Host or wildcard -> rules of all namespaces.
    by_host: Documents,
    /// The same in one namespace.
    by_place: Documents,
    wildcards: Wildcards,
}

pub(super) fn destination_rule(document: &Document) -> Option<&DestinationRule> {
    match &document.spec {
        Spec::DestinationRule(rule) => Some(rule.as_ref()),
        _ => None,
    }
}

pub(super) fn is_wildcard(host: &str) -> bool {
    host.starts_with(ANY)
}

/// The names that one of the wildcards covers, in one pass.
pub(super) fn covered<'a>(
    names: impl Iterator<Item = &'a str>,
    wildcards: &BTreeSet<String>,
) -> impl Iterator<Item = &'a str> {
    let mut lengths = Wildcards::default();
    wildcards.iter().for_each(|wildcard| lengths.add(wildcard));
    let any = wildcards.contains(ANY);
    names.filter(move |name| any || lengths.over(name).any(|wildcard| wildcards.contains(&wildcard)))
}

fn place(namespace: &str, host: &str) -> String {
    format!("{namespace}\n{host}")
}

impl PolicyIndex {
    pub(super) fn add(&mut self, document: &Arc<Document>) {
        if let Some(rule) = destination_rule(document) {
            self.each_place(document, &rule.host, put);
            self.wildcards.add(&rule.host);
        }
    }

    pub(super) fn remove(&mut self, document: &Arc<Document>) {
        if let Some(rule) = destination_rule(document) {
            self.each_place(document, &rule.host, take);
            self.wildcards.remove(&rule.host);
        }
    }

    fn each_place(&mut self, document: &Arc<Document>, host: &str, act: Act) {
        act(&mut self.by_host, host, document);
        act(&mut self.by_place, &place(&document.key.namespace, host), document);
    }

    /// Names of rules that may be for the host, the most specific first.
    fn over(&self, host: &str) -> impl Iterator<Item = String> {
        let any = (host != ANY).then(|| ANY.to_owned());
        std::iter::once(host.to_owned())
            .chain(self.wildcards.over(host))
            .chain(any)
    }

    /// Rules for a host of this very name, of all namespaces, the oldest first.
    pub(super) fn named(&self, host: &str) -> Vec<Arc<Document>> {
        by_age(&self.by_host, host)
    }

    /// Rules for the host, of all namespaces, in no particular order.
    pub(super) fn of_host(&self, host: &str) -> impl Iterator<Item = &Arc<Document>> {
        self.over(host).flat_map(|name| named(&self.by_host, &name))
    }

    /// Rules of one namespace for the host, those of one name together: the most specific name first, then by age.
    pub(super) fn of_namespace(&self, namespace: &str, host: &str) -> impl Iterator<Item = Vec<Arc<Document>>> {
        let names = self.over(host);
        let layers = names.map(move |name| by_age(&self.by_place, &place(namespace, &name)));
        layers.filter(|layer| !layer.is_empty())
    }
}
