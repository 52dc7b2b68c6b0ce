//! HTTP/1 at its edges: connections that end where they should not, clients that leave, and bytes that a proxy must pass on
//! exactly as they came.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;
use tsunagi_tests::{
    ControlPlane, LIMIT, RawConnection, RawUpstream, Sample, Sidecar, SidecarOptions, Workload, eventually, service,
    within,
};

const ONE_CONNECTION: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: echo
spec:
  host: echo
  trafficPolicy:
    connectionPool:
      tcp:
        maxConnections: 1
";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// A client that has gone is noticed within this.
const NOTICED: Duration = Duration::from_secs(2);

/// A sidecar whose service `echo` is one endpoint.
struct Mesh {
    sidecar: Sidecar,
    _control: ControlPlane,
}

impl Mesh {
    async fn start(address: SocketAddr, rules: &str) -> Mesh {
        let control = ControlPlane::start();
        let echo = service("echo", "http", &[Workload { version: "v1", address }]);
        control.apply(&format!("{echo}---\n{rules}")).await;
        let sidecar = Sidecar::start(&control).ready().await;
        Mesh {
            sidecar,
            _control: control,
        }
    }

    /// A client that has written this.
    async fn client(&self, bytes: impl AsRef<[u8]>) -> RawConnection {
        let mut connection = RawConnection::open(self.sidecar.outbound).await;
        connection.write(bytes).await;
        connection
    }

    async fn gauge(&self, name: &str, wanted: f64, limit: Duration) {
        eventually(&format!("{name} is {wanted}"), limit, async || {
            let metrics = self.sidecar.metrics().await;
            (metrics.sum(&format!("tsunagi_upstream_{name}_requests"), &[]) == wanted).then_some(())
        })
        .await;
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: echo\r\n\r\n")
}

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: echo\r\nContent-Length: {length}\r\n\r\n")
}

/// Answers one request with these writes, then closes the connection.
async fn answering_once(writes: &'static [&'static str]) -> RawUpstream {
    RawUpstream::serving(move |mut connection| async move {
        if connection.next_head().await.is_some() {
            for bytes in writes {
                connection.write(bytes).await;
            }
        }
    })
    .await
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_ended_with_its_response_is_not_lent_to_the_request_that_waits() {
    for slow in ["HTTP/1.1 200 OK\r\n\r\nslow", "HTTP/1.0 200 OK\r\n\r\nslow"] {
        let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (tell, wait) = (arrived.clone(), go.clone());
        let upstream = RawUpstream::serving(move |mut connection| {
            let (tell, wait) = (tell.clone(), wait.clone());
            async move {
                while let Some(head) = connection.next_head().await {
                    if head.starts_with("GET /slow") {
                        tell.notify_one();
                        wait.notified().await;
                        return connection.write(slow).await;
                    }
                    connection.read_exact(4).await;
                    connection.write(OK).await;
                }
            }
        })
        .await;
        let mesh = Mesh::start(upstream.address, ONE_CONNECTION).await;
        for _ in 0..5 {
            let mut first = mesh.client(get("/slow")).await;
            within("the first request", LIMIT, arrived.notified()).await;
            let mut second = mesh.client(post("/pay", 4) + "once").await;
            mesh.gauge("pending", 1.0, LIMIT).await;
            go.notify_one();
            assert_eq!(first.response().await.text(), "slow");
            let response = second.response().await;
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "ok"),
                "{}",
                response.head
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_upstream_sent_before_it_broke_off_is_delivered_and_does_not_look_whole() {
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases: [(&[&str], usize); 4] = [
        (
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"],
            1,
        ),
        (&[CHUNKED, "5\r\nevent\r\n5\r\nevent\r\n5\r\nevent\r\n"], 3),
        (
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n5\r\nevent\r\n5\r\nev"],
            2,
        ),
        (&["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nevent"], 1),
    ];
    for (writes, events) in cases {
        let upstream = answering_once(writes).await;
        let mesh = Mesh::start(upstream.address, "").await;
        let received = text(mesh.client(get("/")).await.read_to_end().await);
        assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{writes:?}: {received:?}");
        assert_eq!(received.matches("event").count(), events, "{writes:?}: {received:?}");
        assert!(!received.contains("\r\n0\r\n"), "{writes:?}: {received:?}");
    }
}

/// Holds `/hold` until told, and shows the paths of all requests.
async fn holding(go: Arc<Notify>, arrived: Arc<Notify>, paths: Arc<Mutex<Vec<String>>>) -> RawUpstream {
    RawUpstream::serving(move |mut connection| {
        let (go, arrived, paths) = (go.clone(), arrived.clone(), paths.clone());
        async move {
            while let Some(head) = connection.next_head().await {
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let hold = path == "/hold";
                paths.lock().unwrap_or_else(PoisonError::into_inner).push(path);
                arrived.notify_one();
                if hold {
                    go.notified().await;
                }
                connection.write(OK).await;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_the_queue_is_noticed_however_much_of_its_body_waits() {
    let (go, arrived, paths) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::default());
    let upstream = holding(go.clone(), arrived.clone(), Arc::clone(&paths)).await;
    let mesh = Mesh::start(upstream.address, ONE_CONNECTION).await;
    let mut first = mesh.client(get("/hold")).await;
    within("the first request", LIMIT, arrived.notified()).await;
    for length in [1_000, 20_000, 40_000] {
        let leaving = mesh.client(post("/gone", length) + &"x".repeat(length)).await;
        mesh.gauge("pending", 1.0, LIMIT).await;
        drop(leaving);
        mesh.gauge("pending", 0.0, NOTICED).await;
    }
    go.notify_one();
    assert_eq!(first.response().await.status, 200);
    assert_eq!(mesh.client(get("/next")).await.response().await.status, 200);
    let paths = paths.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(paths, ["/hold", "/next"]);
}

/// Writes until nobody takes anything for a while.
async fn write_until_it_stalls(client: &mut RawConnection) {
    let part = [b'x'; 64 * 1024];
    while timeout(Duration::from_millis(300), client.stream.write(&part))
        .await
        .is_ok_and(|written| written.is_ok())
    {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_its_upload_stalls_is_noticed() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        connection.next_head().await;
        std::future::pending::<()>().await;
    })
    .await;
    let mesh = Mesh::start(upstream.address, "").await;
    let mut leaving = mesh.client(post("/", 300_000_000)).await;
    write_until_it_stalls(&mut leaving).await;
    mesh.gauge("active", 1.0, LIMIT).await;
    // An end behind what nobody reads would not even be sent: this one is told at once.
    leaving.stream.set_zero_linger().expect("an open socket");
    drop(leaving);
    mesh.gauge("active", 0.0, NOTICED).await;
}

/// What ends the connection: the end of the stream, or an error.
async fn end_of(client: &mut RawConnection) -> Result<(), ErrorKind> {
    let mut part = [0; 1024];
    within("the connection's end", LIMIT, async {
        loop {
            match client.stream.read(&mut part).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.kind()),
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_response_never_looks_whole_to_an_http_1_0_client() {
    let old = "GET / HTTP/1.0\r\nHost: echo\r\n\r\n";
    let cases: [(&[&str], Result<(), ErrorKind>); 3] = [
        (
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
            Err(ErrorKind::ConnectionReset),
        ),
        (
            &[
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "5\r\nhello\r\nnonsense",
            ],
            Err(ErrorKind::ConnectionReset),
        ),
        (
            &["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
            Ok(()),
        ),
    ];
    for (writes, end) in cases {
        let upstream = answering_once(writes).await;
        let mesh = Mesh::start(upstream.address, "").await;
        assert_eq!(end_of(&mut mesh.client(old).await).await, end, "{writes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_tunnel_does_not_hold_up_the_end() {
    let args = vec!["--drain-timeout".to_owned(), "60s".to_owned()];
    let options = SidecarOptions {
        args,
        ..SidecarOptions::default()
    };
    let mut sample = Sample::with("http", &["v1"], "", &options).await;
    let mut unused = RawConnection::open(sample.sidecar.outbound).await;
    let mut used = RawConnection::open(sample.sidecar.outbound).await;
    for tunnel in [&mut unused, &mut used] {
        tunnel.write("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n\r\n").await;
        assert_eq!(tunnel.head_response().await.status, 200);
    }
    used.write(get("/")).await;
    assert_eq!(used.response().await.text(), "v1");
    let started = Instant::now();
    sample.sidecar.process.signal("TERM");
    let process = &mut sample.sidecar.process;
    let status = eventually("the process ends", LIMIT, async || process.exit_status()).await;
    assert_eq!(status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    for tunnel in [&mut unused, &mut used] {
        assert!(tunnel.is_closed_within(LIMIT).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_a_refused_connect_was_for_the_tunnel_and_is_not_served() {
    let sample = Sample::start("").await;
    for to in ["nobody:80", "echo:9"] {
        let mut connection = RawConnection::open(sample.sidecar.outbound).await;
        let connect = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
        connection.write(connect + &get("/")).await;
        let received = text(connection.read_to_end().await);
        assert!(received.starts_with("HTTP/1.1 404"), "{received}");
        assert!(received.to_lowercase().contains("connection: close"), "{received}");
        assert_eq!(received.matches("HTTP/1.1").count(), 1, "{received}");
    }
    assert_eq!(sample.requests(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connect_with_a_body_is_refused_and_nothing_behind_it_is_served() {
    let sample = Sample::start("").await;
    for framing in ["Content-Length: 5", "Transfer-Encoding: chunked"] {
        let mut connection = RawConnection::open(sample.sidecar.outbound).await;
        let connect = format!("CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\n{framing}\r\n\r\n");
        connection.write(connect + "5\r\nab" + &get("/")).await;
        let received = text(connection.read_to_end().await);
        assert!(received.starts_with("HTTP/1.1 400"), "{framing}: {received}");
        assert!(received.contains("a CONNECT has no body"), "{framing}: {received}");
        assert_eq!(received.matches("HTTP/1.1").count(), 1, "{framing}: {received}");
    }
    assert_eq!(sample.requests(), 0);
    // What says that there is none says what is so.
    let mut tunnel = RawConnection::open(sample.sidecar.outbound).await;
    let connect = "CONNECT echo:80 HTTP/1.1\r\nHost: echo:80\r\nContent-Length: 0\r\n\r\n";
    tunnel.write(connect).await;
    assert_eq!(tunnel.head_response().await.status, 200);
    tunnel.write(get("/")).await;
    assert_eq!(tunnel.response().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_answered_with_a_sentence_and_counted() {
    let sample = Sample::start("").await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: echo\r\nX-Large: {}\r\n\r\n",
        "x".repeat(70_000)
    );
    for (sent, status) in [("GARBAGE\r\n\r\n", 400), (&large, 431)] {
        let mut connection = RawConnection::open(sample.sidecar.outbound).await;
        connection.write(sent).await;
        let response = connection.response().await;
        assert_eq!(response.status, status, "{}", response.head);
        assert!(
            response.text().split_whitespace().count() > 2,
            "{status}: {:?}",
            response.text()
        );
        assert!(connection.is_closed_within(LIMIT).await, "{status}");
        let status = status.to_string();
        let labels = [("status_code", status.as_str()), ("response_flags", "DPE")];
        let counted = async || {
            let metrics = sample.sidecar.metrics().await;
            (metrics.sum("http_requests_total", &labels) == 1.0).then_some(())
        };
        eventually(&format!("{status} is counted"), LIMIT, counted).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_although_no_head_announces_them() {
    const ANSWER: &str =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Answer-Sum: 2\r\nx-Last: yes\r\n\r\n";
    let received = Arc::<Mutex<String>>::default();
    let seen = received.clone();
    let upstream = RawUpstream::serving(move |mut connection| {
        let seen = seen.clone();
        async move {
            while connection.next_head().await.is_some() {
                let Some(body) = connection.next_through(b"\r\n\r\n").await else {
                    return;
                };
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = body;
                connection.write(ANSWER).await;
            }
        }
    })
    .await;
    let mesh = Mesh::start(upstream.address, "").await;
    for te in ["TE: trailers\r\n", ""] {
        let sent = format!(
            "POST / HTTP/1.1\r\nHost: echo\r\n{te}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sent-Sum: 4\r\n\r\n"
        );
        let mut client = mesh.client(sent).await;
        let head = within("a head", LIMIT, client.next_head()).await;
        assert!(head.is_some_and(|head| head.starts_with("HTTP/1.1 200")), "{te}");
        let body = within("a body", LIMIT, client.next_through(b"\r\n\r\n")).await;
        // A field's name means the same in any case.
        let body = body.expect("an open connection").to_lowercase();
        assert!(
            body.ends_with("\r\n0\r\nx-answer-sum: 2\r\nx-last: yes\r\n\r\n"),
            "{body:?}"
        );
        let arrived = received.lock().unwrap_or_else(PoisonError::into_inner).to_lowercase();
        assert!(arrived.ends_with("\r\n0\r\nx-sent-sum: 4\r\n\r\n"), "{arrived:?}");
    }
}

/// The lines of a head that begin with `X-Own-`, in any case.
fn own_fields(head: &str) -> Vec<&str> {
    let own = |line: &&str| line.to_lowercase().starts_with("x-own-");
    head.lines().filter(own).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spelling_and_order_of_headers_stay_as_sent() {
    const FIELDS: &str = "X-Own-Zeta: 1\r\nx-oWN-aLPha: 2\r\nX-Own-ZETA: 3\r\nx-own-alpha: 4\r\nX-OWN-Mid: a  b\r\n";
    const ANSWER: &str = "HTTP/1.1 200 OK\r\nX-Own-Zeta: 1\r\nx-oWN-aLPha: 2\r\nX-Own-ZETA: 3\r\nContent-Length: 2\r\nx-own-alpha: 4\r\nX-OWN-Mid: a  b\r\n\r\nok";
    let upstream = RawUpstream::start(ANSWER.as_bytes()).await;
    let mesh = Mesh::start(upstream.address, "").await;
    let sent = format!("GET / HTTP/1.1\r\n{FIELDS}Host: echo\r\n\r\n");
    let response = mesh.client(sent).await.response().await;
    let wanted: Vec<&str> = FIELDS.lines().collect();
    assert_eq!(own_fields(&response.head), wanted, "{}", response.head);
    let head = upstream.heads().pop().expect("a request arrived");
    assert_eq!(own_fields(&head), wanted, "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_with_bodies_are_answered_in_order() {
    let sample = Sample::start("").await;
    let first =
        "POST /echo HTTP/1.1\r\nHost: echo\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n2;x=y\r\n/1\r\n0\r\n\r\n";
    let second = post("/echo", 3) + "two";
    let mut connection = RawConnection::open(sample.sidecar.outbound).await;
    connection.write(first.to_owned() + &second + &get("/bytes/7")).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(connection.response().await.text());
    }
    assert_eq!(answers, ["one/1", "two", "xxxxxxx"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_never_end_share_a_bound_and_others_are_served_meanwhile() {
    // Each takes a buffer of 64 KiB, of which 4 KiB are free; there are 16 MiB for them all.
    const HEADS: usize = 300;
    const FIT: usize = (16 << 20) / (60 << 10);
    let upstream = answering_once(&[OK]).await;
    let mesh = Mesh::start(upstream.address, "").await;
    let unfinished = format!("GET / HTTP/1.1\r\nHost: echo\r\nX-Long: {}", "x".repeat(50_000));
    let mut clients = Vec::new();
    for _ in 0..HEADS {
        clients.push(mesh.client(&unfinished).await);
    }
    let metrics = eventually("what is over the bound is refused", LIMIT, async || {
        let metrics = mesh.sidecar.metrics().await;
        let refused = metrics.sum("http_requests_total", &[("status_code", "431")]);
        (refused >= (HEADS - FIT) as f64).then_some(metrics)
    })
    .await;
    let refused = metrics.sum("http_requests_total", &[("status_code", "431")]) as usize;
    // One that is still growing can be in the way of another.
    assert!((HEADS - FIT..HEADS - FIT + 30).contains(&refused), "{}", metrics.text);
    let response = mesh.client(get("/")).await.response().await;
    assert_eq!((response.status, &*response.text()), (200, "ok"), "{}", response.head);

    drop(clients);
    eventually("there is room again", LIMIT, async || {
        let mut client = mesh.client(format!("{unfinished}\r\n\r\n")).await;
        (client.response().await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_the_proxy_itself_is_not_connected_to() {
    let control = ControlPlane::start();
    let sidecar = Sidecar::start(&control).ready().await;
    let address = sidecar.outbound;
    let echo = service("echo", "http", &[Workload { version: "v1", address }]);
    control.apply(&echo).await;
    for _ in 0..3 {
        let response = RawConnection::exchange(sidecar.outbound, get("/")).await;
        assert_eq!(response.status, 503, "{}", response.text());
        assert!(response.text().contains("own outbound listener"), "{}", response.text());
    }
    let metrics = sidecar.metrics().await;
    let labels = [("status_code", "503"), ("response_flags", "URX,UF")];
    assert_eq!(metrics.sum("http_requests_total", &labels), 3.0, "{}", metrics.text);
    assert_eq!(
        sidecar
            .process
            .log()
            .matches("own outbound listener: it is not")
            .count(),
        1
    );
}
