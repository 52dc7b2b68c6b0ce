//! A connection to an endpoint that is not over before the endpoint has closed it too. Its permit is given on only then, so
//! that an endpoint, too, never counts more connections than the limit allows: it learns of the old one's end first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// An endpoint that does not close by then is not waited for.
pub const LINGER_TIME: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub struct Lingering<S> {
    stream: S,
    /// Our side is closed; until then the other's end is awaited.
    until: Option<Pin<Box<Sleep>>>,
}

impl<S> Lingering<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, until: None }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    /// Reads and forgets until the other side has closed.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 512];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.until.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.until = Some(Box::pin(tokio::time::sleep(LINGER_TIME)));
        }
        if self.poll_closed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut self.until {
            Some(until) => until.as_mut().poll(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn closing_ends_when_the_other_side_has_closed_too() {
        let (ours, theirs) = tokio::io::duplex(64);
        let mut stream = Lingering::new(ours);
        assert!(
            timeout(LINGER_TIME / 2, stream.shutdown()).await.is_err(),
            "the other side is still open"
        );
        drop(theirs);
        let started = Instant::now();
        stream.shutdown().await.unwrap();
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_never_closes_is_not_waited_for_longer_than_promised() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        theirs.write_all(b"late").await.unwrap();
        let mut stream = Lingering::new(ours);
        let started = Instant::now();
        stream.shutdown().await.unwrap();
        assert!(started.elapsed() >= LINGER_TIME && started.elapsed() < LINGER_TIME * 2);
    }
}
