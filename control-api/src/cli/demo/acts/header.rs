//! Act 3: a header decides.

use super::{
    super::{super::CliError, mesh::Mesh, numbers::count, screen::Screen, traffic::Load},
    CONNECTIONS, Checks, VERSIONS, send,
};

const REQUESTS: u64 = 1_000;

pub(in super::super) async fn play(mesh: &Mesh, screen: &mut Screen, checks: &mut Checks) -> Result<(), CliError> {
    let load = Load {
        outbound: mesh.sidecar.outbound,
        requests: REQUESTS,
        connections: CONNECTIONS,
        version: Some("v2"),
    };
    let tally = send(load, screen, &[("v1", 0), ("v2", 100)], VERSIONS).await?;
    let promise = format!("{} of {} answered by v2", count(tally.version("v2")), count(REQUESTS));
    Ok(checks.check(screen, tally.version("v2") == REQUESTS, &promise)?)
}
