//! The body of a copied request: filled while the request's own body passes by, read by the copy in its own time. Who
//! reads too slowly loses the copy; the request never waits for it.
//!
//! Bound: what waits is at most 1 MiB for each copy and 32 MiB for all of this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::downstream::Downstream;
use crate::codec::{BodyError, BodyLength, ResponseHead, Sink, Source, Step};

const MAX_WAITING_BYTES: usize = 1024 * 1024;
const MAX_ALL_WAITING_BYTES: usize = 32 * 1024 * 1024;
/// What a piece costs besides its bytes.
const PIECE_BYTES: usize = 128;

static ALL_WAITING_BYTES: AtomicUsize = AtomicUsize::new(0);

enum Piece {
    Data(Bytes, Waiting),
    End(Option<HeaderMap>),
}

/// So many bytes wait, here and in all; none once it is dropped.
struct Waiting {
    here: Arc<AtomicUsize>,
    bytes: usize,
}

impl Waiting {
    /// `None`: there is no room.
    fn begin(here: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let waiting = Self {
            here: Arc::clone(here),
            bytes,
        };
        let before = here.fetch_add(bytes, Ordering::Relaxed);
        let all_before = ALL_WAITING_BYTES.fetch_add(bytes, Ordering::Relaxed);
        // Dropped, it gives back what it took.
        (before + bytes <= MAX_WAITING_BYTES && all_before + bytes <= MAX_ALL_WAITING_BYTES).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.here.fetch_sub(self.bytes, Ordering::Relaxed);
        ALL_WAITING_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Where the pieces go in. Dropped before the end, the copy breaks off.
pub struct CopySink {
    pieces: UnboundedSender<Piece>,
    waiting: Arc<AtomicUsize>,
}

impl std::fmt::Debug for CopySink {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CopySink").finish_non_exhaustive()
    }
}

impl CopySink {
    /// `false`: nobody reads it, or too slowly.
    pub fn send(&mut self, data: &Bytes) -> bool {
        let Some(waiting) = Waiting::begin(&self.waiting, data.len() + PIECE_BYTES) else {
            return false;
        };
        self.pieces.send(Piece::Data(data.clone(), waiting)).is_ok()
    }

    pub fn end(self, trailers: Option<HeaderMap>) {
        // Nobody may be there to read it.
        let _ = self.pieces.send(Piece::End(trailers));
    }
}

/// Stands where the client stands for an ordinary request: the body comes from it, and the response is forgotten in it.
pub struct MirrorBody {
    pieces: UnboundedReceiver<Piece>,
    at_hand: Bytes,
    waiting: Option<Waiting>,
    ended: bool,
    trailers: Option<HeaderMap>,
    broken: bool,
}

pub fn copy_channel() -> (CopySink, MirrorBody) {
    let (sender, pieces) = unbounded_channel();
    let sink = CopySink {
        pieces: sender,
        waiting: Arc::default(),
    };
    let body = MirrorBody {
        pieces,
        at_hand: Bytes::new(),
        waiting: None,
        ended: false,
        trailers: None,
        broken: false,
    };
    (sink, body)
}

#[cfg(test)]
impl MirrorBody {
    /// As a client whose end has been seen.
    pub fn notice_end(&mut self) {
        self.broken = true;
    }
}

impl Source for MirrorBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        loop {
            if !self.at_hand.is_empty() {
                return Poll::Ready(Ok(Step::Data));
            }
            if self.ended {
                return Poll::Ready(Ok(Step::End));
            }
            self.waiting = None;
            match std::task::ready!(self.pieces.poll_recv(cx)) {
                Some(Piece::Data(data, waiting)) => {
                    self.at_hand = data;
                    self.waiting = Some(waiting);
                }
                Some(Piece::End(trailers)) => {
                    self.ended = true;
                    self.trailers = trailers;
                }
                None => {
                    self.broken = true;
                    return Poll::Ready(Err(BodyError::Incomplete));
                }
            }
        }
    }

    fn data(&self) -> &[u8] {
        &self.at_hand
    }

    fn consume(&mut self, count: usize) {
        self.at_hand.advance(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        self.at_hand.split_to(limit.min(self.at_hand.len()))
    }

    fn is_end(&self) -> bool {
        self.ended && self.at_hand.is_empty() && self.trailers.is_none()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }
}

impl Sink for MirrorBody {
    fn poll_accept<S: Source>(&mut self, source: &mut S, _: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let count = source.data().len();
        source.consume(count);
        Poll::Ready(Ok(count))
    }

    fn finish(&mut self, _: Option<HeaderMap>) -> Result<(), BodyError> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        Poll::Ready(Ok(()))
    }
}

impl Downstream for MirrorBody {
    fn respond(&mut self, _: &mut ResponseHead, _: BodyLength, _: bool) -> Result<(), BodyError> {
        Ok(())
    }

    fn tell_to_continue(&mut self) {}

    fn open_tunnel(&mut self) -> Result<(), BodyError> {
        Err(BodyError::Malformed("a copy opens no tunnel"))
    }

    fn switch_protocols(&mut self, _: &mut ResponseHead, _: &str) -> Result<(), BodyError> {
        Err(BodyError::Malformed("a copy switches to no protocol"))
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.broken { Poll::Ready(()) } else { Poll::Pending }
    }

    fn abort(&mut self) {}

    fn reset(&mut self, _: u32) {}
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn read(body: &mut MirrorBody) -> (Vec<u8>, Option<Result<Step, BodyError>>) {
        let mut cx = Context::from_waker(Waker::noop());
        let mut read = Vec::new();
        loop {
            match body.poll_data(&mut cx) {
                Poll::Ready(Ok(Step::Data)) => read.extend_from_slice(&body.take(3)),
                Poll::Ready(ended) => return (read, Some(ended)),
                Poll::Pending => return (read, None),
            }
        }
    }

    #[test]
    fn a_copy_is_what_was_sent_with_its_trailers() {
        let (mut sink, mut body) = copy_channel();
        assert!(sink.send(&Bytes::from_static(b"hello ")) && sink.send(&Bytes::from_static(b"world")));
        assert!(matches!(read(&mut body), (text, None) if text == b"hello world"));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-a", http::HeaderValue::from_static("b"));
        sink.end(Some(trailers.clone()));
        assert!(matches!(read(&mut body), (_, Some(Ok(Step::End)))) && !body.is_end());
        assert_eq!(body.take_trailers(), Some(trailers));
        assert!(body.is_end());
    }

    #[test]
    fn who_does_not_read_loses_the_copy_and_what_waits_is_bounded() {
        let (mut sink, mut body) = copy_channel();
        let piece = Bytes::from(vec![b'x'; 16 * 1024]);
        let sent = (0..1000).take_while(|_| sink.send(&piece)).count();
        assert!(sent * piece.len() <= MAX_WAITING_BYTES && sent > 60, "{sent}");
        let (text, _) = read(&mut body);
        assert_eq!(text.len(), sent * piece.len());
        // There is room again.
        assert!(sink.send(&piece));
        drop(sink);
        assert!(matches!(read(&mut body), (_, Some(Err(BodyError::Incomplete)))));
    }
}
