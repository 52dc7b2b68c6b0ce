//! VirtualServices as a whole: whose hosts they are for, which of two is in force, who sees them.

use std::collections::BTreeMap;

use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{Document, ExportTo, VirtualService};

const CONFLICT: Check = ("IST0109", Severity::Error);
const NOT_FOUND: Check = ("IST0101", Severity::Error);
const NO_SERVICE: Check = ("TSU-HOST", Severity::Warning);
const INERT: Check = ("TSU-GATEWAY-ONLY", Severity::Info);

/// Is it for sidecars?
fn of_mesh(rule: &VirtualService) -> bool {
    rule.gateways.is_empty() || rule.gateways.iter().any(|name| name == "mesh")
}

/// Is there a client that sees both?
fn are_seen_together(one: &ExportTo, other: &ExportTo) -> bool {
    match (one, other) {
        (ExportTo::Everyone, ExportTo::Everyone) => true,
        (ExportTo::Namespaces(names), ExportTo::Everyone) | (ExportTo::Everyone, ExportTo::Namespaces(names)) => {
            !names.is_empty()
        }
        (ExportTo::Namespaces(one), ExportTo::Namespaces(other)) => one.iter().any(|name| other.contains(name)),
    }
}

/// Two for one host: they are not merged, the oldest is in force.
pub(super) fn conflicts(findings: &mut Findings<'_>) {
    let mesh = findings.mesh;
    let mut by_host: BTreeMap<&str, Vec<(&Document, &VirtualService)>> = BTreeMap::new();
    for (document, rule) in mesh.virtual_services.iter().copied().filter(|(_, rule)| of_mesh(rule)) {
        for host in &rule.hosts {
            by_host.entry(host).or_default().push((document, rule));
        }
    }
    for (host, rules) in by_host {
        for (number, (document, rule)) in rules.iter().enumerate().skip(1) {
            let first = rules[..number]
                .iter()
                .find(|(_, other)| are_seen_together(&other.export_to, &rule.export_to));
            let Some((first, _)) = first else { continue };
            let what = format!(
                "{host} belongs to {} already, which is in force: two are not merged",
                first.key
            );
            findings.add(
                CONFLICT,
                document,
                "spec.hosts",
                what,
                "the rules of both in one VirtualService, or `delegate`",
            );
        }
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
        let what = format!("no service has the host {host}: only requests that name it find these rules");
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
