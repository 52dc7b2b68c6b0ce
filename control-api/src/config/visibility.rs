//! Whom a VirtualService or a DestinationRule is for: `hosts`, `gateways` and `exportTo`, checked as Istio checks them
//! (validation.go: ValidateVirtualService, validateGatewayNames, validateExportTo).

use std::collections::{BTreeSet, HashSet};

use super::read::Field;
use super::scalar::shown;
use super::{ExportTo, names};

/// As written, in lower case.
pub(super) fn hosts(list: &Field<'_>, concerns_sidecars: bool) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    for item in list.items() {
        let Some(host) = names::host_or_wildcard(&item) else {
            continue;
        };
        if !seen.insert(item.text()) {
            item.refuse("this host is there twice");
        } else if host == "*" && concerns_sidecars {
            item.refuse("the host `*` is for gateways only: name the hosts");
        } else {
            hosts.push(host);
        }
    }
    refuse_overlaps(list, &hosts);
    hosts
}

/// Istio refuses a host that another one of the document means already.
fn refuse_overlaps(list: &Field<'_>, hosts: &[String]) {
    let wildcards: HashSet<&str> = hosts.iter().filter_map(|host| host.strip_prefix('*')).collect();
    for host in hosts {
        let name = host.strip_prefix('*').unwrap_or(host);
        let is_wildcard = name.len() < host.len();
        // Every ending that a wildcard could have, its own excepted.
        let endings = name.match_indices('.').filter_map(|(dot, _)| name.get(dot..));
        let mut endings = endings.chain([""]).filter(|ending| !is_wildcard || *ending != name);
        if let Some(ending) = endings.find(|ending| wildcards.contains(ending)) {
            let wildcard = format!("*{ending}");
            list.refuse(format!("{} is covered by {} already", shown(host), shown(&wildcard)));
        }
    }
}

/// As a rule of `namespace` means them.
pub(super) fn resolved(hosts: &[String], namespace: &str) -> Vec<String> {
    let mut seen = HashSet::with_capacity(hosts.len());
    let hosts = hosts.iter().map(|host| names::resolve(host, namespace));
    hosts.filter(|host| seen.insert(host.clone())).collect()
}

/// As written: `mesh`, `name` or `namespace/name`.
pub(super) fn gateways(message: &Field<'_>) -> Vec<String> {
    let Some(list) = message.get("gateways") else {
        return Vec::new();
    };
    let mut gateways = Vec::new();
    for item in list.items() {
        let Some(text) = item.word() else { continue };
        let lower = text.to_ascii_lowercase();
        let good = match lower.split_once('/') {
            Some((namespace, name)) => names::is_dns_label(namespace) && names::is_dns_label(name),
            None => names::is_dns_subdomain(&lower),
        };
        if good {
            gateways.push(text.to_owned());
        } else {
            let reason = format!("{} is not a gateway: write `mesh` or `namespace/name`", shown(text));
            item.refuse(reason);
        }
    }
    gateways
}

pub(super) fn export_to(spec: &Field<'_>, namespace: &str) -> ExportTo {
    let Some(list) = spec.get("exportTo") else {
        return ExportTo::Everyone;
    };
    let items = list.items();
    let mut everyone = items.is_empty();
    let mut namespaces = BTreeSet::new();
    for item in &items {
        let Some(text) = item.word() else { continue };
        match text {
            "*" | "~" if items.len() > 1 => {
                item.refuse(format!("`{text}` beside other namespaces contradicts them"));
            }
            "*" => everyone = true,
            "~" => {}
            _ => {
                let name = if text == "." { namespace } else { text };
                if text != "." && !names::is_dns_label(name) {
                    item.refuse(format!(
                        "{} is none of `.`, `*`, `~` and the name of a namespace",
                        shown(text)
                    ));
                } else if !namespaces.insert(name.to_owned()) {
                    item.refuse("this namespace is there twice");
                }
            }
        }
    }
    if everyone {
        ExportTo::Everyone
    } else {
        ExportTo::Namespaces(namespaces.into_iter().collect())
    }
}

/// Of a DestinationRule: nobody but the own namespace is meant where workloads are selected.
pub(super) fn export_of_rule(spec: &Field<'_>, namespace: &str, selects: bool) -> ExportTo {
    let own = || ExportTo::Namespaces(vec![namespace.to_owned()]);
    let Some(list) = spec.get("exportTo") else {
        return if selects { own() } else { ExportTo::Everyone };
    };
    let items = list.items();
    if let Some(none) = items.iter().find(|item| item.is("~")) {
        none.refuse("`~` is for VirtualServices and services: a rule that nobody sees has no effect");
        return ExportTo::Everyone;
    }
    let exports = export_to(spec, namespace);
    if !selects {
        return exports;
    }
    if !items.is_empty() && exports != own() {
        list.refuse("only `.` may be here, beside a workloadSelector: it selects among the workloads of its namespace");
    }
    own()
}
