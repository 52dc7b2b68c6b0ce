//! DestinationRules: whom they are for, which subsets are used and exist, what a policy really says.

use super::hosts::nobody_has;
use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity, traffic_policies};
use crate::config::{DestinationRule, Document, ExportTo, Subset};

const UNKNOWN_HOST: Check = ("IST0174", Severity::Warning);
const NO_ENDPOINT: Check = ("IST0173", Severity::Error);
const NO_CLIENT: Check = ("IST0127", Severity::Warning);
const UNUSED: Check = ("TSU-SUBSET-UNUSED", Severity::Info);
const EXPORT: Check = ("TSU-EXPORT", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    host(findings, document, rule);
    visibility(findings, document, rule);
    clients(findings, document, rule);
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        workloads(findings, document, rule, subset, &field);
        usage(findings, document, rule, subset, &field);
    }
    traffic_policies::check(findings, document, rule);
}

fn host(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    let mesh = findings.mesh;
    let known = if rule.host.starts_with('*') {
        mesh.services().any(|(fqdn, _)| covers_host(&rule.host, fqdn))
    } else {
        mesh.service(&rule.host).is_some()
    };
    if known || !mesh.knows_services() {
        return;
    }
    let what = format!("no service has the host {}: nothing follows this rule", rule.host);
    let instead = match mesh.like(&rule.host) {
        Some(like) => format!("did you mean {like}?"),
        None => nobody_has(document, &rule.host).to_owned(),
    };
    findings.add(UNKNOWN_HOST, document, "spec.host", what, instead);
}

/// Clients look for rules in their own namespace, in the service's and in the root namespace, nowhere else.
fn visibility(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    let ExportTo::Namespaces(names) = &rule.exports else {
        return;
    };
    let own = document.key.namespace.as_str();
    let others: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != own).collect();
    let mesh = findings.mesh;
    if let Some(service) = mesh.service(&rule.host)
        && service.namespace() != own
        && own != mesh.root_namespace
        && !others.is_empty()
    {
        let what = format!(
            "clients of {} look for rules in their own namespace, in that of the service ({}) and in the root namespace, not in {own}",
            listed(&others),
            service.namespace()
        );
        let instead = format!("the rule in namespace {}, or in theirs", service.namespace());
        return findings.add(EXPORT, document, "spec.exportTo", what, instead);
    }
    for name in others.into_iter().filter(|name| !mesh.has_namespace(name)) {
        let what = format!("nothing is known of a namespace {name}: nobody sees the rule from there");
        findings.add(EXPORT, document, "spec.exportTo", what, "");
    }
}

fn clients(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule) {
    let (mesh, namespace) = (findings.mesh, document.key.namespace.as_str());
    let selector = &rule.workload_selector;
    if selector.is_empty() || !mesh.knows_clients() || mesh.has_client(Some(namespace), selector) {
        return;
    }
    let elsewhere = if mesh.has_client(None, selector) {
        "; workloads of other namespaces are never selected"
    } else {
        ""
    };
    let what = format!(
        "selects the clients that follow this rule, not endpoints, and no workload of namespace {namespace} that is known here has these labels{elsewhere}"
    );
    let instead = "labels of the callers' pods; a subset, to choose endpoints";
    findings.add(NO_CLIENT, document, "spec.workloadSelector", what, instead);
}

fn workloads(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, subset: &Subset, field: &str) {
    let mesh = findings.mesh;
    let Some(service) = mesh.service(&rule.host).filter(|_| mesh.knows_workloads()) else {
        return;
    };
    let namespace = Some(service.namespace());
    if !service.may_have(&subset.labels, |labels| mesh.has_workload(namespace, labels)) {
        let shown: Vec<String> = subset
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let what = format!(
            "no endpoint of {} has {}: requests to the subset get 503 UH",
            rule.host,
            listed(&shown)
        );
        findings.add(
            NO_ENDPOINT,
            document,
            format!("{field}.labels"),
            what,
            "labels that its pods have",
        );
    }
}

/// A subset's policy acts only on requests that a route sends to the subset.
fn usage(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, subset: &Subset, field: &str) {
    let names = |host: &str, name: &str| covers_host(&rule.host, host) && name == subset.name;
    let used = findings.mesh.virtual_services.iter().any(|(_, it)| {
        let connections = it.tls.iter().chain(&it.tcp).flat_map(|rule| &rule.route);
        let requests = it.http.iter().flat_map(|rule| &rule.route);
        let mirrors = it.http.iter().flat_map(|rule| &rule.mirrors);
        requests.chain(connections).any(|to| names(&to.host, &to.subset))
            || mirrors.into_iter().any(|to| names(&to.host, &to.subset))
    });
    if used {
        return;
    }
    let mut what = format!("no route sends anything to the subset {}", subset.name);
    if subset.policy.is_some() {
        what.push_str(": its trafficPolicy never acts");
    }
    findings.add(UNUSED, document, field, what, "a route that names it");
}
