//! A client that writes bytes and shows bytes, for what no well-behaved client sends or shows.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::eventually::{LIMIT, within};

pub struct RawConnection {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// One HTTP/1 response.
#[derive(Debug)]
pub struct RawResponse {
    pub status: u16,
    /// Status line and headers, as sent.
    pub head: String,
    pub body: Vec<u8>,
}

impl RawResponse {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Value of the first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields
            .into_iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }
}

impl RawConnection {
    pub async fn open(address: SocketAddr) -> RawConnection {
        RawConnection::over(TcpStream::connect(address).await.expect("the listener accepts"))
    }

    /// Either side of a connection that is there.
    pub fn over(stream: TcpStream) -> RawConnection {
        stream.set_nodelay(true).ok();
        RawConnection {
            stream,
            unread: Vec::new(),
        }
    }

    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // A peer that refused early may have closed already: what it answered says so.
        self.stream.write_all(bytes.as_ref()).await.ok();
    }

    /// One exchange on a connection of its own.
    pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> RawResponse {
        let mut connection = RawConnection::open(address).await;
        connection.write(bytes).await;
        connection.response().await
    }

    pub async fn response(&mut self) -> RawResponse {
        within("a response", LIMIT, self.read_response(false)).await
    }

    /// The response to `HEAD`, which has no body whatever its head says.
    pub async fn head_response(&mut self) -> RawResponse {
        within("a response", LIMIT, self.read_response(true)).await
    }

    async fn read_response(&mut self, without_body: bool) -> RawResponse {
        let head = self.read_head().await;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_default();
        let mut response = RawResponse {
            status,
            head,
            body: Vec::new(),
        };
        if without_body || status < 200 || status == 204 || status == 304 {
            return response;
        }
        if response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            response.body = self.read_chunks().await;
        } else if let Some(length) = response.header("content-length").and_then(|length| length.parse().ok()) {
            response.body = self.read_exact(length).await;
        } else {
            while self.fill().await {}
            response.body = std::mem::take(&mut self.unread);
        }
        response
    }

    pub async fn read_head(&mut self) -> String {
        let end = self.find(b"\r\n\r\n").await;
        String::from_utf8_lossy(&self.take(end + 4)).into_owned()
    }

    /// The next head, unless the peer closes first.
    pub async fn next_head(&mut self) -> Option<String> {
        self.next_through(b"\r\n\r\n").await
    }

    /// All up to and with `mark`, unless the peer closes first.
    pub async fn next_through(&mut self, mark: &[u8]) -> Option<String> {
        loop {
            let found = self.unread.windows(mark.len()).position(|window| window == mark);
            if let Some(at) = found {
                return Some(String::from_utf8_lossy(&self.take(at + mark.len())).into_owned());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    pub async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(
                self.fill().await,
                "closed after {} of {length} bytes",
                self.unread.len()
            );
        }
        self.take(length)
    }

    async fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let end = self.find(b"\r\n").await;
            let line = String::from_utf8_lossy(&self.take(end + 2)).into_owned();
            let size = usize::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16);
            let size = size.unwrap_or_else(|_| panic!("not a chunk's size: {line}"));
            if size == 0 {
                // Trailers, or the empty line.
                while self.find(b"\r\n").await != 0 {
                    let end = self.find(b"\r\n").await;
                    self.take(end + 2);
                }
                self.take(2);
                return body;
            }
            body.extend(self.read_exact(size).await);
            self.take(2);
        }
    }

    /// Whether the peer closes within `limit`; what it still sent is thrown away.
    pub async fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.unread.clear();
        tokio::time::timeout(limit, async { while self.fill().await {} })
            .await
            .is_ok()
    }

    /// All until the peer closes.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        within("the end of the connection", LIMIT, async { while self.fill().await {} }).await;
        std::mem::take(&mut self.unread)
    }

    async fn find(&mut self, mark: &[u8]) -> usize {
        loop {
            if let Some(at) = self.unread.windows(mark.len()).position(|window| window == mark) {
                return at;
            }
            let so_far = String::from_utf8_lossy(&self.unread).into_owned();
            assert!(self.fill().await, "the connection closed; before that came {so_far:?}");
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        self.unread.drain(..length.min(self.unread.len())).collect()
    }

    /// False at the end of the connection, a reset included.
    async fn fill(&mut self) -> bool {
        let mut part = [0; 16 * 1024];
        match self.stream.read(&mut part).await {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.unread.extend_from_slice(&part[..length]);
                true
            }
        }
    }
}
