//! The JSON that the HTTP API answers with, beyond Kubernetes' own objects. Written by `api`, read by `cli`. Every field is
//! always there, so that the answer of some other server is not taken for one of these.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ingest::{Applied, Change},
    status::{Acknowledgement, ProxyStatus},
};

/// The answer to `POST /v1/transactions`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TransactionReply {
    /// Of the store after the transaction.
    pub revision: u64,
    pub dry_run: bool,
    pub changes: Vec<ChangeReply>,
    pub warnings: Vec<String>,
    /// Only with `wait`: each connected proxy that uses what was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgements: Option<Vec<AcknowledgementReply>>,
    /// Only with `wait`: how many there are, whatever they use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connected_proxies: Option<usize>,
    /// Only with `wait`: no connected proxy has asked for a host that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts_unused: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ChangeReply {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// created, configured, unchanged, deleted, notFound
    pub operation: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgementReply {
    pub node_id: String,
    pub namespace: String,
    /// acknowledged, refused, unanswered
    pub state: String,
    pub reason: String,
}

/// The answer to `GET /v1/proxies`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ProxiesReply {
    /// Of the store.
    pub revision: u64,
    pub proxies: Vec<ProxyReply>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyReply {
    pub node_id: String,
    pub namespace: String,
    /// Revision up to which everything that the proxy uses is in force there.
    pub revision_acknowledged: u64,
    /// Revisions behind the store.
    pub lag: u64,
    /// Empty: none in force.
    pub last_refusal: String,
    pub subscriptions: u32,
    /// connected, or leaving: it is about to end, and its endpoints get no new requests. Empty: the server does not say.
    #[serde(default)]
    pub state: String,
    /// By which rules select it. `None`: the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
}

/// The answer to `GET /v1/endpoints`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct EndpointsReply {
    /// Of the store.
    pub revision: u64,
    pub endpoints: Vec<EndpointReply>,
    /// There are so many more than an answer holds.
    pub omitted: usize,
}

/// One endpoint, at one port of its host.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointReply {
    pub host: String,
    /// Of the host.
    pub port: u16,
    /// Of the endpoint, with its port: an address, or a name for which the proxies ask DNS.
    pub address: String,
    /// Of a name: that address of it which this is, or all of them where they are one endpoint.
    pub resolved: Vec<String>,
    pub locality: String,
    pub weight: u32,
    /// The worst of those in `seenBy`; where there is none, as `told`, or `unknown`: a name that no proxy has used.
    pub state: String,
    /// Of the state. Empty: there is nothing to say.
    pub reason: String,
    /// Until it may return. `null`: that does not depend on time.
    pub seconds_left: Option<u64>,
    /// As proxies are told: healthy, draining, unhealthy.
    pub told: String,
    /// The proxies that have something to say of it: that they send it no requests, or not their share, or that it fails.
    pub seen_by: Vec<SeenReply>,
}

/// How one proxy sees it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SeenReply {
    pub node_id: String,
    pub namespace: String,
    /// Each subset has a state of its own.
    pub subset: String,
    /// unresolved, ejected, probing, awaiting probe, failing, healthy
    pub state: String,
    /// Why it was ejected, or would have been, or what DNS says.
    pub reason: String,
    /// Until it may return. `null`: that does not depend on time.
    pub seconds_left: Option<u64>,
    /// Ever since the proxy knows it.
    pub ejections: u32,
}

impl TransactionReply {
    pub(super) fn new(applied: &Applied, dry_run: bool) -> Self {
        Self {
            revision: applied.revision,
            dry_run,
            changes: applied.changes.iter().map(ChangeReply::from).collect(),
            warnings: applied.warnings.clone(),
            acknowledgements: None,
            connected_proxies: None,
            hosts_unused: None,
        }
    }
}

impl From<&Change> for ChangeReply {
    fn from(change: &Change) -> Self {
        Self {
            kind: change.key.kind.as_str().to_owned(),
            namespace: change.key.namespace.clone(),
            name: change.key.name.clone(),
            operation: change.operation.as_str().to_owned(),
        }
    }
}

impl From<Acknowledgement> for AcknowledgementReply {
    fn from(acknowledgement: Acknowledgement) -> Self {
        Self {
            node_id: acknowledgement.node_id,
            namespace: acknowledgement.namespace,
            state: acknowledgement.state.as_str().to_owned(),
            reason: acknowledgement.reason,
        }
    }
}

impl From<ProxyStatus> for ProxyReply {
    fn from(proxy: ProxyStatus) -> Self {
        Self {
            node_id: proxy.node_id,
            namespace: proxy.namespace,
            revision_acknowledged: proxy.revision_acknowledged,
            lag: proxy.lag,
            last_refusal: proxy.last_refusal.unwrap_or_default(),
            subscriptions: u32::try_from(proxy.subscriptions).unwrap_or(u32::MAX),
            state: if proxy.leaving { "leaving" } else { "connected" }.to_owned(),
            labels: Some(proxy.labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    #[test]
    fn an_answer_that_lacks_a_field_is_of_some_other_server() {
        let whole = TransactionReply {
            changes: vec![ChangeReply::default()],
            acknowledgements: Some(vec![AcknowledgementReply::default()]),
            ..TransactionReply::default()
        };
        let whole = serde_json::to_value(whole).expect("JSON");
        assert!(from_value::<TransactionReply>(whole.clone()).is_ok());
        for path in ["", "/changes/0", "/acknowledgements/0"] {
            let fields = whole.pointer(path).and_then(Value::as_object).expect("an object");
            for name in fields.keys().filter(|name| *name != "acknowledgements") {
                let mut lacking = whole.clone();
                let fields = lacking.pointer_mut(path).and_then(Value::as_object_mut);
                fields.expect("an object").remove(name);
                assert!(from_value::<TransactionReply>(lacking).is_err(), "{path}/{name}");
            }
        }
        for other in [json!({}), json!({"revision": 1}), json!({"status": "ok"})] {
            assert!(from_value::<TransactionReply>(other.clone()).is_err(), "{other}");
            assert!(from_value::<ProxiesReply>(other.clone()).is_err(), "{other}");
        }
    }
}
