//! The bytes of a connection to an endpoint: of the socket itself, or of TLS on it.
//!
//! One concrete type for every connection of this room; plaintext costs a branch that is always taken the same way.
//! TLS ends with its own word (`close_notify`) behind which the socket is closed for writing: an end without that word is
//! an error (RFC 8446, 6.1), never the end of a message. What TLS says to itself behind the handshake (session tickets) is
//! nothing that a reader sees.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::codec::{Speaker, Transport};

#[derive(Debug)]
pub enum UpstreamStream {
    Plain(TcpStream),
    /// Boxed: it is ten times the size.
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpstreamStream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl Transport for UpstreamStream {
    fn is_closed_by_peer(&self) -> bool {
        self.socket().is_closed_by_peer()
    }

    fn is_silent(&self) -> bool {
        self.socket().is_silent()
    }

    fn is_reset(&mut self, _: &mut Context<'_>) -> bool {
        !matches!(self.socket().take_error(), Ok(None))
    }

    fn reset_when_dropped(&self) {
        self.socket().reset_when_dropped();
    }
}

impl Speaker for UpstreamStream {
    fn poll_speaks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(socket) => socket.poll_speaks(cx),
            // It stays there for the next read.
            Self::Tls(tls) => Pin::new(tls).poll_fill_buf(cx).map(|_| ()),
        }
    }
}

impl AsyncRead for UpstreamStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
