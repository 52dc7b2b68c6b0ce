//! HAProxy: a header ACL, `rand` for the split, `leastconn`, `maxconn` and `maxqueue` as limits, `observe layer7` for
//! ejection.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::{Place, Running};
use crate::Outcome;
use crate::plan::{Endpoints, Plan, Rules};

pub(super) fn start(place: &Place<'_>, program: &Path, plan: &Plan, endpoints: &Endpoints) -> Outcome<Running> {
    let file = place.write("cfg", &configuration(place, plan, endpoints))?;
    let mut command = place.settings.on_proxy_core(program);
    // In the foreground, as one process.
    let process = place.start(command.arg("-db").arg("-f").arg(file))?;
    let accounted = vec![process.id()];
    Ok(Running {
        address: place.address,
        accounted,
        processes: vec![process],
    })
}

fn configuration(place: &Place<'_>, plan: &Plan, endpoints: &Endpoints) -> String {
    let protocol = if plan.http2() { " proto h2" } else { "" };
    let (choose, sections) = match plan.rules {
        Rules::Forward => ("", section("v1", &endpoints.v1[..1], plan)),
        Rules::OneSlow => ("", section("v1", &endpoints.v1, plan)),
        _ => (
            "  use_backend v2 if { req.hdr(version) -m str v2 }
  use_backend v2 if { rand(100) lt 10 }
",
            [section("v1", &endpoints.v1, plan), section("v2", &endpoints.v2, plan)].concat(),
        ),
    };
    format!(
        "global
  nbthread {workers}
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout queue 30s
  timeout http-keep-alive 1h
  option http-keep-alive
  http-reuse always
frontend outbound
  bind {address}{protocol} backlog 4096
{choose}  default_backend v1
{sections}",
        workers = plan.workers,
        address = place.address,
    )
}

fn section(name: &str, endpoints: &[SocketAddr], plan: &Plan) -> String {
    let limits = plan.limits();
    let protocol = if plan.http2() { " proto h2" } else { "" };
    // Over HTTP/2 `maxconn` counts streams.
    let mut text = format!(
        "backend {name}
  balance leastconn
  default-server maxconn {} maxqueue {} check inter 30s observe layer7 error-limit 5 on-error mark-down{protocol}
",
        limits.connections, limits.pending
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        let _ = writeln!(text, "  server {name}-{index} {endpoint}");
    }
    text
}
