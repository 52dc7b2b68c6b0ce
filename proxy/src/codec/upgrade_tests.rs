//! Tests of what heads say about upgrades.

use http::Request;

use super::*;
use crate::codec::{BodyLength, parse_request, parse_response};

fn asking(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let text = format!("GET /chat HTTP/1.1\r\nHost: a\r\n{text}\r\n");
    parse_request(text.as_bytes(), &mut head)
        .expect("a head")
        .expect("whole");
    head
}

fn extended_connect(protocol: &str) -> RequestHead {
    let request = Request::connect("http://a/chat?x=1").extension(h2::ext::Protocol::from(protocol));
    RequestHead::from_http2(request.body(()).expect("a request").into_parts().0)
}

fn written(head: &mut RequestHead) -> String {
    head.headers.remove_hop_by_hop();
    let mut out = Vec::new();
    head.write_http1(&mut out, BodyLength::None);
    String::from_utf8(out).expect("ASCII")
}

#[test]
fn only_an_upgrade_that_is_asked_for_in_earnest_is_one() {
    for (fields, expected) in [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", Some("websocket")),
        (
            "upgrade: SPDY/3.1\r\nconnection: keep-alive, upgrade\r\n",
            Some("SPDY/3.1"),
        ),
        (
            "Connection: Upgrade\r\nUpgrade: h2c, foo\r\nUpgrade: bar,\r\n",
            Some("foo, bar"),
        ),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/2.0, H2C\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: a b\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: \r\n", None),
        ("Connection: close\r\nUpgrade: websocket\r\n", None),
        ("Upgrade: websocket\r\n", None),
        ("X: Upgrade: websocket\r\n", None),
    ] {
        assert_eq!(asking(fields).asks_for().as_deref(), expected, "{fields}");
    }
    let mut old = asking("Connection: Upgrade\r\nUpgrade: websocket\r\n");
    old.version = Version::HTTP_10;
    assert_eq!(old.asks_for(), None, "HTTP/1.0 knows no upgrade");
}

#[test]
fn an_upgrade_is_written_once_and_nothing_of_it_stays_without() {
    let fields = "CONNECTION: keep-alive, Upgrade\r\nX-a: 1\r\nUPGRADE: websocket, h2c\r\n";
    let mut head = asking(fields);
    head.upgrade = head.asks_for();
    let with = "GET /chat HTTP/1.1\r\nHost: a\r\nX-a: 1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(written(&mut head), with);
    let mut head = asking(fields);
    assert_eq!(written(&mut head), "GET /chat HTTP/1.1\r\nHost: a\r\nX-a: 1\r\n\r\n");
}

#[test]
fn an_extended_connect_is_a_get_over_http_1_and_the_other_way_round() {
    let mut head = extended_connect("websocket");
    assert!(!head.is_bad_extended_connect());
    // As a rule sees it.
    assert_eq!(head.method, Method::GET);
    assert_eq!(head.headers.known(Known::Upgrade), Some(&b"websocket"[..]));
    let back = head.to_http2();
    assert_eq!((back.method(), back.uri().path()), (&Method::CONNECT, "/chat"));
    let text = "GET /chat?x=1 HTTP/1.1\r\nhost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(written(&mut head), text);

    let mut head = asking("Connection: Upgrade\r\nUpgrade: one, two\r\nContent-Length: 0\r\n");
    head.upgrade = head.asks_for();
    let request = head.to_http2();
    let protocol = request.extensions().get::<h2::ext::Protocol>().expect("a protocol");
    assert_eq!((request.method(), protocol.as_str()), (&Method::CONNECT, "one"));
    assert!(request.headers().is_empty(), "{:?}", request.headers());
}

#[test]
fn what_is_no_word_or_no_other_protocol_is_a_bad_extended_connect() {
    for protocol in ["", "h2c", "tls/1.3", "a b", "a,b", "x\r\nInjected: 1", "é"] {
        let head = extended_connect(protocol);
        assert!(head.is_bad_extended_connect(), "{protocol:?}");
        assert!(!head.headers.has(Known::Upgrade), "{protocol:?}");
    }
    assert!(!asking("").is_bad_extended_connect());
}

#[test]
fn a_websocket_key_is_answered_as_the_standard_says_and_a_missing_one_supplied() {
    let request = asking("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n");
    let mut response = ResponseHead::local(StatusCode::OK);
    assert!(!response.accepts_websocket(&request));
    response.accept_websocket(&request);
    let accept = response.headers.get(&WEBSOCKET_ACCEPT);
    assert_eq!(accept, Some(&b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="[..]));
    assert!(response.accepts_websocket(&request));

    let (mut one, mut other) = (asking(""), asking(""));
    one.add_websocket_key();
    other.add_websocket_key();
    let key = |head: &RequestHead| head.headers.get(&WEBSOCKET_KEY).map(<[u8]>::to_vec).unwrap_or_default();
    assert_eq!((key(&one).len(), key(&one) == key(&other)), (24, false));
    let before = key(&one);
    one.add_websocket_key();
    assert_eq!(key(&one), before, "it has one");
}

#[test]
fn an_endpoint_chooses_among_what_was_asked_for() {
    let answer = |fields: &str| {
        let mut head = ResponseHead::default();
        let text = format!("HTTP/1.1 101 Fine\r\n{fields}\r\n");
        parse_response(text.as_bytes(), &mut head)
            .expect("a head")
            .expect("whole");
        head
    };
    for (fields, expected) in [
        ("Upgrade: WebSocket\r\n", Some("WebSocket")),
        ("Upgrade: foo\r\n", Some("foo")),
        ("", Some("websocket")),
        ("Upgrade: h2c\r\n", None),
        ("Upgrade: foo, h2c\r\n", None),
        ("Upgrade: \r\n", None),
    ] {
        let chosen = answer(fields).switches_to("websocket, foo");
        assert_eq!(chosen.as_deref(), expected, "{fields}");
    }
    let mut out = Vec::new();
    let head = answer("Connection: upgrade\r\nUpgrade: foo\r\nContent-Length: 3\r\nX-A: 1\r\n");
    head.write_switching(&mut out, "foo");
    let text = "HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: foo\r\nX-A: 1\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&out), text);
}
