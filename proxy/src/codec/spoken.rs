//! What a connection's first bytes say it speaks.

use super::client_hello::{MaybeHello, may_be_client_hello, parse_client_hello};

pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A request line without an end that is longer than this is none.
const LONGEST_LINE_BYTES: usize = 8 * 1024;
const LONGEST_METHOD_BYTES: usize = 24;
/// With a path behind it, no more is needed to know: other protocols have commands of capital letters too.
const METHODS: [&[u8]; 8] = [
    b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    Http1,
    Http2,
    /// Bytes to be passed on, of which the first are a client's hello.
    Tls,
    /// Anything else: bytes to be passed on.
    Bytes,
}

/// `None`: it may still become any of them.
pub fn recognise(read: &[u8]) -> Option<Spoken> {
    if read.starts_with(HTTP2_PREFACE) {
        return Some(Spoken::Http2);
    }
    if HTTP2_PREFACE.starts_with(read) {
        return None;
    }
    if may_be_client_hello(read) {
        return match parse_client_hello(read) {
            MaybeHello::Partial => None,
            MaybeHello::Not => Some(Spoken::Bytes),
            MaybeHello::Whole(_) => Some(Spoken::Tls),
        };
    }
    let method = read
        .iter()
        .take_while(|byte| byte.is_ascii_uppercase() || **byte == b'-')
        .count();
    let (method, rest) = read.split_at(method);
    match rest.split_first() {
        None => (method.len() > LONGEST_METHOD_BYTES).then_some(Spoken::Bytes),
        Some((b' ', target)) if !method.is_empty() => recognise_line(method, target),
        Some(_) => Some(Spoken::Bytes),
    }
}

fn recognise_line(method: &[u8], target: &[u8]) -> Option<Spoken> {
    if let Some(end) = target.iter().position(|byte| *byte == b'\n') {
        let line = target[..end].trim_ascii_end();
        let http = line.ends_with(b" HTTP/1.1") || line.ends_with(b" HTTP/1.0");
        return Some(if http { Spoken::Http1 } else { Spoken::Bytes });
    }
    if target.first() == Some(&b'/') && METHODS.contains(&method) {
        return Some(Spoken::Http1);
    }
    (target.len() > LONGEST_LINE_BYTES).then_some(Spoken::Bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::client_hello_for;

    #[test]
    fn first_bytes_say_what_is_spoken() {
        for (read, spoken) in [
            (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], Spoken::Http1),
            (b"GET /", Spoken::Http1),
            (b"M-SEARCH * HTTP/1.1\r\n", Spoken::Http1),
            (b"GET http://a/ HTTP/1.0\r\n", Spoken::Http1),
            (b"CONNECT a:443 HTTP/1.1\r\n", Spoken::Http1),
            (HTTP2_PREFACE, Spoken::Http2),
            (&client_hello_for("users"), Spoken::Tls),
            (b"\x16\x03\x01\x00\x00", Spoken::Bytes),
            (b"\x16\x16", Spoken::Bytes),
            (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Spoken::Bytes),
            (b"PING\r\n", Spoken::Bytes),
            (b"*1\r\n$4\r\nPING\r\n", Spoken::Bytes),
            (b"EHLO example.com\r\n", Spoken::Bytes),
            (b"CONNECT {\"verbose\":false}\r\n", Spoken::Bytes),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Spoken::Bytes),
            (b"GET /\r\n", Spoken::Bytes),
            (b" / HTTP/1.1\r\n", Spoken::Bytes),
            (&[b'A'; 100], Spoken::Bytes),
        ] {
            assert_eq!(recognise(read), Some(spoken), "{}", String::from_utf8_lossy(read));
        }
    }

    #[test]
    fn a_beginning_that_may_become_a_request_is_not_judged_yet() {
        for request in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"CONNECT a:443 HTTP/1.1\r\n",
            HTTP2_PREFACE,
            &client_hello_for("users"),
        ] {
            for length in 0..request.len() {
                assert_ne!(recognise(&request[..length]), Some(Spoken::Bytes), "{length}");
            }
        }
    }
}
