//! One HTTP/1 connection: heads in and out, the body of one message each way, in order. Client and server side alike.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::body::{BodyLength, Decoded, Decoder, Encoder};
use super::buffer::{Input, Output, SMALL_BYTES};
use super::head::{HeadError, MAX_HEAD_BYTES, ends_head, parse_request, parse_response};
use super::head_budget::{HeadBudget, HeadClaim};
use super::message::{RequestHead, ResponseHead};
use super::transfer::{BodyError, Sink, Source, Step};
use super::transport::Transport;

/// Data up to this size is copied behind what is to be written anyway; larger data is written from where it lies.
const COPIED_BYTES: usize = 4 * 1024;
/// What may wait to be written, besides one head.
const PENDING_BYTES: usize = 16 * 1024;

/// What is read and forgotten while a connection closes.
const FORGOTTEN_BYTES: usize = 256 * 1024;

/// How often a connection whose buffer is full is asked whether its other side has closed.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Why there is no head.
#[derive(Debug, thiserror::Error)]
pub enum NoHead {
    #[error("the connection was closed")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0:?}")]
    Refused(HeadError),
}

#[derive(Debug)]
pub struct Http1Stream<S> {
    stream: S,
    input: Input,
    output: Output,
    decoder: Decoder,
    /// Body bytes at the front of `input`.
    data: usize,
    /// The last read filled its buffer.
    filled: bool,
    /// How much of the head that is arriving was looked at in vain.
    examined: usize,
    /// The memory of a request's head that is arriving.
    claim: HeadClaim,
    encoder: Encoder,
    /// Bytes that belong to the piece that the encoder has announced.
    announced: usize,
    /// Nothing has been written since the last head was given to be sent.
    unsent: bool,
    /// The endpoint has said that it wants the request's body.
    continues: bool,
    /// The other side has closed.
    closed: bool,
    /// Until the next look whether it has, while nothing more can be read.
    look: Option<Pin<Box<Sleep>>>,
}

impl<S> Http1Stream<S> {
    /// `read`: what was read from the stream already.
    pub fn new(stream: S, read: &[u8]) -> Self {
        Self {
            stream,
            input: Input::holding(read),
            output: Output::default(),
            decoder: Decoder::default(),
            data: 0,
            filled: false,
            examined: 0,
            claim: HeadClaim::of(HeadBudget::of_this_process()),
            encoder: Encoder::new(BodyLength::None),
            announced: 0,
            unsent: false,
            continues: false,
            closed: false,
            look: None,
        }
    }

    /// The stream, and what was read from it and not used.
    pub fn into_parts(self) -> (S, Bytes) {
        let read = Bytes::copy_from_slice(self.input.bytes());
        (self.stream, read)
    }

    /// The body of the message whose head has been read.
    pub fn expect_body(&mut self, length: BodyLength) {
        self.decoder = Decoder::new(length);
        self.data = 0;
        self.filled = false;
    }

    /// Lets `write` append a head; its body is to follow with `length`.
    pub fn send_head(&mut self, length: BodyLength, write: impl FnOnce(&mut Vec<u8>)) {
        write(self.output.bytes_mut());
        self.encoder = Encoder::new(length);
        self.announced = 0;
        self.unsent = true;
    }

    /// Not a byte of the message whose head was given to be sent has left.
    pub fn is_unsent(&self) -> bool {
        self.unsent
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The incoming message was read to its end.
    pub fn is_read(&self) -> bool {
        self.data == 0 && self.decoder.is_over()
    }

    /// Some of the next message has arrived.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }
}

impl<S: AsyncRead + Unpin> Http1Stream<S> {
    /// 0: the other side has closed; also when there is no room for more than `maximum` bytes.
    fn poll_fill(&mut self, maximum: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(room) = self.input.room(maximum, self.filled) else {
            return Poll::Ready(Ok(0));
        };
        let mut buffer = ReadBuf::new(room);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut buffer);
        let (count, full) = (buffer.filled().len(), buffer.remaining() == 0);
        self.input.filled(count);
        if self.input.is_empty() {
            self.input.release();
        }
        ready!(read)?;
        self.filled = full;
        self.closed |= count == 0;
        Poll::Ready(Ok(count))
    }

    /// The next request's head. Bytes behind it stay.
    pub fn poll_request(&mut self, head: &mut RequestHead, cx: &mut Context<'_>) -> Poll<Result<(), NoHead>> {
        self.poll_head(cx, true, |input| parse_request(input, head))
    }

    /// The response's head, and the length of the body behind it. Interim ones are passed over, but for one that says to
    /// send the body: see `take_continue`.
    pub fn poll_response(
        &mut self,
        head: &mut ResponseHead,
        request: &Method,
        cx: &mut Context<'_>,
    ) -> Poll<Result<BodyLength, NoHead>> {
        loop {
            ready!(self.poll_head(cx, false, |input| parse_response(input, head)))?;
            if !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS {
                let length = head.body_length(request).map_err(NoHead::Refused)?;
                self.expect_body(length);
                self.continues = false;
                return Poll::Ready(Ok(length));
            }
            self.continues |= head.status == http::StatusCode::CONTINUE;
        }
    }

    /// Has the endpoint said since the last call that it wants the request's body?
    pub fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.continues)
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        // Endpoints are few and known; clients are neither.
        is_request: bool,
        mut parse: impl FnMut(&[u8]) -> Result<Option<usize>, HeadError>,
    ) -> Poll<Result<(), NoHead>> {
        loop {
            let input = self.input.bytes();
            // Nonsense is refused with its first bytes; after that only what may be a whole head is worth parsing again.
            if !input.is_empty()
                && (self.examined == 0 || ends_head(input, self.examined))
                && let Some(length) = parse(input).map_err(NoHead::Refused)?
            {
                self.input.consume(length);
                self.examined = 0;
                self.claim.release();
                return Poll::Ready(Ok(()));
            }
            self.examined = input.len();
            let refused = is_request && !self.claim.grow_to(self.examined, self.input.capacity());
            if self.examined >= MAX_HEAD_BYTES || refused {
                return Poll::Ready(Err(NoHead::Refused(HeadError::TooLarge)));
            }
            if ready!(self.poll_fill(MAX_HEAD_BYTES, cx))? == 0 {
                return Poll::Ready(Err(NoHead::Closed));
            }
        }
    }

    /// Ready when there is input, or no more will come.
    pub fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.has_input() {
            return Poll::Ready(Ok(true));
        }
        self.poll_fill(SMALL_BYTES, cx).map_ok(|count| count > 0)
    }

    /// Both messages are over and nothing is left of them, as far as was looked.
    pub fn is_clean(&self) -> bool {
        !self.closed && !self.has_input() && !self.has_output() && self.is_read()
    }

    /// Clean, open, and nothing has come since: may it be used for another request?
    pub fn is_quiet(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        self.is_clean() && self.poll_input(&mut cx).is_pending()
    }
}

impl<S: Transport> Http1Stream<S> {
    /// Ready when the other side has closed. What it sends meanwhile is kept, up to a bufferful; behind that its end is
    /// seen a little later.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.input.room(SMALL_BYTES, false).is_some() {
            match self.poll_fill(SMALL_BYTES, cx) {
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        while !self.stream.is_closed_by_peer() {
            let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
            ready!(look.as_mut().poll(cx));
            self.look = None;
        }
        Poll::Ready(())
    }

    /// The other side must not take the end of the connection for the end of the message.
    pub fn reset_when_dropped(&self) {
        self.stream.reset_when_dropped();
    }
}

impl<S: AsyncRead + Unpin> Source for Http1Stream<S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        if self.data > 0 {
            return Poll::Ready(Ok(Step::Data));
        }
        loop {
            match self.decoder.decode(self.input.bytes()).map_err(BodyError::Malformed)? {
                Decoded::Data { skip, data } => {
                    self.input.consume(skip);
                    self.data = data;
                    return Poll::Ready(Ok(Step::Data));
                }
                Decoded::End { skip } => {
                    self.input.consume(skip);
                    return Poll::Ready(Ok(Step::End));
                }
                Decoded::More { skip } => self.input.consume(skip),
            }
            if ready!(self.poll_fill(MAX_HEAD_BYTES, cx))? == 0 {
                if !self.decoder.ends_at_close() {
                    return Poll::Ready(Err(BodyError::Incomplete));
                }
                self.decoder = Decoder::default();
            }
        }
    }

    fn data(&self) -> &[u8] {
        &self.input.bytes()[..self.data]
    }

    fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.decoder.consume(count);
        self.data -= count;
    }

    fn is_end(&self) -> bool {
        self.is_read()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.decoder.take_trailers()
    }
}

impl<S: AsyncWrite + Unpin> Sink for Http1Stream<S> {
    fn poll_accept<F: Source>(&mut self, source: &mut F, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        let count = source.data().len();
        if self.announced == 0 && count <= COPIED_BYTES && self.output.pending().len() + count <= PENDING_BYTES {
            let bytes = self.output.bytes_mut();
            self.encoder.before(count, bytes).map_err(BodyError::Malformed)?;
            bytes.extend_from_slice(source.data());
            self.encoder.after(bytes);
            source.consume(count);
            return Poll::Ready(Ok(count));
        }
        if self.announced == 0 {
            self.encoder
                .before(count, self.output.bytes_mut())
                .map_err(BodyError::Malformed)?;
            self.announced = count;
        }
        let count = count.min(self.announced);
        loop {
            let slices = [
                IoSlice::new(self.output.pending()),
                IoSlice::new(&source.data()[..count]),
            ];
            let stream = Pin::new(&mut self.stream);
            let written = if self.output.is_empty() {
                ready!(stream.poll_write(cx, &slices[1]))?
            } else {
                ready!(stream.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.unsent = false;
            let before = written.min(self.output.pending().len());
            self.output.advance(before);
            let taken = written - before;
            if taken > 0 {
                source.consume(taken);
                self.announced -= taken;
                if self.announced == 0 {
                    self.encoder.after(self.output.bytes_mut());
                }
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.encoder
            .finish(trailers.as_ref(), self.output.bytes_mut())
            .map_err(BodyError::Malformed)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.output.pending()))?;
            if written == 0 {
                return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
            }
            self.unsent = false;
            self.output.advance(written);
        }
        self.output.release();
        Pin::new(&mut self.stream).poll_flush(cx).map_err(Into::into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1Stream<S> {
    /// Says that nothing more will be written, then reads and forgets until the other side has closed too: closing at
    /// once would reset the connection and could take the last words with it. Whoever goes on sending is cut off.
    pub async fn close(&mut self) -> io::Result<()> {
        self.input.release();
        self.stream.shutdown().await?;
        let mut forgotten = 0;
        std::future::poll_fn(|cx| {
            while forgotten < FORGOTTEN_BYTES {
                match ready!(self.poll_fill(SMALL_BYTES, cx))? {
                    0 => break,
                    count => forgotten += count,
                }
                self.input.release();
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}
