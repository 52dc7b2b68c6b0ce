//! A connection or a stream on which an endpoint has gone on in another protocol: bytes, and what is held for as long as
//! they pass. Made of a lease by `http::upgrade`.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tsunagi_proto::model::FOREVER;

use super::connection::OpenConnection;
use super::http2_lease::Place;
use super::queue::Occupied;
use super::stream::UpstreamStream;
use crate::codec::{Http2Tunnel, Lifetime, Prefixed, Transport};

/// Dropping it ends the connection or the stream; behind `reset_when_dropped`, aborts it.
#[derive(Debug)]
pub struct UpgradedConnection {
    stream: Stream,
    _held: Held,
}

#[derive(Debug)]
enum Stream {
    /// What came behind the response's head is read first.
    Http1(Prefixed<UpstreamStream>),
    Http2(Http2Tunnel),
}

/// Until the stream above was dropped.
#[derive(Debug)]
enum Held {
    Connection { _open: OpenConnection, _occupied: Occupied },
    Place { _place: Place },
}

impl UpgradedConnection {
    pub(super) fn http1(stream: Prefixed<UpstreamStream>, open: OpenConnection, occupied: Occupied) -> Self {
        Self {
            stream: Stream::Http1(stream),
            _held: Held::Connection {
                _open: open,
                _occupied: occupied,
            },
        }
    }

    pub(super) fn http2(stream: Http2Tunnel, place: Place) -> Self {
        Self {
            stream: Stream::Http2(stream),
            _held: Held::Place { _place: place },
        }
    }

    /// How long it is kept: silence is no reason to end it, nor is `maxConnectionDuration`, after which a connection takes no
    /// more requests and finishes those that it has.
    pub fn lifetime(&self) -> Box<Lifetime> {
        Box::new(Lifetime {
            idle: FOREVER,
            ends_at: None,
        })
    }

    fn stream(&mut self) -> Pin<&mut dyn Transport> {
        match &mut self.stream {
            Stream::Http1(stream) => Pin::new(stream),
            Stream::Http2(stream) => Pin::new(stream),
        }
    }
}

impl Transport for UpgradedConnection {
    fn is_closed_by_peer(&self) -> bool {
        match &self.stream {
            Stream::Http1(stream) => stream.is_closed_by_peer(),
            Stream::Http2(stream) => stream.is_closed_by_peer(),
        }
    }

    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.stream {
            Stream::Http1(stream) => stream.is_reset(cx),
            Stream::Http2(stream) => stream.is_reset(cx),
        }
    }

    fn reset_when_dropped(&self) {
        match &self.stream {
            Stream::Http1(stream) => stream.reset_when_dropped(),
            Stream::Http2(stream) => stream.reset_when_dropped(),
        }
    }
}

impl AsyncRead for UpgradedConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_read(cx, buf)
    }
}

impl AsyncWrite for UpgradedConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().stream().poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(cx)
    }
}
