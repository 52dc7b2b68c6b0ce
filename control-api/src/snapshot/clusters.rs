//! Every (host, port, subset) that requests to a host can reach, with the policy in force for it.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use tsunagi_proto::wire::mesh;

use super::catalog::Catalog;
use super::delegates::Placed;
use super::policy::{Policies, Policy};
use super::service::{Port, Service};
use super::unseen::{Lacking, Unseen, UnseenSubset};
use super::{routes, traffic_policy, wildcards};
use crate::config::{ConnectionRule, HttpRule, Protocol, TlsMode, TrafficPolicy, WeightedDestination};

/// Names in one message.
const MOST_SHOWN: usize = 10;

/// Host, port, subset.
type ClusterKey = (String, u16, String);

/// Where requests or connections are to go.
struct Wanted<'w> {
    host: &'w str,
    port: Option<u16>,
    subset: &'w str,
    /// Of the routed host, those that the rule is used at.
    from: Vec<u16>,
}

/// Collects the clusters of one host, as clients of one namespace see them.
pub(super) struct Clusters<'a> {
    catalog: &'a Catalog,
    client: Option<&'a str>,
    /// The host that is being routed.
    fqdn: &'a str,
    ports: &'a BTreeMap<u16, Port>,
    /// Those of one key for some clients each, the last one for the rest.
    found: BTreeMap<ClusterKey, Vec<mesh::Cluster>>,
    /// Hosts met so far.
    hosts: BTreeMap<String, Option<(Service, Policies)>>,
    pub warnings: Vec<String>,
    unseen: Vec<UnseenSubset>,
}

/// Of what a wire protocol is called.
pub(super) fn protocol(protocol: Protocol) -> mesh::Protocol {
    match protocol {
        Protocol::Detect => mesh::Protocol::Unspecified,
        Protocol::Http1 => mesh::Protocol::Http1,
        Protocol::Http2 => mesh::Protocol::Http2,
        Protocol::Tcp => mesh::Protocol::Tcp,
        Protocol::Tls => mesh::Protocol::Tls,
    }
}

pub(super) fn labels(labels: &BTreeMap<String, String>) -> Vec<mesh::Label> {
    labels
        .iter()
        .map(|(key, value)| mesh::Label {
            key: key.clone(),
            value: value.clone(),
        })
        .collect()
}

/// Names for a message, of which there may be one for each of thousands of destinations.
pub(super) fn shown(mut names: impl ExactSizeIterator<Item = String>) -> String {
    let first: Vec<String> = names.by_ref().take(MOST_SHOWN).collect();
    match (first.len(), names.len()) {
        (0, _) => "none".to_owned(),
        (_, 0) => first.join(", "),
        (_, more) => format!("{} and {more} more", first.join(", ")),
    }
}

impl<'a> Clusters<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        client: Option<&'a str>,
        fqdn: &'a str,
        ports: &'a BTreeMap<u16, Port>,
    ) -> Self {
        let (found, hosts) = (BTreeMap::new(), BTreeMap::new());
        Clusters {
            catalog,
            client,
            fqdn,
            ports,
            found,
            hosts,
            warnings: Vec::new(),
            unseen: Vec::new(),
        }
    }

    fn meet(&mut self, fqdn: &str) -> Option<&(Service, Policies)> {
        let (catalog, client, warnings) = (self.catalog, self.client, &mut self.warnings);
        let met = self.hosts.entry(fqdn.to_owned()).or_insert_with(|| {
            let service = Service::find(catalog, fqdn)?;
            let policies = Policies::find(catalog, fqdn, &service.namespace, client);
            warnings.extend(policies.warnings.iter().cloned());
            Some((service, policies))
        });
        met.as_ref()
    }

    /// The host's own clusters, for requests that no rule names.
    pub(super) fn add_plain(&mut self, fqdn: &str) {
        for port in self.ports.keys() {
            self.add(fqdn, *port, "");
        }
    }

    /// Ports at which rules for requests are used, or those for connections.
    fn ports_of(&self, list: &str) -> Vec<u16> {
        let takes = |protocol| match list {
            "http" => !matches!(protocol, Protocol::Tcp | Protocol::Tls),
            _ => true,
        };
        let ports = self.ports.iter().filter(|(_, port)| takes(port.protocol));
        ports.map(|(number, _)| *number).collect()
    }

    pub(super) fn add_http(&mut self, placed: &Placed<'_, HttpRule>) {
        self.add_route("http", placed, &placed.rule.route, "such requests get 503 NC");
        for (number, mirror) in placed.rule.mirrors.iter().enumerate() {
            let to = Wanted {
                host: &mirror.host,
                port: mirror.port,
                subset: &mirror.subset,
                from: self.ports_of("http"),
            };
            if mirror.per_million == 0 {
                continue;
            }
            for missing in self.add_destination(&to) {
                let field = format!("mirrors[{number}]");
                self.warn("http", placed, &field, missing, "requests are not mirrored", &to);
            }
        }
    }

    /// `list`: `tls` or `tcp`.
    pub(super) fn add_connections(&mut self, list: &str, placed: &Placed<'_, ConnectionRule>) {
        self.add_route(list, placed, &placed.rule.route, "such connections are reset");
    }

    fn add_route<R: Clone>(&mut self, list: &str, placed: &Placed<'_, R>, route: &[WeightedDestination], or: &str) {
        for (number, to) in routes::reachable(route) {
            let to = Wanted {
                host: &to.host,
                port: to.port,
                subset: &to.subset,
                from: self.ports_of(list),
            };
            for missing in self.add_destination(&to) {
                self.warn(list, placed, &format!("route[{number}]"), missing, or, &to);
            }
        }
    }

    fn warn<R: Clone>(
        &mut self,
        list: &str,
        placed: &Placed<'_, R>,
        field: &str,
        missing: Missing,
        or: &str,
        to: &Wanted<'_>,
    ) {
        let Placed { key, index, .. } = placed;
        let field = format!("spec.{list}[{index}].{field}.destination");
        if let Some(Unseen {
            clients,
            because,
            defined_by,
        }) = missing.unseen
        {
            return self.unseen.push(UnseenSubset {
                rule: (*key).clone(),
                field,
                host: to.host.to_owned(),
                subset: to.subset.to_owned(),
                namespace: self.client.map(str::to_owned),
                is_of_some: !missing.whom.is_empty(),
                clients,
                because,
                consequence: or.to_owned(),
                defined_by,
            });
        }
        let namespace = self.client.map(|ns| format!(" for clients of namespace {ns}"));
        let (namespace, what, whom) = (namespace.unwrap_or_default(), missing.what, missing.whom);
        self.warnings
            .push(format!("{key}: {field}: {what}: {or}{namespace}{whom}"));
    }

    /// What there is not.
    fn add_destination(&mut self, to: &Wanted<'_>) -> Vec<Missing> {
        let (catalog, client, fqdn, ports) = (self.catalog, self.client, self.fqdn, self.ports);
        let Some((service, policies)) = self.meet(to.host) else {
            return vec![Missing::for_all(format!("no service has the host {}", to.host))];
        };
        let wanted: Vec<u16> = match to.port.or_else(|| service.sole_port()) {
            Some(port) => vec![port],
            None => ports.keys().copied().collect(),
        };
        let there = |port: &u16| service.ports.contains_key(port);
        let has: Vec<u16> = wanted.into_iter().filter(there).collect();
        let is_given = to.port.is_some() || service.sole_port().is_some();
        let (is_used, is_met) = match is_given {
            true => (true, !has.is_empty()),
            false => (!to.from.is_empty(), to.from.iter().any(there)),
        };
        if is_used && !is_met {
            let known = shown(service.ports.keys().map(u16::to_string));
            return vec![Missing::for_all(match to.port {
                Some(port) => format!("{} has no port {port} (it has {known})", to.host),
                None => format!(
                    "{} has several ports (it has {known}), none is given and {fqdn} is called at none of them",
                    to.host
                ),
            })];
        }
        let lacking = Lacking {
            catalog,
            host: to.host,
            home: &service.namespace,
            client,
            subset: to.subset,
            defining: OnceCell::new(),
        };
        let missing = missing_subsets(policies, &lacking);
        for port in has {
            self.add(to.host, port, to.subset);
        }
        missing
    }

    /// Where nobody has the subset, nothing is added.
    fn add(&mut self, fqdn: &str, number: u16, subset: &str) {
        let key = (fqdn.to_owned(), number, subset.to_owned());
        if self.found.contains_key(&key) {
            return;
        }
        let made = self.meet(fqdn).and_then(|(service, policies)| {
            let port = service.ports.get(&number)?;
            Some((
                for_each_client(&key, port, policies, service),
                nameless(&key, port, policies),
            ))
        });
        let made = made.map(|(made, warnings)| {
            self.warnings.extend(warnings);
            made
        });
        self.found
            .extend(made.filter(|made| !made.is_empty()).map(|made| (key, made)));
    }

    pub(super) fn finish(self) -> Found {
        Found {
            clusters: self.found.into_values().flatten().collect(),
            warnings: self.warnings,
            unseen: self.unseen,
        }
    }
}

/// Sorted by host, port and subset; and what there is to say of them.
pub(super) struct Found {
    pub clusters: Vec<mesh::Cluster>,
    pub warnings: Vec<String>,
    pub unseen: Vec<UnseenSubset>,
}

/// What a route names and nobody has, or not all clients.
struct Missing {
    what: String,
    /// Which clients of the namespace; empty: all.
    whom: String,
    /// It is there, for others.
    unseen: Option<Unseen>,
}

impl Missing {
    fn for_all(what: String) -> Self {
        let (whom, unseen) = (String::new(), None);
        Self { what, whom, unseen }
    }
}

/// For each of the policies that are in force for some clients.
fn missing_subsets(policies: &Policies, lacking: &Lacking<'_>) -> Vec<Missing> {
    let Lacking { host, subset, .. } = *lacking;
    let lacks = |policy: &Policy| {
        if policy.documents.is_empty() {
            return format!("{host} has no subset {subset} (no DestinationRule names a subset of it)");
        }
        let known = shown(policy.subset_names().into_iter().map(str::to_owned));
        let place = shown(policy.documents.iter().map(|rule| rule.key.to_string()));
        format!("{host} has no subset {subset} (it has {known}, by {place})")
    };
    let mut missing = Vec::new();
    for (labels, policy) in policies.selected.iter().filter(|(_, it)| !it.has_subset(subset)) {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let whom = format!(" with labels {}", labels.join(","));
        // Whoever a rule selects has it in force, whatever else there is.
        let (what, unseen) = (lacks(policy), lacking.for_selected(&whom, &policy.documents));
        missing.push(Missing { what, whom, unseen });
    }
    if !policies.rest.has_subset(subset) {
        let some_have = missing.len() < policies.selected.len();
        let whom = if some_have {
            " that no workloadSelector selects"
        } else {
            ""
        };
        let (what, whom, unseen) = (lacks(&policies.rest), whom.to_owned(), lacking.for_rest(whom));
        missing.push(Missing { what, whom, unseen });
    }
    missing
}

/// The clusters of one key. Empty: it is there for nobody.
fn for_each_client(key: &ClusterKey, port: &Port, policies: &Policies, service: &Service) -> Vec<mesh::Cluster> {
    let made = |policy: &Policy| {
        let (labels, policy) = policy.of_subset(&key.2, key.1)?;
        let told = traffic_policy::distributed(cluster(key, port, &labels, &policy), &policy, service.distribution);
        Some(discovered(told, service, port))
    };
    let rest = made(&policies.rest);
    let mut selected: Vec<(&BTreeMap<String, String>, Option<mesh::Cluster>)> = Vec::new();
    selected.extend(policies.selected.iter().map(|(labels, policy)| (labels, made(policy))));
    // Whoever is the last to be asked about and gets what the rest gets is one of the rest.
    while selected.pop_if(|(_, last)| *last == rest).is_some() {}
    let selected = selected.into_iter().map(|(of_clients, made)| mesh::Cluster {
        client_labels: labels(of_clients),
        ..made.unwrap_or_else(|| missing(key))
    });
    selected.chain(rest).collect()
}

/// Rules that want TLS to a host that is no name which a certificate can have, and do not say which to ask for instead, for
/// bytes that name no host themselves.
fn nameless((host, number, subset): &ClusterKey, port: &Port, policies: &Policies) -> Vec<String> {
    if port.protocol.has_requests() || wildcards::ending(host).is_none() {
        return Vec::new();
    }
    let selected = policies.selected.iter().map(|(_, policy)| policy);
    let all = selected.chain(std::iter::once(&policies.rest));
    let is_nameless = |policy: &&Policy| {
        let tls = policy
            .of_subset(subset, *number)
            .and_then(|(_, policy)| policy.tls.clone());
        tls.is_some_and(|tls| tls.mode != TlsMode::Disable && tls.sni.is_empty())
    };
    let warning = |policy: &Policy| {
        let rules = shown(policy.documents.iter().map(|rule| rule.key.to_string()));
        format!(
            "{rules}: `tls` without `sni` for the wildcard {host}, which is no name to ask for: connections to its TCP port {number} fail (UF)"
        )
    };
    all.filter(is_nameless).map(warning).collect()
}

/// With what the service says of its endpoints. A policy that says where connections go comes first.
fn discovered(mut cluster: mesh::Cluster, service: &Service, port: &Port) -> mesh::Cluster {
    if cluster.discovery() == mesh::Discovery::Static {
        cluster.set_discovery(service.discovery);
        cluster.destination_port = port.destination_port.map_or(0, u32::from);
    }
    if let Some(tls) = cluster.tls.as_mut().filter(|tls| tls.subject_alt_names.is_empty()) {
        tls.subject_alt_names.clone_from(&service.subject_alt_names);
    }
    cluster
}

fn missing((host, port, subset): &ClusterKey) -> mesh::Cluster {
    mesh::Cluster {
        host: host.clone(),
        port: u32::from(*port),
        subset: subset.clone(),
        missing: true,
        ..mesh::Cluster::default()
    }
}

fn cluster(
    (host, number, subset): &ClusterKey,
    port: &Port,
    of_subset: &BTreeMap<String, String>,
    policy: &TrafficPolicy,
) -> mesh::Cluster {
    mesh::Cluster {
        host: host.clone(),
        port: u32::from(*number),
        subset: subset.clone(),
        labels: labels(of_subset),
        protocol: protocol(port.protocol).into(),
        ..traffic_policy::told(policy)
    }
}
