//! One HTTP/2 stream as a source and a sink; the `h2` crate does the framing, the connection's task reads and writes.
//!
//! Back-pressure is real both ways: the peer may send on only as far as its data was taken from here, and no more is taken
//! from a source than the peer's windows and a bounded buffer have room for.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transfer::{BodyError, Sink, Source, Step};
use super::transport::Transport;

/// The first piece of a body goes out with the head, without asking for room: most bodies are no larger. Where the peer's
/// window is smaller, `h2` keeps the rest of it; only then it asks.
const FIRST_PIECE_BYTES: usize = 16 * 1024;

/// Either half may be absent: not there yet, or over.
#[derive(Debug, Default)]
pub struct Http2Stream {
    receive: Option<RecvStream>,
    at_hand: Bytes,
    /// Nothing comes any more, but for what is at hand.
    received: bool,
    trailers: Option<HeaderMap>,
    /// Until everything was handed over.
    send: Option<SendStream<Bytes>>,
    /// The first piece was sent.
    begun: bool,
}

impl Http2Stream {
    /// The body that comes; of a message without one, too.
    pub fn receive_from(&mut self, receive: RecvStream) {
        self.received = receive.is_end_stream();
        self.receive = Some(receive);
    }

    /// Where the body goes; not for a message whose head ended the stream.
    pub fn send_to(&mut self, send: SendStream<Bytes>) {
        self.send = Some(send);
        self.begun = false;
    }

    /// All that was to be sent was handed over, its end included.
    fn is_finished(&self) -> bool {
        self.send.is_none()
    }

    /// Ready when the stream was reset, or its connection has ended, with something left to send. Says why, where that is
    /// known.
    pub fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        match &mut self.send {
            Some(send) => send.poll_reset(cx).map(|reset| match reset {
                Ok(reason) => Some(reason),
                Err(error) => error.reason(),
            }),
            None => Poll::Pending,
        }
    }

    /// Gives back what the peer may send anew.
    fn release(&mut self, count: usize) {
        let Some(receive) = &mut self.receive else { return };
        // It fails where nothing more comes anyway.
        let _ = receive.flow_control().release_capacity(count);
        if self.at_hand.is_empty() {
            self.received = receive.is_end_stream();
        }
    }
}

impl Source for Http2Stream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        while self.at_hand.is_empty() {
            let Some(receive) = self.receive.as_mut().filter(|_| !self.received) else {
                return Poll::Ready(Ok(Step::End));
            };
            match ready!(receive.poll_data(cx)).transpose()? {
                Some(data) => {
                    self.received = data.is_empty() && receive.is_end_stream();
                    self.at_hand = data;
                }
                None => {
                    self.trailers = ready!(receive.poll_trailers(cx))?;
                    self.received = true;
                }
            }
        }
        Poll::Ready(Ok(Step::Data))
    }

    fn data(&self) -> &[u8] {
        &self.at_hand
    }

    fn consume(&mut self, count: usize) {
        self.at_hand.advance(count);
        self.release(count);
    }

    /// Without a copy.
    fn take(&mut self, limit: usize) -> Bytes {
        let count = limit.min(self.at_hand.len());
        let taken = self.at_hand.split_to(count);
        self.release(count);
        taken
    }

    fn is_end(&self) -> bool {
        (self.received || self.receive.is_none()) && self.at_hand.is_empty() && self.trailers.is_none()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

impl Sink for Http2Stream {
    fn poll_accept<S: Source>(&mut self, source: &mut S, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let Some(send) = &mut self.send else {
            return Poll::Ready(Err(BodyError::Incomplete));
        };
        let room = if self.begun {
            ready!(poll_room(send, source.data().len(), cx))?
        } else {
            FIRST_PIECE_BYTES
        };
        self.begun = true;
        let piece = source.take(room);
        let (count, end) = (piece.len(), source.is_end());
        send.send_data(piece, end).map_err(|error| reset_of(send, error))?;
        if end {
            self.send = None;
        }
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        // It ended with the last piece.
        let Some(mut send) = self.send.take() else {
            return Ok(());
        };
        let sent = match trailers {
            Some(trailers) if !trailers.is_empty() => send.send_trailers(trailers),
            _ => send.send_data(Bytes::new(), true),
        };
        sent.map_err(|error| reset_of(&mut send, error))
    }

    /// The connection's task writes.
    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }
}

/// How much of `wanted` bytes may be sent now: never 0. Room is asked for only with data at hand, because it is taken from
/// the other streams of the connection.
fn poll_room(send: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
    send.reserve_capacity(wanted);
    loop {
        let room = send.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(send.poll_capacity(cx)).transpose()? {
            Some(_) => {}
            // Also when the peer resets the stream while this waits.
            None => {
                let closed = match send.poll_reset(cx) {
                    Poll::Ready(Ok(reason)) => BodyError::Http2(reason.into()),
                    Poll::Ready(Err(error)) => BodyError::Http2(error),
                    Poll::Pending => BodyError::Incomplete,
                };
                return Poll::Ready(Err(closed));
            }
        }
    }
}

/// `h2` says only that the stream is closed; this says why, where that is known.
fn reset_of(send: &mut SendStream<Bytes>, error: h2::Error) -> BodyError {
    match send.poll_reset(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(reason)) => BodyError::Http2(reason.into()),
        Poll::Ready(Err(reset)) => BodyError::Http2(reset),
        Poll::Pending => BodyError::Http2(error),
    }
}

/// The bytes of an answered `CONNECT`. Dropping it ends the stream as `shutdown` does.
#[derive(Debug)]
pub struct Http2Tunnel {
    stream: Http2Stream,
    /// Who cancels the stream in the middle has aborted it (RFC 8441, 5).
    strict: bool,
    /// The other side must not take its end for one.
    resets: Cell<bool>,
}

impl Http2Tunnel {
    pub fn new(stream: Http2Stream) -> Self {
        Self {
            stream,
            strict: false,
            resets: Cell::new(false),
        }
    }

    /// Of an extended CONNECT.
    pub fn upgraded(stream: Http2Stream) -> Self {
        let mut tunnel = Self::new(stream);
        tunnel.strict = true;
        tunnel
    }

    /// Does the other side mean an end when it resets the stream for this reason?
    fn ends(&self, reason: Option<Reason>) -> bool {
        match reason {
            // It has said all that it had to say.
            Some(Reason::NO_ERROR) => true,
            // It has lost interest, which is how many end a tunnel, and others once they have heard the end.
            Some(Reason::CANCEL) => !self.strict || self.stream.is_finished(),
            _ => false,
        }
    }
}

impl Transport for Http2Tunnel {
    fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        match self.stream.poll_reset(cx) {
            Poll::Ready(reason) => !self.ends(reason),
            Poll::Pending => false,
        }
    }

    fn reset_when_dropped(&self) {
        self.resets.set(true);
    }
}

impl AsyncRead for Http2Tunnel {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.stream;
        Poll::Ready(match ready!(stream.poll_data(cx)) {
            Ok(Step::Data) => {
                let count = stream.data().len().min(buf.remaining());
                buf.put_slice(&stream.data()[..count]);
                stream.consume(count);
                Ok(())
            }
            Ok(Step::End) => Ok(()),
            Err(BodyError::Http2(error)) if self.ends(error.reason()) => Ok(()),
            Err(error) => Err(io_error(error)),
        })
    }
}

impl AsyncWrite for Http2Tunnel {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.stream.poll_accept(&mut Lent(bytes), cx).map_err(io_error)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.stream.finish(None) {
            // Who has ended the stream wants to hear nothing any more, an end included.
            Err(BodyError::Http2(error)) if error.reason() == Some(Reason::NO_ERROR) => Ok(()),
            ended => ended.map_err(io_error),
        })
    }
}

impl Drop for Http2Tunnel {
    fn drop(&mut self) {
        // A stream that is dropped before its end is reset.
        if !self.resets.get() {
            // It fails for a stream that is over.
            let _ = self.stream.finish(None);
        }
    }
}

fn io_error(error: BodyError) -> io::Error {
    match error {
        BodyError::Io(error) => error,
        BodyError::Http2(error) if error.reason() == Some(Reason::STREAM_CLOSED) => {
            io::Error::new(io::ErrorKind::BrokenPipe, error)
        }
        error => io::Error::other(error),
    }
}

/// Bytes of the caller; what more there will be is not known.
struct Lent<'a>(&'a [u8]);

impl Source for Lent<'_> {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        Poll::Ready(Ok(if self.0.is_empty() { Step::End } else { Step::Data }))
    }

    fn data(&self) -> &[u8] {
        self.0
    }

    fn consume(&mut self, count: usize) {
        self.0 = &self.0[count..];
    }

    fn is_end(&self) -> bool {
        false
    }
}

#[cfg(test)]
#[path = "http2_testing.rs"]
pub mod testing;

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
