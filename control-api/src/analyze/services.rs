//! Services: without endpoints, without a protocol, two of one name.

use std::collections::{BTreeMap, HashSet};

use super::endpoints::Service;
use super::{Check, Findings, Severity, endpoints};
use crate::config::{About, Document, Kind, Protocol, ServicePort};
use crate::snapshot::discovery;

const NO_WORKLOAD: Check = ("IST0127", Severity::Warning);
const PORT_NAME: Check = ("IST0118", Severity::Info);
const CONTRADICTION: Check = ("TSU-CONTRADICTION", Severity::Warning);
const SAME_HOST: Check = ("TSU-SAME-HOST", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>) {
    let mesh = findings.mesh;
    let mut seen = HashSet::new();
    let mut told = endpoints::Told::new();
    for (fqdn, service) in mesh.services() {
        for document in &service.others {
            let what = format!(
                "{fqdn} belongs to {}, of another namespace: this one adds no endpoints to it",
                service.first().key
            );
            let instead = "another host, or one document for both";
            findings.add(SAME_HOST, document, "spec.hosts", what, instead);
        }
        contradictions(findings, fqdn, service);
        endpoints::check(findings, fqdn, service, &mut told);
        for document in service.documents.iter().chain(&service.others) {
            // A ServiceEntry with several hosts comes once for each.
            if seen.insert(&document.key) {
                of_document(findings, document);
                endpoints::weights(findings, document);
            }
        }
    }
    for (document, _) in mesh.workload_entries() {
        endpoints::weights(findings, document);
    }
}

/// Documents of one host that say each another thing of it: the first counts.
fn contradictions(findings: &mut Findings<'_>, fqdn: &str, service: &Service<'_>) {
    let first = service.first();
    let ports = service.ports();
    let instead = "the same in both, or another host";
    for document in &service.documents {
        if discovery(document) != discovery(first) {
            let what = format!(
                "{} says otherwise where the endpoints of {fqdn} are, and is in force",
                first.key
            );
            findings.add(CONTRADICTION, document, "spec.resolution", what, instead);
        }
        for (index, port) in endpoints::ports(document).iter().enumerate() {
            let is_other = |in_force: &&&ServicePort| {
                in_force.number == port.number && (&in_force.name, in_force.protocol) != (&port.name, port.protocol)
            };
            if ports.iter().find(is_other).is_some() {
                let number = port.number;
                let what =
                    format!("port {number} of {fqdn} is declared otherwise by a document that goes before this one");
                findings.add(CONTRADICTION, document, format!("spec.ports[{index}]"), what, instead);
            }
        }
    }
}

fn of_document(findings: &mut Findings<'_>, document: &Document) {
    let namespace = &document.key.namespace;
    let mesh = findings.mesh;
    let nobody =
        |selector: &&BTreeMap<String, String>| mesh.knows_workloads() && !mesh.has_workload(Some(namespace), selector);
    if endpoints::selector(document).filter(nobody).is_some() {
        let field = match document.key.kind {
            Kind::Service => "spec.selector",
            _ => "spec.workloadSelector",
        };
        let what = "selects no workload: requests get 503 UH";
        findings.add(NO_WORKLOAD, document, field, what, "the labels of its pods");
    }
    let mut remarks = document.remarks.iter();
    let has_no_address = remarks.any(|remark| remark.about == About::Addresses);
    for (index, port) in endpoints::ports(document)
        .iter()
        .enumerate()
        .filter(|(_, port)| port.protocol == Protocol::Detect)
    {
        let number = port.number;
        let what = if has_no_address {
            format!("port {number} says no protocol: connections are found to be HTTP or TLS for its hosts, or not met")
        } else {
            format!("port {number} says no protocol: it is detected for every connection")
        };
        let instead = match document.key.kind {
            Kind::ServiceEntry => "`protocol`, or a name that begins with it (http-web, grpc, tcp-db)",
            _ => "a name that begins with it (http-web, grpc, tcp-db), or appProtocol",
        };
        findings.add(PORT_NAME, document, format!("spec.ports[{index}]"), what, instead);
    }
}
