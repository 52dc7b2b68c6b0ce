//! Sources and sinks over real HTTP/2 streams: back-pressure, ends, resets, trailers.

use std::future::poll_fn;
use std::time::Duration;

use h2::server::{Builder, SendResponse};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::testing::{CONNECT, DATA, HEADERS, INITIAL_WINDOW_SIZE, POST, RST_STREAM, Raw, WINDOW_UPDATE};
use super::*;
use crate::codec::{Broken, Transfer, Whole};

/// What a connection's window is at first, for all its streams together.
const FIRST_WINDOW_BYTES: usize = 65_535;

struct Request1 {
    request: Request<()>,
    stream: Http2Stream,
    respond: SendResponse<Bytes>,
}

/// A connection, served by `h2`; its first request, which `raw` sends.
async fn first_request(settings: &[(u16, u32)], head: &[u8], end: bool) -> (Raw, Request1) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut raw = Raw::client(theirs, settings).await;
    raw.head(1, head, end).await;
    let mut connection = Builder::new().handshake(ours).await.expect("a handshake");
    let (request, respond) = connection.accept().await.expect("a request").expect("a good one");
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let (parts, body) = request.into_parts();
    let mut stream = Http2Stream::default();
    stream.receive_from(body);
    let request = Request::from_parts(parts, ());
    (
        raw,
        Request1 {
            request,
            stream,
            respond,
        },
    )
}

impl Request1 {
    fn respond(&mut self) {
        let send = self.respond.send_response(Response::new(()), false).expect("it can");
        self.stream.send_to(send);
    }
}

async fn transfer(from: &mut impl Source, to: &mut impl Sink) -> Result<u64, Broken> {
    let mut transfer = Transfer::default();
    poll_fn(|cx| transfer.poll_flushed(from, to, cx)).await?;
    Ok(transfer.bytes)
}

/// A body without an end, that says how much of it was taken.
#[derive(Default)]
struct Endless {
    taken: usize,
}

impl Source for Endless {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        Poll::Ready(Ok(Step::Data))
    }

    fn data(&self) -> &[u8] {
        &[7; 64 * 1024]
    }

    fn consume(&mut self, count: usize) {
        self.taken += count;
    }

    fn is_end(&self) -> bool {
        false
    }
}

const QUIET: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_small_body_is_one_frame_that_ends_the_stream() {
    let (mut raw, mut server) = first_request(&[], POST, true).await;
    assert_eq!(server.request.method(), http::Method::POST);
    assert!(server.stream.is_end());
    server.respond();
    let mut body = Whole(Bytes::from_static(b"hello"));
    assert_eq!(transfer(&mut body, &mut server.stream).await.expect("it is sent"), 5);
    let (head, data) = (raw.next().await.expect("a head"), raw.next().await.expect("data"));
    assert_eq!((head.kind, head.ends_stream()), (HEADERS, false));
    assert_eq!(
        (data.kind, data.ends_stream(), &data.payload[..]),
        (DATA, true, &b"hello"[..])
    );
}

#[tokio::test]
async fn a_body_that_comes_in_one_frame_leaves_in_one_frame() {
    let (mut client, mut from) = first_request(&[], POST, false).await;
    let (mut raw, mut to) = first_request(&[], POST, true).await;
    client.data(1, b"hello", true).await;
    to.respond();
    assert!(!from.stream.is_end());
    let moved = transfer(&mut from.stream, &mut to.stream).await;
    assert_eq!(moved.expect("it is sent"), 5);
    assert!(from.stream.is_end());
    assert_eq!(raw.next().await.map(|head| head.kind), Some(HEADERS));
    let data = raw.next().await.expect("data");
    assert_eq!(
        (data.kind, data.ends_stream(), &data.payload[..]),
        (DATA, true, &b"hello"[..])
    );
}

#[tokio::test]
async fn trailers_pass_and_end_the_stream() {
    let (mut client, mut from) = first_request(&[], POST, false).await;
    let (mut raw, mut to) = first_request(&[], POST, true).await;
    client.data(1, b"hello", false).await;
    // `x-end: 1`
    client.head(1, b"\x00\x05x-end\x011", true).await;
    to.respond();
    transfer(&mut from.stream, &mut to.stream).await.expect("it is sent");
    let (head, data) = (raw.next().await.expect("a head"), raw.next().await.expect("data"));
    assert_eq!((head.kind, data.kind, data.ends_stream()), (HEADERS, DATA, false));
    let trailers = raw.next().await.expect("trailers");
    assert_eq!((trailers.kind, trailers.ends_stream()), (HEADERS, true));
    assert!(trailers.payload.len() > 3, "{trailers:?}");
}

#[tokio::test]
async fn a_body_that_ends_without_notice_ends_with_an_empty_frame() {
    let (mut client, mut from) = first_request(&[], POST, false).await;
    let (mut raw, mut to) = first_request(&[], POST, true).await;
    client.data(1, b"hello", false).await;
    to.respond();
    let ends = async {
        assert_eq!(raw.next().await.map(|head| head.kind), Some(HEADERS));
        assert!(!raw.next().await.expect("data").ends_stream());
        client.data(1, b"", true).await;
        let last = raw.next().await.expect("an end");
        assert_eq!((last.kind, last.ends_stream(), last.payload.len()), (DATA, true, 0));
    };
    let (moved, ()) = tokio::join!(transfer(&mut from.stream, &mut to.stream), ends);
    assert_eq!(moved.expect("it is sent"), 5);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_taken_from_a_source_than_the_peer_has_room_for() {
    let (mut raw, mut server) = first_request(&[], POST, true).await;
    server.respond();
    let mut body = Endless::default();
    assert!(timeout(QUIET, transfer(&mut body, &mut server.stream)).await.is_err());
    assert_eq!(body.taken, FIRST_WINDOW_BYTES);
    raw.window(0, 1000).await;
    raw.window(1, 900).await;
    assert!(timeout(QUIET, transfer(&mut body, &mut server.stream)).await.is_err());
    assert_eq!(body.taken, FIRST_WINDOW_BYTES + 900);
}

#[tokio::test(start_paused = true)]
async fn of_a_body_for_which_there_is_no_room_at_all_only_the_first_piece_is_taken() {
    let (mut raw, mut server) = first_request(&[(INITIAL_WINDOW_SIZE, 0)], POST, true).await;
    server.respond();
    let mut body = Endless::default();
    assert!(timeout(QUIET, transfer(&mut body, &mut server.stream)).await.is_err());
    assert_eq!(body.taken, FIRST_PIECE_BYTES);
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
    assert!(timeout(QUIET, raw.next()).await.is_err(), "data without a window");
    raw.window(1, 5).await;
    assert_eq!(raw.next().await.expect("data").payload.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_the_wait_for_room_and_says_why() {
    let (mut raw, mut server) = first_request(&[], POST, true).await;
    server.respond();
    let mut body = Endless::default();
    let resets = async {
        tokio::time::sleep(QUIET).await;
        raw.reset(1, Reason::CANCEL).await;
    };
    let (moved, ()) = tokio::join!(transfer(&mut body, &mut server.stream), resets);
    let Err(Broken::Sink(BodyError::Http2(error))) = moved else {
        unreachable!("{moved:?}")
    };
    assert_eq!(error.reason(), Some(Reason::CANCEL));
}

#[tokio::test(start_paused = true)]
async fn the_peer_may_send_on_only_as_far_as_its_data_was_consumed() {
    let (mut raw, mut server) = first_request(&[], POST, false).await;
    let sent = [1; 16 * 1024];
    for _ in 0..3 {
        raw.data(1, &sent, false).await;
    }
    assert!(matches!(
        poll_fn(|cx| server.stream.poll_data(cx)).await,
        Ok(Step::Data)
    ));
    assert!(timeout(QUIET, raw.next()).await.is_err(), "room for what nobody took");
    let mut consumed = 0;
    while consumed < sent.len() * 3 {
        poll_fn(|cx| server.stream.poll_data(cx)).await.expect("data");
        consumed += server.stream.take(10_000).len();
    }
    let mut given = 0;
    while let Ok(Some(frame)) = timeout(QUIET, raw.next()).await {
        assert_eq!(frame.kind, WINDOW_UPDATE);
        given += frame.number() as usize;
    }
    assert!(given > FIRST_WINDOW_BYTES / 2 && given <= consumed, "{given}");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_not_an_end() {
    let (mut raw, mut server) = first_request(&[], POST, false).await;
    raw.data(1, b"hello", false).await;
    raw.reset(1, Reason::CANCEL).await;
    let mut seen = Vec::new();
    let error = loop {
        match poll_fn(|cx| server.stream.poll_data(cx)).await {
            Ok(Step::Data) => seen.extend_from_slice(&server.stream.take(64)),
            Ok(Step::End) => unreachable!("taken for whole"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BodyError::Http2(_)), "{error:?}");
    assert!(seen.is_empty() || seen == b"hello");
}

#[tokio::test]
async fn the_end_of_the_connection_is_noticed_while_there_is_something_left_to_send() {
    let (raw, mut server) = first_request(&[], POST, true).await;
    server.respond();
    let (stream, ()) = (&mut server.stream, drop(raw));
    timeout(Duration::from_secs(5), poll_fn(|cx| stream.poll_reset(cx)))
        .await
        .expect("it is noticed");
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_until_each_side_ends() {
    let (mut raw, mut server) = first_request(&[], CONNECT, false).await;
    server.respond();
    let mut tunnel = Http2Tunnel::new(server.stream);
    raw.data(1, b"ping", false).await;
    let mut read = [0; 4];
    tunnel.read_exact(&mut read).await.expect("bytes");
    tunnel.write_all(&read).await.expect("room");
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
    assert_eq!(raw.next().await.expect("data").payload, &b"ping"[..]);
    raw.data(1, b"", true).await;
    assert_eq!(tunnel.read(&mut read).await.expect("an end"), 0);
    tunnel.write_all(b"last").await.expect("room");
    tunnel.shutdown().await.expect("it ends");
    drop(tunnel);
    assert_eq!(raw.next().await.expect("data").payload, &b"last"[..]);
    assert!(raw.next().await.expect("an end").ends_stream());
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_ends_and_one_that_is_cancelled_reads_as_ended() {
    let (mut raw, mut server) = first_request(&[], CONNECT, false).await;
    server.respond();
    let mut tunnel = Http2Tunnel::new(server.stream);
    tunnel.write_all(b"last").await.expect("room");
    drop(tunnel);
    drop(server.respond);
    let kinds = [raw.next().await, raw.next().await, raw.next().await, raw.next().await].map(|frame| {
        let frame = frame.expect("a frame");
        (frame.kind, frame.ends_stream())
    });
    // The client has not ended its side: it is told that nobody reads it any more.
    let expected = [(HEADERS, false), (DATA, false), (DATA, true), (RST_STREAM, false)];
    assert_eq!(kinds, expected);

    let (mut raw, mut server) = first_request(&[], CONNECT, false).await;
    server.respond();
    let mut tunnel = Http2Tunnel::new(server.stream);
    raw.reset(1, Reason::CANCEL).await;
    assert_eq!(tunnel.read(&mut [0; 4]).await.expect("an end"), 0);
}
