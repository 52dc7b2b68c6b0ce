//! An HTTP/2 peer that speaks in single frames, for unit tests of what goes over the wire.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// A frame that does not come by then does not come.
const LIMIT: Duration = Duration::from_secs(5);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

pub const MAX_CONCURRENT_STREAMS: u16 = 3;
pub const INITIAL_WINDOW_SIZE: u16 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:method: POST`, `:scheme: http`, `:path: /`, `:authority: a`, as HPACK's static table has them.
pub const POST: &[u8] = b"\x83\x86\x84\x41\x01a";
pub const CONNECT: &[u8] = b"\x42\x07CONNECT\x41\x01a";
/// `:status: 200`.
pub const OK: &[u8] = b"\x88";

#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// Of a RST_STREAM or a WINDOW_UPDATE.
    pub fn number(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("four bytes"))
    }
}

pub struct Raw(pub DuplexStream);

impl Raw {
    pub async fn client(stream: DuplexStream, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self(stream);
        raw.0.write_all(PREFACE).await.expect("the other side reads");
        raw.settings(settings).await;
        raw
    }

    /// Reads the client's preface; settings are for the test to send.
    pub async fn server(stream: DuplexStream) -> Self {
        let mut raw = Self(stream);
        let mut preface = [0; PREFACE.len()];
        raw.0.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(preface, PREFACE);
        raw
    }

    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&head).await.expect("the other side reads");
        self.0.write_all(payload).await.expect("the other side reads");
    }

    pub async fn head(&mut self, stream: u32, fields: &[u8], end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, fields).await;
    }

    pub async fn data(&mut self, stream: u32, data: &[u8], end: bool) {
        self.send(DATA, if end { END_STREAM } else { 0 }, stream, data).await;
    }

    pub async fn window(&mut self, stream: u32, increment: u32) {
        self.send(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes()).await;
    }

    pub async fn reset(&mut self, stream: u32, reason: h2::Reason) {
        let reason = u32::from(reason).to_be_bytes();
        self.send(RST_STREAM, 0, stream, &reason).await;
    }

    pub async fn go_away(&mut self, last_stream: u32, reason: h2::Reason) {
        let payload = [last_stream.to_be_bytes(), u32::from(reason).to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }

    /// The next frame; `None`: the connection was closed.
    pub async fn any(&mut self) -> Option<Frame> {
        timeout(LIMIT, self.read()).await.expect("a frame or an end, in time")
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(stream);
        Some(Frame {
            kind,
            flags,
            stream,
            payload: payload.into(),
        })
    }

    /// The next frame that belongs to a stream. Settings are acknowledged on the way.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.any().await?;
            if frame.kind == SETTINGS && frame.flags & ACK == 0 {
                self.send(SETTINGS, ACK, 0, &[]).await;
            }
            if frame.stream != 0 {
                return Some(frame);
            }
        }
    }
}
