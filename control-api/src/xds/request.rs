//! What a request of a proxy says: who it is, and which resources it refused and why. Called by `session` alone.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use prost_types::value::Kind;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::Node;
use tsunagi_proto::wire::google::rpc;
use tsunagi_proto::wire::mesh;

use super::batch::Sent;
use crate::status::Identity;

const LONGEST_IDENTITY_BYTES: usize = 253;
const LONGEST_REASON_BYTES: usize = 1024;
const NO_REASON: &str = "the proxy gives no reason";
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
    use super::*;

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
