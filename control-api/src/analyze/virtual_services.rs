//! VirtualServices as a whole: whose hosts they are for, which of two is in force, who sees them.

use std::collections::HashMap;

use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{Document, ExportTo, Key, VirtualService};
use crate::snapshot::{Overruled, Reason, World};

const CONFLICT: Check = ("IST0109", Severity::Error);
const SHADOWED: Check = ("IST0109", Severity::Info);
const NOT_FOUND: Check = ("IST0101", Severity::Error);
const NO_SERVICE: Check = ("TSU-HOST", Severity::Warning);
const INERT: Check = ("TSU-GATEWAY-ONLY", Severity::Info);

/// Is it for sidecars?
fn of_mesh(rule: &VirtualService) -> bool {
    rule.gateways.is_empty() || rule.gateways.iter().any(|name| name == "mesh")
}

/// Several for one host, of which one is in force for some clients.
pub(super) fn conflicts(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, world: &World) {
    for overruled in world.overruled() {
        conflict(findings, by_key, &overruled);
    }
}

/// At the one that is not in force; or, where only the other is in a file, there.
fn conflict(findings: &mut Findings<'_>, by_key: &HashMap<&Key, &Document>, overruled: &Overruled) {
    let Overruled {
        host, key, by, parts, ..
    } = overruled;
    let (Some(hidden), Some(hiding)) = (by_key.get(key), by_key.get(by)) else {
        return;
    };
    let whom = match overruled.clients.len() {
        0 => String::new(),
        _ => format!(
            " for clients of namespace {}",
            listed(&Vec::from_iter(&overruled.clients))
        ),
    };
    let which = if parts.is_empty() {
        String::new()
    } else {
        format!(", as far as `{}` goes", parts.join("`, `"))
    };
    let (check, because, instead) = match overruled.reason {
        Reason::Age => (
            CONFLICT,
            "is older: two are not merged",
            "the rules of both in one VirtualService, or `delegate`",
        ),
        Reason::Export => (
            CONFLICT,
            "is exported to them more closely: two are not merged",
            "the rules of both in one VirtualService, or another exportTo",
        ),
        Reason::Own => (SHADOWED, "is exported to them by name, this one to everyone", ""),
    };
    if hidden.origin.file.is_empty() && !hiding.origin.file.is_empty() {
        let because = because.replace("this one", "that one");
        let what = format!("{key} has {host}, too, and is not in force{whom}{which}, but this one, which {because}");
        findings.add(check, hiding, "spec.hosts", what, instead);
    } else {
        let what = format!("{by} is in force for {host}{whom}, not this one{which}: it {because}");
        findings.add(check, hidden, "spec.hosts", what, instead);
    }
}

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    if !of_mesh(rule) {
        let what = format!("is for {} only: no sidecar uses it", listed(&rule.gateways));
        findings.add(
            INERT,
            document,
            "spec.gateways",
            what,
            "`mesh` among the gateways, for calls inside the mesh",
        );
    }
    hosts(findings, document, rule);
    visibility(findings, document, rule);
    delegates(findings, document, rule);
    if rule.hosts.is_empty() && !is_delegated_to(findings, document) {
        let what = "has no hosts, and no VirtualService delegates to it: it is never met";
        findings.add(
            ("TSU-DELEGATE", Severity::Warning),
            document,
            "spec",
            what,
            "hosts, or a delegate to it",
        );
    }
}

fn hosts(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    let mesh = findings.mesh;
    if !of_mesh(rule) || !mesh.knows_services() {
        return;
    }
    for (index, host) in rule.hosts.iter().enumerate() {
        let covered = if host.starts_with('*') {
            mesh.services().any(|(fqdn, _)| covers_host(host, fqdn))
        } else {
            mesh.service(host).is_some()
        };
        if covered || host.parse::<std::net::IpAddr>().is_ok() {
            continue;
        }
        let what = match mesh.in_full(host) {
            Some(full) => format!(
                "no service has the host {host}: requests that name it are for {full}, which these rules are not for"
            ),
            None => format!("no service has the host {host}: only requests that name it find these rules"),
        };
        let is_of_cluster = host.ends_with(".svc.cluster.local");
        let (severity, instead) = match mesh.like(host) {
            Some(like) => (Severity::Warning, format!("did you mean {like}?")),
            None if is_of_cluster => (
                Severity::Warning,
                "name.namespace.svc.cluster.local, for a service of another namespace".to_owned(),
            ),
            // A name of its own, for what the mesh answers or sends on.
            None => (Severity::Info, String::new()),
        };
        let check = (NO_SERVICE.0, severity);
        findings.add(check, document, format!("spec.hosts[{index}]"), what, instead);
    }
}

fn visibility(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    let ExportTo::Namespaces(names) = &rule.export_to else {
        return;
    };
    if names.is_empty() && of_mesh(rule) {
        let what = "exported to nobody: no sidecar uses it";
        return findings.add(
            ("TSU-EXPORT", Severity::Warning),
            document,
            "spec.exportTo",
            what,
            "`.`, for its own namespace",
        );
    }
    let mesh = findings.mesh;
    for name in names
        .iter()
        .filter(|name| *name != &document.key.namespace && !mesh.has_namespace(name))
    {
        let what = format!("nothing is known of a namespace {name}: nobody sees the rule from there");
        findings.add(("TSU-EXPORT", Severity::Warning), document, "spec.exportTo", what, "");
    }
}

fn delegates(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    let mesh = findings.mesh;
    for (index, delegate) in rule
        .http
        .iter()
        .enumerate()
        .filter_map(|(index, it)| Some((index, it.delegate.as_ref()?)))
    {
        let field = format!("spec.http[{index}].delegate");
        let found = mesh
            .virtual_services
            .iter()
            .find(|(other, _)| other.key.name == delegate.name && other.key.namespace == delegate.namespace);
        match found {
            None => {
                let what = format!("there is no VirtualService {}/{}", delegate.namespace, delegate.name);
                findings.add(NOT_FOUND, document, field, what, "one without hosts, of that name");
            }
            Some((_, to)) if !to.hosts.is_empty() => {
                let what = format!(
                    "{}/{} has hosts of its own: it cannot be delegated to",
                    delegate.namespace, delegate.name
                );
                findings.add(NOT_FOUND, document, field, what, "a VirtualService without hosts");
            }
            Some(_) => {}
        }
    }
}

fn is_delegated_to(findings: &Findings<'_>, document: &Document) -> bool {
    let rules = findings.mesh.virtual_services.iter().flat_map(|(_, rule)| &rule.http);
    let mut delegates = rules.filter_map(|http| http.delegate.as_ref());
    delegates.any(|delegate| delegate.name == document.key.name && delegate.namespace == document.key.namespace)
}
