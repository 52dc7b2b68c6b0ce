//! Which ports of its hosts a VirtualService's rules are for: `http` rules need one that speaks HTTP, `tls` rules one of TLS,
//! `tcp` rules one of TCP, and a match the port that it names. Proxies decide so, too (`snapshot/connections.rs` there).

use std::collections::BTreeMap;

use super::mesh::Mesh;
use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{ConnectionRule, Document, Protocol, SourceMatch, VirtualService};

const NO_PORT: Check = ("TSU-RULE-PORT", Severity::Warning);

/// One list of rules, with those ports of the hosts that it is for.
struct Section<'a> {
    name: &'static str,
    /// As in `HTTP`.
    speaks: &'static str,
    instead: &'static str,
    is_for: fn(Protocol) -> bool,
    /// Of each rule its matches.
    matches: Vec<Vec<(Option<u16>, &'a SourceMatch)>>,
}

/// May requests meet the `http` rules, as far as anybody knows?
pub(super) fn check(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) -> bool {
    let Some(ports) = ports(findings.mesh, rule) else {
        return !rule.http.is_empty();
    };
    let host = listed(&rule.hosts);
    let mut has_requests = false;
    for section in sections(rule).iter().filter(|section| !section.matches.is_empty()) {
        let spoken: Vec<u16> = ports
            .iter()
            .filter(|(_, protocol)| (section.is_for)(**protocol))
            .map(|(number, _)| *number)
            .collect();
        let (name, speaks) = (section.name, section.speaks);
        if spoken.is_empty() {
            let what = format!("no port of {host} speaks {speaks}: none of these rules is ever met");
            findings.add(NO_PORT, document, format!("spec.{name}"), what, section.instead);
            continue;
        }
        has_requests |= name == "http";
        let matches = section.matches.iter().enumerate();
        let matches = matches.flat_map(|(index, items)| items.iter().enumerate().map(move |it| (index, it)));
        for (index, (number, (port, source))) in matches {
            let Some(port) = port.filter(|port| source.concerns_sidecars() && !spoken.contains(port)) else {
                continue;
            };
            let what = if ports.contains_key(&port) {
                format!("port {port} of {host} does not speak {speaks}: this is never met")
            } else {
                format!("{host} has no port {port}: this is never met")
            };
            let numbers: Vec<String> = spoken.iter().map(u16::to_string).collect();
            let field = format!("spec.{name}[{index}].match[{number}].port");
            let instead = format!("one of its ports: {}", listed(&numbers));
            findings.add(NO_PORT, document, field, what, instead);
        }
    }
    has_requests
}

fn sections(rule: &VirtualService) -> [Section<'_>; 3] {
    let requests = rule.http.iter().map(|rule| &rule.matches);
    [
        Section {
            name: "http",
            speaks: "HTTP",
            instead: "`tcp` rules; or HTTP as the protocol of the port (appProtocol, or a name like http-web), if it speaks it",
            is_for: Protocol::has_requests,
            matches: requests
                .map(|items| items.iter().map(|item| (item.port, &item.source)).collect())
                .collect(),
        },
        Section {
            name: "tls",
            speaks: "TLS",
            instead: "TLS as the protocol of the port (appProtocol, or a name like tls-web), if its clients speak it",
            is_for: |protocol| matches!(protocol, Protocol::Tls | Protocol::Detect),
            matches: connections(&rule.tls),
        },
        Section {
            name: "tcp",
            speaks: "TCP",
            instead: "`http` rules, or `tls` rules; or TCP as the protocol of the port (appProtocol, or a name like tcp-db)",
            is_for: |protocol| matches!(protocol, Protocol::Tcp | Protocol::Detect),
            matches: connections(&rule.tcp),
        },
    ]
}

/// Of each rule its matches.
fn connections(rules: &[ConnectionRule]) -> Vec<Vec<(Option<u16>, &SourceMatch)>> {
    let matches = rules.iter().map(|rule| &rule.matches);
    matches
        .map(|items| items.iter().map(|item| (item.port, &item.source)).collect())
        .collect()
}

/// Of all its hosts. `None`: not all are known, or the rules may be for a gateway.
fn ports(mesh: &Mesh<'_>, rule: &VirtualService) -> Option<BTreeMap<u16, Protocol>> {
    let is_for_sidecars = rule.gateways.iter().all(|gateway| gateway == "mesh");
    if !is_for_sidecars || rule.hosts.is_empty() {
        return None;
    }
    let mut ports: BTreeMap<u16, Protocol> = BTreeMap::new();
    for host in &rule.hosts {
        let known = mesh.service(host).filter(|_| !host.starts_with('*'))?.ports();
        if known.is_empty() {
            return None;
        }
        for port in known {
            let kept = ports.entry(port.number).or_insert(port.protocol);
            if *kept != port.protocol {
                // Either will do.
                *kept = Protocol::Detect;
            }
        }
    }
    Some(ports)
}
