//! VirtualServices that delegate: the rules of another one, without hosts, in the place of one of theirs.
//!
//! Follows Istio's `MergeHTTPRoutes`: each rule of the delegate takes from the delegating rule what it does not say
//! itself, and matches what both match. Where they cannot both match (`delegated_match`), and where there is no
//! delegate, the rule is left out; Istio says so in its log alone.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::catalog::Catalog;
use super::delegated_match::{self, Conflict, Unmergeable};
use super::rule_index::virtual_service;
use crate::config::{
    Delegate, Document, ExportTo, Headers, HttpMatch, HttpRule, Key, StringMatch, VirtualService, regex_bytes,
};

/// Hosts times matches and destinations of all rules, as for a document that says all of it itself.
const MOST_ITEMS: usize = 100_000;
/// Hosts times comparisons of a match of the root with one of a delegate.
const MOST_COMPARISONS: usize = 4_000_000;
/// Of all regexes, as a proxy holds them.
const MOST_REGEX_BYTES: u64 = 8 << 20;

/// A rule and where it is written.
pub(super) struct Placed<'a, R: Clone> {
    pub key: &'a Key,
    /// In the `http`, `tls` or `tcp` of that VirtualService.
    pub index: usize,
    pub rule: Cow<'a, R>,
}

/// By which a delegate is found.
pub(super) fn name(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn name_of(delegate: &Delegate, root_namespace: &str) -> String {
    let namespace = match delegate.namespace.as_str() {
        "" => root_namespace,
        namespace => namespace,
    };
    name(namespace, &delegate.name)
}

/// The delegates that a VirtualService of this namespace names.
pub(super) fn named_by(namespace: &str, rule: &VirtualService) -> BTreeSet<String> {
    let delegates = rule.http.iter().filter_map(|http| http.delegate.as_ref());
    delegates.map(|delegate| name_of(delegate, namespace)).collect()
}

/// May the rules of a document of namespace `own` be used in `namespace`?
pub(super) fn is_exported(export_to: &ExportTo, namespace: &str) -> bool {
    match export_to {
        ExportTo::Everyone => true,
        ExportTo::Namespaces(names) => names.iter().any(|name| name == namespace),
    }
}

/// The rules of `http` that a VirtualService stands for, and what is to say of those that it delegates to.
pub(super) fn expand<'a>(
    catalog: &'a Catalog,
    document: &'a Document,
    warnings: &mut Vec<String>,
) -> Vec<Placed<'a, HttpRule>> {
    let Some(root) = virtual_service(document) else {
        return Vec::new();
    };
    let mut expansion = Expansion {
        catalog,
        root: document,
        room: Room::of(root),
        rules: Vec::new(),
        warnings,
    };
    for (index, rule) in root.http.iter().enumerate() {
        match &rule.delegate {
            Some(delegate) => expansion.delegate(index, rule, delegate),
            None => expansion.rules.push(Placed {
                key: &document.key,
                index,
                rule: Cow::Borrowed(rule),
            }),
        }
    }
    expansion.rules
}

struct Expansion<'a, 'w> {
    catalog: &'a Catalog,
    root: &'a Document,
    room: Room,
    rules: Vec<Placed<'a, HttpRule>>,
    warnings: &'w mut Vec<String>,
}

impl<'a> Expansion<'a, '_> {
    fn delegate(&mut self, index: usize, rule: &HttpRule, delegate: &Delegate) {
        let namespace = &self.root.key.namespace;
        let wanted = name_of(delegate, namespace);
        let found = self.catalog.delegate(&wanted);
        let Some((document, written)) = found.and_then(|found| Some((found, virtual_service(found)?))) else {
            let reason = format!("there is no VirtualService {wanted} without hosts: the rule is left out");
            return self.warn(index, &reason);
        };
        if !is_exported(&written.export_to, namespace) {
            let reason = format!(
                "{} is not exported to namespace {namespace}: the rule is left out",
                document.key
            );
            return self.warn(index, &reason);
        }
        for (number, of_delegate) in written.http.iter().enumerate() {
            match merge(rule, of_delegate, &mut self.room) {
                Ok(merged) => self.rules.push(Placed {
                    key: &document.key,
                    index: number,
                    rule: Cow::Owned(merged),
                }),
                Err(unusable) => self.warn_of(index, &document.key, number, &unusable),
            }
        }
    }

    fn warn(&mut self, index: usize, reason: &str) {
        self.warnings
            .push(format!("{}: spec.http[{index}].delegate: {reason}", self.root.key));
    }

    fn warn_of(&mut self, index: usize, delegate: &Key, number: usize, unusable: &Unusable) {
        let root = &self.root.key;
        match unusable {
            Unusable::TooMuch => {
                let reason = format!(
                    "together with its delegates it has too many matches, destinations and regexes: spec.http[{number}] of {delegate} is left out"
                );
                self.warn(index, &reason);
            }
            Unusable::DelegatesAgain => {
                let reason = format!("spec.http[{number}] of {delegate} delegates in turn: it is left out");
                self.warn(index, &reason);
                self.warnings.push(format!(
                    "{delegate}: spec.http[{number}].delegate: {root} delegates to this VirtualService, which cannot delegate in turn: the rule is left out"
                ));
            }
            Unusable::Conflict(Conflict { root_field, field }) => {
                self.warnings.push(format!(
                    "{root}: spec.http[{index}].{root_field}: takes no request that spec.http[{number}].{field} of its delegate {delegate} takes, as far as can be told: that rule is left out"
                ));
                self.warnings.push(format!(
                    "{delegate}: spec.http[{number}].{field}: is not within spec.http[{index}].{root_field} of {root}, which delegates to it: the rule is left out there"
                ));
            }
        }
    }
}

/// Why a rule of a delegate is left out.
enum Unusable {
    DelegatesAgain,
    Conflict(Conflict),
    TooMuch,
}

impl From<Unmergeable> for Unusable {
    fn from(unmergeable: Unmergeable) -> Self {
        match unmergeable {
            Unmergeable::Conflict(conflict) => Self::Conflict(conflict),
            Unmergeable::TooMany => Self::TooMuch,
        }
    }
}

fn merge(root: &HttpRule, delegate: &HttpRule, room: &mut Room) -> Result<HttpRule, Unusable> {
    if delegate.delegate.is_some() {
        return Err(Unusable::DelegatesAgain);
    }
    if !room.compares(root.matches.len().saturating_mul(delegate.matches.len())) {
        return Err(Unusable::TooMuch);
    }
    let matches = delegated_match::merge(&root.matches, &delegate.matches, room.items)?;
    let mut merged = HttpRule {
        name: delegated_match::joined(&root.name, &delegate.name),
        matches,
        fault: delegate.fault.clone().or_else(|| root.fault.clone()),
        cors: delegate.cors.clone().or_else(|| root.cors.clone()),
        ..delegate.clone()
    };
    if merged.headers == Headers::default() && merged.authority.is_empty() {
        merged.headers = root.headers.clone();
        merged.authority.clone_from(&root.authority);
    }
    // The rest has no meaning for what a proxy answers by itself.
    if !merged.route.is_empty() {
        merged.rewrite = merged.rewrite.or_else(|| root.rewrite.clone());
        merged.timeout = merged.timeout.or(root.timeout);
        merged.retries = merged.retries.or_else(|| root.retries.clone());
        if merged.mirrors.is_empty() {
            merged.mirrors = root.mirrors.clone();
        }
    }
    if room.takes(&merged) {
        Ok(merged)
    } else {
        Err(Unusable::TooMuch)
    }
}

/// What may still be merged: a short root with long delegates can mean a lot.
struct Room {
    items: usize,
    comparisons: usize,
    regex_bytes: u64,
}

impl Room {
    fn of(root: &VirtualService) -> Self {
        Self {
            items: MOST_ITEMS / root.hosts.len().max(1),
            comparisons: MOST_COMPARISONS / root.hosts.len().max(1),
            regex_bytes: MOST_REGEX_BYTES,
        }
    }

    fn compares(&mut self, comparisons: usize) -> bool {
        let left = self.comparisons.checked_sub(comparisons);
        self.comparisons = left.unwrap_or(self.comparisons);
        left.is_some()
    }

    fn takes(&mut self, rule: &HttpRule) -> bool {
        let items = rule.matches.len() + rule.route.len() + rule.mirrors.len() + 1;
        let patterns = rule.matches.iter().flat_map(patterns);
        let bytes = patterns.fold(0_u64, |sum, pattern| sum.saturating_add(regex_bytes(pattern)));
        let fits = items <= self.items && bytes <= self.regex_bytes;
        if fits {
            self.items -= items;
            self.regex_bytes -= bytes;
        }
        fits
    }
}

fn patterns(item: &HttpMatch) -> impl Iterator<Item = &str> {
    let texts = [&item.uri, &item.scheme, &item.method, &item.authority];
    let named = [&item.headers, &item.without_headers, &item.query_params];
    let values = named.into_iter().flatten().map(|(_, value)| value);
    texts.into_iter().chain(values).filter_map(|value| match value {
        Some(StringMatch::Regex(pattern)) => Some(pattern.as_str()),
        _ => None,
    })
}
