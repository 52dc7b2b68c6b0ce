//! Where rules lead: hosts, subsets and ports that are not there, which is a 503 NC for every such request.

use tsunagi_proto::names::DEFAULT_CLUSTER_DOMAIN;

use super::mesh::covers_host;
use super::report::listed;
use super::{Check, Findings, Severity};
use crate::config::{
    Document, HttpRule, Protocol, ServicePort, SourceMatch, Spec, VirtualService, WeightedDestination,
};

const NOT_FOUND: Check = ("IST0101", Severity::Error);
const PORT_REQUIRED: Check = ("IST0112", Severity::Error);
/// Clients need not be endpoints of anything, so this may be wrong.
const NO_SOURCE: Check = ("IST0127", Severity::Info);

/// A place that a rule names.
struct Target<'a> {
    host: &'a str,
    port: Option<u16>,
    subset: &'a str,
    /// What becomes of a request there when it does not exist.
    lost: &'static str,
}

pub(super) fn check(findings: &mut Findings<'_>, document: &Document, index: usize, rule: &HttpRule) {
    for (number, to) in rule.route.iter().enumerate() {
        let field = format!("spec.http[{index}].route[{number}].destination");
        target(findings, document, &field, &of(to, "such requests get 503 NC"));
    }
    for (number, mirror) in rule.mirrors.iter().enumerate() {
        let target_of = Target {
            host: &mirror.host,
            port: mirror.port,
            subset: &mirror.subset,
            lost: "nothing is mirrored",
        };
        // `mirror` and `mirrors[0]` are not told apart any more; the line of the rule is close enough.
        target(
            findings,
            document,
            &format!("spec.http[{index}].mirrors[{number}].destination"),
            &target_of,
        );
        let to_itself = |to: &WeightedDestination| to.host == mirror.host && to.subset == mirror.subset;
        if rule.route.len() == 1 && rule.route.iter().any(to_itself) {
            let what = format!(
                "mirrors to {}, where the requests go anyway: it gets each of them twice",
                mirror.host
            );
            let field = format!("spec.http[{index}].mirrors[{number}]");
            findings.add(
                ("TSU-MIRROR-SELF", Severity::Warning),
                document,
                field,
                what,
                "another subset or host",
            );
        }
    }
    for (number, item) in rule.matches.iter().enumerate() {
        source(
            findings,
            document,
            &format!("spec.http[{index}].match[{number}]"),
            &item.source,
        );
    }
}

pub(super) fn check_connections(findings: &mut Findings<'_>, document: &Document, rule: &VirtualService) {
    for (kind, rules) in [("tls", &rule.tls), ("tcp", &rule.tcp)] {
        for (index, rule) in rules.iter().enumerate() {
            for (number, to) in rule.route.iter().enumerate() {
                let field = format!("spec.{kind}[{index}].route[{number}].destination");
                target(findings, document, &field, &of(to, "such connections are reset"));
            }
            for (number, item) in rule.matches.iter().enumerate() {
                source(
                    findings,
                    document,
                    &format!("spec.{kind}[{index}].match[{number}]"),
                    &item.source,
                );
            }
        }
    }
}

fn of<'a>(to: &'a WeightedDestination, lost: &'static str) -> Target<'a> {
    Target {
        host: &to.host,
        port: to.port,
        subset: &to.subset,
        lost,
    }
}

fn target(findings: &mut Findings<'_>, document: &Document, field: &str, target: &Target<'_>) {
    subset(findings, document, field, target);
    if !findings.mesh.knows_services() {
        return;
    }
    let Some(service) = findings.mesh.service(target.host) else {
        let what = format!("no service has the host {}: {}", target.host, target.lost);
        let instead = match findings.mesh.like(target.host) {
            Some(like) => format!("did you mean {like}?"),
            None => nobody_has(document, target.host).to_owned(),
        };
        return findings.add(NOT_FOUND, document, format!("{field}.host"), what, instead);
    };
    let known = service.ports();
    let numbers: Vec<String> = known.iter().map(|port| port.number.to_string()).collect();
    let numbers = listed(&numbers);
    match target.port {
        Some(port) if !known.is_empty() && known.iter().all(|it| it.number != port) => {
            let what = format!("{} has no port {port}: {}", target.host, target.lost);
            findings.add(
                NOT_FOUND,
                document,
                format!("{field}.port"),
                what,
                format!("one of its ports: {numbers}"),
            );
        }
        None if known.len() > 1 => {
            let others = covered_at_other_ports(findings, document, target.host);
            let not_those = match others.as_slice() {
                [] if is_own_host(document, target.host) => return,
                [] => String::new(),
                others => format!(", not those to {}", listed(others)),
            };
            let what = format!(
                "{} has several ports ({numbers}) and none is given: only requests to one of the same number get there{not_those}",
                target.host
            );
            findings.add(PORT_REQUIRED, document, field, what, "port: {number: …}");
        }
        _ => {}
    }
}

/// What to do where no service has the host, and none a similar one.
pub(super) fn nobody_has(document: &Document, host: &str) -> &'static str {
    let own = format!(".{}.svc.{DEFAULT_CLUSTER_DOMAIN}", document.key.namespace);
    let may_be_short = host.strip_suffix(&own).is_some_and(|name| !name.contains('.'));
    if may_be_short {
        "a Service of that name; a short name means one of the rule's own namespace: write name.namespace.svc.cluster.local for another"
    } else {
        "a Service or a ServiceEntry of that name"
    }
}

/// A rule that sends requests on to the very host that they are for keeps their port.
fn is_own_host(document: &Document, host: &str) -> bool {
    match &document.spec {
        Spec::VirtualService(rule) => rule.hosts.iter().any(|own| covers_host(own, host)),
        _ => false,
    }
}

/// As in `other.example.com:81`: services that a rule is for beside the host that it leads to, at ports
/// for requests that this one has not.
fn covered_at_other_ports(findings: &Findings<'_>, document: &Document, host: &str) -> Vec<String> {
    let (Spec::VirtualService(rule), Some(to)) = (&document.spec, findings.mesh.service(host)) else {
        return Vec::new();
    };
    if rule.hosts.iter().all(|own| own == host) {
        return Vec::new();
    }
    let numbers: Vec<u16> = to.ports().iter().map(|port| port.number).collect();
    let is_covered = |fqdn: &str| rule.hosts.iter().any(|own| covers_host(own, fqdn));
    let covered = findings
        .mesh
        .services()
        .filter(|(fqdn, _)| *fqdn != host && is_covered(fqdn));
    let is_lost = |port: &&ServicePort| {
        !matches!(port.protocol, Protocol::Tcp | Protocol::Tls) && !numbers.contains(&port.number)
    };
    let lost = covered.flat_map(|(fqdn, service)| {
        let lost = service.ports().into_iter().filter(is_lost);
        lost.map(move |port| format!("{fqdn}:{}", port.number))
    });
    lost.collect()
}

fn subset(findings: &mut Findings<'_>, document: &Document, field: &str, target: &Target<'_>) {
    if target.subset.is_empty() {
        return;
    }
    let rules: Vec<_> = findings.mesh.rules_for(target.host).collect();
    let names: Vec<&str> = rules
        .iter()
        .flat_map(|(_, rule)| &rule.subsets)
        .map(|subset| subset.name.as_str())
        .collect();
    if names.contains(&target.subset) {
        return;
    }
    let what = format!(
        "no DestinationRule defines the subset {} of {}: {}",
        target.subset, target.host, target.lost
    );
    let instead = match (rules.first(), names.as_slice()) {
        (None, _) => format!("a DestinationRule for {} with that subset", target.host),
        (Some((rule, _)), []) => format!("the subset in {}", rule.key),
        (Some((rule, _)), names) => format!("one of {} (by {})", listed(names), rule.key),
    };
    findings.add(NOT_FOUND, document, format!("{field}.subset"), what, instead);
}

/// A client that a match is for, and that is nowhere.
fn source(findings: &mut Findings<'_>, document: &Document, field: &str, source: &SourceMatch) {
    let mesh = findings.mesh;
    if !source.gateways.is_empty() && (!source.labels.is_empty() || source.namespace.is_some()) {
        let what = "sourceLabels and sourceNamespace are not looked at where a match has gateways of its own";
        let instead = "no `gateways` in this match";
        findings.add(
            ("TSU-SOURCE-IGNORED", Severity::Warning),
            document,
            format!("{field}.gateways"),
            what,
            instead,
        );
        return;
    }
    if let Some(namespace) = source
        .namespace
        .as_deref()
        .filter(|it| !mesh.has_namespace(it) && mesh.knows_clients())
    {
        let what = format!("nothing is known of a namespace {namespace}: is any client there?");
        findings.add(NO_SOURCE, document, format!("{field}.sourceNamespace"), what, "");
    }
    if !source.labels.is_empty() && mesh.knows_clients() && !mesh.has_client(None, &source.labels) {
        let what = "no workload that is known here has these labels: does any client?";
        findings.add(
            NO_SOURCE,
            document,
            format!("{field}.sourceLabels"),
            what,
            "the labels of the callers' pods",
        );
    }
}
