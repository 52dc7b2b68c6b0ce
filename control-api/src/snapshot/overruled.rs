//! VirtualServices for a host that another one is in force for, and for whose clients: told to whoever analyses documents.
//! Who is in force is decided by `scope`, as for the proxies; for requests, TLS and other connections one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::Catalog;
use super::scope::{Rules, Scope, rank};
use crate::config::{Document, Key};

/// Rules that are not in force for clients who see them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overruled {
    /// A wildcard as it is written.
    pub host: String,
    pub key: Key,
    /// Whose rules are in force.
    pub by: Key,
    pub reason: Reason,
    /// Those of `http`, `tls` and `tcp` that it has for sidecars and are not in force; empty: all that it has.
    pub parts: Vec<&'static str>,
    /// Namespaces of the clients. Empty: all of them.
    pub clients: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Both are for everyone alike, or exported by name.
    Age,
    /// The other is of the clients' namespace, or exported to it by name, which this one's author asked for, too.
    Export,
    /// The same, where this one is for everyone: there may be somebody who has rules of their own.
    Own,
}

const PARTS: [&str; 3] = ["http", "tls", "tcp"];

pub(super) fn find(catalog: &Catalog) -> Vec<Overruled> {
    catalog
        .hosts_of_several_rules()
        .flat_map(|host| of_host(catalog, host))
        .collect()
}

fn of_host(catalog: &Catalog, host: &str) -> Vec<Overruled> {
    let scope = Scope::of(catalog, host, false);
    let everyone = scope.visible(None);
    let mut parts: BTreeMap<&Key, [bool; PARTS.len()]> = BTreeMap::new();
    let mut of_all = BTreeMap::new();
    note(catalog, &everyone, None, &mut parts, &mut of_all);
    let mut found: Vec<Overruled> = of_all
        .iter()
        .map(|((key, by, reason), hidden)| Overruled {
            host: host.to_owned(),
            key: (*key).clone(),
            by: (*by).clone(),
            reason: *reason,
            parts: named(hidden, parts.get(key)),
            clients: BTreeSet::new(),
        })
        .collect();
    let mut of_some: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for client in scope.clients() {
        let mut of_client = BTreeMap::new();
        note(
            catalog,
            &scope.visible(Some(client)),
            Some(client),
            &mut parts,
            &mut of_client,
        );
        of_client.retain(|what, hidden| of_all.get(what) != Some(hidden));
        for (what, hidden) in of_client {
            of_some.entry((what, hidden)).or_default().insert(client.to_owned());
        }
    }
    found.extend(
        of_some
            .into_iter()
            .map(|(((key, by, reason), hidden), clients)| Overruled {
                host: host.to_owned(),
                key: key.clone(),
                by: by.clone(),
                reason,
                parts: named(&hidden, parts.get(key)),
                clients,
            }),
    );
    found
}

type Hidden<'k> = BTreeMap<(&'k Key, &'k Key, Reason), [bool; PARTS.len()]>;

/// `visible`: in order of precedence.
fn note<'k>(
    catalog: &Catalog,
    visible: &[&'k Arc<Document>],
    client: Option<&str>,
    parts: &mut BTreeMap<&'k Key, [bool; PARTS.len()]>,
    hidden: &mut Hidden<'k>,
) {
    let mut in_force: [Option<&'k Arc<Document>>; PARTS.len()] = [None; PARTS.len()];
    for document in visible {
        let own = *parts.entry(&document.key).or_insert_with(|| {
            let rules = Rules::in_force(catalog, &[document]);
            [!rules.http.is_empty(), !rules.tls.is_empty(), !rules.tcp.is_empty()]
        });
        for (part, by) in in_force.iter_mut().enumerate().filter(|(part, _)| own[*part]) {
            let Some(by) = by else {
                *by = Some(document);
                continue;
            };
            let reason = reason(document, by, client);
            hidden.entry((&document.key, &by.key, reason)).or_default()[part] = true;
        }
    }
}

fn reason(document: &Document, by: &Document, client: Option<&str>) -> Reason {
    let namespace = Some(document.key.namespace.as_str());
    if rank(document, client) == rank(by, client) {
        Reason::Age
    } else if rank(document, None).is_some() && client != namespace {
        Reason::Own
    } else {
        Reason::Export
    }
}

fn named(hidden: &[bool; PARTS.len()], own: Option<&[bool; PARTS.len()]>) -> Vec<&'static str> {
    if own == Some(hidden) {
        return Vec::new();
    }
    let named = PARTS.into_iter().zip(hidden).filter(|(_, is_hidden)| **is_hidden);
    named.map(|(part, _)| part).collect()
}
