//! A resource as it travels: encoded once per version, the same bytes for every proxy that may see it.

use bytes::Bytes;
use prost::Message;
use tsunagi_proto::model::{EndpointSet, Host, Workload};
use tsunagi_proto::names;
use tsunagi_proto::wire::mesh::{Resource, resource::Kind};

/// One resource at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// Resource name, `host/<fqdn>`.
    pub name: String,
    /// Hash of `bytes`.
    pub version: String,
    /// An encoded `Resource`.
    pub bytes: Bytes,
    /// Endpoints only: what turns the version before this one into it.
    pub change: Option<EncodedChange>,
}

/// A change, for a proxy that holds `base_version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedChange {
    pub base_version: String,
    /// An encoded `Resource`, as `Encoded::bytes`.
    pub bytes: Bytes,
}

pub(super) fn encode(kind: Kind) -> Bytes {
    Resource { kind: Some(kind) }.encode_to_vec().into()
}

impl Encoded {
    pub(super) fn whole(name: String, kind: Kind) -> Encoded {
        let bytes = encode(kind);
        Encoded {
            name,
            version: names::version_of(&bytes),
            bytes,
            change: None,
        }
    }
}

impl Encoded {
    fn kind(&self) -> Option<Kind> {
        Resource::decode(self.bytes.clone()).ok()?.kind
    }

    /// What a proxy makes of it. `None`: it is another kind of resource, or one that a proxy would refuse.
    pub fn host(&self) -> Option<Host> {
        match self.kind()? {
            Kind::Host(host) => host.try_into().ok(),
            _ => None,
        }
    }

    pub fn endpoints(&self) -> Option<EndpointSet> {
        match self.kind()? {
            Kind::Endpoints(endpoints) => EndpointSet::whole(endpoints).ok(),
            _ => None,
        }
    }

    pub fn workload(&self) -> Option<Workload> {
        match self.kind()? {
            Kind::Workload(workload) => workload.try_into().ok(),
            _ => None,
        }
    }
}
