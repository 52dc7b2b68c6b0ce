//! nginx: `map` on the header, `split_clients` for the rest, `least_conn`, `max_conns`, and `max_fails` for ejection.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::{Place, Running};
use crate::Outcome;
use crate::plan::{Endpoints, Plan, Rules};
use crate::upstreams::nginx_user;

pub(super) fn start(place: &Place<'_>, program: &Path, plan: &Plan, endpoints: &Endpoints) -> Outcome<Running> {
    let file = place.write("conf", &configuration(place, plan, endpoints))?;
    let mut command = place.settings.on_proxy_core(program);
    let process = place.start(command.arg("-c").arg(file))?;
    // The master listens before it has workers.
    let workers = usize::from(plan.workers);
    let accounted = (0..100).find_map(|_| {
        sleep(Duration::from_millis(20));
        Some(process.children()).filter(|children| children.len() == workers)
    });
    let accounted = accounted.ok_or(format!("nginx does not have {workers} workers:\n{}", process.output()))?;
    Ok(Running {
        address: place.address,
        accounted,
        processes: vec![process],
    })
}

fn configuration(place: &Place<'_>, plan: &Plan, endpoints: &Endpoints) -> String {
    let upstreams = match plan.rules {
        Rules::Forward => upstream("v1", &endpoints.v1[..1], plan),
        Rules::OneSlow => upstream("v1", &endpoints.v1, plan),
        _ => [upstream("v1", &endpoints.v1, plan), upstream("v2", &endpoints.v2, plan)].concat(),
    };
    // `$request_id` would draw 16 random bytes for each request.
    let (choose, destination) = match plan.rules {
        Rules::Forward | Rules::OneSlow => ("", "v1"),
        _ => (
            "split_clients \"$connection-$connection_requests-$msec\" $split { 90% v1; * v2; }
  map $http_version $destination { v2 v2; default $split; }",
            "$destination",
        ),
    };
    format!(
        "daemon off;
worker_processes {workers};
{user}
error_log stderr warn;
pid {folder}/{name}.pid;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-fastcgi;
  uwsgi_temp_path {folder}/{name}-uwsgi;
  scgi_temp_path {folder}/{name}-scgi;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  {choose}
  {upstreams}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://{destination};
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      # Large bodies stay in memory.
      proxy_max_temp_file_size 0;
      proxy_buffers 8 16k;
    }}
  }}
}}
",
        workers = plan.workers,
        user = nginx_user(),
        folder = place.folder.display(),
        name = place.name,
        address = place.address,
    )
}

fn upstream(name: &str, endpoints: &[SocketAddr], plan: &Plan) -> String {
    // Workers share what they know of endpoints only in a zone.
    let zone = if plan.workers > 1 {
        format!("zone {name} 256k; ")
    } else {
        String::new()
    };
    let limit = plan.limits().connections;
    let mut text = format!("upstream {name} {{ {zone}least_conn; ");
    for endpoint in endpoints {
        let _ = write!(
            text,
            "server {endpoint} max_conns={limit} max_fails=5 fail_timeout=30s; "
        );
    }
    text + "keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }\n  "
}
