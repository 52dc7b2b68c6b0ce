//! The JSON that the HTTP API answers with, beyond Kubernetes' own objects. Written by `api`, read by `cli`.

use serde::{Deserialize, Serialize};

use crate::{
    ingest::{Applied, Change},
    status::{Acknowledgement, ProxyStatus},
};

/// The answer to `POST /v1/transactions`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TransactionReply {
    /// Of the store after the transaction.
    pub revision: u64,
    pub dry_run: bool,
    pub changes: Vec<ChangeReply>,
    pub warnings: Vec<String>,
    /// Only with `wait`: each connected proxy that uses what was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledgements: Option<Vec<AcknowledgementReply>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ChangeReply {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// created, configured, unchanged, deleted, notFound
    pub operation: String,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AcknowledgementReply {
    pub node_id: String,
    pub namespace: String,
    /// acknowledged, refused, unanswered
    pub state: String,
    pub reason: String,
}

/// The answer to `GET /v1/proxies`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ProxiesReply {
    /// Of the store.
    pub revision: u64,
    pub proxies: Vec<ProxyReply>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
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
}

impl TransactionReply {
    pub(super) fn new(applied: &Applied, dry_run: bool) -> Self {
        Self {
            revision: applied.revision,
            dry_run,
            changes: applied.changes.iter().map(ChangeReply::from).collect(),
            warnings: applied.warnings.clone(),
            acknowledgements: None,
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
        }
    }
}
