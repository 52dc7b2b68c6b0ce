//! How a sidecar leaves: readiness first, callers told before anything closes, late requests served, outbound open until
//! the application has exited, and nobody waited for who does not come. Real processes; the control plane is a stand-in
//! that tells callers when the test says so.

use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;
use tsunagi_tests::{
    Behaviour, Connection, LIMIT, Process, RawConnection, Sidecar, SidecarOptions, Upstream, Version, binaries,
    eventually, within,
};

#[path = "lifecycle/http2_frames.rs"]
mod http2_frames;
#[path = "lifecycle/in_a_pod.rs"]
mod in_a_pod;
#[path = "lifecycle/stand_in.rs"]
mod stand_in;

use http2_frames::{DATA, Frames, GOAWAY, HEADERS, PING};
use stand_in::{Departures, StandIn};

/// So long that no test gets there.
const LONG: [&str; 4] = ["--drain-timeout", "60s", "--departure-timeout", "60s"];
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: app\r\n\r\n";
/// All of a request but the end of its body.
const UPLOAD: &[u8] = b"POST /echo HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\na";

/// A sidecar in front of an application, and a control plane.
struct Mesh {
    plane: StandIn,
    app: Upstream,
    sidecar: Sidecar,
}

impl Mesh {
    async fn start(departures: Departures, args: &[&str]) -> Mesh {
        let plane = StandIn::start(departures).await;
        let app = Upstream::start("app").await;
        let options = SidecarOptions {
            app: Some(app.address),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            ..SidecarOptions::default()
        };
        let sidecar = Sidecar::start_with(plane.address, &options).ready().await;
        Mesh { plane, app, sidecar }
    }

    /// SIGTERM, and the sidecar has begun to leave.
    async fn terminate(&self) {
        self.sidecar.process.signal("TERM");
        self.not_ready().await;
    }

    async fn not_ready(&self) {
        let failing = async || (self.sidecar.health("/healthz/ready").await == 503).then_some(());
        eventually("readiness fails", LIMIT, failing).await;
    }

    async fn phase(&self) -> String {
        let status = self.sidecar.admin("GET", "/drain_status").await;
        let status: serde_json::Value = serde_json::from_slice(&status.body).expect("JSON");
        status["phase"].as_str().expect("a phase").to_owned()
    }

    async fn reaches(&self, phase: &str) {
        eventually(phase, LIMIT, async || (self.phase().await == phase).then_some(())).await;
    }

    /// A request to the application that is under way until the rest of its body is sent.
    async fn upload(&self) -> RawConnection {
        let before = self.app.requests();
        let mut connection = RawConnection::open(self.sidecar.inbound).await;
        connection.write(UPLOAD).await;
        let arrived = async || (self.app.requests() > before).then_some(());
        eventually("the request is at the application", LIMIT, arrived).await;
        connection
    }

    /// One request on a new connection to the application; the answer.
    async fn late(&self, version: Version) -> tsunagi_tests::Reply {
        Connection::open(self.sidecar.inbound, version)
            .await
            .get("app", "/")
            .await
    }

    async fn ends(&mut self) {
        ends(&mut self.sidecar.process).await;
    }
}

async fn ends(process: &mut Process) {
    let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_callers_are_told_all_is_served_and_answers_say_close() {
    let mut mesh = Mesh::start(Departures::Withheld, &LONG).await;
    let (mut busy, mut idle) = (
        RawConnection::open(mesh.sidecar.inbound).await,
        RawConnection::open(mesh.sidecar.inbound).await,
    );
    for connection in [&mut busy, &mut idle] {
        connection.write(GET).await;
        let answer = connection.response().await;
        assert_eq!((answer.status, answer.header("connection")), (200, None));
    }
    mesh.terminate().await;
    mesh.plane.asked(1).await;
    assert_eq!(mesh.phase().await, "leaving");

    busy.write(GET).await;
    let answer = busy.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(busy.is_closed_within(LIMIT).await);
    for version in [Version::Http1, Version::Http2] {
        assert_eq!(mesh.late(version).await.status, 200, "{version:?}");
    }
    // Outbound is open too: it knows nobody, and says so.
    assert_eq!(mesh.sidecar.get("nobody", "/").await.status, 404);
    // Closed before callers know, it could be closed under a request.
    assert!(!idle.is_closed_within(Duration::from_millis(300)).await);
    assert!(mesh.sidecar.process.exit_status().is_none());

    mesh.plane.set(Departures::Told);
    assert!(idle.is_closed_within(LIMIT).await);
    mesh.ends().await;
    let log = mesh.sidecar.process.log();
    assert!(
        log.contains("default/slow-caller"),
        "who has not answered is named: {log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_connections_are_served_until_the_last_request_has_finished() {
    let mut mesh = Mesh::start(Departures::Told, &LONG).await;
    let mut upload = mesh.upload().await;
    mesh.terminate().await;
    mesh.reaches("draining").await;
    for version in [Version::Http1, Version::Http2, Version::Http1] {
        assert_eq!(mesh.late(version).await.status, 200, "{version:?}");
    }
    // One that takes its time for the first word.
    let mut slow = RawConnection::open(mesh.sidecar.inbound).await;
    assert!(!slow.is_closed_within(Duration::from_millis(200)).await);
    slow.write(GET).await;
    let answer = slow.response().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(mesh.sidecar.process.exit_status().is_none());
    upload.write("b").await;
    let answer = upload.response().await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "ab"));
    mesh.ends().await;
}

/// Clients without a sidecar are told by nobody but `connection: close`, and connect again: the end must not wait for an
/// instant without them, and must not break what they have in flight.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_keep_coming_do_not_hold_the_end_up_and_none_of_their_requests_breaks() {
    let mut mesh = Mesh::start(Departures::Told, &LONG).await;
    mesh.app.set(Behaviour::Delay(Duration::from_millis(100)));
    let inbound = mesh.sidecar.inbound;
    let clients: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut answered = 0;
                // Until nobody listens any more.
                while let Ok(mut stream) = tokio::net::TcpStream::connect(inbound).await {
                    let connected = Instant::now();
                    if stream.write_all(GET).await.is_err() {
                        break;
                    }
                    // On a busy machine: who says nothing for so long is not waited for at the very end.
                    let slow = connected.elapsed() > Duration::from_millis(30);
                    let mut answer = [0; 12];
                    match tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await {
                        Err(_) if slow => break,
                        read => read.expect("an answer to what was sent"),
                    };
                    assert_eq!(&answer, b"HTTP/1.1 200");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    eventually("they call", LIMIT, async || (mesh.app.requests() > 50).then_some(())).await;
    let started = Instant::now();
    mesh.sidecar.process.signal("TERM");
    mesh.ends().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for client in clients {
        let answered: u32 = client.await.expect("no request broke");
        assert!(answered > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_requests_that_cross_the_goaway_are_served() {
    let mut mesh = Mesh::start(Departures::Withheld, &LONG).await;
    let mut client = Frames::open(mesh.sidecar.inbound).await;
    client.request(1, "POST", false).await;
    let arrived = async || (mesh.app.requests() == 1).then_some(());
    eventually("the request is at the application", LIMIT, arrived).await;
    mesh.terminate().await;
    mesh.plane.set(Departures::Told);
    let first = client.next(GOAWAY).await;
    assert_eq!(first.last_stream(), (1 << 31) - 1);
    let ping = client.next(PING).await;
    // It was sent before the client has read what came.
    client.request(3, "GET", true).await;
    client.pong(&ping).await;
    let last = client.next(GOAWAY).await;
    assert_eq!(last.last_stream(), 3);
    assert!(client.answers_200(3).await);
    client.data(1, b"a", true).await;
    assert!(client.answers_200(1).await);
    mesh.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_are_never_told_are_waited_for_no_longer_than_the_bound() {
    for args in [
        ["--departure-timeout", "1s", "--drain-timeout", "60s"],
        ["--departure-timeout", "60s", "--drain-timeout", "1s"],
    ] {
        let mut mesh = Mesh::start(Departures::Withheld, &args).await;
        let started = Instant::now();
        mesh.sidecar.process.signal("TERM");
        mesh.ends().await;
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(900), "{args:?}: {elapsed:?}");
        assert!(elapsed < Duration::from_secs(15), "{args:?}: {elapsed:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_is_older_or_not_there_is_not_waited_for() {
    let mut mesh = Mesh::start(Departures::Unknown, &LONG).await;
    mesh.sidecar.process.signal("TERM");
    mesh.ends().await;
    assert!(mesh.sidecar.process.log().contains("an older one"));

    let Mesh { plane, mut sidecar, .. } = Mesh::start(Departures::Withheld, &LONG).await;
    plane.stop().await;
    eventually("the sidecar has lost its control plane", LIMIT, async || {
        let metrics = sidecar.metrics().await;
        (metrics.sum("tsunagi_control_plane_connected", &[]) == 0.0).then_some(())
    })
    .await;
    sidecar.process.signal("TERM");
    ends(&mut sidecar.process).await;
    assert!(sidecar.process.log().contains("there is no control plane"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_while_leaving_is_opened_again_with_the_departure() {
    let mut mesh = Mesh::start(Departures::Withheld, &LONG).await;
    mesh.terminate().await;
    mesh.plane.asked(1).await;
    mesh.plane.break_streams();
    mesh.plane.asked(2).await;
    let greetings = mesh.plane.greetings();
    let subscribed = &greetings.last().expect("a first request").resource_names_subscribe;
    assert!(
        subscribed.contains(&"departure/default/sidecar".to_owned()),
        "{subscribed:?}"
    );
    assert!(mesh.sidecar.process.exit_status().is_none());
    mesh.plane.set(Departures::Told);
    mesh.ends().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_of_its_own_ends_it_at_once() {
    let mut mesh = Mesh::start(Departures::Withheld, &LONG).await;
    let _upload = mesh.upload().await;
    mesh.terminate().await;
    let process = &mut mesh.sidecar.process;
    let status = eventually("the process ends", LIMIT, async || {
        let status = process.exit_status();
        // The first few may be taken for repetitions.
        if status.is_none() {
            process.signal("TERM");
        }
        status
    })
    .await;
    assert_eq!(status.code(), Some(0));
    assert!(process.log().contains("told twice"));
}

/// `tsunagi-proxy drain` against this address.
fn drain_command(admin: SocketAddr, timeout: &str) -> Command {
    let mut command = Command::new(&binaries().proxy);
    command.args(["drain", "--admin-addr", &admin.to_string(), "--timeout", timeout]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn output(mut command: Command) -> Output {
    spawn_blocking(move || command.output().expect("it starts"))
        .await
        .expect("it ran")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_command_waits_for_callers_and_requests_and_then_sigterm_ends_it_at_once() {
    let mut mesh = Mesh::start(Departures::Withheld, &LONG).await;
    let mut upload = mesh.upload().await;
    let too_late = output(drain_command(mesh.sidecar.admin, "200ms")).await;
    let reason = String::from_utf8_lossy(&too_late.stderr).into_owned();
    assert_eq!(too_late.status.code(), Some(1));
    assert!(reason.contains("leaving") && reason.contains("1 inbound"), "{reason}");
    mesh.not_ready().await;

    let mut command = drain_command(mesh.sidecar.admin, "60s").spawn().expect("it starts");
    mesh.plane.set(Departures::Told);
    mesh.reaches("draining").await;
    assert!(
        command.try_wait().expect("our own child").is_none(),
        "a request is in flight"
    );
    upload.write("b").await;
    assert_eq!(upload.response().await.status, 200);
    let done = within("the command ends", LIMIT, spawn_blocking(|| command.wait_with_output()));
    let done = done.await.expect("it ran").expect("our own child");
    let line = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(0));
    assert!(line.starts_with("drained after") && line.lines().count() == 1, "{line}");
    assert!(line.contains("1 of them"), "{line}");

    assert_eq!(mesh.sidecar.health("/healthz/live").await, 200, "it keeps running");
    assert_eq!(mesh.late(Version::Http1).await.status, 200, "it keeps serving");
    assert_eq!(mesh.sidecar.get("nobody", "/").await.status, 404, "outbound too");
    let started = Instant::now();
    mesh.sidecar.process.signal("TERM");
    mesh.ends().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());

    let nobody = output(drain_command(mesh.sidecar.admin, "60s")).await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("--admin-addr"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_not_waited_for() {
    let mut mesh = Mesh::start(Departures::Told, &LONG).await;
    let mut silent = RawConnection::open(mesh.sidecar.inbound).await;
    let mut half = RawConnection::open(mesh.sidecar.outbound).await;
    mesh.sidecar.process.signal("TERM");
    mesh.ends().await;
    for connection in [&mut silent, &mut half] {
        assert!(connection.is_closed_within(LIMIT).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_outbound_of_a_pod_that_is_none_is_waited_for() {
    let mut mesh = Mesh::start(Departures::Told, &LONG).await;
    mesh.app.set(Behaviour::Answer);
    let mut outbound = RawConnection::open(mesh.sidecar.outbound).await;
    // The head of a request that goes on.
    outbound
        .stream
        .write_all(b"GET / HTTP/1.1\r\nHost: nob")
        .await
        .expect("sent");
    eventually("the sidecar has read it", LIMIT, async || {
        let metrics = mesh.sidecar.metrics().await;
        (metrics.sum("active_connections", &[("direction", "outbound")]) == 1.0).then_some(())
    })
    .await;
    mesh.terminate().await;
    mesh.reaches("drained").await;
    assert!(mesh.sidecar.process.exit_status().is_none());
    outbound.write("ody\r\n\r\n").await;
    assert_eq!(outbound.response().await.status, 404);
    mesh.ends().await;
}

#[test]
fn frames_of_interest_have_different_kinds() {
    assert!([DATA, HEADERS, PING, GOAWAY].windows(2).all(|pair| pair[0] < pair[1]));
}
