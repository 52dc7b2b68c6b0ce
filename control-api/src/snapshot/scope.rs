//! Which VirtualService is in force for a host, for the clients of which namespace.
//!
//! As in Istio: of the hosts that VirtualServices name, the most specific one counts that the client may see a
//! VirtualService of; of several VirtualServices for it, first that of the client's own namespace which is exported to
//! that, then one that is exported to it by name, then one for everyone, each time the oldest. They are not merged: one
//! has the rules for requests, one those for TLS and one those for TCP connections; mostly it is the same.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::Catalog;
use super::delegates::{self, Placed};
use super::rule_index::virtual_service;
use crate::config::{ConnectionRule, Document, ExportTo, HttpRule, Key, SourceMatch};

/// Namespaces in one message.
const MOST_SHOWN: usize = 10;

/// VirtualServices for a host, whoever may see them.
pub(super) struct Scope {
    /// By the name for which they are, the most specific first; of one name the oldest first.
    groups: Vec<Vec<Arc<Document>>>,
}

/// The rules in force for a host and some clients.
#[derive(Default)]
pub(super) struct Rules<'a> {
    pub http: Vec<Placed<'a, HttpRule>>,
    pub tls: Vec<Placed<'a, ConnectionRule>>,
    pub tcp: Vec<Placed<'a, ConnectionRule>>,
    /// The VirtualServices that they are of, each once.
    pub documents: Vec<&'a Arc<Document>>,
}

/// One that clients may see and that is not in force for them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hidden {
    key: Key,
    by: Key,
}

/// Who is named by an `exportTo`, or would be if all were.
pub(super) fn rank(document: &Document, client: Option<&str>) -> Option<u8> {
    match (&virtual_service(document)?.export_to, client) {
        (ExportTo::Everyone, _) => Some(2),
        (ExportTo::Namespaces(names), Some(client)) if names.iter().any(|name| name == client) => {
            Some(u8::from(document.key.namespace != client))
        }
        (ExportTo::Namespaces(_), _) => None,
    }
}

impl Scope {
    /// A name that no service has is only covered as far as a VirtualService names it.
    pub(super) fn of(catalog: &Catalog, fqdn: &str, is_service: bool) -> Self {
        let mut groups = vec![catalog.rules(fqdn)];
        if is_service {
            let wider = catalog.wildcards_over(fqdn);
            groups.extend(wider.map(|wildcard| catalog.rules(&wildcard)));
        }
        groups.retain(|group| !group.is_empty());
        Self { groups }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Namespaces whose clients may see others than everyone does.
    pub(super) fn clients(&self) -> BTreeSet<&str> {
        let documents = self.groups.iter().flatten();
        let exported = documents.filter_map(|document| match &virtual_service(document)?.export_to {
            ExportTo::Everyone => None,
            ExportTo::Namespaces(names) => Some(names),
        });
        exported.flatten().map(String::as_str).collect()
    }

    /// Those that count for these clients, in order of precedence; `None`: clients of a namespace that nothing is
    /// exported to by name.
    pub(super) fn visible(&self, client: Option<&str>) -> Vec<&Arc<Document>> {
        let seen = |group: &'_ Vec<Arc<Document>>| group.iter().any(|document| rank(document, client).is_some());
        let Some(group) = self.groups.iter().find(|group| seen(group)) else {
            return Vec::new();
        };
        let mut visible: Vec<&Arc<Document>> = group
            .iter()
            .filter(|document| rank(document, client).is_some())
            .collect();
        visible.sort_by_key(|document| rank(document, client));
        visible
    }
}

/// Is a rule for sidecars, as far as the gateways of its matches say?
fn is_for_sidecars<'s>(mut sources: impl ExactSizeIterator<Item = &'s SourceMatch>) -> bool {
    sources.len() == 0 || sources.any(SourceMatch::concerns_sidecars)
}

fn connections<'a>(document: &'a Document, rules: &'a [ConnectionRule]) -> Vec<Placed<'a, ConnectionRule>> {
    let rules = rules.iter().enumerate();
    rules
        .filter(|(_, rule)| is_for_sidecars(rule.matches.iter().map(|item| &item.source)))
        .map(|(index, rule)| Placed {
            key: &document.key,
            index,
            rule: Cow::Borrowed(rule),
        })
        .collect()
}

impl<'a> Rules<'a> {
    /// Of these VirtualServices, in order of precedence.
    pub(super) fn in_force(catalog: &'a Catalog, visible: &[&'a Arc<Document>]) -> Self {
        let mut rules = Rules::default();
        for document in visible {
            let Some(written) = virtual_service(document) else {
                continue;
            };
            let mut has_part = false;
            if rules.http.is_empty() {
                rules.http = delegates::expand(catalog, document, &mut Vec::new());
                rules
                    .http
                    .retain(|placed| is_for_sidecars(placed.rule.matches.iter().map(|item| &item.source)));
                has_part |= !rules.http.is_empty();
            }
            for (found, written) in [(&mut rules.tls, &written.tls), (&mut rules.tcp, &written.tcp)] {
                if found.is_empty() {
                    *found = connections(document, written);
                    has_part |= !found.is_empty();
                }
            }
            if has_part {
                rules.documents.push(document);
            }
        }
        rules
    }

    pub(super) fn are_none(&self) -> bool {
        self.documents.is_empty()
    }

    /// Whose namespace and name the rules are told by.
    pub(super) fn key(&self) -> Option<&'a Key> {
        self.documents.first().map(|document| &document.key)
    }
}

/// Collects which VirtualServices are hidden by others, and from whom.
#[derive(Default)]
pub(super) struct HiddenRules {
    everyone: BTreeSet<Hidden>,
    clients: BTreeMap<Hidden, BTreeSet<String>>,
}

impl HiddenRules {
    /// `everyone` is asked about first.
    pub(super) fn note(&mut self, visible: &[&Arc<Document>], rules: &Rules<'_>, client: Option<&str>) {
        let Some(by) = rules.key() else { return };
        let in_force: BTreeSet<&Key> = rules.documents.iter().map(|document| &document.key).collect();
        for document in visible.iter().filter(|document| !in_force.contains(&document.key)) {
            let hidden = Hidden {
                key: document.key.clone(),
                by: by.clone(),
            };
            match client {
                None => drop(self.everyone.insert(hidden)),
                Some(_) if self.everyone.contains(&hidden) => {}
                Some(client) => drop(self.clients.entry(hidden).or_default().insert(client.to_owned())),
            }
        }
    }

    pub(super) fn warnings(&self, fqdn: &str) -> Vec<String> {
        let everyone = self.everyone.iter().map(|Hidden { key, by }| {
            format!("{key}: spec.hosts: {by} is older and in force for {fqdn}: this one is not")
        });
        let some = self.clients.iter().map(|(Hidden { key, by }, clients)| {
            format!(
                "{key}: spec.hosts: {by} comes first for clients of namespace {} and is in force for {fqdn}: this one is not",
                shown(clients)
            )
        });
        everyone.chain(some).collect()
    }
}

fn shown(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(MOST_SHOWN).map(String::as_str).collect();
    match names.len() - first.len() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
