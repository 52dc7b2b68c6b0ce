//! The path that a request is judged, logged and sent by, in place of the one that the client wrote: see
//! `proto/src/decide/path.rs`. Both sides do it, for every request, before anything else looks at its path.

use tsunagi_proto::decide::normalized_path;

use crate::codec::RequestHead;

/// Nothing happens to a path that is as it should be. `CONNECT` has none, and `*` is none.
pub fn normalize(head: &mut RequestHead) -> Result<(), &'static str> {
    match normalized_path(head.path()) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => replace(head, path),
        Err(_) => Err("the request's path has a zero byte (%00)"),
    }
}

#[cold]
fn replace(head: &mut RequestHead, mut path: String) -> Result<(), &'static str> {
    if let Some(query) = head.query() {
        path.push('?');
        path.push_str(query);
    }
    // It is as long as a URI may be where it is escaped.
    if path.len() > usize::from(u16::MAX) - 1 || !head.target.set_path_and_query(&path) {
        return Err("the request's path is not one");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::parse_request;

    fn http1(line: &str) -> RequestHead {
        let mut head = RequestHead::default();
        let text = format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n");
        parse_request(text.as_bytes(), &mut head).expect("a head");
        head
    }

    fn http2(uri: &str) -> RequestHead {
        let request = http::Request::get(uri).body(()).expect("a request");
        RequestHead::from_http2(request.into_parts().0)
    }

    #[test]
    fn every_form_of_a_target_has_its_path_normalized_and_its_query_left() {
        for (mut head, wanted) in [
            (http1("GET /x/../a?b=/../c"), "/a?b=/../c"),
            (http1("GET http://u:1/x/../a?b=/../c"), "/a?b=/../c"),
            (http1("GET /a{\"<`>\"}?{\"<`>\"}"), "/a%7B%22%3C%60%3E%22%7D?{\"<`>\"}"),
            (http2("http://u:1/x/%2e%2e/%61?b=/../c"), "/a?b=/../c"),
            (http1("GET /x\\..?"), "/?"),
            (http1("GET http://u/.."), "/"),
            (http1("OPTIONS *"), "*"),
            (http1("CONNECT a:80"), ""),
        ] {
            let authority = head.authority().map(str::to_owned);
            assert_eq!(normalize(&mut head), Ok(()));
            assert_eq!(head.path_and_query(), wanted);
            assert_eq!(head.authority(), authority.as_deref());
        }
    }

    #[test]
    fn a_zero_byte_and_a_path_that_becomes_too_long_are_refused() {
        for mut head in [
            http1("GET /a%00b"),
            http2("http://u/a/%00/.."),
            http1(&format!("GET /{}", "<".repeat(30_000))),
        ] {
            assert!(normalize(&mut head).is_err());
        }
        let mut head = http1("GET /?%00");
        assert_eq!(normalize(&mut head), Ok(()));
    }
}
