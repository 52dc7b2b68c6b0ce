//! The bytes of a connection to an endpoint: of the socket itself, or of TLS on it.
//!
//! One concrete type for every connection of this room; plaintext costs a branch that is always taken the same way.
//! TLS ends with its own word (`close_notify`) behind which the socket is closed for writing: an end without that word is
//! an error (RFC 8446, 6.1), never the end of a message. What TLS says to itself behind the handshake (session tickets) is
//! nothing that a reader sees.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::codec::{Speaker, Transport};
use crate::telemetry::ClusterSeries;
use crate::tls::Failure;

#[derive(Debug)]
pub enum UpstreamStream {
    Plain(TcpStream),
    /// Boxed: it is ten times the size.
    Tls(Box<Secured>),
}

#[derive(Debug)]
pub struct Secured {
    stream: TlsStream<TcpStream>,
    /// Behind the handshake the endpoint has refused the client's certificate.
    refusal: Arc<OnceLock<Failure>>,
    series: Arc<ClusterSeries>,
}

impl Secured {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Err(error)) = &read
            && let Some(failure) = Failure::of_connection(error)
        {
            tracing::debug!(%failure, "TLS was refused");
            self.series.tls_failed(failure.cause);
            // It is said once.
            let _ = self.refusal.set(failure);
        }
        read
    }
}

impl UpstreamStream {
    pub(super) fn tls(stream: TlsStream<TcpStream>, series: Arc<ClusterSeries>) -> Self {
        Self::Tls(Box::new(Secured {
            stream,
            refusal: Arc::default(),
            series,
        }))
    }

    /// Where it will say that the endpoint has refused the client's certificate. `None`: it cannot.
    pub(super) fn refusal(&self) -> Option<Arc<OnceLock<Failure>>> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(Arc::clone(&tls.refusal)),
        }
    }

    /// Has the endpoint ended the connection for want of a certificate, or because of it? True: there was none.
    pub(super) fn wants_certificate(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.refusal.get().map(Failure::wants_certificate),
        }
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.stream.get_ref().0,
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
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_fill_buf(cx).map(|_| ()),
        }
    }
}

impl AsyncRead for UpstreamStream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(tls) => tls.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpstreamStream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write(cx, bytes),
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
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(&mut tls.stream).poll_shutdown(cx),
        }
    }
}
