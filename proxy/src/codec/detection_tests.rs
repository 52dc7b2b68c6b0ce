//! Tests of detection: who decides, and that nothing hangs or is lost.

use std::future::{pending, ready};

use tokio::io::{AsyncWriteExt, duplex};
use tokio::net::TcpListener;

use super::*;
use crate::codec::client_hello_for;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const LIMIT: Duration = Duration::from_secs(10);

struct Connected(TcpStream);

impl Speaker for Connected {
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_speaks(cx)
    }
}

type Found = Detected<Connected, &'static str>;

/// What was found, what was read, and whether the upstream is connected.
fn spoken(found: Found) -> (Spoken, Vec<u8>, bool) {
    match found {
        Detected::Spoken { spoken, read, upstream } => (spoken, read.to_vec(), upstream.is_some()),
        Detected::Failed(error) => unreachable!("{error}"),
        Detected::Aborted { .. } => unreachable!("aborted"),
        Detected::Left => unreachable!("left"),
    }
}

async fn upstream() -> (Connected, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
    (Connected(ours.expect("connected")), theirs.expect("accepted").0)
}

#[tokio::test]
async fn a_client_that_speaks_at_once_decides_without_an_upstream() {
    for (sent, expected) in [(REQUEST, Spoken::Http1), (b"\x00\x01", Spoken::Bytes)] {
        let (mut client, mut ours) = duplex(1024);
        client.write_all(sent).await.expect("open");
        let found: Found = detect(&mut ours, pending(), pending()).await;
        assert_eq!(spoken(found), (expected, sent.to_vec(), false));
    }
}

#[tokio::test]
async fn a_server_that_speaks_first_decides() {
    let (_client, mut ours) = duplex(1024);
    let (connected, mut server) = upstream().await;
    server.write_all(b"220 ready\r\n").await.expect("open");
    let found: Found = timeout(LIMIT, detect(&mut ours, ready(Ok(connected)), pending()))
        .await
        .expect("no hang");
    assert_eq!(spoken(found), (Spoken::Bytes, Vec::new(), true));
}

#[tokio::test]
async fn a_client_that_was_only_slow_is_still_recognised() {
    let (mut client, mut ours) = duplex(1024);
    let (connected, _server) = upstream().await;
    // It speaks once the upstream stands.
    let (opened, is_open) = tokio::sync::oneshot::channel();
    let open = async {
        opened.send(()).ok();
        Ok(connected)
    };
    let speak = async {
        is_open.await.ok();
        client.write_all(REQUEST).await.expect("open");
    };
    let (found, ()) = tokio::join!(detect(&mut ours, open, pending()), speak);
    assert_eq!(spoken(found), (Spoken::Http1, REQUEST.to_vec(), true));
}

#[tokio::test(start_paused = true)]
async fn a_request_line_in_crumbs_is_waited_for_but_not_for_ever() {
    let (mut client, mut ours) = duplex(1024);
    let crumbs = async {
        client.write_all(b"GE").await.expect("open");
        tokio::time::sleep(SILENCE * 3).await;
        client.write_all(b"T / HTTP/1.1\r\n").await.expect("open");
        client
    };
    let (found, _client): (Found, _) = tokio::join!(detect(&mut ours, pending(), pending()), crumbs);
    assert_eq!(spoken(found).0, Spoken::Http1);

    let (mut client, mut ours) = duplex(1024);
    let hello = client_hello_for("users");
    let crumbs = async {
        for crumb in hello.chunks(hello.len() / 3) {
            client.write_all(crumb).await.expect("open");
            tokio::time::sleep(SILENCE * 3).await;
        }
        client
    };
    let (found, _client): (Found, _) = tokio::join!(detect(&mut ours, pending(), pending()), crumbs);
    assert_eq!(spoken(found), (Spoken::Tls, hello, false));

    let (mut client, mut ours) = duplex(1024);
    client.write_all(b"GE").await.expect("open");
    let found: Found = timeout(LIMIT, detect(&mut ours, pending(), pending()))
        .await
        .expect("no hang");
    assert_eq!(spoken(found), (Spoken::Bytes, b"GE".to_vec(), false));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_hears_of_a_server_that_is_not_there_and_ends_when_told_to() {
    let (_client, mut ours) = duplex(1024);
    let found: Found = detect(&mut ours, ready(Err("down")), pending()).await;
    assert!(matches!(found, Detected::Failed("down")));
    let found: Found = detect(&mut ours, pending(), ready(())).await;
    assert!(matches!(found, Detected::Left));
}

#[tokio::test]
async fn an_end_before_any_byte_is_passed_on_like_bytes() {
    let (client, mut ours) = duplex(1024);
    drop(client);
    let found: Found = detect(&mut ours, pending(), pending()).await;
    assert_eq!(spoken(found), (Spoken::Bytes, Vec::new(), false));
}

#[tokio::test]
async fn an_abort_of_a_silent_client_is_told_together_with_whom_it_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (client, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (client, mut ours) = (client.expect("connected"), ours.expect("accepted").0);
    let (connected, _server) = upstream().await;
    let open = async {
        client.set_zero_linger().expect("a socket");
        drop(client);
        Ok(connected)
    };
    let found: Found = timeout(LIMIT, detect(&mut ours, open, pending()))
        .await
        .expect("no hang");
    assert!(matches!(found, Detected::Aborted { upstream: Some(_) }));
}
