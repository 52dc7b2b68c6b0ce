//! The request's body on its way upstream. Where the rule's retries may need it again, its first 64 KiB are kept, in at
//! most 256 pieces; a body that outgrows that is not repeated.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;

use crate::codec::{BodyError, BodyLength, Source, Step};

const MAX_KEPT_BYTES: u64 = 64 * 1024;
/// A body that comes in crumbs would cost much more than its bytes.
const MAX_KEPT_PIECES: usize = 256;

/// What is known of the body, over all attempts.
#[derive(Debug)]
pub struct RequestBody {
    /// Never until the connection's end: a request is over before that.
    pub length: BodyLength,
    /// Another attempt may need it.
    keep: bool,
    kept: Vec<Bytes>,
    /// Of `kept`, what this attempt has sent: whole pieces, and bytes of the next.
    position: (usize, usize),
    trailers: Option<Box<HeaderMap>>,
    /// Received from the client.
    pub bytes: u64,
    finished: bool,
    /// When it was last asked, the client had nothing.
    waits: bool,
}

impl RequestBody {
    pub fn new(length: BodyLength, keep: bool) -> Self {
        Self {
            length,
            keep,
            kept: Vec::new(),
            position: (0, 0),
            trailers: None,
            bytes: 0,
            finished: matches!(length, BodyLength::None | BodyLength::Exact(0)),
            waits: false,
        }
    }

    /// Is all of it still there for another attempt?
    pub fn is_repeatable(&self) -> bool {
        self.keep || self.bytes == 0
    }

    /// Has the client sent all of it?
    pub fn is_received(&self) -> bool {
        self.finished
    }

    /// Is it the client that the request waits for, not the endpoint?
    pub fn waits_for_client(&self) -> bool {
        self.waits
    }

    /// From its start, for one more attempt.
    pub fn rewind(&mut self) {
        self.position = (0, 0);
    }

    /// What was kept and this attempt has not sent yet.
    fn repeated(&self) -> Option<&[u8]> {
        let (piece, sent) = self.position;
        self.kept.get(piece).map(|piece| &piece[sent..])
    }

    fn advance(&mut self, count: usize) {
        self.position.1 += count;
        if self.repeated().is_some_and(<[u8]>::is_empty) {
            self.position = (self.position.0 + 1, 0);
        }
    }

    /// Counts what was received. A body that has become too large is not kept, not even in part.
    fn received(&mut self, count: usize, data: impl FnOnce() -> Bytes) {
        self.bytes += count as u64;
        self.keep &= self.bytes <= MAX_KEPT_BYTES && self.kept.len() < MAX_KEPT_PIECES;
        if self.keep {
            self.kept.push(data());
        } else if !self.kept.is_empty() {
            self.kept = Vec::new();
        }
        self.position = (self.kept.len(), 0);
    }
}

/// The body as one attempt reads it: what was kept first, then what the client still sends.
pub struct Attempted<'a, S> {
    pub body: &'a mut RequestBody,
    pub client: &'a mut S,
}

impl<S: Source> Source for Attempted<'_, S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        if self.body.repeated().is_some() {
            self.body.waits = false;
            return Poll::Ready(Ok(Step::Data));
        }
        if self.body.finished {
            return Poll::Ready(Ok(Step::End));
        }
        let polled = self.client.poll_data(cx);
        self.body.waits = polled.is_pending();
        if let Poll::Ready(Ok(Step::End)) = &polled {
            self.body.finished = true;
            self.body.trailers = self.client.take_trailers().map(Box::new);
        }
        polled
    }

    fn data(&self) -> &[u8] {
        self.body.repeated().unwrap_or_else(|| self.client.data())
    }

    fn consume(&mut self, count: usize) {
        if self.body.repeated().is_some() {
            return self.body.advance(count);
        }
        let data = || Bytes::copy_from_slice(&self.client.data()[..count]);
        self.body.received(count, data);
        self.client.consume(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        let (piece, sent) = self.body.position;
        if let Some(piece) = self.body.kept.get(piece) {
            let taken = piece.slice(sent..piece.len().min(sent + limit));
            self.body.advance(taken.len());
            return taken;
        }
        let taken = self.client.take(limit);
        self.body.received(taken.len(), || taken.clone());
        taken
    }

    fn is_end(&self) -> bool {
        let over = if self.body.finished {
            self.body.trailers.is_none()
        } else {
            self.client.is_end()
        };
        over && self.body.repeated().is_none()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.body.trailers.as_deref().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Whole;

    fn read_all(body: &mut RequestBody, client: &mut Whole, piece: usize) -> Vec<u8> {
        let mut attempted = Attempted { body, client };
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = Vec::new();
        while let Poll::Ready(Ok(Step::Data)) = attempted.poll_data(&mut cx) {
            read.extend_from_slice(&attempted.take(piece));
        }
        read
    }

    #[test]
    fn a_kept_body_is_read_again_from_its_start_however_far_the_first_attempt_came() {
        let text = Bytes::from_static(b"0123456789");
        let mut client = Whole(text.clone());
        let mut body = RequestBody::new(BodyLength::Exact(10), true);
        Attempted {
            body: &mut body,
            client: &mut client,
        }
        .take(4);
        assert!(body.is_repeatable());
        body.rewind();
        assert_eq!(read_all(&mut body, &mut client, 3), text);
        body.rewind();
        assert_eq!(read_all(&mut body, &mut client, 100), text);
        assert_eq!(body.bytes, 10);
    }

    #[test]
    fn a_body_that_outgrows_its_buffer_is_sent_whole_and_not_repeatable() {
        let text = Bytes::from(vec![b'x'; MAX_KEPT_BYTES as usize + 1]);
        let mut client = Whole(text.clone());
        let mut body = RequestBody::new(BodyLength::Chunked, true);
        assert_eq!(read_all(&mut body, &mut client, 1000), text);
        assert!(!body.is_repeatable());
    }

    #[test]
    fn a_body_that_is_not_kept_is_repeatable_only_while_nothing_of_it_was_read() {
        let mut client = Whole(Bytes::from_static(b"abc"));
        let mut body = RequestBody::new(BodyLength::Exact(3), false);
        assert!(body.is_repeatable());
        read_all(&mut body, &mut client, 1);
        assert!(!body.is_repeatable());
    }
}
