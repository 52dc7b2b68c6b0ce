//! Act 6: the commands for whoever wants to try it, with the real ports.

use std::{env, path::Path};

use super::super::{super::CliError, mesh::Mesh, screen::Screen};

pub(in super::super) fn play(mesh: &Mesh, screen: &mut Screen) -> Result<(), CliError> {
    let (outbound, metrics, admin) = (mesh.sidecar.outbound, mesh.sidecar.metrics, mesh.sidecar.admin);
    let tsunagi = format!("{} --server http://{}", command(&mesh.program), mesh.control_plane.http);
    let failing = mesh.endpoint("v1-b")?.control;
    let lines = [
        (
            "the split".to_owned(),
            format!("curl -H 'Host: user-service' http://{outbound}/"),
        ),
        (
            "the header's route".to_owned(),
            format!("curl -H 'Host: user-service' -H 'version: v2' http://{outbound}/"),
        ),
        (
            "as a proxy".to_owned(),
            format!("http_proxy=http://{outbound} curl http://user-service/"),
        ),
        (
            "an endpoint that fails, until the same without ?status".to_owned(),
            format!("curl -X POST 'http://{failing}/behaviour?status=503'"),
        ),
        (
            "what the sidecar counts".to_owned(),
            format!("curl -s http://{metrics}/metrics | grep http_requests_total"),
        ),
        (
            "what the sidecar knows about endpoints".to_owned(),
            format!("curl -s http://{admin}/clusters"),
        ),
        ("the rules".to_owned(), format!("{tsunagi} get vs user-service -o yaml")),
        ("who has them in force".to_owned(), format!("{tsunagi} proxies")),
        (
            "the access log".to_owned(),
            format!("tail -f {}", mesh.sidecar.process.output.display()),
        ),
    ];
    for (what, line) in lines {
        screen.note(&format!("# {what}"))?;
        screen.say(&line)?;
    }
    screen.note(&format!("# every process logs into {}", mesh.folder.display()))?;
    Ok(())
}

/// How the user would call this program: by its name when `PATH` finds it, else by the shortest path.
fn command(program: &Path) -> String {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = program.file_name().and_then(|name| {
        let mut places = env::split_paths(&path).map(|folder| folder.join(name));
        let first = places.find(|place| place.is_file())?;
        (first.canonicalize().ok()? == program).then(|| name.display().to_string())
    });
    found.unwrap_or_else(|| {
        let here = env::current_dir().unwrap_or_default();
        let from_here = program.strip_prefix(&here).unwrap_or(program);
        from_here.display().to_string()
    })
}
