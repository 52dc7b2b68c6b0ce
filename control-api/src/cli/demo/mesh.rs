//! The demo's mesh: what runs where, and the orders that the acts give to it. Called by the demo and its acts.

use std::{
    env,
    ffi::OsString,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper::{Method, StatusCode};
use tokio::time::sleep;

use super::{
    super::{
        CliError,
        client::{Call, Client},
        files, refusal,
    },
    connection::ask,
    processes::{Process, Processes},
    rules,
    sample::Counts,
};
use crate::api::{Files, NamedText, replies::TransactionReply};

/// Name and version of each endpoint of the service.
const ENDPOINTS: [(&str, &str); 4] = [("v1-a", "v1"), ("v1-b", "v1"), ("v1-c", "v1"), ("v2-a", "v2")];
/// For the sidecar to have a change in force.
const WAIT: Duration = Duration::from_secs(10);
const READY_LIMIT: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
const PROXY: &str = "tsunagi-proxy";
const ANY_PORT: &str = "127.0.0.1:0";

pub(super) struct Mesh {
    pub(super) control_plane: ControlPlane,
    pub(super) sidecar: Sidecar,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) folder: PathBuf,
    /// The file of this program.
    pub(super) program: PathBuf,
    client: Client,
}

pub(super) struct ControlPlane {
    pub(super) process: Process,
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
}

pub(super) struct Sidecar {
    pub(super) process: Process,
    pub(super) outbound: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) metrics: SocketAddr,
    health: SocketAddr,
}

pub(super) struct Endpoint {
    pub(super) name: &'static str,
    version: &'static str,
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    pub(super) control: SocketAddr,
}

impl Mesh {
    /// Everything runs and is ready, and the service is known; no rule is applied yet.
    pub(super) async fn start(processes: &mut Processes, proxy: PathBuf) -> Result<Self, CliError> {
        let control_plane = ControlPlane::start(processes).await?;
        let sidecar = Sidecar::start(processes, proxy, control_plane.grpc).await?;
        let mut endpoints = Vec::new();
        for (name, version) in ENDPOINTS {
            endpoints.push(Endpoint::start(processes, name, version).await?);
        }
        let mesh = Self {
            client: Client::new(&format!("http://{}", control_plane.http))?,
            control_plane,
            sidecar,
            endpoints,
            folder: processes.folder().to_owned(),
            program: processes.program().to_owned(),
        };
        let places = mesh.endpoints.iter();
        let service = rules::service(places.map(|endpoint| (endpoint.name, endpoint.version, endpoint.address)));
        mesh.apply("the service and its endpoints", &service).await?;
        mesh.sidecar.ready().await?;
        Ok(mesh)
    }

    /// Applies documents as `tsunagi apply --wait` does: how many sidecars have them in force, and how long that took.
    pub(super) async fn apply(&self, name: &str, text: &str) -> Result<(usize, Duration), CliError> {
        let path = format!("/v1/transactions?namespace=default&wait={}ms", WAIT.as_millis());
        let mut call = Call::new(Method::POST, path);
        call.wait = WAIT;
        let file = NamedText {
            name: name.to_owned(),
            text: text.to_owned(),
        };
        files::attach(&mut call, &Files { files: vec![file] })?;
        let started = Instant::now();
        let reply = self.client.call(call).await?;
        let elapsed = started.elapsed();
        if !reply.status.is_success() {
            return Err(refusal(&reply, &self.client));
        }
        let transaction: TransactionReply = serde_json::from_slice(&reply.body)
            .map_err(|error| CliError::Failed(format!("the control plane's answer is not understood: {error}")))?;
        let answers = transaction.acknowledgements.unwrap_or_default();
        match answers.iter().find(|answer| answer.state != "acknowledged") {
            None => Ok((answers.len(), elapsed)),
            Some(answer) => Err(CliError::Failed(format!(
                "{name}: {} by proxy {}: {}",
                answer.state, answer.node_id, answer.reason
            ))),
        }
    }

    /// The endpoint of that name, one of `ENDPOINTS`.
    pub(super) fn endpoint(&self, name: &str) -> Result<&Endpoint, CliError> {
        let found = self.endpoints.iter().find(|endpoint| endpoint.name == name);
        found.ok_or_else(|| CliError::Failed(format!("the demo has no endpoint {name}")))
    }

    /// The sum of a metric of the sidecar over the series that have all of `labels`, written `name="value"`.
    pub(super) async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64, CliError> {
        let page = ask(self.sidecar.metrics, Method::GET, "/metrics").await?;
        Ok(sum(&String::from_utf8_lossy(&page.body), name, labels))
    }
}

fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let series = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    let wanted = series.filter(|rest| labels.iter().all(|label| rest.contains(label)));
    let values = wanted.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok());
    values.sum()
}

impl ControlPlane {
    async fn start(processes: &mut Processes) -> Result<Self, CliError> {
        let data = processes.folder().join("control-plane-data");
        let mut command = vec![processes.program().as_os_str().to_owned(), "serve".into()];
        command.extend(["--http-addr", ANY_PORT, "--grpc-addr", ANY_PORT, "--data-dir"].map(OsString::from));
        command.push(data.into());
        let process = processes.start("control plane", "control-plane", &command)?;
        let [http, grpc] = process.addresses(["http", "grpc"]).await?;
        Ok(Self { process, http, grpc })
    }
}

impl Sidecar {
    async fn start(processes: &mut Processes, program: PathBuf, control_plane: SocketAddr) -> Result<Self, CliError> {
        let mut command = vec![program.into_os_string(), "run".into()];
        command.extend(["--control-plane".into(), format!("http://{control_plane}").into()]);
        for listener in ["outbound", "inbound", "admin", "metrics", "health"] {
            command.extend([format!("--{listener}-addr").into(), ANY_PORT.into()]);
        }
        command.extend(
            [
                "--node-id",
                "demo",
                "--access-log",
                "on",
                "--debug-headers",
                "--state-dir",
            ]
            .map(OsString::from),
        );
        command.push(processes.folder().join("sidecar-state").into());
        let process = processes.start("sidecar", "sidecar", &command)?;
        let names = ["outbound", "admin", "metrics", "health"];
        let [outbound, admin, metrics, health] = process.addresses(names).await?;
        Ok(Self {
            process,
            outbound,
            admin,
            metrics,
            health,
        })
    }

    async fn ready(&self) -> Result<(), CliError> {
        let started = Instant::now();
        while ask(self.health, Method::GET, "/healthz/ready").await?.status != StatusCode::OK {
            if started.elapsed() > READY_LIMIT {
                let limit = READY_LIMIT.as_secs();
                return Err(CliError::Failed(format!(
                    "the sidecar has no config from the control plane after {limit} s"
                )));
            }
            sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }
}

impl Endpoint {
    async fn start(processes: &mut Processes, name: &'static str, version: &'static str) -> Result<Self, CliError> {
        let mut command = vec![processes.program().as_os_str().to_owned(), "sample-service".into()];
        command.extend(["--name", name, "--version", version].map(OsString::from));
        let process = processes.start(&format!("endpoint {name}"), name, &command)?;
        let [address, control] = process.addresses(["http", "control"]).await?;
        Ok(Self {
            name,
            version,
            process,
            address,
            control,
        })
    }

    /// Changes how it answers (`status=503&delay=400ms`, nothing: as usual); it counts from 0 again.
    pub(super) async fn behave(&self, behaviour: &str) -> Result<(), CliError> {
        let answer = ask(self.control, Method::POST, &format!("/behaviour?{behaviour}")).await?;
        match answer.status {
            StatusCode::OK => Ok(()),
            _ => Err(CliError::Failed(String::from_utf8_lossy(&answer.body).into_owned())),
        }
    }

    pub(super) async fn counts(&self) -> Result<Counts, CliError> {
        let answer = ask(self.control, Method::GET, "/counts").await?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| CliError::Failed(format!("{}'s counts are not understood: {error}", self.name)))
    }
}

/// The sidecar's program: beside this one, as cargo builds it, else in `PATH`.
pub(super) fn find_proxy(program: &Path) -> Result<PathBuf, CliError> {
    let beside = program.parent().map(|folder| folder.join(PROXY));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path = env::split_paths(&path).map(|folder| folder.join(PROXY));
    let mut places = beside.into_iter().chain(in_path);
    places.find(|place| place.is_file()).ok_or_else(|| {
        CliError::Failed(format!(
            "{PROXY} is neither beside {} nor in PATH; `cargo build --release` builds both",
            program.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_the_series_with_those_labels() {
        let page = "# HELP a b\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"2\",y=\"1\"} 5\nab{x=\"1\"} 7\n";
        assert_eq!(sum(page, "a", &["x=\"1\""]), 5.0);
        assert_eq!(sum(page, "a", &[]), 10.0);
        assert_eq!(sum(page, "c", &[]), 0.0);
    }
}
