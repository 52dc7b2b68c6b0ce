//! A control plane and its sidecars as processes, and the command line that drives them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::{block_in_place, spawn_blocking};

use crate::binaries::binaries;
use crate::client::{Connection, Reply, Version, request};
use crate::eventually::{LIMIT, eventually};
use crate::pods::{PROXY_UID, Pod};
use crate::process::Process;
use crate::prometheus::Metrics;

/// A process answers within this, on a machine that is building something else.
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct ControlPlane {
    pub process: Process,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    data: TempDir,
    /// Kubeconfig and name of a replica in Kubernetes mode.
    cluster: Option<(PathBuf, String)>,
}

#[derive(Debug)]
pub struct CliOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl ControlPlane {
    pub fn start() -> ControlPlane {
        ControlPlane::start_from([127, 0, 0, 1].into(), None)
    }

    /// On free ports of an address of this machine, as a bridge has one for its pods.
    pub fn start_on(address: IpAddr) -> ControlPlane {
        ControlPlane::start_from(address, None)
    }

    /// A replica that takes everything from a Kubernetes API.
    pub fn in_cluster(kubeconfig: PathBuf, replica: &str) -> ControlPlane {
        ControlPlane::start_from([127, 0, 0, 1].into(), Some((kubeconfig, replica.to_owned())))
    }

    fn start_from(address: IpAddr, cluster: Option<(PathBuf, String)>) -> ControlPlane {
        let data = TempDir::new().expect("a temporary folder");
        let free = SocketAddr::new(address, 0);
        let (process, http, grpc) = ControlPlane::spawn(data.path(), cluster.as_ref(), free, free);
        ControlPlane {
            process,
            http,
            grpc,
            data,
            cluster,
        }
    }

    fn spawn(
        data: &Path,
        cluster: Option<&(PathBuf, String)>,
        http: SocketAddr,
        grpc: SocketAddr,
    ) -> (Process, SocketAddr, SocketAddr) {
        let mut command = Command::new(&binaries().tsunagi);
        command
            .arg("serve")
            .args(["--http-addr", &http.to_string(), "--grpc-addr", &grpc.to_string()]);
        command.arg("--data-dir").arg(data);
        if let Some((kubeconfig, replica)) = cluster {
            command
                .args(["--kubernetes", "--replica", replica])
                .env("KUBECONFIG", kubeconfig);
        }
        let process = Process::start("tsunagi serve", &mut command);
        let addresses = block_in_place(|| {
            (
                process.address("http", START_LIMIT),
                process.address("grpc", START_LIMIT),
            )
        });
        (process, addresses.0, addresses.1)
    }

    /// SIGKILL: nothing is written after this.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// The same store, the same addresses.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = ControlPlane::spawn(self.data.path(), self.cluster.as_ref(), self.http, self.grpc).0;
    }

    /// `tsunagi ARGS` against this control plane.
    pub async fn cli(&self, args: &[&str]) -> CliOutput {
        self.cli_with_input(args, "").await
    }

    pub async fn cli_with_input(&self, args: &[&str], input: &str) -> CliOutput {
        let mut command = Command::new(&binaries().tsunagi);
        command.args(args).args(["--server", &format!("http://{}", self.http)]);
        let input = input.to_owned();
        spawn_blocking(move || run(command, &input))
            .await
            .expect("the command ran")
    }

    /// All documents, which must be taken, acknowledged by every sidecar that uses them.
    pub async fn apply(&self, yaml: &str) -> CliOutput {
        let output = self.cli_with_input(&["apply", "-f", "-", "--wait=20s"], yaml).await;
        assert_eq!(output.code, 0, "apply: {}{}", output.stdout, output.stderr);
        output
    }

    /// GET on the HTTP API.
    pub async fn get(&self, path: &str) -> Reply {
        fetch(self.http, "GET", path).await
    }
}

fn run(mut command: Command, input: &str) -> CliOutput {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // A command that does not read its input may be gone already.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    let output = child.wait_with_output().expect("our own child");
    CliOutput {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn fetch(address: SocketAddr, method: &str, path: &str) -> Reply {
    let mut connection = Connection::open(address, Version::Http1).await;
    connection.send(request(method, &address.to_string(), path)).await
}

/// How a sidecar is started; the rest is its default.
#[derive(Clone)]
pub struct SidecarOptions {
    pub workers: u8,
    pub node_id: String,
    pub namespace: String,
    /// Kept by the test: a sidecar that starts again finds what it knew.
    pub state_dir: Option<PathBuf>,
    pub app: Option<SocketAddr>,
    pub args: Vec<String>,
    /// Of the environment; the rest is the test's.
    pub env: Vec<(String, String)>,
}

impl Default for SidecarOptions {
    fn default() -> Self {
        SidecarOptions {
            workers: 2,
            node_id: "sidecar".into(),
            namespace: "default".into(),
            state_dir: None,
            app: None,
            args: Vec::new(),
            env: Vec::new(),
        }
    }
}

pub struct Sidecar {
    pub process: Process,
    pub outbound: SocketAddr,
    pub inbound: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    pub health: SocketAddr,
    _state: TempDir,
}

impl Sidecar {
    pub fn start(control: &ControlPlane) -> Sidecar {
        Sidecar::start_with(control.grpc, &SidecarOptions::default())
    }

    pub fn start_with(control_plane: SocketAddr, options: &SidecarOptions) -> Sidecar {
        let own = TempDir::new().expect("a temporary folder");
        let state = options.state_dir.clone().unwrap_or_else(|| own.path().to_owned());
        let mut command = Command::new(&binaries().proxy);
        command.arg("run");
        for listener in ["outbound", "inbound", "admin", "metrics", "health"] {
            let option = format!("--{listener}-addr");
            if !options.args.contains(&option) {
                command.args([&option, "127.0.0.1:0"]);
            }
        }
        command.arg("--state-dir").arg(state);
        Sidecar::spawn(command, control_plane, options, own)
    }

    /// Inside a pod, as the user whom the packet filter leaves alone, on the ports that sidecars have by default. Health
    /// and metrics answer at the pod's address; the admin pages are on the pod's own loopback.
    pub fn start_in(pod: &Pod, control_plane: SocketAddr, options: &SidecarOptions) -> Sidecar {
        let own = TempDir::new().expect("a temporary folder");
        let state = options.state_dir.clone().unwrap_or_else(|| own.path().to_owned());
        chown(&state, Some(PROXY_UID), Some(PROXY_UID)).expect("root may give a folder away");
        let mut command = pod.command_as(PROXY_UID, &binaries().proxy);
        command.arg("run").arg("--state-dir").arg(state);
        let mut sidecar = Sidecar::spawn(command, control_plane, options, own);
        for listener in [&mut sidecar.inbound, &mut sidecar.metrics, &mut sidecar.health] {
            listener.set_ip(pod.address());
        }
        sidecar
    }

    fn spawn(mut command: Command, control_plane: SocketAddr, options: &SidecarOptions, own: TempDir) -> Sidecar {
        let control_plane = format!("http://{control_plane}");
        command.args(["--control-plane", &control_plane]);
        if !options.args.iter().any(|arg| arg.starts_with("--debug-headers")) {
            command.arg("--debug-headers");
        }
        command.args(["--node-id", &options.node_id, "--namespace", &options.namespace]);
        command.args(["--workers", &options.workers.to_string()]);
        if let Some(app) = options.app {
            command.args(["--app-addr", &app.to_string()]);
        }
        command.args(&options.args);
        command.envs(options.env.iter().map(|(name, value)| (name, value)));
        let process = Process::start(&format!("tsunagi-proxy {}", options.node_id), &mut command);
        let address = |name| block_in_place(|| process.address(name, START_LIMIT));
        Sidecar {
            outbound: address("outbound"),
            inbound: address("inbound"),
            admin: address("admin"),
            metrics: address("metrics"),
            health: address("health"),
            process,
            _state: own,
        }
    }

    /// Once readiness says so.
    pub async fn ready(self) -> Sidecar {
        eventually("the sidecar is ready", LIMIT, async || {
            (self.health("/healthz/ready").await == 200).then_some(())
        })
        .await;
        self
    }

    pub async fn health(&self, path: &str) -> u16 {
        fetch(self.health, "GET", path).await.status
    }

    pub async fn admin(&self, method: &str, path: &str) -> Reply {
        fetch(self.admin, method, path).await
    }

    pub async fn metrics(&self) -> Metrics {
        Metrics::parse(&fetch(self.metrics, "GET", "/metrics").await.text())
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(request("GET", host, path)).await
    }

    pub async fn send(&self, request: http::Request<crate::client::Body>) -> Reply {
        Connection::open(self.outbound, Version::Http1)
            .await
            .send(request)
            .await
    }
}
