//! What a request of a proxy says: who it is, and which resources it refused and why. Called by `session` alone.

use std::collections::HashMap;

use prost::Message;
use prost_types::value::Kind;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::Node;
use tsunagi_proto::wire::google::rpc;
use tsunagi_proto::wire::mesh;

use crate::status::Identity;

const LONGEST_IDENTITY_BYTES: usize = 253;
const LONGEST_REASON_BYTES: usize = 1024;
const DEFAULT_NAMESPACE: &str = "default";

/// `None`: the node names nobody, or with a name that no resource can have.
pub(super) fn identity(node: &Node) -> Option<Identity> {
    let fields = node.metadata.as_ref().map(|metadata| &metadata.fields);
    let namespace = match fields
        .and_then(|fields| fields.get("NAMESPACE"))
        .and_then(|value| value.kind.as_ref())
    {
        Some(Kind::StringValue(namespace)) => namespace.as_str(),
        _ => DEFAULT_NAMESPACE,
    };
    let usable = |name: &str| !name.is_empty() && name.len() <= LONGEST_IDENTITY_BYTES;
    let known = usable(namespace) && usable(&node.id) && !namespace.contains('/');
    known.then(|| Identity {
        namespace: namespace.to_owned(),
        node_id: node.id.clone(),
    })
}

/// Reasons by resource name. Empty: the proxy did not say which, so it means all.
pub(super) fn refusals(error: &rpc::Status) -> HashMap<String, String> {
    let details = error
        .details
        .iter()
        .filter(|detail| detail.type_url == names::REFUSAL_TYPE_URL);
    details
        .filter_map(|detail| mesh::Refusal::decode(detail.value.as_slice()).ok())
        .map(|refusal| (refusal.resource_name, shortened(refusal.reason)))
        .collect()
}

pub(super) fn shortened(mut reason: String) -> String {
    if reason.len() > LONGEST_REASON_BYTES {
        let end = (0..=LONGEST_REASON_BYTES)
            .rev()
            .find(|&end| reason.is_char_boundary(end))
            .unwrap_or_default();
        reason.truncate(end);
    }
    reason
}
