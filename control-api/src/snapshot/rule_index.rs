//! Which VirtualServices concern which host: by the hosts that they name, by their destinations, and by whom they delegate
//! to. Called by `catalog` alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::delegates;
use super::documents::{Act, Documents, by_age, named};
use crate::config::{Document, HttpRule, Key, Spec, VirtualService};

#[derive(Clone, Debug, Default)]
pub(super) struct RuleIndex {
    /// FQDN or wildcard -> VirtualServices for sidecars that name it.
    by_host: Documents,
    /// FQDN -> VirtualServices with a destination there.
    reached_by: Documents,
    /// `namespace/name` -> the VirtualService without hosts of that name.
    delegates: Documents,
    /// The same -> VirtualServices that delegate to it.
    roots: Documents,
}

pub(super) fn virtual_service(document: &Document) -> Option<&VirtualService> {
    match &document.spec {
        Spec::VirtualService(rule) => Some(rule),
        _ => None,
    }
}

/// Those of a rule of `http` that get requests, copies included.
fn http_destinations(rule: &HttpRule) -> impl Iterator<Item = &str> {
    let route = rule.route.iter().map(|to| to.host.as_str());
    route.chain(rule.mirrors.iter().map(|mirror| mirror.host.as_str()))
}

fn destinations(rule: &VirtualService) -> BTreeSet<&str> {
    let connections = rule.tls.iter().chain(&rule.tcp).flat_map(|rule| &rule.route);
    rule.http
        .iter()
        .flat_map(http_destinations)
        .chain(connections.map(|to| to.host.as_str()))
        .collect()
}

impl RuleIndex {
    pub(super) fn each_place(&mut self, document: &Arc<Document>, act: Act) {
        let Some(rule) = virtual_service(document) else { return };
        let namespace = &document.key.namespace;
        if rule.is_delegate() {
            let name = delegates::name(namespace, &document.key.name);
            act(&mut self.delegates, &name, document);
        }
        if !rule.concerns_sidecars() {
            return;
        }
        for host in &rule.hosts {
            act(&mut self.by_host, host, document);
        }
        for host in destinations(rule) {
            act(&mut self.reached_by, host, document);
        }
        for name in delegates::named_by(namespace, rule) {
            act(&mut self.roots, &name, document);
        }
    }

    /// The oldest first.
    pub(super) fn of_host(&self, host: &str) -> Vec<Arc<Document>> {
        by_age(&self.by_host, host)
    }

    pub(super) fn hosts_of_several(&self) -> impl Iterator<Item = &str> {
        let several = self.by_host.iter().filter(|(_, documents)| documents.len() > 1);
        several.map(|(host, _)| &**host)
    }

    pub(super) fn has_host(&self, host: &str) -> bool {
        self.by_host.get(host).is_some()
    }

    /// By its namespace and its own name.
    pub(super) fn delegate(&self, name: &str) -> Option<&Arc<Document>> {
        named(&self.delegates, name).first()
    }

    /// VirtualServices that delegate to this one.
    pub(super) fn roots(&self, key: &Key) -> &[Arc<Document>] {
        named(&self.roots, &delegates::name(&key.namespace, &key.name))
    }

    /// Those that this one delegates to, and those that delegate to it.
    pub(super) fn related<'a>(&'a self, document: &'a Document) -> impl Iterator<Item = &'a Arc<Document>> {
        let delegates = virtual_service(document)
            .map(|rule| delegates::named_by(&document.key.namespace, rule))
            .unwrap_or_default();
        let delegates = delegates.into_iter().filter_map(|name| self.delegate(&name));
        delegates.chain(self.roots(&document.key))
    }

    /// Those that lead to a host, by themselves or by a delegate of theirs: their hosts, wildcards among them.
    pub(super) fn hosts_leading_to<'a>(&'a self, fqdn: &str) -> impl Iterator<Item = &'a str> {
        named(&self.reached_by, fqdn)
            .iter()
            .flat_map(|document| self.hosts(document))
    }

    /// The hosts that a VirtualService has a part in, as it names them; a delegate has a part in those of its roots.
    pub(super) fn hosts<'a>(&'a self, document: &'a Document) -> impl Iterator<Item = &'a str> {
        let own = virtual_service(document).filter(|rule| rule.concerns_sidecars());
        let is_delegate = own.is_some_and(VirtualService::is_delegate);
        let roots = if is_delegate { self.roots(&document.key) } else { &[] };
        let of_roots = roots.iter().filter_map(|root| virtual_service(root));
        own.into_iter()
            .chain(of_roots)
            .flat_map(|rule| rule.hosts.iter().map(String::as_str))
    }
}
