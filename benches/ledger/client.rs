//! A client that allocates nothing: the request is made once, the answer is read into one buffer. It runs on the thread of
//! the proxy that it asks, so that whatever is allocated there is the proxy's.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tsunagi_tests::Version;

pub struct Client {
    stream: TcpStream,
    input: Box<[u8]>,
    filled: usize,
    request: Vec<u8>,
    /// HTTP/2 only: of all but the first request.
    next_request: Vec<u8>,
    body_bytes: usize,
    /// HTTP/2 only: of the next request.
    stream_id: u32,
    /// HTTP/2 only: read since the connection's window was last widened.
    unacknowledged: u32,
    version: Version,
}

const USER_AGENT: &str = "bench";
const ACCEPT: &str = "*/*";
const FRAME_HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const WIDE_WINDOW: u32 = (1 << 31) - 1;
const WIDEN_EVERY: u32 = 1 << 24;

impl Client {
    pub async fn connect(proxy: SocketAddr, version: Version, authority: &str, body_bytes: usize) -> Client {
        let stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut client = Client {
            stream,
            input: vec![0; 256 * 1024].into(),
            filled: 0,
            request: Vec::new(),
            next_request: Vec::new(),
            body_bytes,
            stream_id: 1,
            unacknowledged: 0,
            version,
        };
        match version {
            Version::Http1 => {
                client.request = format!(
                    "GET / HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {USER_AGENT}\r\nAccept: {ACCEPT}\r\n\r\n"
                )
                .into_bytes();
            }
            Version::Http2 => client.begin_http2(authority).await,
        }
        client
    }

    /// One request, and its answer to the last byte.
    pub async fn get(&mut self) {
        match self.version {
            Version::Http1 => self.get_http1().await,
            Version::Http2 => self.get_http2().await,
        }
    }

    async fn get_http1(&mut self) {
        self.stream.write_all(&self.request).await.expect("an open connection");
        self.filled = 0;
        loop {
            self.fill().await;
            let input = &self.input[..self.filled];
            let end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            if end.is_some_and(|end| input.len() >= end + 4 + self.body_bytes) {
                assert!(
                    input.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    String::from_utf8_lossy(input)
                );
                return;
            }
        }
    }

    async fn fill(&mut self) {
        let count = self.stream.read(&mut self.input[self.filled..]).await;
        let count = count.expect("an open connection");
        assert!(count > 0, "the proxy closed the connection");
        self.filled += count;
    }

    async fn begin_http2(&mut self, authority: &str) {
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        begin.extend(frame_head(SETTINGS, 0, 0, 6));
        // SETTINGS_INITIAL_WINDOW_SIZE.
        begin.extend([0, 4]);
        begin.extend(WIDE_WINDOW.to_be_bytes());
        begin.extend(frame_head(WINDOW_UPDATE, 0, 0, 4));
        begin.extend((WIDE_WINDOW - 65_535).to_be_bytes());
        self.stream.write_all(&begin).await.expect("an open connection");
        // :method GET, :scheme http, :path /; then names of the static table with values to be indexed, which makes them
        // numbers 64, 63 and 62 for every later request (RFC 7541, 2.3, 6.2.1 and appendix A).
        let mut first = vec![0x82, 0x86, 0x84];
        for (name, value) in [(1, authority), (58, USER_AGENT), (19, ACCEPT)] {
            first.push(0x40 | name);
            first.push(u8::try_from(value.len()).expect("a short value"));
            first.extend(value.as_bytes());
        }
        let later = [0x82, 0x86, 0x84, 0x80 | 64, 0x80 | 63, 0x80 | 62];
        self.request = request_frame(&first);
        self.next_request = request_frame(&later);
    }

    async fn get_http2(&mut self) {
        self.request[5..9].copy_from_slice(&self.stream_id.to_be_bytes());
        self.stream.write_all(&self.request).await.expect("an open connection");
        if self.stream_id == 1 {
            self.request = std::mem::take(&mut self.next_request);
        }
        self.stream_id += 2;
        let mut body_bytes = 0;
        loop {
            while let Some((kind, flags, length)) = self.frame() {
                if kind == DATA {
                    body_bytes += length;
                }
                if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
                    self.acknowledge(kind, length).await;
                }
                let whole = FRAME_HEAD_BYTES + length;
                self.input.copy_within(whole..self.filled, 0);
                self.filled -= whole;
                if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                    assert_eq!(body_bytes, self.body_bytes, "the answer's body");
                    return self.widen(body_bytes).await;
                }
            }
            self.fill().await;
        }
    }

    /// Kind, flags and length of the first frame, once it is there whole.
    fn frame(&self) -> Option<(u8, u8, usize)> {
        let [high, middle, low, kind, flags, ..] = self.input[..self.filled] else {
            return None;
        };
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        (self.filled >= FRAME_HEAD_BYTES + length).then_some((kind, flags, length))
    }

    async fn acknowledge(&mut self, kind: u8, length: usize) {
        let length = if kind == PING { length } else { 0 };
        let written = self.stream.write_all(&frame_head(kind, ACK, 0, length)).await;
        written.expect("an open connection");
        let payload = &self.input[FRAME_HEAD_BYTES..FRAME_HEAD_BYTES + length];
        self.stream.write_all(payload).await.expect("an open connection");
    }

    async fn widen(&mut self, body_bytes: usize) {
        self.unacknowledged += body_bytes as u32;
        if self.unacknowledged >= WIDEN_EVERY {
            let mut frame = [0; FRAME_HEAD_BYTES + 4];
            frame[..FRAME_HEAD_BYTES].copy_from_slice(&frame_head(WINDOW_UPDATE, 0, 0, 4));
            frame[FRAME_HEAD_BYTES..].copy_from_slice(&self.unacknowledged.to_be_bytes());
            self.stream.write_all(&frame).await.expect("an open connection");
            self.unacknowledged = 0;
        }
    }
}

fn request_frame(block: &[u8]) -> Vec<u8> {
    [&frame_head(HEADERS, END_STREAM | END_HEADERS, 1, block.len()), block].concat()
}

fn frame_head(kind: u8, flags: u8, stream_id: u32, length: usize) -> [u8; FRAME_HEAD_BYTES] {
    let [_, high, middle, low] = (length as u32).to_be_bytes();
    let [a, b, c, d] = stream_id.to_be_bytes();
    [high, middle, low, kind, flags, a, b, c, d]
}
