//! The pod with everything added and nothing else changed: the order of the application's containers and every field of
//! theirs stay, but for the probes that lead through the sidecar. Called by `inject`.
//!
//! Where things stand follows when they act. A native sidecar is started before the init containers behind it and ends
//! after the containers, so redirection and sidecar come first and the application's init containers are in the mesh.
//! Without native sidecars nothing answers on the sidecar's ports while init containers run: there the redirection comes
//! last of them, and the sidecar first of the containers, whose next one is started after its hook has returned.

use serde_json::{Map, Value, json};

use super::annotations::Wishes;
use super::sidecar::{self, CREDENTIAL_VOLUME, METRICS_PORT, OWN_PORTS, PROXY_UID, STATE_VOLUME, Standing};
use super::{INIT, Refusal, SIDECAR, Settings, probes};

/// Tells whoever looks at the pod, and whoever takes the sidecar out again, what was added.
const STATUS: &str = "sidecar.tsunagi.dev/status";

pub(super) fn with_sidecar(
    template: &Value,
    wishes: &Wishes,
    settings: &Settings,
    native: bool,
    warnings: &mut Vec<String>,
) -> Result<Value, Refusal> {
    check(template)?;
    let native = wishes.native_sidecar.unwrap_or(native);
    let mut pod = template.clone();
    warn_of_clashes(&pod["spec"], warnings);
    let mut definitions = Map::new();
    if wishes.rewrite_probes.unwrap_or(settings.rewrite_probes) {
        for list in ["containers", "initContainers"] {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
            probes::rewrite(containers.into_iter().flatten(), &mut definitions, warnings);
        }
    }
    let standing = Standing {
        native,
        ends_with_application: !native && share_processes(&mut pod["spec"], warnings),
        labels: labels(template),
        probes: definitions,
    };
    annotate(&mut pod, wishes, &standing);
    add_containers(&mut pod["spec"], wishes, settings, &standing);
    let volumes = list(&mut pod["spec"], "volumes");
    volumes.extend(sidecar::credential_volumes(wishes));
    volumes.push(json!({"name": STATE_VOLUME, "emptyDir": {"sizeLimit": "64Mi"}}));
    Ok(pod)
}

/// Only what injection itself builds upon; the rest is for the API server to say.
fn check(template: &Value) -> Result<(), Refusal> {
    let spec = &template["spec"];
    let containers = spec["containers"].as_array();
    if containers.is_none_or(|list| list.is_empty() || !list.iter().all(Value::is_object)) {
        return Err(Refusal::new(
            "spec.containers",
            "must be a list of at least one container",
        ));
    }
    if !template["metadata"].is_null() && !template["metadata"].is_object() {
        return Err(Refusal::new("metadata", "must be a mapping"));
    }
    for name in ["initContainers", "volumes"] {
        if !spec[name].is_null() && !spec[name].is_array() {
            return Err(Refusal::new(format!("spec.{name}"), "must be a list"));
        }
    }
    for name in ["annotations", "labels"] {
        let value = &template["metadata"][name];
        if !value.is_null() && !value.is_object() {
            return Err(Refusal::new(format!("metadata.{name}"), "must be a mapping"));
        }
    }
    let mut volumes = spec["volumes"].as_array().into_iter().flatten();
    let own = |name: &&str| *name == STATE_VOLUME || name.starts_with(CREDENTIAL_VOLUME);
    if let Some(name) = volumes.find_map(|volume| volume["name"].as_str().filter(own)) {
        let reason = format!("the name {name} is the sidecar's");
        return Err(Refusal::new("spec.volumes", reason));
    }
    Ok(())
}

fn warn_of_clashes(spec: &Value, warnings: &mut Vec<String>) {
    let of_pod = spec["securityContext"]["runAsUser"].as_u64();
    for container in spec["containers"].as_array().into_iter().flatten() {
        let name = container["name"].as_str().unwrap_or("?");
        let user = container["securityContext"]["runAsUser"].as_u64().or(of_pod);
        if user == Some(u64::from(PROXY_UID)) {
            warnings.push(format!(
                "{name}: runs as user {PROXY_UID}, the sidecar's: its traffic is not redirected"
            ));
        }
        let ports = container["ports"].as_array().into_iter().flatten();
        for port in ports.filter_map(|port| port["containerPort"].as_u64()) {
            if OWN_PORTS.iter().any(|own| u64::from(*own) == port) {
                warnings.push(format!(
                    "{name}: port {port} is one of the sidecar's: one of the two cannot listen on it"
                ));
            }
        }
    }
}

/// Where the sidecar cannot see otherwise that the application has ended, and the pod is to end with it.
fn share_processes(spec: &mut Value, warnings: &mut Vec<String>) -> bool {
    let runs_to_an_end = matches!(spec["restartPolicy"].as_str(), Some("Never" | "OnFailure"));
    if !runs_to_an_end {
        return false;
    }
    if spec["shareProcessNamespace"] == Value::Bool(false) || spec["hostPID"] == Value::Bool(true) {
        let why = "without a process namespace shared in the pod, and without native sidecars, the sidecar does not see the application end";
        warnings.push(format!(
            "spec.shareProcessNamespace: {why}: end it with POST /quitquitquit on port 15000"
        ));
        return false;
    }
    spec["shareProcessNamespace"] = Value::Bool(true);
    true
}

fn add_containers(spec: &mut Value, wishes: &Wishes, settings: &Settings, standing: &Standing) {
    let init = sidecar::init_container(wishes, settings);
    let sidecar = sidecar::container(wishes, settings, standing);
    if standing.native {
        list(spec, "initContainers").splice(0..0, [init, sidecar]);
    } else {
        list(spec, "initContainers").push(init);
        list(spec, "containers").insert(0, sidecar);
    }
}

/// Not every label is known before the pod is made, but those that subsets are chosen by are. What the API server would
/// refuse as a label is left out here: it refuses the pod.
fn labels(template: &Value) -> String {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
    };
    let pairs = labels.filter_map(|(key, value)| Some((key, value.as_str()?)));
    let pairs = pairs.filter(|(key, value)| plain(key) && plain(value) && !value.contains('/'));
    pairs
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

fn annotate(pod: &mut Value, wishes: &Wishes, standing: &Standing) {
    let default_container = pod["spec"]["containers"][0]["name"].clone();
    let metadata = mapping(pod, "metadata");
    let annotations = mapping(metadata, "annotations");
    let Some(annotations) = annotations.as_object_mut() else {
        return;
    };
    if !annotations.keys().any(|name| name.starts_with("prometheus.io/")) {
        for (name, value) in [
            ("scrape", "true".to_owned()),
            ("port", METRICS_PORT.to_string()),
            ("path", "/metrics".to_owned()),
        ] {
            annotations.insert(format!("prometheus.io/{name}"), value.into());
        }
    }
    // `kubectl logs` and `kubectl exec` mean the application, though it is not the first any more.
    if !standing.native && default_container.is_string() {
        annotations
            .entry("kubectl.kubernetes.io/default-container")
            .or_insert(default_container);
    }
    let (init, containers): (&[&str], &[&str]) = match standing.native {
        true => (&[INIT, SIDECAR], &[]),
        false => (&[INIT], &[SIDECAR]),
    };
    let credentials = sidecar::credential_volumes(wishes);
    let volumes: Vec<Value> = std::iter::once(STATE_VOLUME.into())
        .chain(credentials.map(|mut volume| volume["name"].take()))
        .collect();
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "initContainers": init,
        "containers": containers,
        "volumes": volumes,
        "probes": standing.probes.len(),
    });
    annotations.insert(STATUS.to_owned(), status.to_string().into());
}

fn mapping<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    if !value[name].is_object() {
        value[name] = json!({});
    }
    &mut value[name]
}

/// The list of that name, made where there is none; `check` has seen that it is no other thing.
fn list<'a>(spec: &'a mut Value, name: &str) -> &'a mut Vec<Value> {
    if !spec[name].is_array() {
        spec[name] = json!([]);
    }
    match &mut spec[name] {
        Value::Array(list) => list,
        _ => unreachable!("it was made a list above"),
    }
}
