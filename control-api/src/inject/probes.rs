//! The kubelet's probes of an application, led through the sidecar: the probe asks the sidecar's health port, and the
//! sidecar asks the application as the kubelet would have. So limits and redirection never fail a probe, and a TCP probe
//! tells about the application, not about the sidecar that accepts in its place. Called by `pod`.
//!
//! Left as they are: `exec`, HTTPS (the sidecar passes its bytes through), probes of another host, hooks, and what no
//! request can be made of: then the kubelet says so itself, as it would without a mesh.

use serde_json::{Map, Value, json};

/// The sidecar's health port.
pub(super) const HEALTH_PORT: u16 = 15021;
/// Of the containers of one pod; more than that would not fit its environment.
const MOST_PROBES: usize = 200;

const KINDS: [(&str, &str); 3] = [
    ("livenessProbe", "livez"),
    ("readinessProbe", "readyz"),
    ("startupProbe", "startupz"),
];

/// Rewrites the probes of `containers` and says what the sidecar is to ask for each, by path.
pub(super) fn rewrite<'a>(
    containers: impl Iterator<Item = &'a mut Value>,
    definitions: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) {
    for container in containers {
        let Some(name) = container["name"].as_str().map(str::to_owned) else {
            continue;
        };
        for (field, page) in KINDS {
            let ports = container["ports"].clone();
            let Some(probe) = container.get_mut(field).filter(|probe| probe.is_object()) else {
                continue;
            };
            let path = format!("/app-health/{name}/{page}");
            match definition(probe, &ports) {
                Ok(None) => {}
                Ok(Some(_)) if definitions.len() >= MOST_PROBES => {
                    warnings.push(format!(
                        "{name}: {field} is left as it is: more than {MOST_PROBES} probes"
                    ));
                }
                Ok(Some(definition)) => {
                    lead_to_sidecar(probe, &path);
                    definitions.insert(path, definition);
                }
                Err(reason) => warnings.push(format!("{name}: {field} is left as it is: {reason}")),
            }
        }
    }
}

fn lead_to_sidecar(probe: &mut Value, path: &str) {
    let Some(probe) = probe.as_object_mut() else { return };
    for way in ["tcpSocket", "grpc"] {
        probe.remove(way);
    }
    let target = json!({"path": path, "port": HEALTH_PORT, "scheme": "HTTP"});
    probe.insert("httpGet".to_owned(), target);
}

/// What the sidecar is to ask; `None`: nothing to rewrite.
fn definition(probe: &Value, ports: &Value) -> Result<Option<Value>, String> {
    let asked = if let Some(http) = set(&probe["httpGet"]) {
        let scheme = http["scheme"].as_str().unwrap_or("HTTP");
        if !scheme.eq_ignore_ascii_case("HTTP") || has_host(http) {
            return Ok(None);
        }
        json!({"httpGet": http_get(http, ports)?})
    } else if let Some(tcp) = set(&probe["tcpSocket"]) {
        if has_host(tcp) {
            return Ok(None);
        }
        json!({"tcpSocket": {"port": port(&tcp["port"], ports)?}})
    } else if let Some(grpc) = set(&probe["grpc"]) {
        let service = grpc["service"].as_str().unwrap_or_default();
        json!({"grpc": {"port": port(&grpc["port"], ports)?, "service": service}})
    } else {
        return Ok(None);
    };
    let mut asked = asked;
    // Kubernetes' default, and its smallest.
    let timeout = probe["timeoutSeconds"].as_u64().unwrap_or(1).clamp(1, 3600);
    asked["timeoutSeconds"] = timeout.into();
    Ok(Some(asked))
}

fn set(value: &Value) -> Option<&Value> {
    value.is_object().then_some(value)
}

/// Another host than the pod's own address is the author's business with the node.
fn has_host(target: &Value) -> bool {
    target["host"].as_str().is_some_and(|host| !host.is_empty())
}

fn http_get(http: &Value, ports: &Value) -> Result<Value, String> {
    let path = http["path"].as_str().unwrap_or_default();
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err("its path is not one of HTTP".to_owned());
    }
    let mut headers = Vec::new();
    for header in http["httpHeaders"].as_array().into_iter().flatten() {
        let (Some(name), Some(value)) = (header["name"].as_str(), header["value"].as_str()) else {
            return Err("a header without name or value".to_owned());
        };
        if name.parse::<http::HeaderName>().is_err() || http::HeaderValue::from_str(value).is_err() {
            return Err("a header that is not one of HTTP".to_owned());
        }
        headers.push(json!({"name": name, "value": value}));
    }
    Ok(json!({"path": path, "port": port(&http["port"], ports)?, "httpHeaders": headers}))
}

/// A number, or the name that one of the container's ports has.
fn port(port: &Value, ports: &Value) -> Result<u16, String> {
    let number = |value: &Value| {
        value
            .as_u64()
            .and_then(|port| u16::try_from(port).ok())
            .filter(|port| *port > 0)
    };
    if let Some(port) = number(port) {
        return Ok(port);
    }
    let name = port.as_str().ok_or("it has no port")?;
    let named = ports.as_array().into_iter().flatten().find(|port| port["name"] == name);
    named
        .and_then(|port| number(&port["containerPort"]))
        .or_else(|| name.parse().ok().filter(|port| *port > 0))
        .ok_or_else(|| format!("the container has no port named {name:?}"))
}
