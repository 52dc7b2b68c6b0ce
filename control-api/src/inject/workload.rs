//! Where the pod template is in each kind of workload. Called by `tsunagi inject` for each document it reads.

use serde_json::Value;

use super::{Outcome, Refusal, Settings, Subject, inject};

/// What became of one document.
#[derive(Debug, PartialEq)]
pub enum Workload {
    /// Changed in place.
    Injected { warnings: Vec<String> },
    /// A workload that stays as it is.
    LeftAlone(String),
    /// No workload.
    Other,
}

/// The way from the document's root to its pod template.
fn template_of(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" | "Job" => {
            Some("/spec/template")
        }
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Adds the sidecar to a workload, because somebody asked for it: what its namespace says does not count.
pub fn inject_workload(
    document: &mut Value,
    default_namespace: &str,
    settings: &Settings,
    native: bool,
) -> Result<Workload, Refusal> {
    let Some(pointer) = document["kind"].as_str().and_then(template_of) else {
        return Ok(Workload::Other);
    };
    let namespace = document["metadata"]["namespace"]
        .as_str()
        .unwrap_or(default_namespace)
        .to_owned();
    let field = pointer.trim_start_matches('/').replace('/', ".");
    let below = |refusal: Refusal| match field.as_str() {
        "" => refusal,
        field => Refusal::new(format!("{field}.{}", refusal.field), refusal.reason),
    };
    let Some(template) = document.pointer_mut(pointer).filter(|template| template.is_object()) else {
        return Err(Refusal::new(field, "must be a pod template"));
    };
    let subject = Subject {
        template,
        namespace: &namespace,
        namespace_labels: None,
    };
    match inject(subject, settings, native).map_err(below)? {
        Outcome::LeftAlone(reason) => Ok(Workload::LeftAlone(reason)),
        Outcome::Injected(injected) => {
            *template = injected.template;
            Ok(Workload::Injected {
                warnings: injected.warnings,
            })
        }
    }
}
