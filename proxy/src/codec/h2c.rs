//! A client that upgrades its connection from HTTP/1.1 to HTTP/2 (`Upgrade: h2c`; RFC 7540, 3.2): its first request is
//! stream 1, its `HTTP2-Settings` are its settings. The `h2` crate knows no such beginning, so it is shown one that it
//! knows: the client's preface, its settings with those of the header before them in the same frame (the crate acknowledges
//! each frame, the client has sent one), and the request as a frame of its own. Its fields are literals (RFC 7541, 6.2.2),
//! which leave the compression's tables as the client has them.
//!
//! Called by `http::h2c`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Version};

use super::headers::{Known, has_token};
use super::message::RequestHead;
use super::spoken::HTTP2_PREFACE;

/// Before any settings say otherwise (RFC 9113, 6.5.2).
pub const MAX_FRAME_BYTES: usize = 16 * 1024;
pub const FRAME_HEAD_BYTES: usize = 9;
const SETTING_BYTES: usize = 6;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a client has asked for with its first request.
#[derive(Debug, PartialEq, Eq)]
pub struct H2cUpgrade {
    settings: Vec<u8>,
    /// The request, in a frame.
    request: Bytes,
}

impl RequestHead {
    /// `None`: it does not ask, or so that it is better served as it came, which is always right.
    pub fn asks_for_h2c(&mut self) -> Option<H2cUpgrade> {
        if !self.headers.has(Known::Http2Settings) || self.version != Version::HTTP_11 || self.method == Method::CONNECT
        {
            return None;
        }
        let lists = |known, token| self.headers.all(known).any(|list| has_token(list, token));
        let connection = lists(Known::Connection, b"upgrade") && lists(Known::Connection, b"http2-settings");
        if !connection || !lists(Known::Upgrade, b"h2c") || self.asks_for().is_some() {
            return None;
        }
        let mut encoded = self.headers.all(Known::Http2Settings);
        let (first, second) = (encoded.next()?, encoded.next());
        let settings = URL_SAFE_NO_PAD.decode(first).ok()?;
        if second.is_some() || !settings.len().is_multiple_of(SETTING_BYTES) || settings.len() > MAX_FRAME_BYTES / 2 {
            return None;
        }
        drop(encoded);
        self.headers.remove_hop_by_hop();
        let mut request = self.to_http2();
        if !self.target.complete(request.uri_mut()) {
            return None;
        }
        let request = request_frame(&request)?;
        Some(H2cUpgrade { settings, request })
    }
}

impl H2cUpgrade {
    /// How long the payload of the client's first frame is, which must be its settings. `None`: it is something else.
    pub fn settings_length(&self, head: [u8; FRAME_HEAD_BYTES]) -> Option<usize> {
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let fits = length + self.settings.len() <= MAX_FRAME_BYTES && length.is_multiple_of(SETTING_BYTES);
        (kind == SETTINGS && flags == 0 && u32::from_be_bytes(stream) == 0 && fits).then_some(length)
    }

    /// All that comes before what the client sends behind its settings.
    pub fn beginning(&self, settings: &[u8]) -> BytesMut {
        let mut out = BytesMut::from(HTTP2_PREFACE);
        put_frame_head(&mut out, self.settings.len() + settings.len(), SETTINGS, 0, 0);
        out.extend_from_slice(&self.settings);
        out.extend_from_slice(settings);
        out.extend_from_slice(&self.request);
        out
    }
}

/// `None`: it has no authority, or does not fit a frame.
fn request_frame(request: &Request<()>) -> Option<Bytes> {
    let uri = request.uri();
    let mut fields = BytesMut::with_capacity(512);
    put_field(&mut fields, b":method", request.method().as_str().as_bytes());
    put_field(&mut fields, b":scheme", uri.scheme_str()?.as_bytes());
    put_field(&mut fields, b":authority", uri.authority()?.as_str().as_bytes());
    put_field(&mut fields, b":path", uri.path_and_query()?.as_str().as_bytes());
    for (name, value) in request.headers() {
        put_field(&mut fields, name.as_str().as_bytes(), value.as_bytes());
    }
    if fields.len() > MAX_FRAME_BYTES {
        return None;
    }
    let mut frame = BytesMut::with_capacity(FRAME_HEAD_BYTES + fields.len());
    put_frame_head(&mut frame, fields.len(), HEADERS, END_STREAM | END_HEADERS, 1);
    frame.extend_from_slice(&fields);
    Some(frame.freeze())
}

fn put_frame_head(out: &mut BytesMut, length: usize, kind: u8, flags: u8, stream: u32) {
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_u8(0);
    put_text(out, name);
    put_text(out, value);
}

/// Its length in a prefix of seven bits (RFC 7541, 5.1), then as it is.
fn put_text(out: &mut BytesMut, text: &[u8]) {
    const PREFIX: usize = 0x7f;
    if text.len() < PREFIX {
        out.put_u8(text.len() as u8);
    } else {
        out.put_u8(PREFIX as u8);
        let mut rest = text.len() - PREFIX;
        while rest >= 0x80 {
            out.put_u8(0x80 | (rest & 0x7f) as u8);
            rest >>= 7;
        }
        out.put_u8(rest as u8);
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::parse_request;

    const ASKS: &str = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\n";

    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::default();
        let text = format!("GET /a?b=1 HTTP/1.1\r\nHost: a:80\r\n{fields}\r\n");
        parse_request(text.as_bytes(), &mut head)
            .expect("a head")
            .expect("whole");
        head
    }

    #[tokio::test]
    async fn the_crate_takes_the_beginning_for_a_request_on_stream_1_whatever_its_length() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 5000, 16_000] {
            let long = "x".repeat(length);
            let fields = ASKS.replace(
                "HTTP2-Settings\r\n",
                "HTTP2-Settings, X-Hop\r\nTE: gzip\r\nX-Hop: 1\r\n",
            );
            let asked = head(&format!("{fields}X-Long: {long}\r\nX-Long: 2\r\n")).asks_for_h2c();
            let beginning = asked.expect("it asks").beginning(&[]);
            let (ours, mut theirs) = tokio::io::duplex(1 << 20);
            tokio::io::AsyncWriteExt::write_all(&mut theirs, &beginning)
                .await
                .expect("room");
            let mut connection = h2::server::handshake(ours).await.expect("a preface");
            let (request, respond) = connection.accept().await.expect("a request").expect("a good one");
            assert_eq!(respond.stream_id().as_u32(), 1);
            assert_eq!(request.uri(), "http://a:80/a?b=1");
            let values: Vec<_> = request.headers().get_all("x-long").iter().collect();
            assert_eq!(values, [&*long, "2"]);
            assert_eq!(request.headers().len(), 2, "nothing else: {:?}", request.headers());
            assert!(request.body().is_end_stream());
        }
    }

    #[test]
    fn only_who_asks_as_the_standard_says_is_taken_at_his_word() {
        assert!(head(ASKS).asks_for_h2c().is_some());
        for (from, to) in [
            ("Upgrade, HTTP2-Settings", "Upgrade"),
            ("Upgrade, HTTP2-Settings", "HTTP2-Settings"),
            ("Upgrade: h2c", "Upgrade: h2"),
            ("Upgrade: h2c", "Upgrade: h2c, websocket"),
            ("AAMAAABkAAQCAAAA", "AAMAAABkAAQ"),
            ("AAMAAABkAAQCAAAA", "?"),
            (
                "AAMAAABkAAQCAAAA",
                "AAMAAABkAAQCAAAA\r\nHTTP2-Settings: AAMAAABkAAQCAAAA",
            ),
        ] {
            assert_eq!(head(&ASKS.replacen(from, to, 1)).asks_for_h2c(), None, "{to}");
        }
        let large = format!("{ASKS}X-Large: {}\r\n", "x".repeat(MAX_FRAME_BYTES));
        assert_eq!(head(&large).asks_for_h2c(), None);
        let mut old = head(ASKS);
        old.version = Version::HTTP_10;
        assert_eq!(old.asks_for_h2c(), None);
    }

    #[test]
    fn the_headers_settings_come_before_the_frames_in_one_frame() {
        let asked = head(ASKS).asks_for_h2c().expect("it asks");
        let beginning = asked.beginning(&[0, 4, 0, 0, 0, 9]);
        let settings = &beginning[HTTP2_PREFACE.len()..];
        assert_eq!(settings[..FRAME_HEAD_BYTES], [0, 0, 18, SETTINGS, 0, 0, 0, 0, 0]);
        let payload = [0, 3, 0, 0, 0, 100, 0, 4, 2, 0, 0, 0, 0, 4, 0, 0, 0, 9];
        assert_eq!(settings[FRAME_HEAD_BYTES..][..18], payload);
        for (frame, length) in [
            ([0, 0, 12, SETTINGS, 0, 0, 0, 0, 0], Some(12)),
            ([0, 0, 11, SETTINGS, 0, 0, 0, 0, 0], None),
            ([0, 0, 0, SETTINGS, 1, 0, 0, 0, 0], None),
            ([0, 0, 0, SETTINGS, 0, 0, 0, 0, 1], None),
            ([0, 0, 12, HEADERS, 0, 0, 0, 0, 0], None),
            ([0, 0x40, 2, SETTINGS, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(asked.settings_length(frame), length, "{frame:?}");
        }
    }
}
