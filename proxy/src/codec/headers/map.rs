//! HTTP/2's header fields, and what HTTP/1 wants of them.

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::known::{Known, KnownSet};
use super::{has_token, stays_although_named, write_line};

/// A cookie may come over HTTP/2 in pieces; HTTP/1 knows one line only (RFC 9113, 8.2.3).
pub(super) fn write(map: &HeaderMap, out: &mut Vec<u8>, except: KnownSet) {
    for name in map.keys() {
        if except.has(Known::of(name.as_str().as_bytes())) {
            continue;
        }
        let mut values = map.get_all(name).iter().map(HeaderValue::as_bytes);
        if *name == header::COOKIE {
            write_line(out, name.as_str().as_bytes(), values.next().unwrap_or_default());
            for piece in values {
                out.truncate(out.len() - 2);
                out.extend_from_slice(b"; ");
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
        } else {
            for value in values {
                write_line(out, name.as_str().as_bytes(), value);
            }
        }
    }
}

/// Gives the values a buffer of their own. HTTP/2 keeps the headers that it sent (HPACK's dynamic table), and each would
/// hold on to the whole buffer that it was read into: 8 KiB for a date, new every second.
pub(super) fn detach(headers: &mut HeaderMap) {
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

pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    const HOP_BY_HOP: [Known; 6] = [
        Known::Connection,
        Known::KeepAlive,
        Known::ProxyConnection,
        Known::TransferEncoding,
        Known::Upgrade,
        Known::Http2Settings,
    ];
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|name| !stays_although_named(Known::of(name)))
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
    for known in HOP_BY_HOP {
        headers.remove(known.name());
    }
    if headers.contains_key(header::TE) {
        let trailers = headers
            .get_all(header::TE)
            .iter()
            .any(|te| has_token(te.as_bytes(), b"trailers"));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}
