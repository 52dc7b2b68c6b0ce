//! Leaving: readiness fails, requests in flight finish, and then the process is gone, in time.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tsunagi_tests::{
    Behaviour, Connection, ControlPlane, LIMIT, RawConnection, RawUpstream, Sample, Sidecar, SidecarOptions, Version,
    Workload, eventually, service, within,
};

async fn sample(drain_timeout: &str) -> Sample {
    let args = vec!["--drain-timeout".to_owned(), drain_timeout.to_owned()];
    let sample = Sample::with(
        "http",
        &["v1"],
        "",
        &SidecarOptions {
            args,
            ..SidecarOptions::default()
        },
    )
    .await;
    assert_eq!(sample.get("/").await.status, 200);
    sample
}

async fn not_ready(sample: &Sample) {
    let failing = async || (sample.sidecar.health("/healthz/ready").await == 503).then_some(());
    eventually("readiness fails", LIMIT, failing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_sigterm_readiness_fails_and_requests_in_flight_finish() {
    for version in [Version::Http1, Version::Http2] {
        let mut sample = sample("20s").await;
        sample.upstream().set(Behaviour::Hold);
        let mut connection = Connection::open(sample.sidecar.outbound, version).await;
        let in_flight = tokio::spawn(async move { connection.get("echo", "/").await });
        let arrived = async || (sample.upstream().live_requests() == 1).then_some(());
        eventually("the request is at the upstream", LIMIT, arrived).await;
        sample.sidecar.process.signal("TERM");
        not_ready(&sample).await;
        assert!(
            sample.sidecar.process.exit_status().is_none(),
            "gone with a request in flight"
        );
        sample.upstream().set(Behaviour::Answer);
        let reply = in_flight.await.expect("the client lives");
        assert_eq!((reply.status, reply.text().as_str()), (200, "v1"), "{version:?}");
        let process = &mut sample.sidecar.process;
        let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
        assert_eq!(status.code(), Some(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_drain_timeout_ends_what_does_not_finish() {
    let mut sample = sample("1s").await;
    sample.upstream().set(Behaviour::Hold);
    let outbound = sample.sidecar.outbound;
    let mut connection = Connection::open(outbound, Version::Http1).await;
    let in_flight = tokio::spawn(async move {
        connection
            .start(tsunagi_tests::request("GET", "echo", "/"))
            .await
            .is_ok()
    });
    let arrived = async || (sample.upstream().live_requests() == 1).then_some(());
    eventually("the request is at the upstream", LIMIT, arrived).await;
    let started = Instant::now();
    sample.sidecar.process.signal("TERM");
    let process = &mut sample.sidecar.process;
    eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert!(
        started.elapsed() >= Duration::from_millis(900),
        "{:?}",
        started.elapsed()
    );
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    in_flight.await.expect("the client lives");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_over_the_admin_door_fails_readiness_and_keeps_serving_what_is_open() {
    let sample = sample("20s").await;
    let mut connection = sample.connect(Version::Http1).await;
    assert_eq!(connection.get("echo", "/").await.status, 200);
    assert_eq!(sample.sidecar.admin("POST", "/drain").await.status, 200);
    not_ready(&sample).await;
    assert_eq!(sample.sidecar.health("/healthz/live").await, 200);
}

/// An endpoint that never comes to an end, whatever it is asked; says how its connections did.
struct Endless {
    upstream: RawUpstream,
    endings: Arc<Mutex<Vec<Option<ErrorKind>>>>,
}

impl Endless {
    /// `requests`: it is asked by one first.
    async fn start(requests: bool) -> Endless {
        let endings = Arc::<Mutex<Vec<Option<ErrorKind>>>>::default();
        let seen = endings.clone();
        let upstream = RawUpstream::serving(move |mut connection| {
            let seen = seen.clone();
            async move {
                let answer: &[u8] = if !requests {
                    b"half"
                } else {
                    match connection.next_head().await.unwrap_or_default().split(' ').nth(1) {
                        Some("/half" | "/half?2") => b"HTTP/1.0 200 OK\r\n\r\nhalf",
                        Some("/switch") => {
                            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhalf"
                        }
                        Some("/idle") => b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nhalf",
                        _ => b"",
                    }
                };
                connection.write(answer).await;
                let ended = ending(&mut connection).await;
                seen.lock().expect("no test panics there").push(ended);
            }
        });
        Endless {
            upstream: upstream.await,
            endings,
        }
    }
}

/// How a connection ends: with an end (`None`), or an error.
async fn ending(connection: &mut RawConnection) -> Option<ErrorKind> {
    let mut part = [0; 64];
    loop {
        match connection.stream.read(&mut part).await {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error.kind()),
        }
    }
}

async fn client(sidecar: &Sidecar, head: &str, heard: &str) -> RawConnection {
    let mut connection = RawConnection::open(sidecar.outbound).await;
    connection.write(format!("{head}\r\n\r\n")).await;
    if !heard.is_empty() {
        let come = within(head, LIMIT, connection.next_through(heard.as_bytes())).await;
        assert!(come.is_some(), "{head}");
    }
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_off_when_the_time_is_over_never_looks_whole_and_is_logged() {
    let (http, tcp) = (Endless::start(true).await, Endless::start(false).await);
    let control = ControlPlane::start();
    for (name, port, endless) in [("echo", "http", &http), ("bytes", "tcp", &tcp)] {
        let address = endless.upstream.address;
        let version = "v1";
        control
            .apply(&service(name, port, &[Workload { version, address }]))
            .await;
    }
    let options = SidecarOptions {
        args: vec!["--drain-timeout".to_owned(), "1s".to_owned()],
        ..SidecarOptions::default()
    };
    let mut sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
    let echo = "Host: echo";
    let mut idle = client(&sidecar, &format!("GET /idle HTTP/1.1\r\n{echo}"), "half").await;
    let half = client(&sidecar, &format!("GET /half HTTP/1.0\r\n{echo}"), "half").await;
    let upgrade = format!("GET /switch HTTP/1.1\r\n{echo}\r\nConnection: upgrade\r\nUpgrade: echo");
    let switched = client(&sidecar, &upgrade, "half").await;
    let tunnel = client(&sidecar, "CONNECT bytes:80 HTTP/1.1\r\nHost: bytes:80", "half").await;
    let hanging = client(&sidecar, &format!("GET /hang HTTP/1.1\r\n{echo}"), "").await;
    let mut http2 = Connection::open(sidecar.outbound, Version::Http2).await;
    let response = within(
        "a head",
        LIMIT,
        http2.start(tsunagi_tests::request("GET", "echo", "/half?2")),
    )
    .await;
    let body = response.expect("half an answer").into_body();
    eventually("all is at the endpoints", LIMIT, async || {
        let live = sidecar.metrics().await.sum("tsunagi_upstream_active_requests", &[]);
        (live >= 4.0).then_some(())
    })
    .await;
    sidecar.process.signal("TERM");
    assert_eq!(within("the idle one's end", LIMIT, ending(&mut idle)).await, None);
    for (what, mut connection) in [
        ("half", half),
        ("switch", switched),
        ("tunnel", tunnel),
        ("hang", hanging),
    ] {
        let ended = within(what, LIMIT, ending(&mut connection)).await;
        assert_eq!(ended, Some(ErrorKind::ConnectionReset), "{what}");
    }
    let http2_ended = within("the stream's end", LIMIT, http_body_util::BodyExt::collect(body)).await;
    assert!(http2_ended.is_err(), "{http2_ended:?}");
    eventually("the process ends", LIMIT, async || sidecar.process.exit_status()).await;

    let log = sidecar.process.stdout();
    for path in ["/half", "/switch", "/hang", "/half?2"] {
        let line = log.iter().find(|line| line.contains(&format!("\"path\":\"{path}\"")));
        let line = line.unwrap_or_else(|| panic!("no line for {path}: {log:#?}"));
        assert!(
            line.contains("\"response_flags\":\"DC\"") && line.contains("drain_time_over"),
            "{line}"
        );
    }
    let of_tcp = tcp.endings.lock().expect("no panic").clone();
    assert_eq!(of_tcp, [Some(ErrorKind::ConnectionReset)], "the tunnel's other side");
    let resets = http.endings.lock().expect("no panic").iter().flatten().count();
    assert!(resets >= 1, "the upgrade's other side: {:?}", http.endings);
}
