//! Two pods with a sidecar each: in one the clients, in the other the server, which is the service `db`.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::{block_in_place, spawn_blocking};
use tsunagi_tests::{
    Bridge, ControlPlane, LIMIT, Pod, Process, RawConnection, Sidecar, SidecarOptions, binaries, eventually,
    require_root, require_tools, within,
};

use crate::session::Session;

const SERVICE: &str = "db.default.svc.cluster.local";
/// Nobody has it: the sidecar knows that it is the service's.
const VIRTUAL_ADDRESS: [u8; 4] = [10, 255, 97, 9];
/// For a server to start on a machine that is building something else.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A refusal that took longer would be a client that was left waiting.
const AT_ONCE: Duration = Duration::from_secs(5);

pub(crate) struct World {
    // Before the pods: processes end before their network does.
    control: ControlPlane,
    caller: Sidecar,
    callee: Sidecar,
    pub(crate) client: Pod,
    pub(crate) server: Pod,
    port: u16,
    _bridge: Bridge,
}

impl World {
    /// `None`: something that this needs is missing, and it has said so. `port`: of the service and of the server.
    pub(crate) async fn start(port: u16, tools: &[(&str, &[&str])]) -> Option<World> {
        let needed = [
            ("nftables", &["nft", "--version"][..]),
            ("coreutils", &["stdbuf", "--version"]),
        ];
        if !require_root() || !require_tools(&[&needed, tools].concat()) {
            return None;
        }
        let bridge = Bridge::new();
        let (client, server) = (bridge.pod("client"), bridge.pod("server"));
        let control = ControlPlane::start_on(bridge.address());
        let address = server.address();
        let workload = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: db}}\nspec:\n  \
             address: {address}\n  labels: {{app: db}}\n"
        );
        control.apply(&workload).await;
        client.set_hosts(&[("db", VIRTUAL_ADDRESS.into())]);
        let caller = join(&client, "client", &control).await;
        let callee = join(&server, "db", &control).await;
        Some(World {
            control,
            caller,
            callee,
            client,
            server,
            port,
            _bridge: bridge,
        })
    }

    /// Tells both sidecars how the port is declared, as `name: redis`, and how many connections there may be.
    pub(crate) async fn declare(&self, port: &str, max_connections: Option<u32>) {
        let address = IpAddr::from(VIRTUAL_ADDRESS);
        let number = self.port;
        // 0 is not set.
        let most = max_connections.unwrap_or_default();
        let documents = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\nspec:\n  clusterIP: {address}\n  \
             selector: {{app: db}}\n  ports: [{{{port}, port: {number}}}]\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: db}}\nspec:\n  host: db\n  \
             trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: {most}}}}}}}\n"
        );
        self.control.apply(&documents).await;
    }

    /// Waits until a server of the server's pod listens.
    pub(crate) async fn listens(&self) {
        let address = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), self.port);
        eventually("the server listens", START_LIMIT, async || {
            block_in_place(|| self.server.connect(address)).ok().map(drop)
        })
        .await;
    }

    /// A client's connection to the service, without a client.
    pub(crate) async fn connect(&self) -> RawConnection {
        let to = SocketAddr::new(VIRTUAL_ADDRESS.into(), self.port);
        let stream = block_in_place(|| self.client.connect(to)).expect("the sidecar accepts");
        stream.set_nonblocking(true).expect("a socket");
        RawConnection::over(TcpStream::from_std(stream).expect("a runtime runs"))
    }

    /// Both sidecars have passed at least so many connections on, and taken none of them for HTTP.
    pub(crate) async fn has_passed(&self, connections: f64) {
        for (sidecar, direction) in [(&self.caller, "outbound"), (&self.callee, "inbound")] {
            let labels = [("destination_service", SERVICE), ("direction", direction)];
            let metrics = eventually(&format!("{connections} connections {direction}"), LIMIT, async || {
                let metrics = sidecar.metrics().await;
                (metrics.sum("tsunagi_tcp_connections_total", &labels) >= connections).then_some(metrics)
            })
            .await;
            assert_eq!(metrics.sum("http_requests_total", &[]), 0.0, "{}", metrics.text);
        }
    }

    /// Without a client no connection is left: what the next test counts begins at none.
    pub(crate) async fn is_idle(&self) {
        for sidecar in [&self.caller, &self.callee] {
            eventually("no connection is left", LIMIT, async || {
                let metrics = sidecar.metrics().await;
                (metrics.sum("tsunagi_upstream_connections", &[]) == 0.0).then_some(())
            })
            .await;
        }
    }

    /// With as many clients as may be, the next one is refused at once and counted; when one of them has ended, the next
    /// one is served.
    pub(crate) async fn allows_no_more_than(&self, mut sessions: Vec<Session>, next: impl Fn() -> Command) {
        let before = self.overflows().await;
        let started = Instant::now();
        let refused = output(next()).await;
        assert!(!refused.status.success(), "one more than allowed: {}", said(&refused));
        assert!(started.elapsed() < AT_ONCE, "refused after {:?}", started.elapsed());
        assert!(self.overflows().await > before, "it is not counted");
        // Those who were there are not disturbed.
        for session in &mut sessions {
            assert!(session.is_running(), "a client was cut off");
        }
        drop(sessions.pop());
        eventually("the next one is served", LIMIT, async || {
            output(next()).await.status.success().then_some(())
        })
        .await;
        drop(sessions);
        self.is_idle().await;
    }

    async fn overflows(&self) -> f64 {
        let labels = [("destination_service", SERVICE), ("limit", "connections")];
        self.caller
            .metrics()
            .await
            .sum("tsunagi_upstream_overflow_total", &labels)
    }
}

/// The init step and the sidecar, as an injected pod has them.
async fn join(pod: &Pod, name: &str, control: &ControlPlane) -> Sidecar {
    let installed = pod.command(&binaries().proxy).args(["redirect", "install"]).output();
    let installed = installed.expect("the command ran");
    assert!(installed.status.success(), "{}", said(&installed));
    let options = SidecarOptions {
        node_id: name.to_owned(),
        args: vec![format!("--labels=app={name}")],
        ..SidecarOptions::default()
    };
    Sidecar::start_in(pod, control.grpc, &options).ready().await
}

/// What a client prints that must succeed.
pub(crate) async fn run(command: Command) -> String {
    let what = format!("{command:?}");
    let output = output(command).await;
    assert!(output.status.success(), "{what}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn output(mut command: Command) -> Output {
    command.stdin(std::process::Stdio::null());
    let what = format!("{command:?}");
    let running = spawn_blocking(move || command.output());
    within(&what, LIMIT, running)
        .await
        .expect("no panic")
        .expect("it starts")
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// A server in its pod; it ends with the value.
pub(crate) fn serve(name: &str, mut command: Command) -> Process {
    Process::start(name, &mut command)
}
