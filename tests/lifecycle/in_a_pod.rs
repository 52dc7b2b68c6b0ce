//! Leaving in a real network namespace, with the sidecar as another user than the application, and the end of a Job.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use tokio::task::block_in_place;
use tsunagi_tests::{Bridge, Pod, require_root};

use super::*;

const APP_PORT: u16 = 8080;

struct PodMesh {
    plane: StandIn,
    app: Option<Upstream>,
    sidecar: Sidecar,
    pod: Pod,
    _bridge: Bridge,
}

impl PodMesh {
    async fn start(departures: Departures) -> PodMesh {
        let (bridge, pod) = block_in_place(|| {
            let bridge = Bridge::new();
            let pod = bridge.pod("app");
            (bridge, pod)
        });
        let plane = StandIn::start_at(SocketAddr::new(bridge.address(), 0), departures).await;
        let app = Upstream::start_in_pod("app", &pod, APP_PORT).await;
        let args = [&LONG[..], &["--await-application"]].concat();
        let options = SidecarOptions {
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..SidecarOptions::default()
        };
        let sidecar = Sidecar::start_in(&pod, plane.address, &options).ready().await;
        PodMesh {
            plane,
            app: Some(app),
            sidecar,
            pod,
            _bridge: bridge,
        }
    }

    /// A request of the application through outbound: the first line of the answer, or why there is none.
    fn outbound(&self) -> std::io::Result<String> {
        let mut stream: TcpStream = block_in_place(|| self.pod.connect(self.sidecar.outbound))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: nobody\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        block_in_place(|| stream.read_to_string(&mut answer))?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_stays_open_until_the_application_has_exited() {
    if !require_root() {
        return;
    }
    let mut mesh = PodMesh::start(Departures::Told).await;
    let greetings = mesh.plane.greetings();
    let node = format!("{:?}", greetings[0].node);
    assert!(node.contains(&mesh.pod.address().to_string()), "{node}");

    mesh.sidecar.process.signal("TERM");
    let log = "callers were told";
    eventually(log, LIMIT, async || {
        mesh.sidecar.process.log().contains(log).then_some(())
    })
    .await;
    // A connection that the application keeps, like one to a database.
    let kept = block_in_place(|| mesh.pod.connect(mesh.sidecar.outbound)).expect("outbound accepts");
    for _ in 0..20 {
        assert!(mesh.outbound().expect("outbound serves").starts_with("HTTP/1.1 404"));
        let mut late = Connection::open(mesh.sidecar.inbound, Version::Http1).await;
        assert_eq!(late.get("app", "/").await.status, 200);
        assert!(mesh.sidecar.process.exit_status().is_none());
    }
    // It listens no more, but has something to say still.
    mesh.app = None;
    assert!(mesh.outbound().expect("outbound serves").starts_with("HTTP/1.1 404"));
    assert!(mesh.sidecar.process.exit_status().is_none());
    drop(kept);
    let gone = Instant::now();
    ends(&mut mesh.sidecar.process).await;
    assert!(gone.elapsed() < Duration::from_secs(5), "{:?}", gone.elapsed());
}

/// A worker that listens nowhere: between two calls it has no socket at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_calls_somebody_now_and_then_has_not_exited() {
    if !require_root() {
        return;
    }
    let mut mesh = PodMesh::start(Departures::Told).await;
    mesh.app = None;
    mesh.sidecar.process.signal("TERM");
    // The worker's pace: a connection for 0.3 s, and none for as long.
    let mut pace = tokio::time::interval(Duration::from_millis(300));
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    pace.tick().await;
    for _ in 0..8 {
        let kept = block_in_place(|| mesh.pod.connect(mesh.sidecar.outbound)).expect("outbound accepts");
        assert!(mesh.outbound().expect("outbound serves").starts_with("HTTP/1.1 404"));
        pace.tick().await;
        drop(kept);
        pace.tick().await;
        assert!(mesh.sidecar.process.exit_status().is_none());
    }
    ends(&mut mesh.sidecar.process).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_whose_application_is_gone_ends_soon_whoever_does_not_answer() {
    if !require_root() {
        return;
    }
    let mut mesh = PodMesh::start(Departures::Withheld).await;
    mesh.app = None;
    let _idle = TcpStream::connect(mesh.sidecar.inbound).expect("inbound accepts");
    let started = Instant::now();
    mesh.sidecar.process.signal("TERM");
    ends(&mut mesh.sidecar.process).await;
    // A second and a half, and what a busy machine adds to it.
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

/// In a network namespace and a process namespace of its own, as of a pod that shares it: a first process, the sidecar, and
/// an application that ends after three seconds. Sockets of others on this machine would be the application's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jobs_sidecar_ends_with_the_last_process_of_the_application() {
    if !require_root() {
        return;
    }
    let (bridge, pod) = block_in_place(|| {
        let bridge = Bridge::new();
        let pod = bridge.pod("job");
        (bridge, pod)
    });
    let plane = StandIn::start_at(SocketAddr::new(bridge.address(), 0), Departures::Told).await;
    let state = tempfile::tempdir().expect("a folder");
    let mut command = pod.command("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c"]);
    command
        .arg(r#""$0" "$@" & sidecar=$!; sleep 3 & app=$!; wait $app; echo the application has ended; wait $sidecar"#);
    command.arg(&binaries().proxy);
    command.args(["run", "--exit-with-application", "--control-plane"]);
    command.arg(format!("http://{}", plane.address));
    for listener in ["outbound", "inbound", "admin", "metrics", "health"] {
        command.arg(format!("--{listener}-addr=127.0.0.1:0"));
    }
    command.arg("--state-dir").arg(state.path()).args(LONG);
    let mut process = Process::start("a Job", &mut command);
    let health: SocketAddr = block_in_place(|| process.address("health", LIMIT));
    assert_eq!(health.ip(), IpAddr::from([127, 0, 0, 1]));
    // The shell's exit code is the sidecar's.
    ends(&mut process).await;
    assert_eq!(
        process.stdout().first().map(String::as_str),
        Some("the application has ended")
    );
    assert!(process.log().contains("the application's processes have ended"));
}
