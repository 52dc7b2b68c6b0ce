//! Heads: what is read, what is refused and why.

use super::*;
use crate::codec::BodyLength;

pub(super) fn request(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    assert_eq!(
        parse_request(text.as_bytes(), &mut head),
        Ok(Some(text.len())),
        "{text:?}"
    );
    head
}

pub(super) fn response(text: &str) -> ResponseHead {
    let mut head = ResponseHead::default();
    assert_eq!(
        parse_response(text.as_bytes(), &mut head),
        Ok(Some(text.len())),
        "{text:?}"
    );
    head
}

fn refused(text: &str) -> &'static str {
    match parse_request(text.as_bytes(), &mut RequestHead::default()) {
        Err(HeadError::Bad(reason)) => reason,
        other => panic!("{text:?} was not refused: {other:?}"),
    }
}

pub(super) fn get(lines: &str) -> RequestHead {
    request(&format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n"))
}

pub(super) fn ok(lines: &str) -> ResponseHead {
    response(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n"))
}

pub(super) fn http2(request: http::request::Builder) -> RequestHead {
    RequestHead::from_http2(request.version(Version::HTTP_2).body(()).unwrap().into_parts().0)
}

#[test]
fn a_request_is_read_up_to_its_empty_line() {
    let text = "POST /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\nbody";
    let mut head = RequestHead::default();
    let length = parse_request(text.as_bytes(), &mut head).unwrap().unwrap();
    assert_eq!(&text[length..], "body");
    assert_eq!((&head.method, head.version), (&Method::POST, Version::HTTP_11));
    assert_eq!((head.path(), head.query()), ("/a/b", Some("c=d")));
    assert_eq!((head.path_and_query(), head.authority()), ("/a/b?c=d", None));
}

#[test]
fn empty_lines_before_a_head_are_passed_over() {
    assert_eq!(request("\r\n\r\nGET / HTTP/1.1\r\n\r\n").path(), "/");
    assert_eq!(parse_request(b"\r\n\r\n", &mut RequestHead::default()), Ok(None));
}

#[test]
fn a_head_that_is_cut_anywhere_is_incomplete() {
    let requests = "\r\nPATCH http://h:1/a?b HTTP/1.0\r\nHost: x\r\nA:\r\nB: c d \r\n\r\n";
    let responses = "HTTP/1.1 404 Not here\r\nHost: x\r\nA:\r\nB: c d \r\n\r\n";
    for at in 0..requests.len() {
        let parsed = parse_request(&requests.as_bytes()[..at], &mut RequestHead::default());
        assert_eq!(parsed, Ok(None), "{at}");
    }
    for at in 0..responses.len() {
        let parsed = parse_response(&responses.as_bytes()[..at], &mut ResponseHead::default());
        assert_eq!(parsed, Ok(None), "{at}");
    }
    request(requests);
    assert_eq!(response(responses).reason.as_deref(), Some("Not here"));
}

#[test]
fn a_head_can_be_read_over_another() {
    let mut head = http2(http::Request::post("http://h/long/path?q").header("x", "1"));
    for text in [
        "GET http://other/x HTTP/1.0\r\nContent-Length: 3\r\nY: 1\r\n\r\n",
        "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        parse_request(text.as_bytes(), &mut head).unwrap();
    }
    assert_eq!((&head.method, head.path_and_query()), (&Method::DELETE, "/"));
    assert_eq!((head.authority(), head.is_http2()), (None, false));
    assert_eq!(head.headers.to_map().len(), 1);
    assert_eq!(head.body_length(), Ok(BodyLength::None));
    let mut head = response("HTTP/1.1 200 Fine\r\nX: 1\r\n\r\n");
    parse_response(b"HTTP/1.0 204 No Content\r\n\r\n", &mut head).unwrap();
    assert_eq!(
        (head.status.as_u16(), head.reason, head.version),
        (204, None, Version::HTTP_10)
    );
}

#[test]
fn every_form_of_target_is_understood_where_it_belongs() {
    for (line, authority, path_and_query, path) in [
        ("GET /", None, "/", "/"),
        ("GET /?", None, "/?", "/"),
        ("GET //x", None, "//x", "//x"),
        ("GET /a?b?c", None, "/a?b?c", "/a"),
        ("GET http://h:80/a?b", Some("h:80"), "/a?b", "/a"),
        ("GET HTTP://h", Some("h"), "/", "/"),
        ("GET http://h?x", Some("h"), "/?x", "/"),
        ("GET https://[::1]:1/", Some("[::1]:1"), "/", "/"),
        ("OPTIONS *", None, "*", "*"),
        ("OPTIONS /", None, "/", "/"),
        ("CONNECT h:443", Some("h:443"), "", ""),
        ("GET /a#b?c", None, "/a", "/a"),
        ("GET /a?b#c?d", None, "/a?b", "/a"),
        ("GET http://h/#b", Some("h"), "/", "/"),
        ("GET http://h#b", Some("h"), "/", "/"),
        ("GET http://h/<?\"", Some("h"), "/<?\"", "/<"),
        ("GET /caf\u{e9}?\u{e9}", None, "/caf\u{e9}?\u{e9}", "/caf\u{e9}"),
    ] {
        let head = request(&format!("{line} HTTP/1.1\r\n\r\n"));
        assert_eq!(head.authority(), authority, "{line}");
        assert_eq!((head.path_and_query(), head.path()), (path_and_query, path), "{line}");
    }
}

#[test]
fn every_other_target_is_refused() {
    for line in [
        "GET *",
        "GET h",
        "GET h:80",
        "GET x/y",
        "GET http:/h",
        "GET http://",
        "GET http:///x",
        "GET ?x",
        "CONNECT /x",
        "CONNECT *",
        "CONNECT http://h/",
        "GET http://a b/",
        "GET http://a\\b/",
        "GET http://a\"b/",
        "GET http://#b",
        "GET #b",
        "GET /a#b\u{1}",
        "GET /?\t",
        "GET  /",
        "GET /a b",
    ] {
        refused(&format!("{line} HTTP/1.1\r\n\r\n"));
    }
}

#[test]
fn a_target_takes_every_byte_that_can_be_seen_and_no_other_of_ascii() {
    for byte in (0..0x80_u8).filter(|byte| !b"\r\n#".contains(byte)) {
        for text in [format!("/a{}b", char::from(byte)), format!("/?{}b", char::from(byte))] {
            let line = format!("GET {text} HTTP/1.1\r\n\r\n");
            let mut head = RequestHead::default();
            let taken = parse_request(line.as_bytes(), &mut head).is_ok();
            assert_eq!(taken, byte.is_ascii_graphic(), "{text:?}");
            assert!(!taken || head.path_and_query() == text, "{text:?}");
        }
    }
}

#[test]
fn what_is_not_http_is_refused_with_a_reason() {
    for (text, reason) in [
        ("GET / HTTP/2.0\r\n\r\n", "the version is neither HTTP/1.1 nor HTTP/1.0"),
        (
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "a header's name has a forbidden character",
        ),
        (
            "GET / HTTP/1.1\r\n a: b\r\n\r\n",
            "a header's name has a forbidden character",
        ),
        (
            "GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n",
            "a header's name has a forbidden character",
        ),
        (
            "GET / HTTP/1.1\r\na: b\0c\r\n\r\n",
            "a header's value has a forbidden character",
        ),
        (
            "GET / HTTP/1.1\r\na: b\rc\r\n\r\n",
            "a header's value has a forbidden character",
        ),
        ("G@T / HTTP/1.1\r\n\r\n", "the request line is malformed"),
        ("GET /\r\n\r\n", "the request line is malformed"),
        ("GET /\x7f HTTP/1.1\r\n\r\n", "the request line is malformed"),
    ] {
        assert_eq!(refused(text), reason, "{text:?}");
    }
    let mut head = ResponseHead::default();
    assert!(parse_response(b"HTTP/1.1 099 x\r\n\r\n", &mut head).is_err());
    assert!(parse_response(b"HTTP/1.1 2000 x\r\n\r\n", &mut head).is_err());
}

#[test]
fn a_head_has_at_most_100_fields_and_64_kib() {
    let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert_eq!(request(&fields(100)).headers.to_map().len(), 100);
    let parse = |text: &str| parse_request(text.as_bytes(), &mut RequestHead::default());
    assert_eq!(parse(&fields(101)), Err(HeadError::TooLarge));
    let sized = |bytes: usize| {
        let rest = "GET / HTTP/1.1\r\na: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(bytes - rest))
    };
    let largest = request(&sized(MAX_HEAD_BYTES));
    assert_eq!(largest.headers.to_map()["a"].len(), MAX_HEAD_BYTES - 23);
    let mut out = Vec::new();
    largest.write_http1(&mut out, BodyLength::None);
    assert_eq!(out, sized(MAX_HEAD_BYTES).as_bytes());
    assert_eq!(parse(&sized(MAX_HEAD_BYTES + 1)), Err(HeadError::TooLarge));
    assert_eq!(parse(&sized(MAX_HEAD_BYTES + 9)[..MAX_HEAD_BYTES]), Ok(None));
    assert_eq!(
        parse(&sized(MAX_HEAD_BYTES + 9)[..=MAX_HEAD_BYTES]),
        Err(HeadError::TooLarge)
    );
}

#[test]
fn one_thing_says_where_a_request_ends_and_nothing_means_at_once() {
    let length = |lines: &str| get(lines).body_length();
    assert_eq!(length(""), Ok(BodyLength::None));
    assert_eq!(length("Content-Length: 0\r\n"), Ok(BodyLength::Exact(0)));
    assert_eq!(length("content-length:  0042 \r\n"), Ok(BodyLength::Exact(42)));
    assert_eq!(
        length("Content-Length: 5\r\nContent-Length: 5\r\n"),
        Ok(BodyLength::Exact(5))
    );
    assert_eq!(
        length("Content-Length: 9223372036854775807\r\n"),
        Ok(BodyLength::Exact(i64::MAX as u64))
    );
    assert_eq!(length("Transfer-Encoding: Chunked\r\n"), Ok(BodyLength::Chunked));
}

#[test]
fn a_request_that_is_not_certain_where_it_ends_is_refused() {
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 9223372036854775808\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
    ] {
        let text = format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut head = RequestHead::default();
        let parsed = parse_request(text.as_bytes(), &mut head);
        assert!(parsed.is_err() || head.body_length().is_err(), "{lines:?}");
    }
    let both = get("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n").body_length();
    let reason = "the request has both Transfer-Encoding and Content-Length";
    assert_eq!(both, Err(HeadError::Bad(reason)));
    let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert!(old.body_length().is_err());
}

#[test]
fn a_response_ends_as_the_request_and_its_status_say() {
    let length = |lines: &str| ok(lines).body_length(&Method::GET);
    assert_eq!(length(""), Ok(BodyLength::UntilClose));
    assert_eq!(length("Content-Length: 5\r\n"), Ok(BodyLength::Exact(5)));
    assert_eq!(
        length("Content-Length: 5, 5\r\nContent-Length:5\r\n"),
        Ok(BodyLength::Exact(5))
    );
    assert!(length("Content-Length: 5, 6\r\n").is_err());
    assert!(length("Content-Length: 5,\r\n").is_err());
    assert_eq!(length("Transfer-Encoding: chunked\r\n"), Ok(BodyLength::Chunked));
    assert_eq!(
        length("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        Ok(BodyLength::Chunked)
    );
    assert!(length("Transfer-Encoding: gzip\r\n").is_err());
    assert!(length("Transfer-Encoding: gzip, chunked\r\n").is_err());
    let head = ok("Content-Length: 5\r\nTransfer-Encoding: gzip\r\n");
    assert_eq!(head.body_length(&Method::HEAD), Ok(BodyLength::None));
    assert_eq!(head.body_length(&Method::CONNECT), Ok(BodyLength::None));
    for status in [100, 103, 204, 304] {
        let head = response(&format!("HTTP/1.1 {status} x\r\nContent-Length: 5\r\n\r\n"));
        assert_eq!(head.body_length(&Method::GET), Ok(BodyLength::None), "{status}");
    }
    assert!(
        response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .body_length(&Method::GET)
            .is_err()
    );
}

#[test]
fn http2_frames_its_bodies_itself() {
    let head = http2(http::Request::post("http://h/").header("content-length", "7"));
    assert_eq!(head.body_length(), Ok(BodyLength::Exact(7)));
    assert_eq!(
        http2(http::Request::post("http://h/")).body_length(),
        Ok(BodyLength::UntilClose)
    );
    let local = ResponseHead::local(StatusCode::OK);
    assert_eq!(local.body_length(&Method::GET), Ok(BodyLength::UntilClose));
}

#[test]
fn a_connection_goes_on_as_version_and_connection_say() {
    let keeps = |version: &str, lines: &str| request(&format!("GET / HTTP/{version}\r\n{lines}\r\n")).keeps_alive();
    assert!(keeps("1.1", ""));
    assert!(!keeps("1.0", ""));
    assert!(!keeps("1.1", "Connection: x, Close\r\n"));
    assert!(!keeps("1.1", "Connection: keep-alive\r\nConnection: close\r\n"));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, \u{e9}\r\n"));
    assert!(!keeps("1.1", "Connection: close, \u{e9}\r\n"));
    assert!(http2(http::Request::get("http://h/").header("connection", "close")).keeps_alive());
    assert!(ok("").keeps_alive());
    assert!(!ok("Connection: close\r\n").keeps_alive());
    assert!(!ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n").keeps_alive());
}

#[test]
fn only_http_1_1_waits_for_100() {
    assert!(get("Expect: 100-Continue\r\n").expects_continue());
    assert!(!get("Expect: 200-ok\r\n").expects_continue());
    assert!(!get("").expects_continue());
    assert!(!request("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").expects_continue());
}

#[test]
fn random_bytes_are_refused_or_incomplete_but_never_a_panic() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let words: [&[u8]; 16] = [
        b"GET ",
        b"/",
        b" HTTP/1.1\r\n",
        b"\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b": ",
        b"Host",
        b"\n",
        b"*",
        b"http://",
        b"a",
        b"Content-Length: 5\r\n",
        b"Connection: ",
        b",",
        b"?",
        b"\xff",
    ];
    let (mut request, mut response) = (RequestHead::default(), ResponseHead::default());
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..next() % 24 {
            match next() % 8 {
                0 => bytes.push(next() as u8),
                _ => bytes.extend_from_slice(words[next() as usize % words.len()]),
            }
        }
        if let Ok(Some(_)) = parse_request(&bytes, &mut request) {
            let _ = (request.body_length(), request.keeps_alive(), request.to_http2());
            request.headers.remove_hop_by_hop();
            let text = sent_bytes(&request);
            let length = parse_request(&text, &mut RequestHead::default());
            assert_eq!(length, Ok(Some(text.len())), "{bytes:?}");
        }
        if let Ok(Some(_)) = parse_response(&bytes, &mut response) {
            let _ = response.body_length(&Method::GET);
            response.headers.remove_hop_by_hop();
            let mut out = Vec::new();
            response.write_http1(&mut out, Version::HTTP_11, BodyLength::Chunked, true);
            let length = parse_response(&out, &mut ResponseHead::default());
            assert_eq!(length, Ok(Some(out.len())), "{bytes:?}");
        }
    }
}

/// CONNECT has no path to write.
fn sent_bytes(head: &RequestHead) -> Vec<u8> {
    let mut out = Vec::new();
    match head.method {
        Method::CONNECT => out.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n"),
        _ => head.write_http1(&mut out, BodyLength::None),
    }
    out
}
