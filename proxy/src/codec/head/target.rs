//! A request's target: which of its four forms it has, and whether it belongs there (RFC 9112, 3.2).

use http::uri::PathAndQuery;
use http::{Method, Uri, uri};

use super::HeadError;
use crate::codec::message::{Target, TargetText};

/// What is kept from request to request.
const KEPT_BYTES: usize = 1024;

impl Target {
    pub(super) fn read(&mut self, method: &Method, text: &str) -> Result<(), HeadError> {
        if let Self::Uri(_) = self {
            *self = Self::Text(TargetText::default());
        }
        let Self::Text(target) = self else { return Ok(()) };
        target.clear();
        if *method == Method::CONNECT {
            target.read_authority(text)
        } else if text.starts_with('/') {
            let text = without_fragment(text)?;
            target.text.push_str(text);
            target.path_and_query = 0..text.len();
            Ok(())
        } else if text == "*" {
            if *method != Method::OPTIONS {
                return Err(HeadError::Bad("only OPTIONS may ask for *"));
            }
            target.text.push('*');
            target.path_and_query = 0..1;
            Ok(())
        } else {
            target.read_absolute(text)
        }
    }
}

impl Target {
    /// `http` unless it says another.
    pub fn scheme(&self) -> &str {
        let said = match self {
            Self::Text(target) if target.authority.start > 0 => target.text.split_once("://").map(|(scheme, _)| scheme),
            Self::Text(_) => None,
            Self::Uri(uri) => uri.scheme_str(),
        };
        said.unwrap_or("http")
    }

    /// Empty for CONNECT.
    pub fn path_and_query(&self) -> &str {
        match self {
            Self::Text(target) => &target.text[target.path_and_query.clone()],
            Self::Uri(uri) => uri.path_and_query().map_or("", PathAndQuery::as_str),
        }
    }

    /// Puts the path and query into the URI that was made of the target, where that cannot have them as they are: what it
    /// refuses in a query is escaped. `false`: they are too long for one.
    pub fn complete(&self, uri: &mut Uri) -> bool {
        let text = self.path_and_query();
        let is_there = uri.path_and_query().is_some_and(|taken| taken.as_str() == text);
        if is_there || text.is_empty() || matches!(self, Self::Uri(_)) {
            return true;
        }
        let escaped = text.replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
        let Ok(path) = escaped.parse() else { return false };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(path);
        replace(uri, parts)
    }

    pub fn authority(&self) -> Option<&str> {
        match self {
            Self::Text(target) => Some(&target.text[target.authority.clone()]).filter(|text| !text.is_empty()),
            Self::Uri(uri) => uri.authority().map(uri::Authority::as_str),
        }
    }

    /// In place of the one that was sent; `false`: it cannot stand there.
    pub fn set_path_and_query(&mut self, text: &str) -> bool {
        match self {
            Self::Text(target) => {
                if !is_path_and_query(text) {
                    return false;
                }
                target.text.truncate(target.path_and_query.start);
                target.text.push_str(text);
                target.path_and_query.end = target.text.len();
                true
            }
            Self::Uri(uri) => {
                let Ok(path) = text.parse() else { return false };
                let mut parts = uri.clone().into_parts();
                parts.path_and_query = Some(path);
                replace(uri, parts)
            }
        }
    }

    /// The same for the authority; `false`: it names none, and `Host` does.
    pub(super) fn set_authority(&mut self, text: &str) -> bool {
        match self {
            Self::Text(target) if target.authority.is_empty() => false,
            Self::Text(target) => {
                let (scheme, path) = (
                    &target.text[..target.authority.start],
                    &target.text[target.path_and_query.clone()],
                );
                let whole = format!("{scheme}{text}{path}");
                let start = target.authority.start;
                target.authority.end = start + text.len();
                target.path_and_query = target.authority.end..whole.len();
                target.text = whole;
                true
            }
            Self::Uri(uri) => {
                let Ok(authority) = text.parse() else { return false };
                let mut parts = uri.clone().into_parts();
                if parts.authority.is_none() {
                    return false;
                }
                parts.authority = Some(authority);
                replace(uri, parts)
            }
        }
    }
}

fn replace(uri: &mut Uri, parts: uri::Parts) -> bool {
    match Uri::from_parts(parts) {
        Ok(changed) => {
            *uri = changed;
            true
        }
        Err(_) => false,
    }
}

impl TargetText {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.authority = 0..0;
        self.path_and_query = 0..0;
        if self.text.capacity() > KEPT_BYTES {
            self.text.shrink_to(KEPT_BYTES);
        }
    }

    fn read_authority(&mut self, text: &str) -> Result<(), HeadError> {
        if text == "*" || text.parse::<uri::Authority>().is_err() {
            return Err(HeadError::Bad("CONNECT wants a host and a port"));
        }
        self.text.push_str(text);
        self.authority = 0..text.len();
        Ok(())
    }

    fn read_absolute(&mut self, text: &str) -> Result<(), HeadError> {
        const BAD: HeadError = HeadError::Bad("the target is neither a path nor an absolute URI");
        let text = without_fragment(text)?;
        let start = text.find("://").ok_or(BAD)? + "://".len();
        let end = text[start..]
            .find(['/', '?'])
            .map_or(text.len(), |length| start + length);
        let (named, path) = text.split_at(end);
        let uri: Uri = named.parse().map_err(|_| BAD)?;
        if uri.scheme().is_none()
            || uri
                .authority()
                .is_none_or(|authority| authority.as_str() != &named[start..])
        {
            return Err(BAD);
        }
        self.text.push_str(named);
        if !path.starts_with('/') {
            self.text.push('/');
        }
        self.text.push_str(path);
        self.authority = start..end;
        self.path_and_query = end..self.text.len();
        Ok(())
    }
}

/// Clients send more than `http::Uri` takes, and Envoy takes it; what could be read as the end of something is refused.
/// A fragment is not for the wire, and goes no further.
fn without_fragment(text: &str) -> Result<&str, HeadError> {
    if text.bytes().fold(false, |any, byte| any | is_blank_or_control(byte)) {
        return Err(HeadError::Bad(
            "the target has a character that must be percent-encoded",
        ));
    }
    Ok(text.split_once('#').map_or(text, |(target, _)| target))
}

fn is_blank_or_control(byte: u8) -> bool {
    byte <= b' ' || byte == 0x7f
}

/// The path is one that `http::Uri` takes, too; the query may be what a client may send.
fn is_path_and_query(text: &str) -> bool {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let is_bad = |byte| is_blank_or_control(byte) || byte == b'#';
    path.starts_with('/')
        && !path
            .bytes()
            .any(|byte| is_bad(byte) || matches!(byte, b'<' | b'>' | b'`'))
        && !query.bytes().any(is_bad)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use crate::codec::{RequestHead, parse_request};

    fn http1(text: &str) -> RequestHead {
        let mut head = RequestHead::default();
        parse_request(text.as_bytes(), &mut head).unwrap();
        head
    }

    fn http2(uri: &str) -> RequestHead {
        let request = http::Request::get(uri).body(()).unwrap();
        RequestHead::from_http2(request.into_parts().0)
    }

    #[test]
    fn a_path_is_replaced_in_every_form_of_a_target() {
        for mut head in [
            http1("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
            http1("GET https://x:1/a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
            http2("https://x:1/a?b"),
        ] {
            let (scheme, authority) = (head.scheme().to_owned(), head.authority().map(str::to_owned));
            assert!(head.target.set_path_and_query("/longer/than/before?c"));
            assert_eq!((head.path(), head.query()), ("/longer/than/before", Some("c")));
            assert!(head.target.set_path_and_query("/"));
            assert_eq!(head.path_and_query(), "/");
            assert_eq!((head.scheme(), head.authority()), (&*scheme, authority.as_deref()));
            for bad in ["", "no/slash", "/a b", "/a\r\nHost: y"] {
                assert!(
                    !head.target.set_path_and_query(bad) || head.path().starts_with('/'),
                    "{bad}"
                );
            }
        }
    }

    #[test]
    fn what_a_uri_does_not_take_in_a_query_is_escaped_for_http2() {
        for (target, wanted) in [
            ("/a?{\"b\":\"<c>\"}", "/a?{%22b%22:%22%3Cc%3E%22}"),
            ("http://y/a?\"", "/a?%22"),
            ("/a?`{}|^\\[]", "/a?`{}|^\\[]"),
            ("/", "/"),
        ] {
            let head = http1(&format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let mut uri = head.to_http2().uri().clone();
            assert!(head.target.complete(&mut uri));
            assert_eq!(uri.path_and_query().unwrap(), wanted);
            assert!(uri.authority().is_some() && uri.scheme_str() == Some("http"));
        }
        let long = format!("GET /?{} HTTP/1.1\r\nHost: x\r\n\r\n", "\"".repeat(30_000));
        let head = http1(&long);
        assert!(!head.target.complete(&mut head.to_http2().uri().clone()));
    }

    #[test]
    fn a_new_path_has_no_character_that_a_uri_refuses() {
        let mut head = http1("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        for byte in 0x21..0x7f_u8 {
            let path = format!("/a{}b", char::from(byte));
            let taken = byte != b'#' && path.parse::<http::Uri>().is_ok();
            assert_eq!(head.target.set_path_and_query(&path), taken, "{path}");
            let query = format!("/a?{}b", char::from(byte));
            assert_eq!(head.target.set_path_and_query(&query), byte != b'#', "{query}");
        }
    }

    #[test]
    fn an_authority_is_replaced_wherever_it_is_said() {
        let new = HeaderValue::from_static("new.example:81");
        for mut head in [
            http1("GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n"),
            http1("GET http://x:1/a HTTP/1.1\r\nHost: x\r\n\r\n"),
            http2("http://x:1/a"),
        ] {
            head.set_authority(&new);
            let said = head.authority().map(str::as_bytes).or(head.headers.get(&header::HOST));
            assert_eq!(said, Some(new.as_bytes()));
            assert!(
                head.headers
                    .get(&header::HOST)
                    .is_none_or(|host| host == new.as_bytes())
            );
            assert_eq!(head.path(), "/a");
            assert_eq!(head.to_http2().uri(), "http://new.example:81/a");
            let mut written = Vec::new();
            head.write_http1(&mut written, crate::codec::BodyLength::None);
            let written = String::from_utf8(written).unwrap().to_ascii_lowercase();
            assert_eq!(written.matches("host: new.example:81\r\n").count(), 1, "{written}");
            assert_eq!(written.matches("host:").count(), 1, "{written}");
        }
    }
}
