//! Downstream HTTP/2 over an in-memory stream, against a client of the `h2` crate.

use std::future::poll_fn;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::codec::http2_testing::{CONNECT, DATA, HEADERS, POST, RST_STREAM, Raw};
use crate::codec::{Transfer, Whole};

const LIMIT: Duration = Duration::from_secs(5);
/// `expect: 100-continue` without HPACK's tables.
const EXPECT: &[u8] = b"\x83\x86\x84\x41\x01a\x00\x06expect\x0c100-continue";

/// A client that speaks in frames, and its first request, as it is served.
async fn first_request(head: &[u8], end: bool) -> (Raw, Http2Downstream, Result<BodyLength, &'static str>) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let mut raw = Raw::client(theirs, &[]).await;
    raw.head(1, head, end).await;
    let mut connection = Builder::new().handshake(ours).await.expect("a handshake");
    let (request, respond) = connection.accept().await.expect("a request").expect("a good one");
    tokio::spawn(async move { while connection.accept().await.is_some() {} });
    let (parts, body) = request.into_parts();
    let mut client = Http2Downstream::new(body, respond);
    let length = client.begin(&RequestHead::from_http2(parts));
    (raw, client, length)
}

async fn gone(client: &mut Http2Downstream) -> bool {
    timeout(LIMIT, poll_fn(|cx| client.poll_gone(cx))).await.is_ok()
}

#[tokio::test]
async fn a_bodys_length_is_what_the_head_says_or_whether_anything_follows() {
    assert_eq!(first_request(POST, true).await.2, Ok(BodyLength::None));
    assert_eq!(first_request(POST, false).await.2, Ok(BodyLength::Chunked));
    let seven = [POST, b"\x5c\x017"].concat();
    assert_eq!(first_request(&seven, false).await.2, Ok(BodyLength::Exact(7)));
    let connect = [CONNECT, b"\x5c\x017"].concat();
    assert!(first_request(&connect, false).await.2.is_err());
}

#[tokio::test]
async fn a_response_without_a_body_is_one_frame_whatever_length_it_states() {
    let (mut raw, mut client, _) = first_request(POST, true).await;
    let mut head = ResponseHead::local(StatusCode::OK);
    head.headers
        .set(&header::CONTENT_LENGTH, &HeaderValue::from_static("7"));
    client.respond(&mut head, BodyLength::None, true).expect("it is sent");
    client.finish(None).expect("it has ended already");
    let frame = raw.next().await.expect("a head");
    assert!(frame.ends_stream());
    // `:status: 200`, then `content-length: 7`: its index in two bytes, a value of one.
    assert_eq!((frame.payload[0], frame.payload.len()), (0x88, 5), "{frame:?}");
}

#[tokio::test]
async fn a_known_length_is_stated() {
    let (mut raw, mut client, _) = first_request(POST, true).await;
    let mut head = ResponseHead::local(StatusCode::OK);
    client
        .respond(&mut head, BodyLength::Exact(5), false)
        .expect("it is sent");
    let (mut body, mut transfer) = (Whole(Bytes::from_static(b"hello")), Transfer::default());
    poll_fn(|cx| transfer.poll_flushed(&mut body, &mut client, cx))
        .await
        .expect("it is sent");
    let (head, data) = (raw.next().await.expect("a head"), raw.next().await.expect("data"));
    assert_eq!((head.kind, head.payload.len(), head.ends_stream()), (HEADERS, 5, false));
    assert_eq!((data.kind, data.ends_stream()), (DATA, true));
}

#[tokio::test]
async fn a_client_that_resets_or_disconnects_is_gone_before_and_after_the_head() {
    for responded in [false, true] {
        for disconnects in [false, true] {
            let (mut raw, mut client, _) = first_request(POST, true).await;
            if responded {
                let mut head = ResponseHead::local(StatusCode::OK);
                client
                    .respond(&mut head, BodyLength::Chunked, false)
                    .expect("it is sent");
            }
            let still = timeout(Duration::from_millis(1), poll_fn(|cx| client.poll_gone(cx))).await;
            assert!(still.is_err(), "gone too early");
            if disconnects {
                drop(raw);
            } else {
                raw.reset(1, Reason::CANCEL).await;
            }
            assert!(
                gone(&mut client).await,
                "responded {responded}, disconnects {disconnects}"
            );
        }
    }
}

#[tokio::test]
async fn a_response_that_is_aborted_is_reset() {
    let (mut raw, mut client, _) = first_request(POST, true).await;
    let mut head = ResponseHead::local(StatusCode::OK);
    client
        .respond(&mut head, BodyLength::Chunked, false)
        .expect("it is sent");
    assert_eq!(raw.next().await.map(|frame| frame.kind), Some(HEADERS));
    client.abort();
    let reset = raw.next().await.expect("a reset");
    assert_eq!(
        (reset.kind, reset.number()),
        (RST_STREAM, u32::from(Reason::INTERNAL_ERROR))
    );
}

#[tokio::test]
async fn a_client_that_asks_is_told_to_go_on_once_its_body_is_wanted() {
    let (mut raw, mut client, _) = first_request(EXPECT, false).await;
    client.tell_to_continue();
    client.tell_to_continue();
    let read = async {
        poll_fn(|cx| client.poll_data(cx)).await.expect("a body");
        client.take(64)
    };
    let asks = async {
        let interim = raw.next().await.expect("a word");
        assert_eq!((interim.kind, interim.ends_stream()), (HEADERS, false));
        raw.data(1, b"hello", true).await;
    };
    let (body, ()) = tokio::join!(read, asks);
    assert_eq!(&body[..], b"hello");
    let mut head = ResponseHead::local(StatusCode::OK);
    client.respond(&mut head, BodyLength::None, true).expect("it is sent");
    assert!(raw.next().await.expect("the answer").ends_stream());
}
