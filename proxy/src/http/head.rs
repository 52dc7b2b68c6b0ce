//! Request and response heads: what is refused as ambiguous, whom a request is for, and which headers end at a hop.

use std::borrow::Cow;

use bytes::BytesMut;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request};

/// Whom the request is for, as the client wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower-case, no port.
    pub host: Cow<'a, str>,
    pub port: Option<u16>,
    /// As sent.
    pub text: &'a str,
}

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
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:%".contains(&byte);
    if host.is_empty() || host.len() > 255 || !host.bytes().all(allowed) {
        return Err(BAD);
    }
    // A fully qualified name may end in a dot.
    let host = host.strip_suffix('.').filter(|host| !host.is_empty()).unwrap_or(host);
    let host = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    Ok(Authority { host, port, text })
}

/// The one authority of a request. In HTTP/1 an absolute target replaces `Host` (RFC 9112, 3.2.2).
pub fn authority(parts: &request::Parts) -> Result<Authority<'_>, &'static str> {
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err("the request has more than one Host header");
    }
    if let Some(authority) = parts.uri.authority() {
        if authority.as_str().contains('@') {
            return Err("the request's authority has user information");
        }
        return parse_authority(authority.as_str());
    }
    let Some(host) = host else {
        return Err("the request has no Host header");
    };
    parse_authority(host.to_str().map_err(|_| "the Host header is not ASCII")?)
}

/// Headers that concern one connection only (RFC 9110, 7.6.1). What `Connection` names goes with them.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    const HOP_BY_HOP: [HeaderName; 6] = [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("http2-settings"),
    ];
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // A sender must not list what routes or frames the message.
            .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TE)
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE)
        && !te.as_bytes().eq_ignore_ascii_case(b"trailers")
    {
        let trailers = te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|item| item.trim().eq_ignore_ascii_case("trailers")));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

/// May the request be repeated although it might have been processed (RFC 9110, 9.2.2)?
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// The head as an HTTP/1.1 endpoint expects it: origin form, `Host` first.
pub fn write_for_http1(parts: &mut request::Parts) {
    parts.version = Version::HTTP_11;
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    if parts.uri.authority().is_some() || parts.uri.scheme().is_some() {
        let path = parts.uri.path_and_query().cloned();
        parts.uri = path.map_or_else(Uri::default, |path| {
            let mut uri = http::uri::Parts::default();
            uri.path_and_query = Some(path);
            Uri::from_parts(uri).unwrap_or_default()
        });
    }
}

/// Gives the values a buffer of their own. HTTP/2 keeps the headers that it sent (HPACK's dynamic table), and each would
/// hold on to the whole buffer that it was read into: 8 KiB for a date, new every second.
pub fn detach(headers: &mut HeaderMap) {
    let total = headers.values().map(HeaderValue::len).sum();
    let mut buffer = BytesMut::with_capacity(total);
    for value in headers.values_mut() {
        buffer.extend_from_slice(value.as_bytes());
        if let Ok(mut own) = HeaderValue::from_maybe_shared(buffer.split().freeze()) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
}

/// The head as an HTTP/2 endpoint expects it: pseudo headers from an absolute target, no `Host`.
pub fn write_for_http2(parts: &mut request::Parts) {
    parts.version = Version::HTTP_2;
    detach(&mut parts.headers);
    let host = parts.headers.remove(header::HOST);
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    if uri.authority.is_none() {
        uri.authority = host.and_then(|host| http::uri::Authority::from_maybe_shared(host).ok());
    }
    uri.scheme.get_or_insert(Scheme::HTTP);
    uri.path_and_query
        .get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    parts.uri = Uri::from_parts(uri).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn parts(build: http::request::Builder) -> request::Parts {
        build.body(()).unwrap().into_parts().0
    }

    #[test]
    fn an_absolute_target_replaces_the_host_header() {
        let mut parts = parts(http::Request::get("http://real/x?y=1").header("host", "other"));
        assert_eq!(authority(&parts).unwrap().host, "real");
        write_for_http1(&mut parts);
        assert_eq!(parts.uri, "/x?y=1");
        assert_eq!(parts.headers["host"], "real");
    }

    #[test]
    fn two_host_headers_or_none_are_refused() {
        assert!(authority(&parts(http::Request::get("/"))).is_err());
        assert!(authority(&parts(http::Request::get("/").header("host", "a").header("host", "b"))).is_err());
    }

    #[test]
    fn http2_gets_pseudo_headers_in_place_of_host() {
        let mut parts = parts(http::Request::get("/x").header("host", "user:80"));
        write_for_http2(&mut parts);
        assert_eq!(parts.uri, "http://user:80/x");
        assert!(!parts.headers.contains_key("host"));
    }

    #[test]
    fn detached_values_are_the_same_in_one_buffer_of_their_own() {
        let read = bytes::Bytes::from(vec![b'x'; 8192]);
        let mut headers = HeaderMap::new();
        for (name, range) in [("a", 0..3), ("b", 10..10), ("c", 100..200)] {
            let value = HeaderValue::from_maybe_shared(read.slice(range)).unwrap();
            headers.append(name, value);
        }
        let before = headers.clone();
        detach(&mut headers);
        assert_eq!(headers, before);
        drop(before);
        assert!(read.is_unique(), "a value still holds the buffer it was read into");
    }

    #[test]
    fn headers_of_one_hop_end_here_and_te_keeps_only_trailers() {
        let request = http::Request::get("/")
            .header("connection", "close, x-secret, host")
            .header("host", "a")
            .header("x-secret", "1")
            .header("keep-alive", "timeout=1")
            .header("te", "gzip, trailers")
            .header("x-kept", "1");
        let mut headers = parts(request).headers;
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "te", "x-kept"]);
        assert_eq!(headers["te"], "trailers");
    }
}
