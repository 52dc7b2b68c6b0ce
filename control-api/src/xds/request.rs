//! What a request of a proxy says: who it is, and which resources it refused and why. Called by `session` alone.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use prost::Message;
use prost_types::{Struct, value::Kind};
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery;
use tsunagi_proto::wire::google::rpc;
use tsunagi_proto::wire::mesh;

use super::batch::Sent;
use crate::snapshot::Node;

const LONGEST_IDENTITY_BYTES: usize = 253;
/// Of one machine.
const MOST_ADDRESSES: usize = 64;
const MOST_LABELS: usize = 256;
const LONGEST_REASON_BYTES: usize = 1024;
const NO_REASON: &str = "the proxy gives no reason";
const DEFAULT_NAMESPACE: &str = "default";

/// `None`: the node names nobody, or with a name that no resource can have.
pub(super) fn node(node: &discovery::Node) -> Option<Node> {
    let metadata = node.metadata.as_ref();
    let namespace = metadata
        .and_then(|metadata| text(metadata, "NAMESPACE"))
        .unwrap_or(DEFAULT_NAMESPACE);
    let usable = |name: &str| !name.is_empty() && name.len() <= LONGEST_IDENTITY_BYTES;
    let known = usable(namespace) && usable(&node.id) && !namespace.contains('/');
    known.then(|| Node {
        namespace: namespace.to_owned(),
        node_id: node.id.clone(),
        labels: metadata.map(labels).unwrap_or_default(),
        addresses: metadata.map(addresses).unwrap_or_default(),
        node_name: metadata
            .and_then(|metadata| text(metadata, "NODE_NAME"))
            .filter(|name| name.len() <= LONGEST_IDENTITY_BYTES)
            .unwrap_or_default()
            .to_owned(),
        peer: None,
    })
}

fn text<'a>(fields: &'a Struct, name: &str) -> Option<&'a str> {
    match fields.fields.get(name)?.kind.as_ref()? {
        Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Labels that are no text match no selector.
fn labels(metadata: &Struct) -> BTreeMap<String, String> {
    let labels = metadata.fields.get("LABELS").and_then(|labels| labels.kind.as_ref());
    let Some(Kind::StructValue(labels)) = labels else {
        return BTreeMap::new();
    };
    let pairs = labels.fields.keys().filter_map(|key| Some((key, text(labels, key)?)));
    pairs
        .take(MOST_LABELS)
        .map(|(key, value)| (key.clone(), value.to_owned()))
        .collect()
}

/// Those that can be a machine's own: endpoints on loopback belong to whoever has their name.
fn addresses(metadata: &Struct) -> Vec<IpAddr> {
    let listed = text(metadata, "INSTANCE_IPS").unwrap_or_default().split(',');
    let own = |address: &IpAddr| !(address.is_loopback() || address.is_unspecified() || address.is_multicast());
    let mut addresses: Vec<IpAddr> = listed
        .take(MOST_ADDRESSES)
        .filter_map(|address| address.trim().parse().ok())
        .filter(own)
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// What the answer to a response says of its resources.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    AllRefused(Arc<str>),
    /// Reasons by resource name; the rest is accepted.
    Refused(HashMap<String, Arc<str>>),
}

impl Verdict {
    pub(super) fn of(error: Option<&rpc::Status>, sent: &[Sent]) -> Self {
        let Some(error) = error else {
            return Self::Accepted;
        };
        let reasons = refusals(error);
        let names_one = |sent: &Sent| sent.is_carried() && reasons.contains_key(&sent.name());
        // A refusal of nothing that was sent is no acknowledgement: the proxy did not say which, so it means all.
        if reasons.is_empty() || !sent.iter().any(names_one) {
            return Self::AllRefused(reason(&error.message));
        }
        Self::Refused(reasons)
    }

    /// `None`: accepted.
    pub(super) fn refusal(&self, sent: &Sent) -> Option<Arc<str>> {
        match self {
            Self::Accepted => None,
            Self::AllRefused(reason) => Some(Arc::clone(reason)),
            Self::Refused(reasons) => reasons.get(&sent.name()).cloned(),
        }
    }
}

fn refusals(error: &rpc::Status) -> HashMap<String, Arc<str>> {
    let details = error
        .details
        .iter()
        .filter(|detail| detail.type_url == names::REFUSAL_TYPE_URL);
    details
        .filter_map(|detail| mesh::Refusal::decode(detail.value.as_slice()).ok())
        .map(|refusal| (refusal.resource_name, reason(&refusal.reason)))
        .collect()
}

fn reason(text: &str) -> Arc<str> {
    match shortened(text) {
        "" => NO_REASON.into(),
        text => text.into(),
    }
}

/// What is kept, or logged, of a text that a proxy wrote.
pub(super) fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_REASON_BYTES))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use prost_types::Value;

    use super::*;

    fn value(text: &str) -> Value {
        Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        }
    }

    fn described(labels: &[(&str, Value)], addresses: &str) -> Node {
        let fields = labels.iter().map(|(key, value)| ((*key).to_owned(), value.clone()));
        let labels = Value {
            kind: Some(Kind::StructValue(Struct {
                fields: fields.collect(),
            })),
        };
        let fields = [
            ("NAMESPACE".to_owned(), value("shop")),
            ("LABELS".to_owned(), labels),
            ("INSTANCE_IPS".to_owned(), value(addresses)),
            ("NODE_NAME".to_owned(), value("machine-1")),
        ];
        let wire = discovery::Node {
            id: "web-1".to_owned(),
            metadata: Some(Struct {
                fields: fields.into_iter().collect(),
            }),
            ..discovery::Node::default()
        };
        node(&wire).unwrap()
    }

    #[test]
    fn a_node_says_its_labels_and_its_addresses_and_nonsense_is_nobodys() {
        let number = Value {
            kind: Some(Kind::NumberValue(1.0)),
        };
        let node = described(
            &[("app", value("web")), ("replicas", number)],
            " 10.0.0.7, fd00::7,10.0.0.7,127.0.0.1,nonsense,,0.0.0.0",
        );
        assert_eq!((node.namespace.as_str(), node.node_id.as_str()), ("shop", "web-1"));
        assert_eq!(node.labels, BTreeMap::from([("app".to_owned(), "web".to_owned())]));
        assert_eq!(node.node_name, "machine-1");
        let addresses: Vec<String> = node.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["10.0.0.7", "fd00::7"]);
    }

    #[test]
    fn a_node_has_so_many_labels_and_addresses_and_no_more() {
        let keys: Vec<String> = (0..1_000).map(|index| format!("k{index}")).collect();
        let labels: Vec<(&str, Value)> = keys.iter().map(|key| (key.as_str(), value("v"))).collect();
        let addresses: Vec<String> = (0..1_000)
            .map(|index| format!("10.0.{}.{}", index / 250, index % 250))
            .collect();
        let node = described(&labels, &addresses.join(","));
        assert_eq!((node.labels.len(), node.addresses.len()), (MOST_LABELS, MOST_ADDRESSES));
    }

    #[test]
    fn a_long_text_is_cut_between_two_characters() {
        assert_eq!(shortened("bad regex"), "bad regex");
        let long = format!("x{}", "ü".repeat(1 << 20));
        assert_eq!(shortened(&long).len(), LONGEST_REASON_BYTES - 1);
        assert!(long.starts_with(shortened(&long)));
    }

    #[test]
    fn what_is_kept_of_a_refusal_is_short_and_never_empty() {
        let error = |message: String| rpc::Status {
            message,
            ..rpc::Status::default()
        };
        for (message, length) in [
            ("x".repeat(2 << 20), LONGEST_REASON_BYTES),
            (String::new(), NO_REASON.len()),
        ] {
            let Verdict::AllRefused(reason) = Verdict::of(Some(&error(message)), &[]) else {
                panic!("without details all is refused");
            };
            assert_eq!(reason.len(), length);
        }
        assert!(matches!(Verdict::of(None, &[]), Verdict::Accepted));
    }
}
