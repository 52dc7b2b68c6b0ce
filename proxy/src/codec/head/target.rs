//! A request's target: which of its four forms it has, and whether it belongs there (RFC 9112, 3.2).

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
