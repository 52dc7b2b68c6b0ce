//! Subsets that a route names and a DestinationRule defines which the route's clients do not see: exported to others, for
//! selected workloads only, or in a namespace where they do not look for rules. Called by `clusters`, told by `world` to
//! whoever applies or analyses documents.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::catalog::Catalog;
use super::clusters::shown;
use super::policy::{exported_to, is_for, is_selecting};
use super::policy_index::destination_rule;
use crate::config::{Document, ExportTo, Key};

/// A destination whose subset some clients lack, though a DestinationRule defines it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnseenSubset {
    /// Whose route it is.
    pub rule: Key,
    /// As in `spec.http[0].route[0].destination`.
    pub field: String,
    /// FQDN.
    pub host: String,
    pub subset: String,
    /// Of the clients; `None`: all that see none of `defined_by`, wherever they are.
    pub namespace: Option<String>,
    /// Of the namespace only those that a `workloadSelector` selects, or none does.
    pub is_of_some: bool,
    /// As in `clients outside namespace default`.
    pub clients: String,
    /// As in ``DestinationRule/default/d, which defines v1, is exported to `.` only``.
    pub because: String,
    /// As in `such requests get 503 NC`.
    pub consequence: String,
    /// The DestinationRules that define it.
    pub defined_by: Arc<[Key]>,
}

impl fmt::Display for UnseenSubset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, field, host, .. } = self;
        let Self { subset, clients, .. } = self;
        write!(f, "{rule}: {field}: {host} has no subset {subset} for {clients}: ")?;
        write!(f, "{}: {}", self.because, self.consequence)
    }
}

/// Sorted, each once: of the clients of one namespace only what is not said of all.
pub(super) fn settle(unseen: &mut Vec<UnseenSubset>) {
    let what = |it: &UnseenSubset| {
        let UnseenSubset { rule, field, host, .. } = it.clone();
        (rule, field, host, it.subset.clone(), it.because.clone())
    };
    let of_all = unseen.iter().filter(|it| it.namespace.is_none());
    let of_all: BTreeSet<_> = of_all.map(what).collect();
    unseen.retain(|it| it.namespace.is_none() || it.is_of_some || !of_all.contains(&what(it)));
    unseen.sort();
    unseen.dedup();
}

/// Who lacks a subset, and why.
pub(super) struct Unseen {
    pub clients: String,
    pub because: String,
    pub defined_by: Arc<[Key]>,
}

/// A subset that clients of a namespace lack; `client` is `None`: of all that have no rules of their own.
pub(super) struct Lacking<'l> {
    pub catalog: &'l Catalog,
    pub host: &'l str,
    /// Of the host.
    pub home: &'l str,
    pub client: Option<&'l str>,
    pub subset: &'l str,
    /// Found once for all clients that lack it.
    pub defining: OnceCell<Arc<[Key]>>,
}

impl Lacking<'_> {
    fn defining(&self) -> Vec<&Arc<Document>> {
        let defines = |rule: &&Arc<Document>| {
            let rule = destination_rule(rule);
            rule.is_some_and(|rule| rule.subsets.iter().any(|own| own.name == self.subset))
        };
        let rules = self.catalog.policies().of_host(self.host);
        let mut rules: Vec<&Arc<Document>> = rules.filter(defines).collect();
        rules.sort_by(|one, other| one.key.cmp(&other.key));
        rules
    }

    fn defining_keys(&self) -> Arc<[Key]> {
        let find = || self.defining().iter().map(|rule| rule.key.clone()).collect();
        Arc::clone(self.defining.get_or_init(find))
    }

    /// For clients that rules select, which do not define it. `None`: no rule does.
    pub fn for_selected(&self, whom: &str, rules: &[Arc<Document>]) -> Option<Unseen> {
        let defined_by = self.defining_keys();
        let in_force = shown(rules.iter().map(|rule| rule.key.to_string()));
        let does = if rules.len() == 1 { "does" } else { "do" };
        (!defined_by.is_empty()).then(|| Unseen {
            clients: format!("clients of namespace {}{whom}", self.client.unwrap_or_default()),
            because: format!("{in_force}, in force for them, {does} not define it"),
            defined_by,
        })
    }

    /// For clients that no `workloadSelector` selects. `None`: no rule defines it that they do not see, or it is hidden from
    /// them by those that they see. `whom`: empty where none of the namespace have it.
    pub fn for_rest(&self, whom: &str) -> Option<Unseen> {
        let Self {
            catalog, home, client, ..
        } = *self;
        let of_all = [home, catalog.root_namespace()];
        let rules = self.defining();
        let because = |rule: &Document| reason(rule, of_all, client, !whom.is_empty());
        let reasons = rules.iter().filter_map(|rule| Some((&rule.key, because(rule)?)));
        let reasons: Vec<(&Key, String)> = reasons.collect();
        if reasons.is_empty() {
            return None;
        }
        let clients = match client {
            Some(client) => format!("clients of namespace {client}{whom}"),
            None => {
                let seeing: BTreeSet<&str> = rules.iter().flat_map(|rule| seeing(rule, of_all)).collect();
                let word = if seeing.len() == 1 { "namespace" } else { "namespaces" };
                let seeing = shown(seeing.into_iter().map(str::to_owned));
                format!("clients outside {word} {seeing}")
            }
        };
        let say = |(key, reason): &(&Key, String)| format!("{key}, which defines {}, {reason}", self.subset);
        Some(Unseen {
            clients,
            because: shown(reasons.iter().map(say)),
            defined_by: reasons.iter().map(|(key, _)| (*key).clone()).collect(),
        })
    }
}

/// Why clients do not see a rule; `None`: they do. `of_all`: where everyone looks for rules. `some_have`: others of their
/// namespace are selected by a rule that defines the subset.
fn reason(rule: &Document, of_all: [&str; 2], client: Option<&str>, some_have: bool) -> Option<String> {
    let own = rule.key.namespace.as_str();
    if client == Some(own) && is_for(rule, client) && !(some_have && is_selecting(rule)) {
        return None;
    }
    if is_selecting(rule) {
        return Some(format!("is for workloads of namespace {own} that it selects only"));
    }
    if !of_all.contains(&own) {
        return Some(format!(
            "is in namespace {own}, where only its own clients look for rules"
        ));
    }
    if is_for(rule, client) {
        return None;
    }
    let names = exported_to(rule).into_iter();
    let names: Vec<String> = names
        .map(|name| if name == own { "." } else { name }.to_owned())
        .collect();
    let names = names.iter().map(|name| format!("`{name}`"));
    Some(format!("is exported to {} only", shown(names)))
}

/// Namespaces whose clients see a rule that not everyone sees.
fn seeing<'d>(rule: &'d Document, of_all: [&str; 2]) -> BTreeSet<&'d str> {
    let own = rule.key.namespace.as_str();
    if of_all.contains(&own) && destination_rule(rule).is_some_and(|rule| rule.exports != ExportTo::Everyone) {
        return exported_to(rule);
    }
    BTreeSet::from([own])
        .into_iter()
        .filter(|own| is_for(rule, Some(own)))
        .collect()
}
