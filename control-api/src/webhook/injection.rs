//! `POST /inject`: a pod that is about to be created, and what is added to it. Called by the webhook's router.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use tokio::time::timeout;

use super::Parts;
use super::review::{Operation, Review, Verdict};
use crate::inject::{self, Outcome, Subject};

/// For the namespace's labels. Without them the selector of the webhook's configuration has decided.
const NAMESPACE_TIME_LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn judge(parts: &Parts, review: &Review) -> Verdict {
    let is_new_pod = review.kind.group.is_empty()
        && review.kind.kind == "Pod"
        && review.operation == Operation::Create
        && review.sub_resource.is_empty();
    if !is_new_pod {
        return left_alone();
    }
    let labels = namespace_labels(parts, &review.namespace).await;
    let subject = Subject {
        template: &review.object,
        namespace: &review.namespace,
        namespace_labels: labels.as_ref(),
    };
    let native = parts
        .settings
        .native_sidecars
        .decide(parts.native_sidecars.get().copied());
    match inject::inject(subject, &parts.settings, native) {
        Err(refusal) => Verdict::Denied(format!("tsunagi: {refusal}")),
        Ok(Outcome::LeftAlone(reason)) => {
            tracing::debug!("a pod of namespace {} gets no sidecar: {reason}", review.namespace);
            left_alone()
        }
        Ok(Outcome::Injected(injected)) => Verdict::Patched {
            operations: inject::operations(&review.object, &injected.template),
            warnings: injected
                .warnings
                .into_iter()
                .map(|warning| format!("tsunagi: {warning}"))
                .collect(),
        },
    }
}

fn left_alone() -> Verdict {
    Verdict::Allowed {
        result: "left_alone",
        warnings: Vec::new(),
    }
}

async fn namespace_labels(parts: &Parts, name: &str) -> Option<BTreeMap<String, String>> {
    let namespaces: Api<Namespace> = Api::all(parts.cluster.clone()?);
    let asked = timeout(NAMESPACE_TIME_LIMIT, namespaces.get_metadata(name)).await;
    match asked {
        Ok(Ok(namespace)) => Some(namespace.metadata.labels.unwrap_or_default()),
        Ok(Err(error)) => {
            tracing::debug!("namespace {name}: {error}");
            None
        }
        Err(_) => None,
    }
}
