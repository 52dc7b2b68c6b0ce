//! What is held of a resource: its version and its canonical bytes, for resuming and for the disk. Called by `session`.
//!
//! Bytes instead of decoded messages: the checked model lives in the snapshot already, and nothing else reads these.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tsunagi_proto::model::EndpointSet;
use tsunagi_proto::wire::mesh::{self, resource::Kind};

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) version: String,
    pub(super) bytes: Bytes,
}

#[derive(Debug)]
pub(super) struct HeldEndpoints {
    pub(super) held: Held,
    pub(super) set: Arc<EndpointSet>,
}

/// Why endpoints that came do not become the ones held.
#[derive(Debug)]
pub(super) enum Unusable {
    /// The change starts from something else than what is held: only the whole helps.
    BaseLost,
    Invalid(String),
}

impl HeldEndpoints {
    pub(super) fn whole(version: String, bytes: Bytes, wire: mesh::Endpoints) -> Result<Self, Unusable> {
        let set = EndpointSet::whole(wire).map_err(|invalid| Unusable::Invalid(invalid.to_string()))?;
        Ok(Self {
            held: Held { version, bytes },
            set: Arc::new(set),
        })
    }

    pub(super) fn changed(&self, version: String, change: mesh::Endpoints) -> Result<Self, Unusable> {
        let bytes = merged(&self.held.bytes, change.clone());
        let set = self.set.apply(change).map_err(|invalid| match invalid.field.as_str() {
            "base_checksum" | "checksum" => Unusable::BaseLost,
            _ => Unusable::Invalid(invalid.to_string()),
        })?;
        // What is held was decoded before; if that fails now, the whole is asked for again.
        let bytes = bytes.ok_or(Unusable::BaseLost)?;
        Ok(Self {
            held: Held { version, bytes },
            set: Arc::new(set),
        })
    }
}

/// The canonical encoding of the whole set after a change.
fn merged(base: &[u8], change: mesh::Endpoints) -> Option<Bytes> {
    let Some(Kind::Endpoints(base)) = mesh::Resource::decode(base).ok()?.kind else {
        return None;
    };
    let mut endpoints: BTreeMap<String, mesh::Endpoint> = base
        .upserts
        .into_iter()
        .map(|endpoint| (endpoint.id.clone(), endpoint))
        .collect();
    for id in &change.removals {
        endpoints.remove(id);
    }
    for endpoint in change.upserts {
        endpoints.insert(endpoint.id.clone(), endpoint);
    }
    let whole = mesh::Endpoints {
        fqdn: base.fqdn,
        base_checksum: 0,
        change: false,
        upserts: endpoints.into_values().collect(),
        removals: Vec::new(),
        checksum: change.checksum,
    };
    Some(
        mesh::Resource {
            kind: Some(Kind::Endpoints(whole)),
        }
        .encode_to_vec()
        .into(),
    )
}

#[cfg(test)]
mod tests {
    use tsunagi_proto::model::endpoints_checksum;
    use tsunagi_proto::names::version_of;

    use super::*;

    fn endpoint(id: &str, weight: u32) -> mesh::Endpoint {
        mesh::Endpoint {
            id: id.to_owned(),
            address: "10.0.0.1".to_owned(),
            weight,
            ..mesh::Endpoint::default()
        }
    }

    fn whole(endpoints: Vec<mesh::Endpoint>) -> mesh::Endpoints {
        let checksum = endpoints_checksum(&endpoints);
        mesh::Endpoints {
            fqdn: "a".to_owned(),
            upserts: endpoints,
            checksum,
            ..mesh::Endpoints::default()
        }
    }

    fn encoded(wire: &mesh::Endpoints) -> Bytes {
        mesh::Resource {
            kind: Some(Kind::Endpoints(wire.clone())),
        }
        .encode_to_vec()
        .into()
    }

    #[test]
    fn a_change_leaves_the_very_bytes_that_the_whole_would_have() {
        let before = whole(vec![endpoint("a", 1), endpoint("b", 1)]);
        let after = whole(vec![endpoint("b", 2), endpoint("c", 1)]);
        let held = HeldEndpoints::whole("v1".to_owned(), encoded(&before), before.clone()).unwrap();
        let change = mesh::Endpoints {
            change: true,
            base_checksum: before.checksum,
            removals: vec!["a".to_owned()],
            ..after.clone()
        };
        let next = held.changed("v2".to_owned(), change).unwrap();
        assert_eq!(next.held.bytes, encoded(&after));
        assert_eq!(version_of(&next.held.bytes), version_of(&encoded(&after)));
        assert_eq!(next.set.checksum(), after.checksum);
    }

    #[test]
    fn a_change_from_another_base_is_told_from_an_invalid_one() {
        let before = whole(vec![endpoint("a", 1)]);
        let held = HeldEndpoints::whole("v1".to_owned(), encoded(&before), before.clone()).unwrap();
        let lost = mesh::Endpoints {
            change: true,
            base_checksum: 7,
            ..whole(Vec::new())
        };
        assert!(matches!(held.changed("v2".to_owned(), lost), Err(Unusable::BaseLost)));
        let mut bad = endpoint("b", 1);
        bad.address = "nowhere".to_owned();
        let bad = mesh::Endpoints {
            change: true,
            base_checksum: before.checksum,
            ..whole(vec![bad])
        };
        assert!(matches!(held.changed("v2".to_owned(), bad), Err(Unusable::Invalid(_))));
    }
}
