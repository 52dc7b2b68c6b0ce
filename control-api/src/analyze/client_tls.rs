//! `tls` of a DestinationRule: what is not verified, what has no name to ask for, what is wrapped twice, and credentials.

use super::mesh::covers_host;
use super::report::listed;
use super::traffic_policies::Place;
use super::{Check, Findings, Severity};
use crate::config::{ClientTls, DestinationRule, Document, Protocol, ServicePort, Spec, TlsMode};

const TLS: Check = ("TSU-TLS", Severity::Warning);
const NAMELESS: Check = ("TSU-TLS-NAME", Severity::Error);

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, place: &Place<'_>) {
    let Some(tls) = &place.own.tls else { return };
    if tls.mode == TlsMode::Disable {
        return;
    }
    let field = format!("{}.tls", place.field);
    not_verified(findings, document, tls, &field);
    credential(findings, document, tls, &field);
    if tls.sni.is_empty() {
        nameless(findings, document, rule, place);
    }
    wrapped_twice(findings, document, rule, place);
}

/// What is TLS already, unless it is requests that rules lead there.
fn wrapped_twice(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, place: &Place<'_>) {
    let encrypted = place.ports.iter().filter(|port| port.protocol == Protocol::Tls);
    let (routed, alone): (Vec<_>, Vec<_>) = encrypted
        .map(|port| port.number)
        .partition(|port| findings.mesh.leads_requests_to(&rule.host, *port));
    let mut found = |ports: Vec<u16>, severity, whom: &str, instead: &str| {
        if ports.is_empty() {
            return;
        }
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let ports = listed(&ports);
        let what = format!(
            "{whom} to port {ports} is TLS already (HTTPS or TLS by its protocol), and would be wrapped in TLS once more"
        );
        findings.add(
            (TLS.0, severity),
            document,
            format!("{}.tls.mode", place.field),
            what,
            instead,
        );
    };
    found(
        alone,
        Severity::Warning,
        "what comes",
        "mode: DISABLE there, or a port of protocol HTTP for clients that speak plaintext to the sidecar",
    );
    found(
        routed,
        Severity::Info,
        "requests that a VirtualService leads here get TLS by this; what an application itself sends",
        "nothing, where applications send plaintext only",
    );
}

/// In Istio sidecars follow it beside a `workloadSelector` only.
fn credential(findings: &mut Findings<'_>, document: &Document, tls: &ClientTls, field: &str) {
    let is_for_all = matches!(&document.spec, Spec::DestinationRule(rule) if rule.workload_selector.is_empty());
    if is_for_all && !tls.credential_name.is_empty() {
        let what = "every client's sidecar follows this, and without the credential its requests get 503 URX,UF; in Istio it is for gateways where there is no workloadSelector";
        let instead = "workloadSelector beside it, with the labels of the clients that have the credential";
        let hint = (TLS.0, Severity::Info);
        findings.add(hint, document, format!("{field}.credentialName"), what, instead);
    }
}

/// A host that is a wildcard itself, not one of the services that a rule's wildcard covers, and bytes that name no host.
fn nameless(findings: &mut Findings<'_>, document: &Document, rule: &DestinationRule, place: &Place<'_>) {
    let mesh = findings.mesh;
    let is_first = |host: &str| {
        mesh.rules_for(host)
            .all(|(_, other)| other.host.len() <= rule.host.len())
    };
    let of_bytes = |port: &&ServicePort| !port.protocol.has_requests() && place.is_of_port(port.number);
    let nameless = mesh.services().find_map(|(host, service)| {
        let concerned = host.starts_with('*') && covers_host(&rule.host, host) && is_first(host);
        let port = service.ports().into_iter().find(of_bytes).filter(|_| concerned)?;
        Some((host, port.number))
    });
    if let Some((host, port)) = nameless {
        let what = format!(
            "the host {host} is no name to ask for in TLS, and `sni` gives none: connections to its TCP port {port} fail (UF)"
        );
        let instead = "sni with the name in the endpoints' certificate; a ServiceEntry for each of the names";
        findings.add(NAMELESS, document, format!("{}.tls.sni", place.field), what, instead);
    }
}

fn not_verified(findings: &mut Findings<'_>, document: &Document, tls: &ClientTls, field: &str) {
    if tls.insecure_skip_verify {
        let what = "the endpoints' certificates are not verified: anybody in between can answer";
        let instead = "caCertificates, with the authority that has signed them";
        findings.add(TLS, document, format!("{field}.insecureSkipVerify"), what, instead);
    }
}
