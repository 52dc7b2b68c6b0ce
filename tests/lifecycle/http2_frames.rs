//! A client that speaks HTTP/2 frame by frame, so that a request can cross a GOAWAY on its way. RFC 9113.

use std::net::SocketAddr;

use tsunagi_tests::{LIMIT, RawConnection, within};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub struct Frames {
    connection: RawConnection,
    /// Read while something else was waited for.
    unread: Vec<Frame>,
}

#[derive(Debug)]
pub struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// Of a GOAWAY.
    pub fn last_stream(&self) -> u32 {
        number(&self.payload)
    }
}

impl Frames {
    pub async fn open(address: SocketAddr) -> Frames {
        let mut connection = RawConnection::open(address).await;
        connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut frames = Frames {
            connection,
            unread: Vec::new(),
        };
        frames.write(SETTINGS, 0, 0, &[]).await;
        frames
    }

    pub async fn request(&mut self, stream: u32, method: &str, ends: bool) {
        // HPACK without a table: method and scheme by index, path and authority as literals.
        let mut head = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86];
        head.extend_from_slice(b"\x44\x05/echo");
        head.extend_from_slice(b"\x41\x03app");
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.write(HEADERS, flags, stream, &head).await;
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        self.write(DATA, if ends { END_STREAM } else { 0 }, stream, bytes).await;
    }

    pub async fn pong(&mut self, ping: &Frame) {
        self.write(PING, ACK, 0, &ping.payload).await;
    }

    /// The next frame of this kind; others stay for later.
    pub async fn next(&mut self, kind: u8) -> Frame {
        self.find(|frame| frame.kind == kind).await
    }

    /// Whether the response on this stream begins with a 200.
    pub async fn answers_200(&mut self, stream: u32) -> bool {
        let head = self.find(|frame| (frame.kind, frame.stream) == (HEADERS, stream)).await;
        // `:status: 200` in HPACK's static table.
        head.payload.first() == Some(&0x88)
    }

    async fn find(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            if let Some(at) = self.unread.iter().position(&wanted) {
                return self.unread.remove(at);
            }
            let frame = within("a frame", LIMIT, self.read()).await;
            self.unread.push(frame);
        }
    }

    async fn read(&mut self) -> Frame {
        let head = self.connection.read_exact(9).await;
        let length = number(&[0, head[0], head[1], head[2]]);
        Frame {
            kind: head[3],
            stream: number(&head[5..]),
            payload: self.connection.read_exact(length as usize).await,
        }
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend_from_slice(&[kind, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.connection.write(frame).await;
    }
}

/// The first four bytes, without the reserved bit.
fn number(bytes: &[u8]) -> u32 {
    let four = bytes.first_chunk::<4>().expect("four bytes");
    u32::from_be_bytes(*four) & 0x7fff_ffff
}
