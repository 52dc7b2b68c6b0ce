//! `maxConnectionDuration`, `idleTimeout`, `tcpKeepalive`, `http2KeepAlive`.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use tokio::net::{TcpListener, TcpStream};
use tsunagi_tests::{
    Behaviour, ControlPlane, LIMIT, RawConnection, RawUpstream, Sample, Sidecar, Version, Workload, body, eventually,
    request, service, within,
};

use crate::{one_worker, pool};

const FQDN: &str = "echo.default.svc.cluster.local";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_has_been_open_for_long_enough_takes_no_more_requests_and_closes() {
    for port_name in ["http", "http2"] {
        let sample = one_worker(port_name, &pool("tcp: {maxConnectionDuration: 400ms}")).await;
        let mut connection = sample.connect(Version::Http1).await;
        let started = Instant::now();
        let mut last = (0, started);
        while started.elapsed() < Duration::from_millis(1500) {
            let sent = Instant::now();
            assert_eq!(connection.get("echo", "/").await.status, 200, "{port_name}");
            let on = sample.upstream().last().connection;
            if on != last.0 {
                // Not renewed for each request.
                assert!(sent.duration_since(last.1) > Duration::from_millis(300), "{port_name}");
                last = (on, sent);
            }
            let age = sent.duration_since(last.1);
            assert!(age < Duration::from_millis(500), "{port_name}: a request after {age:?}");
        }
        assert!(sample.upstream().connections() >= 3, "{port_name}");
        let gone = async || (sample.upstream().live_connections() == 0).then_some(());
        eventually("the last one closes unused", LIMIT, gone).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_is_not_cut_off_when_its_connection_has_been_open_for_long_enough() {
    for port_name in ["http", "http2"] {
        let sample = one_worker(port_name, &pool("tcp: {maxConnectionDuration: 200ms}")).await;
        sample.upstream().set(Behaviour::Delay(Duration::from_millis(900)));
        let reply = sample.get("/").await;
        assert_eq!((reply.status, reply.flags()), (200, ""), "{port_name}");
        let gone = async || (sample.upstream().live_connections() == 0).then_some(());
        eventually("it closes behind it", LIMIT, gone).await;
    }
}

struct Tcp {
    _control: ControlPlane,
    sidecar: Sidecar,
    listener: TcpListener,
}

impl Tcp {
    async fn start(rules: &str) -> Tcp {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let control = ControlPlane::start();
        let echo = service("echo", "tcp", &[Workload { version: "v1", address }]);
        control.apply(&format!("{echo}---\n{rules}")).await;
        let sidecar = Sidecar::start(&control).ready().await;
        Tcp {
            _control: control,
            sidecar,
            listener,
        }
    }

    /// A tunnel and its other end.
    async fn tunnel(&self) -> (RawConnection, TcpStream) {
        let mut client = RawConnection::open(self.sidecar.outbound).await;
        client.write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n").await;
        assert_eq!(client.head_response().await.status, 200);
        let accepted = within("a connection", LIMIT, self.listener.accept()).await;
        (client, accepted.expect("the listener lives").0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tcp_connection_is_cut_at_its_end_whatever_passes_and_says_dt() {
    let mesh = Tcp::start(&pool("tcp: {maxConnectionDuration: 700ms}")).await;
    let (mut client, server) = mesh.tunnel().await;
    let started = Instant::now();
    let mut server = RawConnection::over(server);
    let talks = async {
        loop {
            client.write("x").await;
            if client.is_closed_within(Duration::from_millis(50)).await {
                return;
            }
        }
    };
    within("the end", LIMIT, talks).await;
    let lasted = started.elapsed();
    assert!((600..5000).contains(&lasted.as_millis()), "{lasted:?}");
    assert!(server.read_to_end().await.len() > 3);
    let labels = [("destination_service", FQDN), ("response_flags", "DT")];
    eventually("it is counted", LIMIT, async || {
        let metrics = mesh.sidecar.metrics().await;
        (metrics.sum("tsunagi_tcp_connections_total", &labels) == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_lives_on_when_its_connection_has_been_open_for_long_enough() {
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n";
    let upstream = RawUpstream::serving(move |mut connection| async move {
        connection.read_head().await;
        connection.write(switching).await;
        loop {
            let said = connection.read_exact(1).await;
            if said == b"." {
                return;
            }
            connection.write(said).await;
        }
    })
    .await;
    let control = ControlPlane::start();
    let address = upstream.address;
    let echo = service("echo", "http", &[Workload { version: "v1", address }]);
    let rules = pool("tcp: {maxConnectionDuration: 200ms}");
    control.apply(&format!("{echo}---\n{rules}")).await;
    let sidecar = Sidecar::start(&control).ready().await;
    let mut client = RawConnection::open(sidecar.outbound).await;
    let started = Instant::now();
    client
        .write("GET / HTTP/1.1\r\nHost: echo\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n")
        .await;
    assert_eq!(client.head_response().await.status, 101);
    while started.elapsed() < Duration::from_secs(1) {
        client.write("x").await;
        assert_eq!(client.read_exact(1).await, b"x");
        assert!(!client.is_closed_within(Duration::from_millis(100)).await);
    }
    client.write(".").await;
    client.read_to_end().await;
    drop(client);
    let labels = [("status_code", "101"), ("response_flags", "")];
    eventually("it is counted", LIMIT, async || {
        let metrics = sidecar.metrics().await;
        (metrics.sum("http_requests_total", &labels) == 1.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_timeout_of_zero_keeps_a_connection_for_good() {
    let rules = pool("tcp: {idleTimeout: 200ms}, http: {idleTimeout: 0s}");
    let sample = one_worker("http", &rules).await;
    assert_eq!(sample.get("/").await.status, 200);
    // One that is used later, for which the same time counts, is gone before.
    let other = one_worker("http", &pool("tcp: {idleTimeout: 200ms}")).await;
    assert_eq!(other.get("/").await.status, 200);
    let gone = async || (other.upstream().live_connections() == 0).then_some(());
    eventually("the other is closed", LIMIT, gone).await;
    assert_eq!(sample.upstream().live_connections(), 1);
    assert_eq!(sample.get("/").await.status, 200);
    assert_eq!(sample.upstream().connections(), 1);

    let silent = Tcp::start(&pool("tcp: {idleTimeout: 0s}")).await;
    let (mut client, server) = silent.tunnel().await;
    assert!(!client.is_closed_within(Duration::from_millis(500)).await);
    drop(server);
    assert!(client.read_to_end().await.is_empty());
}

/// What the kernel says of this process's connections to `port`: which timer runs, and for how many seconds more.
fn timers(port: u16) -> Vec<(String, u64)> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let remote = format!("0100007F:{port:04X}");
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (kind, ticks) = fields.get(5)?.split_once(':')?;
        let ticks = u64::from_str_radix(ticks, 16).ok()?;
        (fields.get(2) == Some(&remote.as_str())).then(|| (kind.to_owned(), ticks / 100))
    };
    table.lines().filter_map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_keepalive_is_on_the_sockets_of_requests_and_of_bytes() {
    let keepalive = "tcp: {tcpKeepalive: {probes: 3, time: 4000s, interval: 9s}}";
    let sample = one_worker("http", &pool(keepalive)).await;
    let tcp = Tcp::start(&pool(keepalive)).await;
    assert_eq!(sample.get("/").await.status, 200);
    let _tunnel = tcp.tunnel().await;
    let http2 = one_worker("http2", &pool(keepalive)).await;
    assert_eq!(http2.get("/").await.status, 200);
    let ports = [
        sample.upstream().address.port(),
        http2.upstream().address.port(),
        tcp.listener.local_addr().expect("bound").port(),
    ];
    for port in ports {
        // Once what was sent is acknowledged: 02 is the keepalive timer.
        eventually("the timer runs as it was told", LIMIT, async || {
            let found = timers(port);
            found
                .iter()
                .any(|(kind, seconds)| kind == "02" && (3900..=4000).contains(seconds))
                .then_some(())
        })
        .await;
    }
}

/// Answers the first request of its first connection, and then neither reads nor writes; later connections answer all.
async fn mute(listener: TcpListener) {
    let mut kept = Vec::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let Ok(mut connection) = h2::server::handshake(stream).await else {
            continue;
        };
        if number > 0 {
            tokio::spawn(async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_response(Response::new(()), true).ok();
                }
            });
            continue;
        }
        if let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_response(Response::new(()), true).ok();
        }
        // What was to be written is.
        tokio::time::timeout(Duration::from_millis(50), connection.accept())
            .await
            .ok();
        kept.push(connection);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_answers_no_ping_loses_its_connection_and_what_may_be_repeated_goes_out_again() {
    for (method, expected) in [("GET", (200, "")), ("POST", (503, "UC"))] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut server = tokio::task::JoinSet::new();
        server.spawn(mute(listener));
        let control = ControlPlane::start();
        let echo = service("echo", "http2", &[Workload { version: "v1", address }]);
        let rules = pool("http: {http2KeepAlive: {interval: 1s, timeout: 500ms}}");
        control.apply(&format!("{echo}---\n{rules}")).await;
        let options = tsunagi_tests::SidecarOptions {
            workers: 1,
            ..Default::default()
        };
        let sidecar = Sidecar::start_with(control.grpc, &options).ready().await;
        assert_eq!(sidecar.get("echo", "/").await.status, 200);
        let mut sent = request(method, "echo", "/");
        if method == "POST" {
            *sent.body_mut() = body(Bytes::from_static(b"once"));
        }
        let reply = sidecar.send(sent).await;
        assert_eq!((reply.status, reply.flags()), expected, "{method} {}", reply.text());
        assert!(reply.elapsed > Duration::from_millis(300), "{:?}", reply.elapsed);
        assert_eq!(sidecar.get("echo", "/").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_answers_pings_keeps_its_connection() {
    let rules = pool("http: {http2KeepAlive: {interval: 1s, timeout: 500ms}}");
    let sample: Sample = one_worker("http2", &rules).await;
    sample.upstream().set(Behaviour::Delay(Duration::from_millis(3500)));
    assert_eq!(sample.get("/").await.status, 200);
    sample.upstream().set(Behaviour::Answer);
    assert_eq!(sample.get("/").await.status, 200);
    assert_eq!(sample.upstream().connections(), 1);
}
