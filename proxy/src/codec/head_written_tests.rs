//! Heads as they leave, over either protocol.

use super::tests::{get, http2, ok, request, response};
use super::*;
use crate::codec::BodyLength;

fn sent(head: &RequestHead, length: BodyLength) -> String {
    let mut out = Vec::new();
    head.write_http1(&mut out, length);
    String::from_utf8(out).unwrap()
}

fn answered(head: &ResponseHead, length: BodyLength) -> String {
    let mut out = Vec::new();
    head.write_http1(&mut out, Version::HTTP_11, length, false);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_request_leaves_as_it_came() {
    let text = "POST /a?b HTTP/1.1\r\nHOST: X\r\ncontent-LENGTH: 5\r\nx-A: b\r\n\r\n";
    assert_eq!(sent(&request(text), BodyLength::Exact(5)), text);
    let text = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(sent(&request(text), BodyLength::None), text);
}

#[test]
fn an_absolute_target_replaces_the_host_header() {
    let head = request("GET http://real/x?y=1 HTTP/1.0\r\nA: b\r\nHost: other\r\nc: d\r\n\r\n");
    let text = "GET /x?y=1 HTTP/1.1\r\nhost: real\r\nA: b\r\nc: d\r\n\r\n";
    assert_eq!(sent(&head, BodyLength::None), text);
}

#[test]
fn a_request_says_its_length_once() {
    for (lines, length, written) in [
        ("", BodyLength::Exact(0), "content-length: 0\r\n"),
        ("", BodyLength::Exact(1234567890), "content-length: 1234567890\r\n"),
        ("", BodyLength::Chunked, "transfer-encoding: chunked\r\n"),
        ("", BodyLength::UntilClose, "transfer-encoding: chunked\r\n"),
        ("Content-Length: 5\r\n", BodyLength::Exact(5), "Content-Length: 5\r\n"),
        (
            "Content-Length: 5\r\nContent-length: 5\r\n",
            BodyLength::Exact(5),
            "content-length: 5\r\n",
        ),
        ("Content-Length: 5\r\n", BodyLength::Exact(6), "content-length: 6\r\n"),
        (
            "Content-Length: 5\r\n",
            BodyLength::Chunked,
            "transfer-encoding: chunked\r\n",
        ),
        ("Content-Length: 5\r\n", BodyLength::None, ""),
        ("Content-Length: 0\r\n", BodyLength::None, "Content-Length: 0\r\n"),
        (
            "Transfer-Encoding: chunked\r\n",
            BodyLength::Chunked,
            "transfer-encoding: chunked\r\n",
        ),
    ] {
        let text = sent(&get(lines), length);
        assert_eq!(
            text,
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{written}\r\n"),
            "{lines:?} {length:?}"
        );
    }
}

#[test]
fn a_request_from_http2_gets_host_and_a_length_where_a_body_is_usual() {
    let head = http2(
        http::Request::post("http://h:1/x")
            .header("a", "b")
            .header("host", "other"),
    );
    let text = "POST /x HTTP/1.1\r\nhost: h:1\r\na: b\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(sent(&head, BodyLength::None), text);
    let head = http2(http::Request::get("http://h?x"));
    assert_eq!(sent(&head, BodyLength::None), "GET /?x HTTP/1.1\r\nhost: h\r\n\r\n");
}

#[test]
fn http2_gets_pseudo_headers_in_place_of_host() {
    for (text, uri) in [
        (
            "GET /x?y HTTP/1.1\r\nHost: user:80\r\nA: b\r\n\r\n",
            "http://user:80/x?y",
        ),
        (
            "GET https://real HTTP/1.1\r\nHost: other\r\nA: b\r\n\r\n",
            "https://real/",
        ),
        ("GET /://x HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", "http://h/://x"),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n", "http://h*"),
    ] {
        let request = request(text).to_http2();
        assert_eq!(request.uri().to_string(), uri, "{text:?}");
        assert_eq!((request.version(), request.headers().len()), (Version::HTTP_2, 1));
    }
    let again = http2(
        http::Request::put("http://h/x")
            .header("host", "other")
            .header("a", "b"),
    )
    .to_http2();
    assert_eq!(
        (again.method(), again.uri().to_string().as_str()),
        (&Method::PUT, "http://h/x")
    );
    assert_eq!(again.headers().len(), 1);
}

#[test]
fn a_response_leaves_as_it_came() {
    for (text, length) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-a: B\r\n\r\n",
            BodyLength::Exact(5),
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-length: 5\r\n\r\n",
            BodyLength::Exact(5),
        ),
        ("HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n", BodyLength::Exact(0)),
        ("HTTP/1.1 299 \r\ncontent-length: 0\r\n\r\n", BodyLength::Exact(0)),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
            BodyLength::None,
        ),
    ] {
        assert_eq!(answered(&response(text), length), text);
    }
}

#[test]
fn a_response_is_framed_for_what_follows() {
    for (lines, length, written) in [
        ("", BodyLength::Exact(7), "content-length: 7\r\n"),
        ("", BodyLength::Chunked, "transfer-encoding: chunked\r\n"),
        ("", BodyLength::UntilClose, "connection: close\r\n"),
        (
            "Content-Length: 5, 5\r\n",
            BodyLength::Exact(5),
            "content-length: 5\r\n",
        ),
        (
            "Content-Length: 5\r\n",
            BodyLength::Chunked,
            "transfer-encoding: chunked\r\n",
        ),
        ("Content-Length: 5\r\n", BodyLength::UntilClose, "connection: close\r\n"),
        ("Content-Length: 5\r\n", BodyLength::None, "Content-Length: 5\r\n"),
        ("Transfer-Encoding: chunked\r\n", BodyLength::None, ""),
    ] {
        let text = answered(&ok(lines), length);
        assert_eq!(
            text,
            format!("HTTP/1.1 200 OK\r\n{written}\r\n"),
            "{lines:?} {length:?}"
        );
    }
    let nothing = response("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    for length in [BodyLength::None, BodyLength::Exact(0)] {
        assert_eq!(answered(&nothing, length), "HTTP/1.1 204 No Content\r\n\r\n");
    }
}

#[test]
fn the_client_is_told_how_its_connection_goes_on() {
    let told = |to, close| {
        let mut out = Vec::new();
        ok("Content-Length: 1\r\n").write_http1(&mut out, to, BodyLength::Exact(1), close);
        String::from_utf8(out).unwrap()
    };
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n";
    assert_eq!(told(Version::HTTP_11, false), format!("{head}\r\n"));
    assert_eq!(told(Version::HTTP_11, true), format!("{head}connection: close\r\n\r\n"));
    assert_eq!(told(Version::HTTP_10, true), format!("{head}connection: close\r\n\r\n"));
    assert_eq!(
        told(Version::HTTP_10, false),
        format!("{head}connection: keep-alive\r\n\r\n")
    );
}

#[test]
fn an_answer_of_our_own_is_written_for_either_protocol() {
    let mut head = ResponseHead::local(StatusCode::SERVICE_UNAVAILABLE);
    head.headers.set(
        &http::header::CONTENT_TYPE,
        &http::HeaderValue::from_static("text/plain"),
    );
    let text = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\n";
    assert_eq!(answered(&head, BodyLength::Exact(3)), text);
    let response = head.to_http2();
    assert_eq!((response.status().as_u16(), response.headers().len()), (503, 1));
}

#[test]
fn a_response_for_http2_is_a_lower_case_map() {
    let mut head = ok("X-Tag: 1\r\nx-tag: 2\r\n");
    let response = head.to_http2();
    assert_eq!(
        (response.version(), response.headers().get_all("x-tag").iter().count()),
        (Version::HTTP_2, 2)
    );
    assert!(head.headers.to_map().is_empty());
}

#[test]
fn http2_gets_a_repeated_length_once() {
    let request = request("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n").to_http2();
    let response = ok("Content-Length: 5, 5\r\n").to_http2();
    for headers in [request.headers(), response.headers()] {
        assert_eq!(headers.get_all("content-length").iter().collect::<Vec<_>>(), ["5"]);
    }
}
