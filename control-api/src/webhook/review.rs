//! `AdmissionReview` of `admission.k8s.io/v1`: reading the question, writing the answer. Called by the doors of this room.

use std::borrow::Cow;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::telemetry;

/// Kubernetes cuts a warning that is longer, and drops all of them when they are more than a few.
const WARNING_CHARACTERS: usize = 240;
const MOST_WARNINGS: usize = 15;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    api_version: String,
    kind: String,
    request: Option<Review>,
}

/// The question. Fields that say nothing to a webhook of ours are left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review {
    uid: String,
    pub(super) kind: GroupKind,
    #[serde(default)]
    pub(super) sub_resource: String,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    pub(super) operation: Operation,
    #[serde(default)]
    pub(super) object: Value,
    #[serde(default)]
    pub(super) old_object: Value,
}

#[derive(Debug, Deserialize)]
pub(super) struct GroupKind {
    pub(super) group: String,
    pub(super) kind: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Review {
    pub(super) fn parse(body: &[u8]) -> Result<Self, String> {
        let envelope: Envelope =
            serde_json::from_slice(body).map_err(|error| format!("not an AdmissionReview: {error}"))?;
        if (envelope.api_version.as_str(), envelope.kind.as_str()) != ("admission.k8s.io/v1", "AdmissionReview") {
            return Err("only AdmissionReview of admission.k8s.io/v1 is understood".to_owned());
        }
        match envelope.request {
            Some(review) if !review.uid.is_empty() => Ok(review),
            _ => Err("not an AdmissionReview: there is no request with a uid".to_owned()),
        }
    }
}

/// The answer.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// As it stands. What happened is for the metrics.
    Allowed {
        result: &'static str,
        warnings: Vec<String>,
    },
    /// With these operations of a JSON Patch.
    Patched {
        operations: Vec<Value>,
        warnings: Vec<String>,
    },
    Denied(String),
}

pub(super) fn malformed(webhook: &'static str, reason: &str) -> Response {
    telemetry::record_admission(webhook, "malformed");
    (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
}

/// `Err`: it could not be judged, and the webhook's failure policy is to decide.
pub(super) fn answer(webhook: &'static str, review: &Review, verdict: Result<Verdict, String>) -> Response {
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(reason) => {
            telemetry::record_admission(webhook, "failed");
            tracing::warn!("a review of {} cannot be judged: {reason}", review.kind.kind);
            return (StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")).into_response();
        }
    };
    let mut response = json!({"uid": review.uid, "allowed": !matches!(verdict, Verdict::Denied(_))});
    let (result, warnings) = match verdict {
        Verdict::Allowed { result, warnings } => (result, warnings),
        Verdict::Patched { operations, warnings } => {
            let patch = ByteString(Value::Array(operations).to_string().into_bytes());
            response["patchType"] = "JSONPatch".into();
            // Base64, as everything binary in Kubernetes.
            response["patch"] = serde_json::to_value(patch).unwrap_or_default();
            ("patched", warnings)
        }
        Verdict::Denied(message) => {
            response["status"] = json!({"code": 422, "reason": "Invalid", "message": message});
            ("denied", Vec::new())
        }
    };
    if !warnings.is_empty() {
        response["warnings"] = warnings
            .iter()
            .take(MOST_WARNINGS)
            .map(|text| shortened(text))
            .collect();
    }
    telemetry::record_admission(webhook, result);
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], review.to_string()).into_response()
}

fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(WARNING_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]).into(),
        None => text.into(),
    }
}
