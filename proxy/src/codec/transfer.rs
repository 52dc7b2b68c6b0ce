//! Moving a message's body from one connection to another, whatever either speaks: a source has some bytes, a sink takes
//! them with back-pressure, nothing is collected.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::HeaderMap;

/// Why a body did not arrive or leave whole.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the connection ended before the message did")]
    Incomplete,
    #[error("{0}")]
    Malformed(&'static str),
    #[error("{0}")]
    Http2(#[from] h2::Error),
}

impl BodyError {
    /// Has the other side left, or is what it sends malformed?
    pub fn is_departure(&self) -> bool {
        match self {
            Self::Io(_) | Self::Incomplete => true,
            Self::Malformed(_) => false,
            // Whatever its peer breaks, the library resets by itself.
            Self::Http2(error) => !error.is_library(),
        }
    }
}

/// What a source has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `data` is not empty.
    Data,
    /// The body is over; trailers, if any, can be taken.
    End,
}

/// Where a body comes from.
pub trait Source {
    /// Reads on when nothing is at hand. After `End` it stays `End`.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>>;

    /// What is at hand. It stays until it is consumed.
    fn data(&self) -> &[u8];

    fn consume(&mut self, count: usize);

    /// At most `limit` bytes of what is at hand, consumed.
    fn take(&mut self, limit: usize) -> Bytes {
        let data = self.data();
        let taken = Bytes::copy_from_slice(&data[..data.len().min(limit)]);
        self.consume(taken.len());
        taken
    }

    /// Is it known, without polling, that nothing comes any more, trailers included? May say no where it cannot know.
    fn is_end(&self) -> bool;

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        None
    }
}

/// Where a body goes to.
pub trait Sink {
    /// Takes at least one byte of what `source` has at hand (it has some), and says how many. Pending: there is no room
    /// for now.
    fn poll_accept<S: Source>(&mut self, source: &mut S, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>>;

    /// The body is over; called once.
    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError>;

    /// Hands everything accepted to the kernel, or to the connection's own task.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>>;
}

/// Which side of a transfer failed.
#[derive(Debug)]
pub enum Broken {
    Source(BodyError),
    Sink(BodyError),
}

/// One body on its way.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Of data, without framing.
    pub bytes: u64,
    finished: bool,
    flushed: bool,
}

impl Transfer {
    pub fn is_flushed(&self) -> bool {
        self.flushed
    }

    /// Moves what can be moved, until the source is over. Small pieces are flushed together: only when the source has no
    /// more for now.
    pub fn poll<F: Source, T: Sink>(
        &mut self,
        from: &mut F,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.finished {
            match from.poll_data(cx) {
                Poll::Ready(Ok(Step::Data)) => {
                    self.bytes += ready!(to.poll_accept(from, cx)).map_err(Broken::Sink)? as u64;
                }
                Poll::Ready(Ok(Step::End)) => {
                    to.finish(from.take_trailers()).map_err(Broken::Sink)?;
                    self.finished = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::Source(error))),
                Poll::Pending => {
                    ready!(to.poll_flush(cx)).map_err(Broken::Sink)?;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As `poll`, until the sink has passed everything on.
    pub fn poll_flushed<F: Source, T: Sink>(
        &mut self,
        from: &mut F,
        to: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        ready!(self.poll(from, to, cx))?;
        ready!(to.poll_flush(cx)).map_err(Broken::Sink)?;
        self.flushed = true;
        Poll::Ready(Ok(()))
    }
}

/// A body that is there whole.
#[derive(Debug, Default)]
pub struct Whole(pub Bytes);

impl Source for Whole {
    fn poll_data(&mut self, _: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        Poll::Ready(Ok(if self.0.is_empty() { Step::End } else { Step::Data }))
    }

    fn data(&self) -> &[u8] {
        &self.0
    }

    fn consume(&mut self, count: usize) {
        self.0.advance(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        let count = self.0.len().min(limit);
        self.0.split_to(count)
    }

    fn is_end(&self) -> bool {
        self.0.is_empty()
    }
}
