//! Header fields in both forms: what one does, the other does too.

use http::header;

use super::*;
use crate::codec::{RequestHead, parse_request};

/// As a client would send them.
fn raw(lines: &str) -> Headers {
    let mut head = RequestHead::default();
    let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
    assert_eq!(parse_request(text.as_bytes(), &mut head), Ok(Some(text.len())));
    head.headers
}

fn both(lines: &str) -> [Headers; 2] {
    [raw(lines), Headers::Map(raw(lines).to_map())]
}

fn written(headers: &Headers) -> String {
    let mut out = Vec::new();
    headers.write(&mut out);
    String::from_utf8(out).unwrap()
}

fn name(text: &str) -> HeaderName {
    text.parse().unwrap()
}

fn value(text: &'static str) -> HeaderValue {
    HeaderValue::from_static(text)
}

fn values(headers: &Headers, of: &str) -> Vec<String> {
    let of = name(of);
    let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
    Fields::values(headers, &of).map(text).collect()
}

#[test]
fn every_name_is_told_but_of_what_was_removed() {
    for mut headers in both("Host: a\r\nX-Tag: 1\r\nx-tag: 2\r\nX-Gone: 3\r\n") {
        headers.remove(&name("x-gone"));
        headers.append(&name("x-new"), &value("4"));
        let lower = |name: &[u8]| String::from_utf8(name.to_ascii_lowercase()).unwrap();
        let mut names: Vec<String> = Fields::names(&headers).map(lower).collect();
        names.sort();
        names.dedup();
        assert_eq!(names, ["host", "x-new", "x-tag"]);
    }
}

#[test]
fn spelling_order_and_repetition_leave_as_they_came() {
    let lines = "HOST: a\r\nx-B: 2\r\nX-a: 1\r\nx-b: 3\r\ncontent-TYPE: text/plain\r\n";
    assert_eq!(written(&raw(lines)), lines);
}

#[test]
fn odd_white_space_and_line_ends_leave_in_the_usual_form() {
    let lines = "a:1\r\nb: 2\r\nc:\t3\r\nd:  4 \r\ne: 5\nf: 6\r\ng:\r\nh: \r\ni: 9 \nj: 0\r\n";
    let usual = "a: 1\r\nb: 2\r\nc: 3\r\nd: 4\r\ne: 5\r\nf: 6\r\ng: \r\nh: \r\ni: 9\r\nj: 0\r\n";
    assert_eq!(written(&raw(lines)), usual);
}

#[test]
fn values_are_found_whatever_the_spelling_and_in_order() {
    for headers in both("Host: a\r\nX-Tag: 1\r\nx-tag: 2\r\nCONTENT-length: 5\r\n") {
        assert_eq!(headers.get(&header::HOST), Some(&b"a"[..]));
        assert_eq!(headers.get(&name("x-tag")), Some(&b"1"[..]));
        assert_eq!(values(&headers, "x-tag"), ["1", "2"]);
        assert_eq!(headers.known(Known::ContentLength), Some(&b"5"[..]));
        assert!(headers.contains(&header::CONTENT_LENGTH) && !headers.contains(&header::TE));
        assert!(Fields::has(&headers, &name("x-tag")) && !Fields::has(&headers, &name("x-ta")));
        assert_eq!(headers.get(&name("x-tah")), None);
        assert_eq!(headers.known(Known::Te), None);
    }
}

#[test]
fn edits_do_the_same_to_either_form() {
    for mut headers in both("Host: a\r\nX-Tag: 1\r\nx-tag: 2\r\nUser-Agent: u\r\nX-Kept: k\r\n") {
        headers.append(&name("x-tag"), &value("3"));
        assert_eq!(values(&headers, "x-tag"), ["1", "2", "3"]);
        headers.set(&name("x-tag"), &value("only"));
        assert_eq!(values(&headers, "x-tag"), ["only"]);
        headers.append(&name("x-tag"), &value("more"));
        assert_eq!(values(&headers, "x-tag"), ["only", "more"]);
        headers.remove(&name("x-tag"));
        assert!(values(&headers, "x-tag").is_empty());
        headers.remove(&header::USER_AGENT);
        assert!(!headers.contains(&header::USER_AGENT));
        headers.set(&header::USER_AGENT, &value("other"));
        assert_eq!(headers.known(Known::UserAgent), Some(&b"other"[..]));
        headers.remove(&name("never-there"));
        let text = written(&headers).to_ascii_lowercase();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["host: a", "user-agent: other", "x-kept: k"]);
    }
}

#[test]
fn rules_are_applied_to_raw_fields() {
    let mut headers = raw("X-Old: 1\r\nX-Set: 1\r\nx-set: 2\r\nX-Add: 1\r\n");
    let operations = tsunagi_proto::model::HeaderOperations {
        remove: vec![name("x-old")],
        set: vec![(name("x-set"), value("new").into())],
        add: vec![(name("x-add"), value("2").into())],
    };
    operations.apply(&mut headers, |_, _, _| {});
    assert_eq!(written(&headers), "X-Add: 1\r\nx-set: new\r\nx-add: 2\r\n");
}

#[test]
fn headers_of_one_hop_end_here_and_te_keeps_only_trailers() {
    let lines = "Connection: close, X-Secret, host, te, content-length\r\nHost: a\r\nContent-Length: 1\r\nx-secret: 1\r\n\
                 X-Secret: 2\r\nKeep-Alive: timeout=1\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
                 TE: gzip, Trailers\r\nX-Kept: 1\r\n";
    for mut headers in both(lines) {
        headers.remove_hop_by_hop();
        let map = headers.to_map();
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "te", "x-kept"]);
        assert_eq!(map["te"], "trailers");
    }
}

#[test]
fn a_te_that_is_just_trailers_stays_as_it_is_and_others_go() {
    for (sent, left) in [
        ("TE: Trailers\r\n", "TE: Trailers\r\n"),
        ("TE: gzip\r\n", ""),
        ("TE: gzip\r\nte: trailers\r\n", "te: trailers\r\n"),
        ("TE: trailers\r\nte: gzip\r\n", "te: trailers\r\n"),
        ("te: trailersx\r\n", ""),
    ] {
        let mut headers = raw(sent);
        headers.remove_hop_by_hop();
        assert_eq!(written(&headers), left, "{sent}");
    }
}

#[test]
fn a_length_that_transfer_encoding_overrides_ends_with_it() {
    for mut headers in both("Content-Length: 5\r\nTransfer-Encoding: chunked\r\nX: 1\r\n") {
        headers.remove_hop_by_hop();
        assert_eq!(written(&headers).to_ascii_lowercase(), "x: 1\r\n");
    }
}

#[test]
fn connection_names_fields_that_the_proxy_knows_and_that_rules_added() {
    let mut headers = raw("connection: user-agent ,, x-added,X-Twice\r\nUser-Agent: u\r\nx-twice: 1\r\n");
    headers.append(&name("x-added"), &value("1"));
    headers.append(&name("x-kept"), &value("1"));
    headers.remove_hop_by_hop();
    assert_eq!(written(&headers), "x-kept: 1\r\n");
    assert_eq!(headers.known(Known::UserAgent), None);
}

#[test]
fn what_is_excepted_is_not_written_wherever_it_is() {
    let except = KnownSet::of(&[Known::Host, Known::ContentLength]);
    for (lines, left) in [
        ("Host: a\r\nx: 1\r\ny: 2\r\n", "x: 1\r\ny: 2\r\n"),
        ("x: 1\r\nHost: a\r\ny: 2\r\n", "x: 1\r\ny: 2\r\n"),
        ("x: 1\r\ny: 2\r\nContent-Length: 1\r\n", "x: 1\r\ny: 2\r\n"),
        ("Host: a\r\ncontent-length: 1\r\n", ""),
        ("x:1\r\nhost:a\r\ny: 2\r\n", "x: 1\r\ny: 2\r\n"),
    ] {
        for headers in both(lines) {
            let mut out = Vec::new();
            headers.write_except(&mut out, except);
            assert_eq!(String::from_utf8(out).unwrap(), left);
        }
    }
}

#[test]
fn http2_gets_a_lower_case_map_with_repetitions() {
    let mut headers = raw("Host: a\r\nX-Tag: 1\r\nx-TAG: 2\r\nEmpty:\r\n");
    headers.append(&name("x-tag"), &value("3"));
    let map = headers.to_map();
    assert_eq!(map.len(), 5);
    assert_eq!(map.get_all("x-tag").iter().collect::<Vec<_>>(), ["1", "2", "3"]);
    assert_eq!(map["empty"], "");
    assert_eq!(headers.take_map(), map);
    assert!(headers.take_map().is_empty());
}

#[test]
fn values_for_http2_are_the_same_in_one_buffer_of_their_own() {
    let read = bytes::Bytes::from(vec![b'x'; 8192]);
    let mut sent = HeaderMap::new();
    for (name, range) in [("a", 0..3), ("b", 10..10), ("c", 100..200)] {
        let value = HeaderValue::from_maybe_shared(read.slice(range)).unwrap();
        sent.append(name, value);
    }
    let mut headers = Headers::Map(sent.clone());
    let copy = headers.to_map();
    let taken = headers.take_map();
    assert_eq!((&copy, &taken), (&sent, &sent));
    drop(sent);
    assert!(read.is_unique(), "a value still holds the buffer it was read into");
}

#[test]
fn a_cookie_that_came_in_pieces_is_one_line_in_http1() {
    let mut map = HeaderMap::new();
    for piece in ["a=1", "b=2", "c=3"] {
        map.append(header::COOKIE, value(piece));
    }
    map.append("x", value("1"));
    map.append("x", value("2"));
    assert_eq!(written(&Headers::Map(map)), "cookie: a=1; b=2; c=3\r\nx: 1\r\nx: 2\r\n");
}
