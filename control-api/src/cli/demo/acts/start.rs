//! Act 1: what runs where, and the rules in force.

use std::net::SocketAddr;

use super::{
    super::{
        super::CliError,
        connection::Connection,
        mesh::Mesh,
        numbers::time,
        rules,
        screen::{Rows, Screen},
        traffic::request,
    },
    Checks,
};

pub(in super::super) async fn play(mesh: &Mesh, screen: &mut Screen, checks: &mut Checks) -> Result<(), CliError> {
    let header = &["PROCESS", "PID", "LISTENER", "ADDRESS"];
    let rows = processes(mesh);
    screen.table(Rows { header, rows })?;
    screen.note("One request first: a sidecar is told only about hosts that it is asked for.")?;
    let mut connection = Connection::open(mesh.sidecar.outbound).await?;
    let before = connection.send(request(None)).await?.status;
    checks.check(
        screen,
        before == 200,
        &format!("without rules the service answers {before}"),
    )?;
    let (sidecars, elapsed) = mesh.apply(rules::FILE, rules::VERBATIM).await?;
    let promise = format!(
        "{} applied as it stands: in force on {sidecars} of 1 sidecar after {}",
        rules::FILE,
        time(elapsed)
    );
    Ok(checks.check(screen, sidecars == 1, &promise)?)
}

fn processes(mesh: &Mesh) -> Vec<Vec<String>> {
    let row = |name: &str, pid: u32, listener: &str, address: SocketAddr| {
        vec![
            name.to_owned(),
            pid.to_string(),
            listener.to_owned(),
            address.to_string(),
        ]
    };
    let (control_plane, sidecar) = (&mesh.control_plane, &mesh.sidecar);
    let mut rows = vec![
        row("control plane", control_plane.process.pid, "http", control_plane.http),
        row("control plane", control_plane.process.pid, "grpc", control_plane.grpc),
        row("sidecar", sidecar.process.pid, "outbound", sidecar.outbound),
        row("sidecar", sidecar.process.pid, "admin", sidecar.admin),
        row("sidecar", sidecar.process.pid, "metrics", sidecar.metrics),
    ];
    for endpoint in &mesh.endpoints {
        rows.push(row(
            &format!("endpoint {}", endpoint.name),
            endpoint.process.pid,
            "http",
            endpoint.address,
        ));
    }
    rows
}
