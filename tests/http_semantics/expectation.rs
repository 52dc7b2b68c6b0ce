//! `Expect: 100-continue` is between client and endpoint: nobody on the way asks for a body that the endpoint does not want,
//! and nobody keeps one back that it does.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tsunagi_tests::{LIMIT, RawUpstream, Sidecar, eventually, within};

use crate::chain::{Chain, curl_is_installed};

/// curl sends without a word only after this, which is longer than the test.
const PATIENCE: &str = "15";
const LENGTH: usize = 3_000_000;
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An endpoint that hears a request's head, answers with this, and keeps what it heard.
async fn answering(answer: &'static str, heads: Arc<Mutex<Vec<String>>>) -> RawUpstream {
    RawUpstream::serving(move |mut connection| {
        let heads = heads.clone();
        async move {
            while let Some(head) = connection.next_head().await {
                heads.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                connection.write(answer).await;
                if answer.starts_with("HTTP/1.1 100") {
                    connection.read_exact(LENGTH).await;
                    connection.write(OK).await;
                }
            }
        }
    })
    .await
}

/// A file of zeros for curl.
fn body() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary folder");
    file.as_file().set_len(LENGTH as u64).expect("room");
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_endpoint_refuses_is_never_sent() {
    if !curl_is_installed() {
        return;
    }
    let file = body();
    let data = format!("@{}", file.path().display());
    for (answer, status) in [
        (
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large",
            413,
        ),
        ("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n", 417),
    ] {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let upstream = answering(answer, heads.clone()).await;
        let chain = Chain::start(upstream.address).await;
        let arguments = ["--data-binary", &data, "-H", "Expect: 100-continue"];
        let shown = ["-w", " %{http_code} %{size_upload}", "--expect100-timeout", PATIENCE];
        // Told 417, curl tries again without asking first: it is told the same, and its body may be on its way by then.
        let said = chain.curl("/", &[&arguments[..], &shown].concat()).await;
        let heads = heads.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let first = heads.first().expect("a request arrived");
        assert!(first.contains("\r\nExpect: 100-continue\r\n"), "{first}");
        if status == 413 {
            assert_eq!(said.text(), "too large 413 0");
        } else {
            assert!(String::from_utf8_lossy(&said.stdout).contains(" 417 "), "{said:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_the_endpoint_asks_for_is_sent_at_once() {
    if !curl_is_installed() {
        return;
    }
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let upstream = answering("HTTP/1.1 100 Continue\r\n\r\n", heads).await;
    let chain = Chain::start(upstream.address).await;
    let file = body();
    let data = format!("@{}", file.path().display());
    // All but the first go over connections that another has left, where nothing of its words may have stayed.
    let url = chain.url("/");
    let others = [url.as_str(); 9];
    let arguments = ["--data-binary", &data, "-H", "Expect: 100-continue"];
    let shown = ["-w", " %{size_upload}\n", "--expect100-timeout", PATIENCE];
    let started = Instant::now();
    let said = chain.curl("/", &[&arguments[..], &shown, &others].concat()).await;
    assert_eq!(said.text(), format!("ok {LENGTH}\n").repeat(10));
    // Without the endpoint's word each would wait for a second.
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_wait_is_not_kept_waiting_and_hears_the_word_once() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    // One that never says a word about it, and one that says it late.
    for (word, words) in [("", 0), ("HTTP/1.1 100 Continue\r\n\r\n", 1)] {
        let upstream = RawUpstream::serving(move |mut connection| async move {
            while connection.next_head().await.is_some() {
                if words == 0 {
                    assert_eq!(connection.read_exact(4).await, b"body");
                } else {
                    connection.write(word).await;
                    connection.read_exact(4).await;
                }
                connection.write(OK).await;
            }
        })
        .await;
        let chain = Chain::start(upstream.address).await;
        let mut client = chain.client(HEAD).await;
        for _ in 0..2 {
            if words == 1 {
                let interim = within("the word", LIMIT, client.read_head()).await;
                assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
            }
            client.write("body").await;
            let response = client.response().await;
            assert_eq!((response.status, &*response.text()), (200, "ok"), "{}", response.head);
            client.write(HEAD).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_knows_no_such_word_gets_the_body_a_little_later() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        while connection.next_head().await.is_some() {
            assert_eq!(connection.read_exact(4).await, b"body");
            connection.write(OK).await;
        }
    })
    .await;
    for port_name in ["http", "unnamed"] {
        let chain = Chain::speaking(port_name, upstream.address).await;
        let head = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        let mut client = chain.client(head).await;
        let interim = within("the word", LIMIT, client.read_head()).await;
        assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write("body").await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_asks_first_and_finds_nobody_is_answered_without_its_body() {
    let upstream = RawUpstream::start(OK.as_bytes()).await;
    let chain = Chain::start(upstream.address).await;
    let sent = "POST / HTTP/1.1\r\nHost: nobody\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let mut client = chain.client(sent).await;
    let answered = String::from_utf8_lossy(&client.read_to_end().await).into_owned();
    assert!(answered.starts_with("HTTP/1.1 404"), "{answered}");
    assert!(answered.to_lowercase().contains("connection: close"), "{answered}");
}

/// An HTTP/2 application that asks for the body of what is sent to `/wanted`, and says how long it was.
async fn http2_application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback address");
    let address = listener.local_addr().expect("a bound socket");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(accepted) = connection.accept().await {
                    let (request, respond) = accepted?;
                    tokio::spawn(answer(request, respond));
                }
                Ok::<(), h2::Error>(())
            });
        }
    });
    address
}

async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let status = |status| {
        let mut response = Response::new(());
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/wanted" {
        respond.send_response(status(StatusCode::PAYLOAD_TOO_LARGE), true)?;
        return Ok(());
    }
    respond.send_informational(status(StatusCode::CONTINUE))?;
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(data) = body.data().await.transpose()? {
        length += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    let text = Bytes::from(length.to_string());
    respond
        .send_response(status(StatusCode::OK), false)?
        .send_data(text, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_too_the_word_is_the_endpoints() {
    let chain = Chain::speaking("http2", http2_application().await).await;
    let head =
        |path| format!("POST {path} HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n");
    let mut http1 = chain.client(head("/wanted")).await;
    let interim = within("the word", LIMIT, http1.read_head()).await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    http1.write("body").await;
    assert_eq!(http1.response().await.text(), "4");
    http1.write(head("/refused")).await;
    let refused = within("the answer", LIMIT, http1.read_head()).await;
    assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");

    let stream = TcpStream::connect(chain.outbound.outbound).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let post = |path| {
        let built = Request::builder()
            .method(Method::POST)
            .uri(format!("http://echo{path}"));
        built
            .header("expect", "100-continue")
            .body(())
            .expect("a valid request")
    };
    let (mut answer, mut stream) = client.send_request(post("/wanted"), false).expect("open");
    let interim = within("the word", LIMIT, poll_fn(|cx| answer.poll_informational(cx))).await;
    assert_eq!(
        interim.expect("a word").expect("no error").status(),
        StatusCode::CONTINUE
    );
    stream.send_data(Bytes::from_static(b"body"), true).expect("open");
    let mut whole = within("the answer", LIMIT, answer)
        .await
        .expect("a response")
        .into_body();
    assert_eq!(whole.data().await.expect("a body").expect("no error"), "4");

    let (mut answer, _stream) = client.send_request(post("/refused"), false).expect("open");
    let interim = within("no word", LIMIT, poll_fn(|cx| answer.poll_informational(cx))).await;
    assert!(interim.is_none(), "{interim:?}");
    let refused = within("the answer", LIMIT, answer).await.expect("a response");
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_while_it_waits_for_the_word_is_noticed() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        connection.next_head().await;
        connection.read_to_end().await;
    })
    .await;
    let chain = Chain::start(upstream.address).await;
    let sent = "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    let leaving = chain.client(sent).await;
    active_requests(&chain.inbound, 1.0).await;
    drop(leaving);
    active_requests(&chain.inbound, 0.0).await;
    active_requests(&chain.outbound, 0.0).await;
}

async fn active_requests(sidecar: &Sidecar, wanted: f64) {
    eventually(&format!("{wanted} requests in flight"), LIMIT, async || {
        let metrics = sidecar.metrics().await;
        (metrics.sum("tsunagi_upstream_active_requests", &[]) == wanted).then_some(())
    })
    .await;
}
