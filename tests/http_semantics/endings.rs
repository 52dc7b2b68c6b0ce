//! An end on one side is that end on the other: what breaks off never looks whole, through either sidecar and over either
//! version; and an answer that is an error is still an answer, behind which the connection goes on.

use std::io::Read;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tsunagi_tests::{LIMIT, RawUpstream, within};

use crate::chain::{Chain, command, curl_is_installed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_that_breaks_off_is_a_failure_for_curl() {
    if !curl_is_installed() {
        return;
    }
    const HEADS: [&str; 3] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\n\r\npart",
    ];
    // What has no length ends well with its connection, but not with a reset.
    for (head, resets, fails) in [
        (HEADS[0], false, true),
        (HEADS[1], false, true),
        (HEADS[2], false, false),
        (HEADS[0], true, true),
        (HEADS[1], true, true),
        (HEADS[2], true, true),
    ] {
        // A reset would take the bytes with it that were not read yet: it comes once curl has shown them.
        let shown = Arc::new(Notify::new());
        let told = shown.clone();
        let upstream = RawUpstream::serving(move |mut connection| {
            let told = told.clone();
            async move {
                connection.next_head().await;
                connection.write(head).await;
                told.notified().await;
                if resets {
                    connection.stream.set_zero_linger().expect("a socket");
                }
            }
        })
        .await;
        let chain = Chain::start(upstream.address).await;
        let url = chain.url("/");
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let mut curl = command(&["-N", "-H", "Host: echo", version, &url]);
            let mut curl = curl.stdout(Stdio::piped()).spawn().expect("curl starts");
            let mut stdout = curl.stdout.take().expect("stdout is piped");
            let part = spawn_blocking(move || stdout.read_exact(&mut [0; 4]).map(|()| stdout));
            let stdout = within("the part", LIMIT, part)
                .await
                .expect("no panic")
                .expect("4 bytes");
            shown.notify_one();
            let status = spawn_blocking(move || curl.wait())
                .await
                .expect("no panic")
                .expect("our own child");
            // 18: it was not whole; 56: it was reset; 92: its stream was.
            let codes: &[i32] = if fails { &[18, 56, 92] } else { &[0] };
            let code = status.code().unwrap_or(-1);
            assert!(codes.contains(&code), "{head:?} {resets} {version}: {code}");
            drop(stdout);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_off_never_looks_whole_to_the_application() {
    for port_name in ["http", "http2"] {
        for (length, body) in [
            ("Transfer-Encoding: chunked", "4\r\npart\r\n"),
            ("Content-Length: 100", "part"),
        ] {
            let (sender, mut heard) = mpsc::unbounded_channel();
            let upstream = RawUpstream::serving(move |mut connection| {
                let sender = sender.clone();
                async move {
                    let head = connection.next_head().await;
                    let part = connection.next_through(b"part").await;
                    sender.send((head, part)).ok();
                    let rest = connection.read_to_end().await;
                    sender
                        .send((None, Some(String::from_utf8_lossy(&rest).into_owned())))
                        .ok();
                }
            })
            .await;
            // Over HTTP/2 between the sidecars, over HTTP/1.1 to the application.
            let chain = if port_name == "http" {
                Chain::start(upstream.address).await
            } else {
                Chain::speaking("unnamed", upstream.address).await
            };
            let leaving = chain
                .client(format!("POST / HTTP/1.1\r\nHost: echo\r\n{length}\r\n\r\n{body}"))
                .await;
            let (head, part) = within("the part", LIMIT, heard.recv())
                .await
                .expect("the application runs");
            assert!(head.is_some() && part.is_some(), "{length}");
            leaving.stream.set_zero_linger().expect("a socket");
            drop(leaving);
            let (_, rest) = within("the end", LIMIT, heard.recv())
                .await
                .expect("the application runs");
            let rest = rest.unwrap_or_default();
            assert!(!rest.contains("0\r\n\r\n") && rest.len() < 10, "{length}: {rest:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_2_both_sides_see_a_reset_of_the_stream() {
    // An application that resets one stream, and hears of the reset of another.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a loopback address");
    let address = listener.local_addr().expect("a bound socket");
    let (sender, mut heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await?;
                while let Some(accepted) = connection.accept().await {
                    let (request, respond) = accepted?;
                    tokio::spawn(reset_or_hear(request, respond, sender.clone()));
                }
                Ok::<(), h2::Error>(())
            });
        }
    });
    let chain = Chain::speaking("http2", address).await;
    let stream = TcpStream::connect(chain.outbound.outbound).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let post = |path: &str| {
        let built = Request::builder()
            .method(Method::POST)
            .uri(format!("http://echo{path}"));
        built.body(()).expect("a valid request")
    };
    let (answer, mut sending) = client.send_request(post("/reset"), false).expect("open");
    let answer = within("a head", LIMIT, answer).await.expect("a response");
    assert_eq!(answer.status(), 200);
    sending.send_data(Bytes::from_static(b"go on"), false).expect("open");
    let mut body = answer.into_body();
    let ended = within("an end", LIMIT, async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    })
    .await;
    assert!(ended.as_ref().is_some_and(h2::Error::is_reset), "{ended:?}");

    let (answer, mut sending) = client.send_request(post("/hear"), false).expect("open");
    sending.send_data(Bytes::from_static(b"part"), false).expect("open");
    let part = within("the part", LIMIT, heard.recv()).await;
    assert!(matches!(part, Some(Ok(4))), "{part:?}");
    sending.send_reset(h2::Reason::CANCEL);
    drop(answer);
    let heard = within("the reset", LIMIT, heard.recv())
        .await
        .expect("the application runs");
    assert!(heard.as_ref().is_err_and(h2::Error::is_reset), "{heard:?}");
}

async fn reset_or_hear(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    sender: mpsc::UnboundedSender<Result<usize, h2::Error>>,
) -> Result<(), h2::Error> {
    let reset = request.uri().path() == "/reset";
    let mut body = request.into_body();
    if reset {
        let mut sending = respond.send_response(http::Response::new(()), false)?;
        sending.send_data(Bytes::from_static(b"part"), false)?;
        // Until the client has the head, which a reset would overtake.
        body.data().await.transpose()?;
        sending.send_reset(h2::Reason::INTERNAL_ERROR);
        return Ok(());
    }
    while let Some(data) = body.data().await {
        let broken = data.is_err();
        sender.send(data.map(|data| data.len())).ok();
        if broken {
            break;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_on_behind_answers_that_are_errors() {
    let upstream = RawUpstream::serving(|mut connection| async move {
        while let Some(head) = connection.next_head().await {
            let status = head.split(['/', ' ']).nth(2).unwrap_or_default().to_owned();
            connection
                .write(format!("HTTP/1.1 {status} Said\r\nContent-Length: 2\r\n\r\nno"))
                .await;
        }
    })
    .await;
    let chain = Chain::start(upstream.address).await;
    let mut client = chain.client("").await;
    for (host, path, status) in [
        ("echo", "/500", 500),
        ("nobody", "/200", 404),
        ("echo", "/404", 404),
        ("echo:81", "/200", 404),
        ("echo", "/429", 429),
    ] {
        client
            .write(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, status, "{host}{path}");
        // With a body, of which nobody wants to know.
        client
            .write(format!(
                "POST {path} HTTP/1.1\r\nHost: nobody\r\nContent-Length: 4\r\n\r\nbody"
            ))
            .await;
        assert_eq!(client.response().await.status, 404);
    }
    client.write("GET /200 HTTP/1.1\r\nHost: echo\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "no");
}
