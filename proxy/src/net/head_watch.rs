//! Remembers the raw head of an HTTP/1 request while it is read, to see what the parser resolves silently: a request with
//! both `Transfer-Encoding` and `Content-Length` is how requests are smuggled, and is refused (RFC 9112, 6.3).
//!
//! What is read after the last write is taken for a head. Only a request that has `Transfer-Encoding` is looked at.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const MAX_REMEMBERED_BYTES: usize = 64 * 1024;
/// What is kept between requests.
const KEPT_BYTES: usize = 1024;

#[derive(Debug)]
pub struct HeadWatch<S> {
    stream: S,
    head: RawHead,
}

/// The other end: asked once a request.
#[derive(Debug, Clone)]
pub struct RawHead {
    remembered: Arc<Mutex<Remembered>>,
}

#[derive(Debug)]
struct Remembered {
    bytes: Vec<u8>,
    watching: bool,
    /// At least one head has arrived whole.
    arrived: bool,
}

impl<S> HeadWatch<S> {
    pub fn new(stream: S) -> (Self, RawHead) {
        let remembered = Remembered {
            bytes: Vec::new(),
            watching: true,
            arrived: false,
        };
        let head = RawHead {
            remembered: Arc::new(Mutex::new(remembered)),
        };
        (
            Self {
                stream,
                head: head.clone(),
            },
            head,
        )
    }
}

impl RawHead {
    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client began a first request and has finished its head.
    pub fn has_arrived(&self) -> bool {
        self.remembered().arrived
    }

    /// The request's head has arrived. `chunked`: it has `Transfer-Encoding`. Says whether it has `Content-Length` too.
    /// `body`: what follows is its body; else it is the head of the next request.
    pub fn is_ambiguous(&self, chunked: bool, body: bool) -> bool {
        let mut remembered = self.remembered();
        let ambiguous = chunked && has_content_length(&remembered.bytes);
        remembered.arrived = true;
        remembered.watching = !body;
        if body {
            remembered.forget();
        } else {
            let end = head_length(&remembered.bytes);
            remembered.bytes.drain(..end);
            remembered.bytes.shrink_to(KEPT_BYTES);
        }
        ambiguous
    }
}

impl Remembered {
    fn forget(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

/// Up to and with the empty line; all of it where there is none.
fn head_length(bytes: &[u8]) -> usize {
    let start = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = &bytes[start..];
    let end = rest.windows(2).position(|pair| pair == b"\n\n").map(|at| at + 2);
    let crlf = rest.windows(3).position(|three| three == b"\n\r\n").map(|at| at + 3);
    [end, crlf]
        .into_iter()
        .flatten()
        .min()
        .map_or(bytes.len(), |length| start + length)
}

fn has_content_length(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty())
        .take_while(|line| !line.is_empty())
        .any(|line| {
            line.get(..NAME.len())
                .is_some_and(|name| name.eq_ignore_ascii_case(NAME))
                && line.get(NAME.len()) == Some(&b':')
        })
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadWatch<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let mut remembered = self.head.remembered();
        if remembered.watching {
            let room = MAX_REMEMBERED_BYTES.saturating_sub(remembered.bytes.len());
            let read = &buf.filled()[before..];
            remembered.bytes.extend_from_slice(&read[..read.len().min(room)]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> HeadWatch<S> {
    fn begin_watching(&self) {
        let mut remembered = self.head.remembered();
        if !remembered.watching {
            remembered.watching = true;
            remembered.forget();
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadWatch<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.begin_watching();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_watching();
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[test]
    fn only_a_header_line_of_the_head_counts() {
        assert!(has_content_length(
            b"POST / HTTP/1.1\r\nHost: a\r\ncOntent-Length: 5\r\n\r\n"
        ));
        assert!(!has_content_length(
            b"POST / HTTP/1.1\r\nHost: a\r\n\r\nContent-Length: 5\r\n"
        ));
        assert!(!has_content_length(b"POST / HTTP/1.1\r\nX-Content-Length: 5\r\n\r\n"));
        assert!(!has_content_length(b""));
    }

    #[tokio::test]
    async fn a_pipelined_head_is_seen_too() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut watch, head) = HeadWatch::new(server);
        let mut buffer = [0; 1024];
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nPOST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
            .await
            .unwrap();
        let _ = watch.read(&mut buffer).await.unwrap();
        assert!(!head.is_ambiguous(false, false));
        watch.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        assert!(head.is_ambiguous(true, true));
    }

    #[tokio::test]
    async fn a_head_is_remembered_until_it_is_asked_about_and_anew_after_a_write() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (mut watch, head) = HeadWatch::new(server);
        let mut buffer = [0; 1024];
        for _ in 0..2 {
            client
                .write_all(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
                .await
                .unwrap();
            let _ = watch.read(&mut buffer).await.unwrap();
            assert!(head.is_ambiguous(true, true));
            client.write_all(b"a\r\nContent-Length: 1\r\n").await.unwrap();
            let _ = watch.read(&mut buffer).await.unwrap();
            assert!(!head.is_ambiguous(true, true));
            watch.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        }
    }
}
