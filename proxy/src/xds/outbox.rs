//! What the proxy still has to say on the stream; several things go in one request. Called by `session`.

use std::collections::{BTreeSet, VecDeque};

use prost::Message;
use prost_types::Any;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::DeltaDiscoveryRequest;
use tsunagi_proto::wire::google::rpc;
use tsunagi_proto::wire::mesh;

/// `INVALID_ARGUMENT`.
const REFUSED: i32 = 3;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    subscribe: BTreeSet<String>,
    unsubscribe: BTreeSet<String>,
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Answer {
    nonce: String,
    refused: Vec<mesh::Refusal>,
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.subscribe.is_empty() && self.unsubscribe.is_empty() && self.answers.is_empty()
    }

    pub(super) fn subscribe(&mut self, name: String) {
        // The server takes a name that it knows already as a request to send it again.
        self.unsubscribe.remove(&name);
        self.subscribe.insert(name);
    }

    pub(super) fn unsubscribe(&mut self, name: String) {
        self.subscribe.remove(&name);
        self.unsubscribe.insert(name);
    }

    /// Refuses the resources named, acknowledges the rest of the response.
    pub(super) fn answer(&mut self, nonce: String, refused: Vec<mesh::Refusal>) {
        self.answers.push_back(Answer { nonce, refused });
    }

    /// The next request; `None`: all is said.
    pub(super) fn take(&mut self) -> Option<DeltaDiscoveryRequest> {
        if self.is_empty() {
            return None;
        }
        let mut request = DeltaDiscoveryRequest {
            type_url: names::RESOURCE_TYPE_URL.to_owned(),
            resource_names_subscribe: std::mem::take(&mut self.subscribe).into_iter().collect(),
            resource_names_unsubscribe: std::mem::take(&mut self.unsubscribe).into_iter().collect(),
            ..DeltaDiscoveryRequest::default()
        };
        if let Some(answer) = self.answers.pop_front() {
            request.response_nonce = answer.nonce;
            request.error_detail = error(answer.refused);
        }
        Some(request)
    }
}

fn error(refused: Vec<mesh::Refusal>) -> Option<rpc::Status> {
    if refused.is_empty() {
        return None;
    }
    let line = |refusal: &mesh::Refusal| format!("{}: {}", refusal.resource_name, refusal.reason);
    let message = refused.iter().map(line).collect::<Vec<_>>().join("; ");
    let detail = |refusal: mesh::Refusal| Any {
        type_url: names::REFUSAL_TYPE_URL.to_owned(),
        value: refusal.encode_to_vec(),
    };
    Some(rpc::Status {
        code: REFUSED,
        message,
        details: refused.into_iter().map(detail).collect(),
    })
}
