//! A mesh to push, made of generated resources: what the protocol's tests need of a world, without documents.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tsunagi::snapshot::{Encoded, EncodedChange, Node};
use tsunagi::xds::Resources;
use tsunagi_proto::model::endpoints_checksum;
use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

/// One service. Its endpoints exist whether or not its host does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// `None`: no such host.
    pub(crate) host: Option<Host>,
    /// By id, with a weight that tells versions apart.
    pub(crate) endpoints: BTreeMap<String, u32>,
    /// As they were in the world before.
    before: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// Tells versions apart.
    pub(crate) generation: u32,
    /// Other hosts that it reaches.
    pub(crate) reaches: Vec<String>,
    /// The proxy refuses this one.
    pub(crate) bad: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mesh {
    pub(crate) revision: u64,
    pub(crate) services: BTreeMap<String, Service>,
}

impl Service {
    pub(crate) fn add_endpoint(&mut self, id: &str) {
        self.endpoints.insert(id.to_owned(), 1);
    }
}

impl Mesh {
    /// The next revision, to be changed before it is shown to anybody.
    pub(crate) fn next(&self) -> Self {
        let mut next = self.clone();
        next.revision += 1;
        for service in next.services.values_mut() {
            service.before.clone_from(&service.endpoints);
        }
        next
    }

    pub(crate) fn service(&mut self, fqdn: &str) -> &mut Service {
        self.services.entry(fqdn.to_owned()).or_default()
    }

    /// The version of a resource in this world; `None`: there is none.
    pub(crate) fn version(&self, name: &str) -> Option<String> {
        let encoded = match names::parse(name)? {
            names::ResourceName::Host(fqdn) => self.host(fqdn, ""),
            names::ResourceName::Endpoints(fqdn) => self.endpoints(fqdn),
            names::ResourceName::Workload { namespace, node_id } => {
                let (namespace, node_id) = (namespace.to_owned(), node_id.to_owned());
                Some(self.workload(&Node {
                    namespace,
                    node_id,
                    ..Node::default()
                }))
            }
            names::ResourceName::Departure { .. } => None,
        };
        encoded.map(|encoded| encoded.version.clone())
    }
}

impl Resources for Mesh {
    fn revision(&self) -> u64 {
        self.revision
    }

    fn host(&self, fqdn: &str, _: &str) -> Option<Arc<Encoded>> {
        let host = self.services.get(fqdn)?.host.as_ref()?;
        let port = if host.bad { 70_000 } else { 80 };
        let cluster = |reached: &String| mesh::Cluster {
            host: reached.clone(),
            port: 80,
            ..Default::default()
        };
        let host = mesh::Host {
            fqdn: fqdn.to_owned(),
            namespace: format!("generation-{}", host.generation),
            ports: vec![mesh::Port {
                number: port,
                ..Default::default()
            }],
            clusters: self.reaches(fqdn, "").iter().map(cluster).collect(),
            ..Default::default()
        };
        Some(encoded(names::host(fqdn), Kind::Host(host), None))
    }

    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        let service = self.services.get(fqdn)?;
        let (now, before) = (whole(fqdn, &service.endpoints), whole(fqdn, &service.before));
        let change = (now != before).then(|| change(&before, &now));
        Some(encoded(names::endpoints(fqdn), Kind::Endpoints(now), change))
    }

    fn reaches(&self, fqdn: &str, _: &str) -> Arc<[String]> {
        let host = self.services.get(fqdn).and_then(|service| service.host.as_ref());
        let others = host.into_iter().flat_map(|host| host.reaches.iter().cloned());
        let mut reached: Vec<String> = others.chain([fqdn.to_owned()]).collect();
        reached.sort();
        reached.dedup();
        reached.into()
    }

    fn workload(&self, node: &Node) -> Arc<Encoded> {
        let workload = mesh::Workload {
            namespace: node.namespace.clone(),
            node_id: node.node_id.clone(),
            ..Default::default()
        };
        encoded(
            names::workload(&node.namespace, &node.node_id),
            Kind::Workload(workload),
            None,
        )
    }
}

fn endpoint((id, weight): (&String, &u32)) -> mesh::Endpoint {
    mesh::Endpoint {
        id: id.clone(),
        address: "127.0.0.1".to_owned(),
        weight: *weight,
        ..Default::default()
    }
}

fn whole(fqdn: &str, endpoints: &BTreeMap<String, u32>) -> mesh::Endpoints {
    let upserts: Vec<mesh::Endpoint> = endpoints.iter().map(endpoint).collect();
    let checksum = endpoints_checksum(&upserts);
    mesh::Endpoints {
        fqdn: fqdn.to_owned(),
        upserts,
        checksum,
        ..Default::default()
    }
}

fn change(before: &mesh::Endpoints, now: &mesh::Endpoints) -> EncodedChange {
    let stays = |id: &String| now.upserts.iter().any(|endpoint| endpoint.id == *id);
    let change = mesh::Endpoints {
        fqdn: now.fqdn.clone(),
        base_checksum: before.checksum,
        change: true,
        upserts: now
            .upserts
            .iter()
            .filter(|endpoint| !before.upserts.contains(endpoint))
            .cloned()
            .collect(),
        removals: before
            .upserts
            .iter()
            .map(|endpoint| endpoint.id.clone())
            .filter(|id| !stays(id))
            .collect(),
        checksum: now.checksum,
    };
    let base = encoded(String::new(), Kind::Endpoints(before.clone()), None);
    EncodedChange {
        base_version: base.version.clone(),
        bytes: bytes_of(Kind::Endpoints(change)),
    }
}

fn bytes_of(kind: Kind) -> Bytes {
    mesh::Resource { kind: Some(kind) }.encode_to_vec().into()
}

fn encoded(name: String, kind: Kind, change: Option<EncodedChange>) -> Arc<Encoded> {
    let bytes = bytes_of(kind);
    Arc::new(Encoded {
        name,
        version: names::version_of(&bytes),
        bytes,
        change,
    })
}
