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
            check_path_and_query(text)?;
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
                if !text.starts_with('/') || check_path_and_query(text).is_err() {
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
        let uri: Uri = text.parse().map_err(|_| BAD)?;
        let (Some(_), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(BAD);
        };
        let start = text.find("://").ok_or(BAD)? + "://".len();
        let end = start + authority.as_str().len();
        let path = text.get(end..).ok_or(BAD)?;
        self.text.push_str(&text[..end]);
        if !path.starts_with('/') {
            self.text.push('/');
        }
        self.text.push_str(path);
        self.authority = start..end;
        self.path_and_query = end..self.text.len();
        check_path_and_query(&self.text[end..])
    }
}

/// Which bytes `http::Uri` takes: 1 in a path, 2 in a query. UTF-8 is allowed; a fragment is not for the wire.
const TARGET_BYTES: [u8; 256] = {
    let mut bytes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let path = matches!(byte as u8, b'!' | b'"' | b'$'..=b';' | b'=' | b'@'..=b'_' | b'a'..=b'~' | 0x80..);
        let query = matches!(byte as u8, b'!' | b'$'..=b';' | b'=' | b'?'..=b'~' | 0x80..);
        bytes[byte] = path as u8 | (query as u8) << 1;
        byte += 1;
    }
    bytes
};

fn check_path_and_query(text: &str) -> Result<(), HeadError> {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let path = path.bytes().fold(1, |all, byte| all & TARGET_BYTES[usize::from(byte)]);
    let query = query.bytes().fold(2, |all, byte| all & TARGET_BYTES[usize::from(byte)]);
    if path & query >> 1 == 0 {
        return Err(HeadError::Bad(
            "the target has a character that must be percent-encoded",
        ));
    }
    Ok(())
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
