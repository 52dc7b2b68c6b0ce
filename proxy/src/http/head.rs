//! Whom a request is for, and whether it may be repeated.

use std::borrow::Cow;

use http::{Method, Version};

use crate::codec::{Known, RequestHead};

/// Whom the request is for, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower-case, no port.
    pub host: Cow<'a, str>,
    pub port: Option<u16>,
    /// As sent.
    pub text: &'a str,
}

const UPPER_CASE: u8 = 1;
const FORBIDDEN: u8 = 2;

/// What a byte is in a host; every request's are looked up.
const HOST_BYTES: [u8; 256] = {
    let mut kinds = [FORBIDDEN; 256];
    let mut byte = 0;
    while byte < kinds.len() {
        kinds[byte] = match byte as u8 {
            b'A'..=b'Z' => UPPER_CASE,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'%' => 0,
            _ => FORBIDDEN,
        };
        byte += 1;
    }
    kinds
};

/// Splits `host[:port]`; refuses what is not that.
pub fn parse_authority(text: &str) -> Result<Authority<'_>, &'static str> {
    const BAD: &str = "the request's authority is not a host with an optional port";
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(BAD)?;
            match after.strip_prefix(':') {
                None if !after.is_empty() => return Err(BAD),
                port => (host, port),
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        None => None,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().map_err(|_| BAD)?),
        Some(_) => return Err(BAD),
    };
    let found = host
        .bytes()
        .fold(0, |found, byte| found | HOST_BYTES[usize::from(byte)]);
    if host.is_empty() || host.len() > 255 || found & FORBIDDEN != 0 {
        return Err(BAD);
    }
    // A fully qualified name may end in a dot.
    let host = host.strip_suffix('.').filter(|host| !host.is_empty()).unwrap_or(host);
    let host = if found & UPPER_CASE != 0 {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port, text })
}

/// The one authority of a request. In HTTP/1 an absolute target replaces `Host` (RFC 9112, 3.2.2).
pub fn authority(head: &RequestHead) -> Result<Authority<'_>, &'static str> {
    let mut hosts = head.headers.all(Known::Host);
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err("the request has more than one Host header");
    }
    if let Some(authority) = head.authority() {
        if authority.contains('@') {
            return Err("the request's authority has user information");
        }
        return parse_authority(authority);
    }
    let Some(host) = host else {
        return Err("the request has no Host header");
    };
    parse_authority(str::from_utf8(host).map_err(|_| "the Host header is not ASCII")?)
}

/// Of a request whose destination is known without it. HTTP/1.0 need not say any: then it is empty.
pub fn authority_if_any(head: &RequestHead) -> Result<Authority<'_>, &'static str> {
    let silent = head.version == Version::HTTP_10 && head.authority().is_none() && !head.headers.has(Known::Host);
    if silent {
        return Ok(Authority {
            host: Cow::Borrowed(""),
            port: None,
            text: "",
        });
    }
    authority(head)
}

/// A request's scheme ends up in what clients are told to follow: only those that requests have are taken.
pub fn check_scheme(head: &RequestHead) -> Result<(), &'static str> {
    let scheme = head.scheme();
    if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") || head.method == Method::CONNECT {
        return Ok(());
    }
    Err("the request's scheme is neither http nor https")
}

/// May the request be repeated although it might have been processed (RFC 9110, 9.2.2)?
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::parse_request;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        let parsed = |text| parse_authority(text).map(|a| (a.host.into_owned(), a.port));
        assert_eq!(parsed("User-Service"), Ok(("user-service".into(), None)));
        assert_eq!(parsed("a.b:80"), Ok(("a.b".into(), Some(80))));
        assert_eq!(parsed("a.b."), Ok(("a.b".into(), None)));
        assert_eq!(parsed("[::1]:8080"), Ok(("::1".into(), Some(8080))));
        for bad in [
            "", ":80", "a:b", "a:99999", "a b", "a/b", "[::1", "[::1]x", "a@b", "a:-1", "a:+1",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }

    fn head(build: http::request::Builder) -> RequestHead {
        RequestHead::from_http2(build.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn an_absolute_target_goes_before_the_host_header() {
        let head = head(http::Request::get("http://real/x?y=1").header("host", "other"));
        assert_eq!(authority(&head).expect("one authority").host, "real");
    }

    #[test]
    fn only_http_1_0_may_say_nothing_where_it_need_not_say_anything() {
        let mut head = head(http::Request::get("/"));
        for (version, allowed) in [(Version::HTTP_10, true), (Version::HTTP_11, false)] {
            head.version = version;
            assert!(authority(&head).is_err());
            assert_eq!(authority_if_any(&head).is_ok_and(|it| it.host.is_empty()), allowed);
        }
    }

    #[test]
    fn only_http_and_https_are_schemes_of_a_request() {
        let http1 = |target: &str| {
            let mut head = RequestHead::default();
            let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            parse_request(text.as_bytes(), &mut head).expect("a head");
            head
        };
        for target in ["http://a/", "https://a/", "HTTPS://a/"] {
            assert_eq!(check_scheme(&head(http::Request::get(target))), Ok(()), "{target}");
            assert_eq!(check_scheme(&http1(target)), Ok(()), "{target}");
        }
        for target in ["javascript://a/", "ftp://a/", "httpss://a/"] {
            assert!(check_scheme(&head(http::Request::get(target))).is_err(), "{target}");
            assert!(check_scheme(&http1(target)).is_err(), "{target}");
        }
        assert_eq!(check_scheme(&http1("/javascript://a/")), Ok(()));
        assert_eq!(check_scheme(&head(http::Request::connect("a:80"))), Ok(()));
    }

    #[test]
    fn two_host_headers_or_none_are_refused() {
        assert!(authority(&head(http::Request::get("/"))).is_err());
        assert!(authority(&head(http::Request::get("/").header("host", "a").header("host", "b"))).is_err());
    }
}
