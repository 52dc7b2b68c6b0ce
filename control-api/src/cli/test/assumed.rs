//! What rules name and no document defines: rules are often tested without the services that they are for. What no
//! document speaks of is assumed to be there; what one speaks of must be right.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tsunagi_proto::names::{DEFAULT_CLUSTER_DOMAIN, candidates, resolve_in_rule};

use super::file::TestFile;
use crate::config::{self, Document, Spec, VirtualService};

#[derive(Default)]
pub(super) struct Assumed {
    pub documents: Vec<Document>,
    pub notes: Vec<String>,
}

/// What the rules say of a host.
#[derive(Default)]
struct Mention {
    namespace: String,
    ports: BTreeMap<u16, &'static str>,
    subsets: BTreeSet<String>,
}

pub(super) fn missing(documents: &[Document], file: &TestFile) -> Assumed {
    let services = services(documents);
    let with_rules = destination_hosts(documents);
    let mut mentions: BTreeMap<String, Mention> = BTreeMap::new();
    for document in documents {
        if let Spec::VirtualService(rule) = &document.spec {
            mention(rule, &document.key.namespace, &mut mentions);
        }
    }
    ask(file, &mut mentions);
    let mut assumed = Assumed::default();
    for (host, mention) in mentions {
        if !services.contains(&host) && !host.contains('*') {
            assumed.service(&host, &mention);
        }
        if !with_rules.contains(&host) && !mention.subsets.is_empty() {
            assumed.subsets(&host, &mention);
        }
    }
    assumed
}

fn services(documents: &[Document]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for document in documents {
        let namespace = &document.key.namespace;
        let full = |name: &str| resolve_in_rule(name, namespace, DEFAULT_CLUSTER_DOMAIN);
        match &document.spec {
            Spec::Service(_) => names.extend([full(&document.key.name)]),
            Spec::ServiceEntry(entry) => names.extend(entry.hosts.iter().flat_map(|host| [host.clone(), full(host)])),
            _ => {}
        }
    }
    names
}

fn destination_hosts(documents: &[Document]) -> BTreeSet<String> {
    let hosts = documents.iter().filter_map(|document| match &document.spec {
        Spec::DestinationRule(rule) => Some(rule.host.clone()),
        _ => None,
    });
    hosts.collect()
}

fn mention(rule: &VirtualService, namespace: &str, mentions: &mut BTreeMap<String, Mention>) {
    let mut add = |host: &str, port: Option<u16>, protocol: &'static str, subset: &str| {
        let mention = mentions.entry(host.to_owned()).or_default();
        if mention.namespace.is_empty() {
            mention.namespace = namespace_of(host).unwrap_or(namespace).to_owned();
        }
        if let Some(port) = port {
            mention.ports.entry(port).or_insert(protocol);
        }
        if !subset.is_empty() {
            mention.subsets.insert(subset.to_owned());
        }
    };
    let plain = [("TLS", &rule.tls), ("TCP", &rule.tcp)];
    for host in &rule.hosts {
        add(host, None, "HTTP", "");
        for (protocol, rules) in plain {
            for item in rules.iter().flat_map(|rule| &rule.matches) {
                add(host, item.port, protocol, "");
            }
        }
        for item in rule.http.iter().flat_map(|http| &http.matches) {
            add(host, item.port, "HTTP", "");
        }
    }
    for http in &rule.http {
        for to in &http.route {
            add(&to.host, to.port, "HTTP", &to.subset);
        }
        for to in &http.mirrors {
            add(&to.host, to.port, "HTTP", &to.subset);
        }
    }
    for (protocol, rules) in plain {
        for to in rules.iter().flat_map(|rule| &rule.route) {
            add(&to.host, to.port, protocol, &to.subset);
        }
    }
}

/// The ports that the cases ask for.
fn ask(file: &TestFile, mentions: &mut BTreeMap<String, Mention>) {
    for case in &file.cases {
        let question = case.value.question(&file.namespace);
        let (authority, _) = case.value.sent();
        let scheme = question.url.split_once("://").map_or("http", |(scheme, _)| scheme);
        let (protocol, default) = match scheme {
            "tcp" => ("TCP", None),
            "https" | "tls" => ("TLS", Some(443)),
            _ => ("HTTP", None),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (authority.as_str(), default),
        };
        for name in candidates(host, &question.from_namespace, DEFAULT_CLUSTER_DOMAIN) {
            if let (Some(mention), Some(port)) = (mentions.get_mut(&name), port) {
                mention.ports.entry(port).or_insert(protocol);
            }
        }
    }
}

/// Of a Kubernetes service.
fn namespace_of(host: &str) -> Option<&str> {
    let service = host.strip_suffix(DEFAULT_CLUSTER_DOMAIN)?.strip_suffix(".svc.")?;
    service.split_once('.').map(|(_, namespace)| namespace)
}

impl Assumed {
    fn add(&mut self, object: Value) {
        // What its names make impossible was refused with the document that has them.
        self.documents.extend(config::from_object(object));
    }

    fn service(&mut self, host: &str, mention: &Mention) {
        let mut ports = mention.ports.clone();
        if !ports.values().any(|protocol| *protocol != "HTTP") {
            // What a name without a port means.
            ports.entry(80).or_insert("HTTP");
        }
        let numbers: Vec<String> = ports.keys().map(u16::to_string).collect();
        self.notes.push(format!(
            "assumed: a service {host} with port {}; no Service or ServiceEntry defines it",
            numbers.join(", ")
        ));
        let ports: Vec<Value> = ports
            .iter()
            .map(|(port, protocol)| {
                json!({"number": port, "name": format!("{}-{port}", protocol.to_ascii_lowercase()), "protocol": protocol})
            })
            .collect();
        self.add(json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {"name": format!("assumed-{}", self.documents.len()), "namespace": mention.namespace},
            "spec": {"hosts": [host], "ports": ports, "resolution": "STATIC", "endpoints": [{"address": "192.0.2.1"}]},
        }));
    }

    fn subsets(&mut self, host: &str, mention: &Mention) {
        let names: Vec<&str> = mention.subsets.iter().map(String::as_str).collect();
        self.notes.push(format!(
            "assumed: subsets {} of {host}; no DestinationRule is for it",
            names.join(", ")
        ));
        let subsets: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "labels": {"subset": name}}))
            .collect();
        self.add(json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": format!("assumed-{}", self.documents.len()), "namespace": mention.namespace},
            "spec": {"host": host, "subsets": subsets},
        }));
    }
}
