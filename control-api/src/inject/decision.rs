//! Whether a pod gets a sidecar. Called by `inject` first, so that the annotations of a pod that is left alone are
//! nobody's business.
//!
//! The order is Istio's: what can never be comes first, then what the pod says, then what its namespace says; a namespace
//! that says `disabled` has the last word. Istio's `istio.io/rev` names a revision of Istio's own control plane, so it
//! counts only where the settings take that name over.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{INIT, Refusal, SIDECAR, Settings, Subject, values};

/// Without these the cluster, or the mesh itself, could not start.
const SYSTEM_NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "tsunagi-system"];
/// Containers of a pod that has its sidecar already, whichever mesh gave it.
const SIDECARS: [&str; 4] = [SIDECAR, INIT, "istio-proxy", "istio-init"];
/// What a pod says about itself, as a label or an annotation, ours first.
const POD_WISHES: [&str; 2] = ["sidecar.tsunagi.dev/inject", "sidecar.istio.io/inject"];

/// Why the pod is left alone; `None`: it is not.
pub(super) fn against(subject: Subject<'_>, settings: &Settings) -> Result<Option<String>, Refusal> {
    let spec = &subject.template["spec"];
    if SYSTEM_NAMESPACES.contains(&subject.namespace) {
        return told(format!("namespace {} never gets sidecars", subject.namespace));
    }
    if spec["hostNetwork"] == Value::Bool(true) {
        return told("hostNetwork: its traffic is the node's and cannot be redirected");
    }
    if spec["os"]["name"] == "windows" || spec["nodeSelector"]["kubernetes.io/os"] == "windows" {
        return told("it is for Windows");
    }
    if let Some(name) = existing_sidecar(spec) {
        return told(format!("it has a container {name} already"));
    }
    let namespace = subject.namespace_labels.map(|labels| namespace(labels, settings));
    if let Some(Wish::No(reason)) = &namespace {
        return told(reason.clone());
    }
    match (pod(subject.template)?, namespace) {
        (Some((name, false)), _) => told(format!("{name} says so")),
        (Some((_, true)), _) | (None, None | Some(Wish::Yes)) => Ok(None),
        (None, Some(_)) => told("neither its namespace nor the pod asks for a sidecar"),
    }
}

fn told(reason: impl Into<String>) -> Result<Option<String>, Refusal> {
    Ok(Some(reason.into()))
}

fn existing_sidecar(spec: &Value) -> Option<&str> {
    let lists = ["containers", "initContainers"].map(|list| spec[list].as_array());
    let names = lists
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it["name"].as_str());
    names.into_iter().find(|name| SIDECARS.contains(name))
}

enum Wish {
    Yes,
    No(String),
    Nothing,
}

fn namespace(labels: &BTreeMap<String, String>, settings: &Settings) -> Wish {
    for name in ["tsunagi.dev/injection", "istio-injection"] {
        match labels.get(name).map(String::as_str) {
            Some("enabled") => return Wish::Yes,
            Some(other) => return Wish::No(format!("its namespace says {name}: {}", values::shown(other))),
            None => {}
        }
    }
    let revision = labels.get("istio.io/rev");
    match revision.is_some_and(|revision| !revision.is_empty() && *revision == settings.revision) {
        true => Wish::Yes,
        false => Wish::Nothing,
    }
}

/// What the pod itself says, and where. A label counts before an annotation, as with Istio.
fn pod(template: &Value) -> Result<Option<(String, bool)>, Refusal> {
    for name in POD_WISHES {
        for place in ["labels", "annotations"] {
            let value = &template["metadata"][place][name];
            if value.is_null() {
                continue;
            }
            let refuse = |reason: String| Refusal::new(format!("metadata.{place}[{name}]"), reason);
            let text = value.as_str().ok_or_else(|| refuse("must be text".to_owned()))?;
            let wish = values::flag(text).map_err(refuse)?;
            return Ok(Some((format!("its {} {name}", &place[..place.len() - 1]), wish)));
        }
    }
    Ok(None)
}
