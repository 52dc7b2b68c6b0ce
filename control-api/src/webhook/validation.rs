//! `POST /validate`: an object of the mesh that is about to change, judged as `apply --dry-run` would judge it: read by
//! the same readers, and tried in the world that would come of it. Called by the webhook's router. Nothing is written.

use serde_json::Value;

use super::review::{Operation, Review, Verdict};
use crate::{
    config::{self, Document, Key, Kind},
    error,
    ingest::{Applied, Ingest, Mode, Refused},
};

/// `Err`: it cannot be judged now.
pub(super) async fn judge(ingest: &Ingest, review: &Review) -> Result<Verdict, String> {
    // A status says nothing that could be refused, and scaling is not ours.
    if !review.sub_resource.is_empty() || review.operation == Operation::Connect {
        return Ok(allowed(Vec::new()));
    }
    let Some(kind) = kind(review) else {
        let name = review.kind.kind.chars().take(63).collect::<String>();
        return Ok(allowed(vec![format!(
            "tsunagi: {name} is not a kind that Tsunagi takes: it is not checked"
        )]));
    };
    if review.operation == Operation::Update && (leaves_spec(review) || is_going(review)) {
        return Ok(allowed(Vec::new()));
    }
    // In a world of which half is missing everything is wrong, or nothing.
    if let Some(reason) = ingest.awaits_source() {
        return Err(reason);
    }
    let tried = match review.operation {
        Operation::Delete => try_delete(ingest, kind, review).await,
        _ => match document(review) {
            Ok(document) => try_apply(ingest, document).await,
            Err(reasons) => Err(Refusal::Invalid(reasons)),
        },
    };
    match tried {
        Ok(applied) => Ok(allowed(
            applied
                .warnings
                .into_iter()
                .map(|it| format!("tsunagi: {it}"))
                .collect(),
        )),
        // Services are Kubernetes' own, whatever the mesh makes of them.
        Err(Refusal::Invalid(reasons)) if kind == Kind::Service => {
            Ok(allowed(vec![format!("tsunagi: not in the mesh: {reasons}")]))
        }
        Err(Refusal::Invalid(reasons)) => Ok(Verdict::Denied(format!("tsunagi: {reasons}"))),
        Err(Refusal::Unjudged(reason)) => Err(reason),
    }
}

/// Labels, finalizers and the like of an object that was taken before, by whatever version of this, or before there was one.
fn leaves_spec(review: &Review) -> bool {
    let spec = review.object.get("spec");
    spec.is_some() && spec == review.old_object.get("spec")
}

/// It is deleted as soon as its finalizers are taken away, which must not fail.
fn is_going(review: &Review) -> bool {
    review.object["metadata"]["deletionTimestamp"].is_string()
}

fn allowed(warnings: Vec<String>) -> Verdict {
    Verdict::Allowed {
        result: "allowed",
        warnings,
    }
}

fn kind(review: &Review) -> Option<Kind> {
    let kinds = Kind::ALL.into_iter();
    kinds
        .into_iter()
        .find(|kind| kind.as_str() == review.kind.kind && kind.group() == review.kind.group)
}

enum Refusal {
    /// A line each.
    Invalid(String),
    Unjudged(String),
}

/// What people are to be told is about what they wrote: neither the API server's own fields nor the version that it will
/// give the object are.
fn document(review: &Review) -> Result<Document, String> {
    let mut object = review.object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for own in ["resourceVersion", "uid", "managedFields", "selfLink"] {
            metadata.remove(own);
        }
        if !review.name.is_empty() {
            metadata.entry("name").or_insert_with(|| review.name.as_str().into());
        }
        // The name that was made of it is there; where there is none, that is refused.
        if metadata.contains_key("name") {
            metadata.remove("generateName");
        }
    }
    // The reader counts what is wrong from the start of the text, where it is only an object.
    let read = config::parse("", &object.to_string(), &review.namespace);
    let mut documents = read.map_err(|problems| {
        let lines: Vec<String> = problems.iter().take(20).map(ToString::to_string).collect();
        lines.join("\n")
    })?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document),
        _ => Err("there must be one object".to_owned()),
    }
}

const DRY_RUN: Mode = Mode {
    dry_run: true,
    strict: false,
};

async fn try_apply(ingest: &Ingest, document: Document) -> Result<Applied, Refusal> {
    ingest.apply(vec![document], DRY_RUN).await.map_err(refusal)
}

async fn try_delete(ingest: &Ingest, kind: Kind, review: &Review) -> Result<Applied, Refusal> {
    let named = review.old_object["metadata"]["name"].as_str();
    let key = Key {
        kind,
        namespace: review.namespace.clone(),
        name: named.unwrap_or(&review.name).to_owned(),
    };
    ingest.delete(vec![key], DRY_RUN).await.map_err(refusal)
}

fn refusal(refused: Refused) -> Refusal {
    match refused {
        Refused::Invalid(_) | Refused::Warned(_) | Refused::Conflict { .. } => Refusal::Invalid(refused.to_string()),
        // It says nothing about the object.
        _ => Refusal::Unjudged(error::sentence(&refused)),
    }
}
