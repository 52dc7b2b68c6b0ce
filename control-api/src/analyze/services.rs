//! Services: without endpoints, without a protocol, two of one name.

use super::mesh::ports;
use super::{Check, Findings, Severity};
use crate::config::{Document, Protocol, ServiceEndpoints, Spec};

const NO_WORKLOAD: Check = ("IST0127", Severity::Warning);
const PORT_NAME: Check = ("IST0118", Severity::Info);
const SAME_HOST: Check = ("TSU-SAME-HOST", Severity::Warning);

pub(super) fn check(findings: &mut Findings<'_>) {
    let mesh = findings.mesh;
    let mut seen: Vec<&Document> = Vec::new();
    for (fqdn, documents) in mesh.services() {
        for (number, document) in documents.iter().copied().enumerate() {
            if let Some(first) = documents[..number]
                .iter()
                .find(|first| first.key.namespace != document.key.namespace)
            {
                let what = format!(
                    "{fqdn} belongs to {}, of another namespace: this one adds no endpoints to it",
                    first.key
                );
                findings.add(
                    SAME_HOST,
                    document,
                    "spec.hosts",
                    what,
                    "another host, or one document for both",
                );
            }
            // A ServiceEntry with several hosts comes once for each.
            if !seen.iter().any(|other| std::ptr::eq(*other, document)) {
                seen.push(document);
                service(findings, document);
            }
        }
    }
}

fn service(findings: &mut Findings<'_>, document: &Document) {
    let namespace = &document.key.namespace;
    let selector = match &document.spec {
        Spec::Service(service) => Some(&service.selector),
        Spec::ServiceEntry(entry) => match &entry.endpoints {
            ServiceEndpoints::Selected(selector) => Some(selector),
            ServiceEndpoints::Listed(_) => None,
        },
        _ => None,
    };
    let nobody = |selector: &&std::collections::BTreeMap<String, String>| {
        !selector.is_empty()
            && findings.mesh.knows_workloads()
            && !findings.mesh.has_workload(Some(namespace), selector)
    };
    if selector.filter(nobody).is_some() {
        let what = "selects no workload: requests get 503 UH";
        findings.add(NO_WORKLOAD, document, "spec.selector", what, "the labels of its pods");
    }
    for (index, port) in ports(document)
        .iter()
        .enumerate()
        .filter(|(_, port)| port.protocol == Protocol::Detect)
    {
        let what = format!(
            "port {} says no protocol: it is detected for every connection",
            port.number
        );
        let instead = "a name that begins with it (http-web, grpc, tcp-db), or appProtocol";
        findings.add(PORT_NAME, document, format!("spec.ports[{index}]"), what, instead);
    }
}
