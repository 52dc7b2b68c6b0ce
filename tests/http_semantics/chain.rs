//! The way of a request: curl or a socket, the caller's sidecar, the application's sidecar, the application.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tokio::task::spawn_blocking;
use tsunagi_tests::{ControlPlane, RawConnection, Sidecar, SidecarOptions, Workload, require_tools, service};

/// The service `echo` at port 80, whose only endpoint has a sidecar of its own.
pub(crate) struct Chain {
    _control: ControlPlane,
    pub(crate) outbound: Sidecar,
    pub(crate) inbound: Sidecar,
}

impl Chain {
    pub(crate) async fn start(app: SocketAddr) -> Chain {
        Chain::speaking("http", app).await
    }

    /// `port_name`: what the sidecars speak with each other.
    pub(crate) async fn speaking(port_name: &str, app: SocketAddr) -> Chain {
        let control = ControlPlane::start();
        let options = SidecarOptions {
            node_id: "callee".to_owned(),
            app: Some(app),
            ..SidecarOptions::default()
        };
        let inbound = Sidecar::start_with(control.grpc, &options).ready().await;
        let workload = Workload {
            version: "v1",
            address: inbound.inbound,
        };
        control.apply(&service("echo", port_name, &[workload])).await;
        let outbound = Sidecar::start(&control).ready().await;
        Chain {
            _control: control,
            outbound,
            inbound,
        }
    }

    /// A client that has written this.
    pub(crate) async fn client(&self, bytes: impl AsRef<[u8]>) -> RawConnection {
        let mut connection = RawConnection::open(self.outbound.outbound).await;
        connection.write(bytes).await;
        connection
    }

    /// curl for a path of the service.
    pub(crate) async fn curl(&self, path: &str, arguments: &[&str]) -> Said {
        let url = self.url(path);
        curl(&[&["-H", "Host: echo", &url], arguments].concat()).await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.outbound.outbound)
    }
}

pub(crate) fn curl_is_installed() -> bool {
    require_tools(&[("curl", &["curl", "--version"])])
}

/// What curl said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Said {
    /// Of a transfer that went well.
    pub(crate) fn text(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// curl that minds neither the user's settings nor a proxy of this machine.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-q", "-sS", "--max-time", "20"]).args(arguments);
    for proxy in [
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ] {
        command.env_remove(proxy);
    }
    command.stdin(Stdio::null());
    command
}

pub(crate) async fn curl(arguments: &[&str]) -> Said {
    run(command(arguments)).await
}

pub(crate) async fn run(mut command: Command) -> Said {
    let output = spawn_blocking(move || command.output()).await.expect("no panic");
    let output = output.expect("curl starts");
    Said {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
