//! One response while it is being put together, and the memory of it while it is in flight. Called by `session` alone.

use std::sync::Arc;

use bytes::Bytes;
use prost_types::Any;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryResponse, Resource};

use super::entry::Told;
use crate::snapshot::Encoded;

/// A response that has grown to this is sent; the rest follows when it is acknowledged. A host is never parted from
/// its endpoints.
const FULL_BYTES: usize = 4 << 20;

/// One resource of a response.
#[derive(Debug)]
pub(super) enum Sent {
    /// With what that version reaches.
    Host {
        fqdn: Arc<str>,
        told: Told,
        reach: Arc<[String]>,
    },
    Endpoints {
        fqdn: Arc<str>,
        told: Told,
    },
    /// The proxy's workload or its departure.
    Own {
        name: Arc<str>,
        told: Told,
    },
}

impl Sent {
    /// Of the resource.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Host { fqdn, .. } => names::host(fqdn),
            Self::Endpoints { fqdn, .. } => names::endpoints(fqdn),
            Self::Own { name, .. } => name.to_string(),
        }
    }

    /// False: the response says that there is none, which nobody can refuse.
    pub(super) fn is_carried(&self) -> bool {
        let (Self::Host { told, .. } | Self::Endpoints { told, .. } | Self::Own { told, .. }) = self;
        matches!(told, Told::Version(_))
    }
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    response: DeltaDiscoveryResponse,
    sent: Vec<Sent>,
    bytes: usize,
    postponed: bool,
}

#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) nonce: String,
    pub(super) revision: u64,
    /// False: a part; more of the same revision follows.
    pub(super) complete: bool,
    pub(super) sent: Vec<Sent>,
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES
    }

    /// Something is left for the next response.
    pub(super) fn postpone(&mut self) {
        self.postponed = true;
    }

    /// The resource as it is; `None`: it does not exist.
    pub(super) fn add(&mut self, name: String, encoded: Option<&Encoded>, sent: Sent) {
        match encoded {
            Some(encoded) => self.carry(name, &encoded.version, &encoded.bytes),
            None => self.remove(name),
        }
        self.sent.push(sent);
    }

    /// The same for endpoints: to a proxy that holds exactly the base of the change, only the change.
    pub(super) fn add_endpoints(
        &mut self,
        fqdn: &Arc<str>,
        encoded: Option<&Encoded>,
        acknowledged: &Told,
        told: Told,
    ) {
        let name = names::endpoints(fqdn);
        let sent = Sent::Endpoints {
            fqdn: Arc::clone(fqdn),
            told,
        };
        let change = encoded.and_then(|encoded| encoded.change.as_ref().map(|change| (encoded, change)));
        match change {
            Some((encoded, change)) if acknowledged.is_version(&change.base_version) => {
                self.carry(name, &encoded.version, &change.bytes);
                self.sent.push(sent);
            }
            _ => self.add(name, encoded, sent),
        }
    }

    /// A name that is not there.
    pub(super) fn remove(&mut self, name: String) {
        self.bytes += name.len();
        self.response.removed_resources.push(name);
    }

    fn carry(&mut self, name: String, version: &str, bytes: &Bytes) {
        self.bytes += bytes.len() + name.len();
        let any = Any {
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            value: bytes.to_vec(),
        };
        let resource = Resource {
            name,
            version: version.to_owned(),
            resource: Some(any),
            aliases: Vec::new(),
        };
        self.response.resources.push(resource);
    }

    /// `None`: there is nothing to say.
    pub(super) fn finish(self, nonce: u64, revision: u64) -> Option<(DeltaDiscoveryResponse, InFlight)> {
        if self.response.resources.is_empty() && self.response.removed_resources.is_empty() {
            return None;
        }
        let nonce = nonce.to_string();
        let response = DeltaDiscoveryResponse {
            system_version_info: revision.to_string(),
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            nonce: nonce.clone(),
            ..self.response
        };
        Some((
            response,
            InFlight {
                nonce,
                revision,
                complete: !self.postponed,
                sent: self.sent,
            },
        ))
    }
}
