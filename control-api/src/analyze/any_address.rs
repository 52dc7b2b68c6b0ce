//! ServiceEntries of TCP that have a port at every address that nobody has: the pods of a Service without an address are
//! among those.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Check, Findings, Severity};
use crate::config::{Document, Protocol, Service, Spec, TargetPort};

const ANY_ADDRESS: Check = ("TSU-ANY-ADDRESS", Severity::Warning);
/// Of those named in one finding.
const MOST_NAMED: usize = 3;

pub(super) fn check(findings: &mut Findings<'_>, documents: &[Arc<Document>]) {
    let without_address = ports_without_address(documents);
    for document in documents {
        let Spec::ServiceEntry(entry) = &document.spec else {
            continue;
        };
        let ports = entry.ports.iter().enumerate();
        for (index, port) in ports.filter(|(_, port)| entry.is_at_any_address() && port.protocol == Protocol::Tcp) {
            let Some(services) = without_address.get(&port.number) else {
                continue;
            };
            let named: Vec<&str> = services.iter().take(MOST_NAMED).map(String::as_str).collect();
            let more = match services.len().saturating_sub(MOST_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            findings.add(
                ANY_ADDRESS,
                document,
                format!("spec.ports[{index}]"),
                format!(
                    "connections to port {} of any address that no service has are this one's, and get its policies: also those to the pods of {}{more}, which has no address of its own",
                    port.number,
                    named.join(", ")
                ),
                "the addresses that are meant, in spec.addresses",
            );
        }
    }
}

/// Services without a virtual address (`clusterIP: None`) by the port where their pods are called.
fn ports_without_address(documents: &[Arc<Document>]) -> HashMap<u16, Vec<String>> {
    let mut by_port: HashMap<u16, Vec<String>> = HashMap::new();
    for document in documents {
        let Spec::Service(service) = &document.spec else {
            continue;
        };
        let mut ports = called(service);
        ports.sort_unstable();
        ports.dedup();
        for port in ports {
            let name = format!("{}/{}", document.key.namespace, document.key.name);
            by_port.entry(port).or_default().push(name);
        }
    }
    by_port
}

fn called(service: &Service) -> Vec<u16> {
    if !service.addresses.is_empty() {
        return Vec::new();
    }
    let ports = service.ports.iter().flat_map(|port| match port.target {
        TargetPort::Number(target) => [port.number, target],
        TargetPort::Name(_) => [port.number; 2],
    });
    ports.collect()
}
