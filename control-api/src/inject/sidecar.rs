//! The containers that are added: the one that installs the redirection, and the sidecar. Called by `pod`. They run with
//! the least that they need; where the sidecar's own traffic must be told from the application's, it is by its user.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::annotations::Wishes;
use super::probes::HEALTH_PORT;
use super::settings::{Amounts, Settings};
use super::{INIT, SIDECAR, values};

/// The sidecar's user: what it sends is not redirected again.
pub(super) const PROXY_UID: u32 = 1337;
/// What the sidecar remembers over a restart of its container.
pub(super) const STATE_VOLUME: &str = "tsunagi-state";
/// Where the sidecar looks for credentials, by their names.
const CREDENTIALS_DIR: &str = "/etc/tsunagi/credentials";
/// Of the volumes with credentials, with a number behind it: the names of Secrets may be longer than those of volumes.
pub(super) const CREDENTIAL_VOLUME: &str = "tsunagi-credential-";
const STATE_DIR: &str = "/var/lib/tsunagi-proxy";
pub(super) const METRICS_PORT: u16 = 15090;
/// Ports that belong to the sidecar.
pub(super) const OWN_PORTS: [u16; 5] = [15000, 15001, 15006, HEALTH_PORT, METRICS_PORT];

/// How the sidecar stands in its pod.
pub(super) struct Standing {
    pub(super) native: bool,
    /// The pod runs to an end, and the sidecar must not keep it from it.
    pub(super) ends_with_application: bool,
    /// What the sidecar is to ask the application, by path.
    pub(super) probes: Map<String, Value>,
    /// `k=v,k=v`.
    pub(super) labels: String,
}

pub(super) fn init_container(wishes: &Wishes, settings: &Settings) -> Value {
    let mut command = vec![SIDECAR.to_owned(), "redirect".to_owned(), "install".to_owned()];
    command.push(format!("--proxy-uid={PROXY_UID}"));
    command.extend(
        redirect_flags(wishes, settings)
            .into_iter()
            .map(|(flag, value)| format!("{flag}={value}")),
    );
    json!({
        "name": INIT,
        "image": image(wishes, settings),
        "imagePullPolicy": settings.image_pull_policy.as_str(),
        "command": command,
        "resources": resources(wishes, settings),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": false,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    })
}

/// What the pod says, with what the operator excludes everywhere.
fn redirect_flags(wishes: &Wishes, settings: &Settings) -> BTreeMap<&'static str, String> {
    let mut flags = wishes.redirect.clone();
    let texts = |ports: &[u16]| ports.iter().map(u16::to_string).collect::<Vec<_>>();
    for (flag, everywhere) in [
        ("--exclude-inbound-ports", texts(&settings.exclude_inbound_ports)),
        ("--exclude-outbound-ports", texts(&settings.exclude_outbound_ports)),
        ("--exclude-outbound-cidrs", settings.exclude_outbound_cidrs.clone()),
    ] {
        let own = wishes.redirect.get(flag).filter(|own| !own.is_empty());
        let all: Vec<String> = everywhere.into_iter().chain(own.cloned()).collect();
        flags.insert(flag, all.join(","));
    }
    // An empty list of exclusions says nothing; an empty list of inclusions says: nothing.
    flags.retain(|flag, value| flag.starts_with("--include") || !value.is_empty());
    flags
}

pub(super) fn container(wishes: &Wishes, settings: &Settings, standing: &Standing) -> Value {
    let mut container = json!({
        "name": SIDECAR,
        "image": image(wishes, settings),
        "imagePullPolicy": settings.image_pull_policy.as_str(),
        "command": [SIDECAR, "run"],
        "env": environment(wishes, settings, standing),
        "ports": [
            {"name": "http-envoy-prom", "containerPort": METRICS_PORT, "protocol": "TCP"},
            {"name": "tsunagi-health", "containerPort": HEALTH_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": ready_probe(5, 4),
        "resources": resources(wishes, settings),
        "securityContext": {
            "runAsUser": PROXY_UID,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": true,
            "privileged": false,
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": STATE_VOLUME, "mountPath": STATE_DIR}],
    });
    let mounts = wishes.credentials.iter().enumerate().map(|(index, name)| {
        let path = format!("{CREDENTIALS_DIR}/{name}");
        json!({"name": format!("{CREDENTIAL_VOLUME}{index}"), "mountPath": path, "readOnly": true})
    });
    if let Some(list) = container["volumeMounts"].as_array_mut() {
        list.extend(mounts);
    }
    let holds = wishes.hold_application.unwrap_or(true);
    if standing.native {
        container["restartPolicy"] = "Always".into();
        container["lifecycle"] = json!({"preStop": {"exec": {"command": [SIDECAR, "drain"]}}});
    } else if holds {
        container["lifecycle"] = json!({"postStart": {"exec": {"command": [SIDECAR, "wait"]}}});
    }
    // What comes after a native sidecar is started once this has succeeded.
    if standing.native && holds {
        container["startupProbe"] = ready_probe(1, 600);
    }
    container
}

/// The Secrets that the sidecar has. One that is not there yet does not keep the pod from starting: requests that need it
/// fail with the reason until it is.
pub(super) fn credential_volumes(wishes: &Wishes) -> impl Iterator<Item = Value> {
    wishes.credentials.iter().enumerate().map(|(index, name)| {
        let secret = json!({"secretName": name, "optional": true});
        json!({"name": format!("{CREDENTIAL_VOLUME}{index}"), "secret": secret})
    })
}

fn ready_probe(period_seconds: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": "/healthz/ready", "port": HEALTH_PORT, "scheme": "HTTP"},
        "periodSeconds": period_seconds,
        "failureThreshold": failures,
        "timeoutSeconds": 3,
    })
}

fn environment(wishes: &Wishes, settings: &Settings, standing: &Standing) -> Vec<Value> {
    let of_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let mut environment = vec![
        of_pod("TSUNAGI_NODE_ID", "metadata.name"),
        of_pod("TSUNAGI_NAMESPACE", "metadata.namespace"),
        of_pod("TSUNAGI_SERVICE_ACCOUNT", "spec.serviceAccountName"),
        of_pod("TSUNAGI_NODE_NAME", "spec.nodeName"),
    ];
    let mut say = |name: &str, value: String| {
        // The kubelet puts other variables in the place of `$(NAME)`.
        environment.push(json!({"name": name, "value": value.replace('$', "$$")}));
    };
    say("TSUNAGI_CONTROL_PLANE", settings.control_plane.clone());
    say("TSUNAGI_STATE_DIR", STATE_DIR.to_owned());
    say(
        "TSUNAGI_LOG_LEVEL",
        wishes.log_level.as_ref().unwrap_or(&settings.log_level).clone(),
    );
    if !standing.labels.is_empty() {
        say("TSUNAGI_LABELS", standing.labels.clone());
    }
    if let Some(timeout) = &wishes.drain_timeout {
        say("TSUNAGI_DRAIN_TIMEOUT", timeout.clone());
    }
    if let Some(workers) = wishes.workers {
        say("TSUNAGI_WORKERS", workers.to_string());
    }
    if let Some(port) = wishes.app_port {
        say("TSUNAGI_APP_ADDR", format!("127.0.0.1:{port}"));
    }
    if !standing.native {
        say("TSUNAGI_AWAIT_APPLICATION", "true".to_owned());
    }
    if standing.ends_with_application {
        say("TSUNAGI_EXIT_WITH_APPLICATION", "true".to_owned());
    }
    if !standing.probes.is_empty() {
        say("TSUNAGI_APP_PROBES", Value::Object(standing.probes.clone()).to_string());
    }
    environment
}

fn image<'a>(wishes: &'a Wishes, settings: &'a Settings) -> &'a str {
    wishes.image.as_ref().unwrap_or(&settings.image)
}

fn resources(wishes: &Wishes, settings: &Settings) -> Value {
    let amounts = |cpu: &Option<String>, memory: &Option<String>, general: &Amounts| {
        let wanted = [
            ("cpu", cpu.as_ref().or(general.cpu.as_ref())),
            ("memory", memory.as_ref().or(general.memory.as_ref())),
        ];
        let set = wanted
            .into_iter()
            .filter_map(|(name, amount)| Some((name.to_owned(), Value::from(amount?.as_str()))));
        set.collect::<Map<String, Value>>()
    };
    let mut resources = Map::new();
    let requests = amounts(&wishes.cpu, &wishes.memory, &settings.resources.requests);
    let mut limits = amounts(&wishes.cpu_limit, &wishes.memory_limit, &settings.resources.limits);
    // Those of the pod itself are not below; a general one gives way to what the pod asks for.
    for (name, limit) in &mut limits {
        let amount = |value: &Value| value.as_str().map_or(0.0, values::amount);
        if let Some(request) = requests.get(name).filter(|request| amount(request) > amount(limit)) {
            *limit = request.clone();
        }
    }
    for (name, amounts) in [("requests", requests), ("limits", limits)] {
        if !amounts.is_empty() {
            resources.insert(name.to_owned(), Value::Object(amounts));
        }
    }
    Value::Object(resources)
}
