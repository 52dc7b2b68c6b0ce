//! A downstream HTTP/2 connection: a task for the connection, one for each request on it, until the client closes or the
//! drained connection's last request is answered.
//!
//! What is no proper request never gets here: `h2` resets its stream, and ends the connection of a client that does that,
//! or resets streams before they are served, too often.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{draining, over};
use super::downstream::{Downstream, DownstreamConnection};
use super::expectation::Expectation;
use super::request_path::{Proxy, Served, serve};
use crate::codec::{
    BodyError, BodyLength, Gathered, HeadError, Http2Stream, Http2Tunnel, RequestHead, ResponseHead, Sink, Source, Step,
};
use crate::drain::DrainWatch;

const MAX_CONCURRENT_STREAMS: u32 = 1000;
/// Flow-control windows: what a request's body may hold here, and all of a connection's together.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What a response may hold that waits for the socket.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
const MAX_HEADER_LIST_BYTES: u32 = 64 * 1024;
/// Streams that the client reset before they were accepted; more at once end the connection.
const MAX_UNSERVED_RESETS: usize = 20;
/// For the first request of a connection that comes while the proxy drains.
const LATE_REQUEST_TIME: Duration = Duration::from_secs(1);
/// Streams that we had to reset because they broke the protocol; more end the connection.
const MAX_MALFORMED: usize = 1024;

/// Serves until the client closes or, while draining, the requests in flight are answered.
pub async fn serve_http2<S>(proxy: &Arc<Proxy>, downstream: DownstreamConnection, stream: S, drain: Option<DrainWatch>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Err(error) = accept_requests(proxy, downstream, stream, drain).await {
        tracing::debug!(%error, "downstream connection ended");
    }
}

/// Until the last request's stream has ended.
async fn accept_requests<S>(
    proxy: &Arc<Proxy>,
    downstream: DownstreamConnection,
    stream: S,
    drain: Option<DrainWatch>,
) -> Result<(), BodyError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = Gathered::new(stream);
    let mut connection = Builder::new()
        .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(MAX_HEADER_LIST_BYTES)
        .max_pending_accept_reset_streams(MAX_UNSERVED_RESETS)
        .max_local_error_reset_streams(Some(MAX_MALFORMED))
        .enable_connect_protocol()
        .handshake::<_, Bytes>(socket.clone())
        .await?;
    // A late client is told to go once its first request is here: told before, it could not send that any more.
    let late = drain.as_ref().is_some_and(DrainWatch::is_draining);
    let mut first_request = late.then(|| Box::pin(tokio::time::sleep(LATE_REQUEST_TIME)));
    let mut draining = std::pin::pin!(draining(drain.clone()));
    let mut over = std::pin::pin!(over(drain));
    let (mut leaving, mut cut_off) = (false, false);
    poll_fn(|cx| {
        loop {
            // When the connection has ended its streams have, and with them the tasks of its requests.
            while let Poll::Ready(accepted) = connection.poll_accept(cx)? {
                let Some((request, respond)) = accepted else {
                    return Poll::Ready(Ok(()));
                };
                first_request = None;
                // Boxed, because what is spawned moves about before it rests.
                tokio::spawn(Box::pin(serve_request(Arc::clone(proxy), downstream, request, respond)));
            }
            // Behind the last poll, which may have had something to say.
            if let Poll::Ready(Err(error)) = socket.poll_write_out(cx) {
                return Poll::Ready(Err(error.into()));
            }
            let awaited = first_request
                .as_mut()
                .is_some_and(|time| time.as_mut().poll(cx).is_pending());
            if cut_off || (leaving && over.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
            if leaving {
                // Its streams fail, and with them what their tasks do.
                cut_off = true;
                connection.abrupt_shutdown(Reason::INTERNAL_ERROR);
                continue;
            }
            if awaited || draining.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            leaving = true;
            connection.graceful_shutdown();
        }
    })
    .await
}

/// Not an `async fn`: that would hold what it is given twice.
fn serve_request(
    proxy: Arc<Proxy>,
    downstream: DownstreamConnection,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> {
    let (parts, body) = request.into_parts();
    let mut head = RequestHead::from_http2(parts);
    head.by_upgrade = downstream.by_upgrade;
    let mut client = Http2Downstream::new(body, respond);
    let length = client.begin(&head);
    async move {
        match serve(&proxy, &downstream, &mut head, length, &mut client).await {
            Served::Done => {}
            Served::Tunnel(tunnel) => tunnel.run(Box::new(Http2Tunnel::new(client.stream))).await,
            Served::Upgraded(upgraded) => upgraded.run(Box::new(Http2Tunnel::upgraded(client.stream))).await,
        }
    }
}

/// The client's side of one request.
struct Http2Downstream {
    stream: Http2Stream,
    respond: SendResponse<Bytes>,
    responded: bool,
    expectation: Expectation,
}

impl Http2Downstream {
    fn new(body: RecvStream, respond: SendResponse<Bytes>) -> Self {
        let mut stream = Http2Stream::default();
        stream.receive_from(body);
        Self {
            stream,
            respond,
            responded: false,
            expectation: Expectation::default(),
        }
    }

    /// The length of the body, or why it is not certain.
    fn begin(&mut self, head: &RequestHead) -> Result<BodyLength, &'static str> {
        let expects = head.expects_continue() && head.upgrade.is_none();
        self.expectation.begin(expects && !self.stream.is_end());
        if head.is_bad_extended_connect() {
            return Err("the stream cannot become what its :protocol names");
        }
        match head.body_length() {
            Ok(BodyLength::Exact(1..)) if head.upgrade.is_some() => Err("a CONNECT has no body"),
            // What follows is the other protocol's.
            Ok(_) if head.upgrade.is_some() => Ok(BodyLength::None),
            // What follows are the tunnel's bytes.
            Ok(BodyLength::Exact(1..)) if head.method == Method::CONNECT => Err("a CONNECT has no body"),
            Ok(BodyLength::UntilClose) if self.stream.is_end() => Ok(BodyLength::None),
            Ok(BodyLength::UntilClose) => Ok(BodyLength::Chunked),
            Ok(length) => Ok(length),
            Err(HeadError::Bad(reason)) => Err(reason),
            Err(HeadError::TooLarge) => Err("the request's head is too large"),
        }
    }

    fn send(&mut self, response: Response<()>, end: bool) -> Result<(), BodyError> {
        self.responded = true;
        match self.respond.send_response(response, end) {
            Ok(send) if !end => self.stream.send_to(send),
            Ok(_) => {}
            Err(error) => {
                self.abort();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Downstream for Http2Downstream {
    fn respond(&mut self, head: &mut ResponseHead, length: BodyLength, over: bool) -> Result<(), BodyError> {
        let mut response = head.to_http2();
        if let BodyLength::Exact(length @ 1..) = length {
            response
                .headers_mut()
                .entry(header::CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        self.send(response, over)
    }

    /// Unless its body has begun to come without it.
    fn tell_to_continue(&mut self) {
        if self.expectation.end() && !self.responded {
            let mut interim = Response::new(());
            *interim.status_mut() = StatusCode::CONTINUE;
            // A client that has gone meanwhile shows itself where its body is read.
            let _ = self.respond.send_informational(interim);
        }
    }

    fn open_tunnel(&mut self) -> Result<(), BodyError> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::OK;
        self.send(response, false)
    }

    /// Success takes the place of 101, and what is gone on in was said by the request.
    fn switch_protocols(&mut self, head: &mut ResponseHead, _: &str) -> Result<(), BodyError> {
        let mut response = head.to_http2();
        *response.status_mut() = StatusCode::OK;
        response.headers_mut().remove(header::CONTENT_LENGTH);
        self.send(response, false)
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.responded {
            self.stream.poll_reset(cx).map(drop)
        } else {
            self.respond.poll_reset(cx).map(drop)
        }
    }

    fn abort(&mut self) {
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }

    fn reset(&mut self, code: u32) {
        self.respond.send_reset(Reason::from(code));
    }
}

/// The request's body.
impl Source for Http2Downstream {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        loop {
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
impl Sink for Http2Downstream {
    fn poll_accept<S: Source>(&mut self, source: &mut S, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.stream.poll_accept(source, cx)
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.stream.finish(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.stream.poll_flush(cx)
    }
}

#[cfg(test)]
#[path = "http2_tests.rs"]
mod tests;
