//! What a pod looks like with a sidecar, or why it is left alone: one pure function from a pod template, its namespace's
//! labels and the operator's settings. Called by `webhook` for each pod that is created and by `tsunagi inject`, so that
//! both do the same.
//!
//! The shape follows Istio's injection template (init container for the redirection, native sidecar where the cluster has
//! them, probes of the application led through the sidecar), with the annotations of both meshes understood.

mod annotations;
mod decision;
mod patch;
mod pod;
mod probes;
mod settings;
mod sidecar;
mod values;
mod workload;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

pub use patch::operations;
pub use settings::{NativeSidecars, Settings, SettingsError};
pub use workload::{Workload, inject_workload};

/// The sidecar's container, and what marks a pod that has one.
pub const SIDECAR: &str = "tsunagi-proxy";
/// The container that installs the redirection.
pub const INIT: &str = "tsunagi-init";

/// A pod to be.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// With `metadata` and `spec`: a Pod, or what a Deployment makes its pods from.
    pub template: &'a Value,
    pub namespace: &'a str,
    /// `None`: somebody has asked for this very pod, or the webhook's own selector has chosen the namespace.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Injected(Box<Injected>),
    /// As it stands, because of this.
    LeftAlone(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Injected {
    pub template: Value,
    /// What its author may not expect.
    pub warnings: Vec<String>,
}

/// The pod says something that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Path from the pod's root.
    pub field: String,
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl Refusal {
    fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// The pod with its sidecar. `native`: whether the cluster starts init containers with `restartPolicy: Always` as sidecars.
pub fn inject(subject: Subject<'_>, settings: &Settings, native: bool) -> Result<Outcome, Refusal> {
    if let Some(reason) = decision::against(subject, settings)? {
        return Ok(Outcome::LeftAlone(reason));
    }
    let mut warnings = Vec::new();
    let wishes = annotations::read(subject.template, &mut warnings)?;
    annotations::check_limits(&wishes, &settings.resources.requests, subject.template)?;
    let template = pod::with_sidecar(subject.template, &wishes, settings, native, &mut warnings)?;
    Ok(Outcome::Injected(Box::new(Injected { template, warnings })))
}

#[cfg(test)]
mod tests;
