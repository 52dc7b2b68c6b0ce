//! A downstream HTTP/1 connection: one request after the other, until the client closes, asks to, or is drained.

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Version};
use tokio::time::timeout;

use super::connection::draining;
use super::downstream::{Downstream, DownstreamConnection};
use super::expectation::Expectation;
use super::h2c::serve_h2c;
use super::local_reply::Cause;
use super::request_path::{Proxy, Served, serve};
use crate::codec::{
    BodyError, BodyLength, HeadError, Http1Stream, Known, NoHead, Prefixed, RequestHead, ResponseHead, Sink, Source,
    Step, Transfer, Transport, Whole,
};
use crate::drain::DrainWatch;
use crate::telemetry::Flags;

/// For a head, from its first byte.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// For the client to close after we have.
const CLOSE_TIME: Duration = Duration::from_secs(1);
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The client's side of the request at hand.
struct Http1Downstream<S> {
    stream: Http1Stream<S>,
    drain: Option<DrainWatch>,
    version: Version,
    expectation: Expectation,
    /// The word that the client waits for has still to be sent.
    continues: bool,
    /// Another request may follow.
    keep_alive: bool,
    aborted: bool,
    /// The response's end is the connection's.
    ends_at_close: bool,
}

/// Dropped in the middle of a request, the connection is reset: whatever was sent of the answer must not look whole. It is
/// forgotten when the request is served.
struct Unserved<'c, S: Transport>(&'c mut Http1Downstream<S>);

impl<S: Transport> Drop for Unserved<'_, S> {
    fn drop(&mut self) {
        self.0.stream.reset_when_dropped();
    }
}

/// What comes next on a connection.
enum Next {
    Request,
    End,
    Refused(HeadError),
}

/// Serves until the client closes or, while draining, the request at hand is answered. `read`: what was read already.
pub async fn serve_http1<S>(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    stream: S,
    read: &[u8],
    drain: Option<DrainWatch>,
) where
    S: Transport + 'static,
{
    let mut draining = std::pin::pin!(draining(drain.clone()));
    let mut client = Http1Downstream::new(Http1Stream::new(stream, read), drain);
    let mut head = RequestHead::default();
    loop {
        match client.next(&mut head, draining.as_mut()).await {
            Next::Request => {}
            Next::End => return,
            // Boxed: what is rare should not make every connection's state larger.
            Next::Refused(error) => return Box::pin(client.refuse(proxy, error)).await,
        }
        let length = client.begin(&head);
        if head.headers.has(Known::Http2Settings)
            && client.stream.is_read()
            && let Some(asked) = head.asks_for_h2c()
        {
            let (stream, read) = client.stream.into_parts();
            let served = serve_h2c(proxy, downstream, asked, stream, read, client.drain);
            return Box::pin(served).await;
        }
        let unserved = Unserved(&mut client);
        let served = serve(proxy, &downstream, &mut head, length, &mut *unserved.0).await;
        mem::forget(unserved);
        head.clear();
        match served {
            Served::Upgraded(upgraded) => {
                let (stream, read) = client.stream.into_parts();
                return upgraded.run(Box::new(Prefixed::new(read, stream))).await;
            }
            Served::Done if client.may_continue() => {}
            Served::Done => return Box::pin(client.close()).await,
            Served::Tunnel(tunnel) => {
                let (stream, read) = client.stream.into_parts();
                return tunnel.run(Box::new(Prefixed::new(read, stream))).await;
            }
        }
    }
}

impl<S: Transport> Http1Downstream<S> {
    fn new(stream: Http1Stream<S>, drain: Option<DrainWatch>) -> Self {
        Self {
            stream,
            drain,
            version: Version::HTTP_11,
            expectation: Expectation::default(),
            continues: false,
            keep_alive: true,
            aborted: false,
            ends_at_close: false,
        }
    }

    /// Waits for a request. A drained connection ends between two requests; a head that has begun is waited for.
    async fn next(&mut self, head: &mut RequestHead, mut draining: Pin<&mut impl Future<Output = ()>>) -> Next {
        let idle = poll_fn(|cx| match self.stream.poll_input(cx) {
            Poll::Ready(input) => Poll::Ready(input.unwrap_or(false)),
            Poll::Pending => draining.as_mut().poll(cx).map(|()| false),
        });
        if !idle.await {
            return Next::End;
        }
        let at_once = self.stream.poll_request(head, &mut Context::from_waker(Waker::noop()));
        let arrived = match at_once {
            Poll::Ready(arrived) => arrived,
            // Only a head that comes in pieces needs a clock.
            Poll::Pending => match Box::pin(timeout(HEAD_TIME, poll_fn(|cx| self.stream.poll_request(head, cx)))).await
            {
                Ok(arrived) => arrived,
                Err(_) => return Next::End,
            },
        };
        match arrived {
            Ok(()) => Next::Request,
            Err(NoHead::Refused(error)) => Next::Refused(error),
            Err(NoHead::Closed | NoHead::Io(_)) => Next::End,
        }
    }

    /// Takes the head's word for how the connection goes on; the length of the body, or why it is not certain.
    fn begin(&mut self, head: &RequestHead) -> Result<BodyLength, &'static str> {
        self.version = head.version;
        self.keep_alive = head.keeps_alive();
        self.expectation.begin(head.expects_continue());
        self.continues = false;
        let length = head.body_length();
        self.stream.expect_body(*length.as_ref().unwrap_or(&BodyLength::None));
        match length {
            // Else whoever reads its length would take for the body what is the tunnel's, or the next request.
            Ok(BodyLength::Exact(1..) | BodyLength::Chunked) if head.method == Method::CONNECT => {
                Err("a CONNECT has no body")
            }
            Ok(length) => Ok(length),
            Err(HeadError::Bad(reason)) => Err(reason),
            Err(HeadError::TooLarge) => Err("the request's head is too large"),
        }
    }

    /// Answers what is no request: a sentence for the client, a count for the operator.
    async fn refuse(mut self, proxy: &Proxy, error: HeadError) {
        let cause = match error {
            HeadError::Bad(reason) => Cause::BadRequest(reason),
            HeadError::TooLarge => Cause::HeadTooLarge,
        };
        let (mut head, body) = cause.reply().response(false);
        let status = head.status.as_u16();
        proxy
            .unrouted
            .record(&Method::default(), status, Flags::DPE, Duration::ZERO);
        self.close_after();
        let length = BodyLength::Exact(body.len() as u64);
        let (mut transfer, mut body) = (Transfer::default(), Whole(body));
        if self.respond(&mut head, length, false).is_ok()
            && timeout(
                CLOSE_TIME,
                poll_fn(|cx| transfer.poll_flushed(&mut body, &mut self, cx)),
            )
            .await
            .is_ok()
        {
            self.close().await;
        }
    }

    /// The response was sent whole, the request read whole, and neither side wants to close.
    fn may_continue(&mut self) -> bool {
        self.keep_alive && !self.aborted && !self.stream.has_output() && self.stream.is_read()
    }

    async fn close(mut self) {
        if !self.aborted {
            let _ = timeout(CLOSE_TIME, self.stream.close()).await;
        }
    }
}

impl<S: Transport> Downstream for Http1Downstream<S> {
    fn respond(&mut self, head: &mut ResponseHead, length: BodyLength, _: bool) -> Result<(), BodyError> {
        let length = match length {
            BodyLength::Chunked if self.version < Version::HTTP_11 => BodyLength::UntilClose,
            length => length,
        };
        // From the first word of it: an idle connection closed later could be closed under its next request.
        let leaving = self.drain.as_ref().is_some_and(DrainWatch::is_leaving);
        self.ends_at_close = length == BodyLength::UntilClose;
        let ends = self.ends_at_close || leaving;
        // A client that still waits to be told to send its body will not send it now.
        let keeps_body = self.expectation.end() && !self.stream.is_read();
        if ends || keeps_body {
            self.keep_alive = false;
        }
        self.continues = false;
        let (version, close) = (self.version, !self.keep_alive);
        self.stream
            .send_head(length, |out| head.write_http1(out, version, length, close));
        Ok(())
    }

    /// Unless its body has begun to come without it.
    fn tell_to_continue(&mut self) {
        if self.expectation.end() && !self.stream.is_read() && !self.stream.has_input() {
            self.continues = true;
            self.stream
                .send_head(BodyLength::None, |out| out.extend_from_slice(CONTINUE));
        }
    }

    fn open_tunnel(&mut self) -> Result<(), BodyError> {
        self.stream.send_head(BodyLength::None, |out| {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\n\r\n")
        });
        Ok(())
    }

    fn switch_protocols(&mut self, head: &mut ResponseHead, protocol: &str) -> Result<(), BodyError> {
        self.stream
            .send_head(BodyLength::None, |out| head.write_switching(out, protocol));
        Ok(())
    }

    fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// What is left of it, if it is there already, is no reason to close.
    fn abandon_body(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(Step::Data)) = self.stream.poll_data(&mut cx) {
            let count = self.stream.data().len();
            self.stream.consume(count);
        }
        self.keep_alive &= self.stream.is_read();
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_closed(cx)
    }

    fn abort(&mut self) {
        self.aborted = true;
        if self.ends_at_close {
            self.stream.reset_when_dropped();
        }
    }

    fn reset(&mut self, _: u32) {
        self.aborted = true;
        self.stream.reset_when_dropped();
    }
}

/// The request's body.
impl<S: Transport> Source for Http1Downstream<S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        loop {
            if self.continues {
                ready!(self.stream.poll_flush(cx))?;
                self.continues = false;
            }
            let polled = self.stream.poll_data(cx);
            if polled.is_ready() {
                // It has not waited.
                self.expectation.end();
                return polled;
            }
            ready!(self.expectation.poll_patience(cx));
            self.tell_to_continue();
        }
    }

    fn data(&self) -> &[u8] {
        self.stream.data()
    }

    fn consume(&mut self, count: usize) {
        self.stream.consume(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        self.stream.take(limit)
    }

    fn is_end(&self) -> bool {
        self.stream.is_end()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.stream.take_trailers()
    }
}

/// The response's body.
impl<S: Transport> Sink for Http1Downstream<S> {
    fn poll_accept<F: Source>(&mut self, source: &mut F, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.stream.poll_accept(source, cx)
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.stream.finish(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.stream.poll_flush(cx)
    }
}
