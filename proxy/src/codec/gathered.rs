//! An HTTP/2 connection's socket that writes in larger pieces. `h2` writes frame by frame wherever data is not tiny, a
//! system call each; here frames gather until the connection's task has done all it can, or until they are many.
//!
//! Whoever polls the connection calls `poll_write_out` behind it: `poll_flush` alone sends nothing.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Output;

/// What gathers at most. Larger data is written from where it lies.
const GATHERED_BYTES: usize = 32 * 1024;

/// Clones are handles to the same socket: one is the connection's, one its task's.
#[derive(Debug)]
pub struct Gathered<S>(Arc<Mutex<Socket<S>>>);

#[derive(Debug)]
struct Socket<S> {
    stream: S,
    output: Output,
    /// Handed to the kernel so far.
    written_bytes: Arc<AtomicU64>,
}

impl<S> Clone for Gathered<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Gathered<S> {
    pub fn new(stream: S) -> Self {
        Self(Arc::new(Mutex::new(Socket {
            stream,
            output: Output::default(),
            written_bytes: Arc::default(),
        })))
    }

    /// How much was handed to the kernel, to be read whenever: what was given to be written since it changed last has not
    /// left.
    pub fn written_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.socket().written_bytes)
    }

    fn socket(&self) -> MutexGuard<'_, Socket<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: AsyncWrite + Unpin> Gathered<S> {
    /// Hands what has gathered to the kernel.
    pub fn poll_write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_write_out(cx)
    }
}

impl<S: AsyncWrite + Unpin> Socket<S> {
    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.pending()))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
            self.written_bytes.fetch_add(written as u64, Ordering::Release);
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let count: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.output.pending().len() + count <= GATHERED_BYTES {
            let bytes = self.output.bytes_mut();
            slices.iter().for_each(|slice| bytes.extend_from_slice(slice));
            return Poll::Ready(Ok(count));
        }
        loop {
            let mut all = [IoSlice::new(&[]); 4];
            all[0] = IoSlice::new(self.output.pending());
            for (place, slice) in all[1..].iter_mut().zip(slices) {
                *place = *slice;
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &all))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written_bytes.fetch_add(written as u64, Ordering::Release);
            let gathered = written.min(self.output.pending().len());
            if gathered > 0 {
                self.output.advance(gathered);
            }
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.socket().poll_accept(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_accept(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut socket = self.socket();
        ready!(socket.poll_write_out(cx))?;
        Pin::new(&mut socket.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    async fn written(gathered: &mut Gathered<DuplexStream>, pieces: &[&[u8]]) -> usize {
        let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        gathered.write_vectored(&slices).await.expect("room")
    }

    #[tokio::test]
    async fn small_pieces_gather_until_they_are_written_out_together() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let mut gathered = Gathered::new(ours);
        assert_eq!(written(&mut gathered, &[b"ab", b"c"]).await, 3);
        gathered.flush().await.expect("nothing to do");
        assert_eq!(written(&mut gathered, &[b"d"]).await, 1);
        let mut read = [0; 8];
        let mut early = std::pin::pin!(theirs.read(&mut read));
        let waker = std::task::Waker::noop();
        assert!(early.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
        poll_fn(|cx| gathered.poll_write_out(cx)).await.expect("room");
        assert_eq!(early.await.expect("bytes"), 4);
        assert_eq!(&read[..4], b"abcd");
    }

    #[tokio::test]
    async fn in_whatever_pieces_bytes_come_and_are_taken_their_order_stays() {
        let sent: Vec<u8> = (0..400_000_u32).map(|number| (number % 251) as u8).collect();
        for (piece, room) in [(1000, 100), (5_000, 7_000), (30_000, 40_000), (60_000, 3_000)] {
            let (ours, mut theirs) = tokio::io::duplex(room);
            let mut gathered = Gathered::new(ours);
            let writes = async {
                let mut rest = &sent[..];
                while !rest.is_empty() {
                    let (head, tail) = rest.split_at(rest.len().min(piece));
                    let (middle, end) = head.split_at(head.len() / 3);
                    let count = written(&mut gathered, &[middle, end]).await;
                    rest = if count == head.len() { tail } else { &rest[count..] };
                }
                gathered.shutdown().await.expect("it ends");
            };
            let mut read = Vec::new();
            let (_, count) = tokio::join!(writes, theirs.read_to_end(&mut read));
            assert_eq!(count.expect("bytes"), sent.len());
            assert!(read == sent, "in pieces of {piece} through {room}");
        }
    }

    #[tokio::test]
    async fn who_does_not_read_holds_up_who_writes() {
        let (ours, _theirs) = tokio::io::duplex(100);
        let gathered = Gathered::new(ours);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut accepted = 0;
        while let Poll::Ready(count) = gathered.socket().poll_accept(&mut cx, &[IoSlice::new(&[1; 1000])]) {
            accepted += count.expect("an open socket");
        }
        assert!(accepted <= GATHERED_BYTES + 1000, "{accepted}");
    }
}
