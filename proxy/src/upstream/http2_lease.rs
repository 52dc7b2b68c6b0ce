//! The right to one stream of an HTTP/2 connection, and that stream: the request goes out and the response comes in
//! through it. However it ends, its place is given back once.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, SendStream};
use http::{HeaderMap, StatusCode};

use super::Endpoint;
use super::connection::UpstreamError;
use super::http2::Http2;
use super::upgraded::UpgradedConnection;
use crate::codec::{
    BodyError, BodyLength, Headers, Http2Stream, Http2Tunnel, Known, RequestHead, ResponseHead, Sink, Source, Step,
};

/// Dropping it resets the stream if it is not over.
#[derive(Debug)]
pub struct Http2Lease {
    messages: Box<Messages>,
    pub(super) reused: bool,
    /// What had left through the connection when the request was given to be sent.
    written_bytes: u64,
    /// The last to be dropped: the stream has ended before another takes its place.
    place: Place,
}

/// The request as it goes out and the response as it comes in; boxed, because a lease moves about.
#[derive(Debug, Default)]
struct Messages {
    stream: Http2Stream,
    /// Until the response's head is there.
    answer: Option<ResponseFuture>,
    /// Where the bytes go of what the stream is to become; until then none do.
    upgrade: Option<SendStream<Bytes>>,
    response: ResponseHead,
    /// The client waits for the endpoint's word before it sends the body.
    expects_continue: bool,
    /// That word has come.
    continues: bool,
}

/// One of the streams that a connection may have.
#[derive(Debug)]
pub(super) struct Place {
    http2: Arc<Http2>,
}

impl Place {
    /// The stream is counted already.
    pub fn new(http2: Arc<Http2>) -> Self {
        Self { http2 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.http2.end_stream();
    }
}

impl Http2Lease {
    pub(super) fn new(place: Place, reused: bool) -> Self {
        Self {
            messages: Box::default(),
            reused,
            written_bytes: 0,
            place,
        }
    }

    #[cfg(test)]
    pub(super) fn binding(&self) -> &super::Binding {
        &self.place.http2.connection.origin.binding
    }

    /// The connection takes no more requests, and ends with those that it has.
    pub(super) fn close_connection(self) {
        self.place.http2.close();
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.place.http2.connection.endpoint
    }

    pub(super) fn send_head(&mut self, head: &RequestHead, length: BodyLength) -> Result<(), UpstreamError> {
        let mut request = head.to_http2();
        if !head.target.complete(request.uri_mut()) {
            return Err(UpstreamError::Reset { remote: false });
        }
        let upgrade = head.upgrade.is_some();
        let end = !upgrade && matches!(length, BodyLength::None | BodyLength::Exact(0));
        let http2 = &self.place.http2;
        if upgrade && !http2.sender().is_extended_connect_protocol_enabled() {
            return Err(UpstreamError::NoUpgrade);
        }
        self.written_bytes = http2.written_bytes();
        let Ok((answer, send)) = http2.sender().send_request(request, end) else {
            if http2.takes_requests() {
                // It is the request that cannot be sent.
                return Err(UpstreamError::Reset { remote: false });
            }
            http2.close();
            return Err(UpstreamError::Unsent);
        };
        self.messages.answer = Some(answer);
        self.messages.expects_continue = head.headers.has(Known::Expect);
        if upgrade {
            self.messages.upgrade = Some(send);
        } else if !end {
            self.messages.stream.send_to(send);
        }
        Ok(())
    }

    pub(super) fn take_continue(&mut self) -> bool {
        std::mem::take(&mut self.messages.continues)
    }

    /// Interim responses are passed over, but for one that says to send the body.
    pub(super) fn poll_response_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        let messages = &mut *self.messages;
        let Some(answer) = &mut messages.answer else {
            return Poll::Ready(Ok(()));
        };
        while messages.expects_continue
            && let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx)
        {
            messages.continues |= interim.status() == StatusCode::CONTINUE;
        }
        let response = match ready!(Pin::new(answer).poll(cx)) {
            Ok(response) => response,
            Err(error) => {
                let unsent = self.written_bytes == self.place.http2.written_bytes();
                return Poll::Ready(Err(meaning(&error, unsent, self.reused)));
            }
        };
        let (parts, body) = response.into_parts();
        messages.answer = None;
        messages.stream.receive_from(body);
        messages.response.status = parts.status;
        messages.response.version = parts.version;
        messages.response.headers = Headers::Map(parts.headers);
        if let Some(mut send) = messages.upgrade.take_if(|_| !parts.status.is_success()) {
            // It stays a request, without a body. That fails where the endpoint wants to hear nothing any more.
            let _ = send.send_data(Bytes::new(), true);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn into_upgraded(self) -> UpgradedConnection {
        let Messages {
            mut stream, upgrade, ..
        } = *self.messages;
        if let Some(send) = upgrade {
            stream.send_to(send);
        }
        UpgradedConnection::http2(Http2Tunnel::upgraded(stream), self.place)
    }

    pub(super) fn response(&self) -> &ResponseHead {
        &self.messages.response
    }

    pub(super) fn response_mut(&mut self) -> &mut ResponseHead {
        &mut self.messages.response
    }

    pub(super) fn give_back(self) {
        let http2 = &self.place.http2;
        if !http2.connection.is_wanted() {
            http2.close();
        }
    }
}

/// What the end of a stream without a response says about the request and its endpoint. `unsent`: nothing has left through
/// the connection since the request was given to be sent.
fn meaning(error: &h2::Error, unsent: bool, reused: bool) -> UpstreamError {
    match error.reason() {
        Some(Reason::REFUSED_STREAM) => UpstreamError::Refused,
        // Streams above the last one that a GOAWAY names were not processed, whatever its reason (RFC 9113, 6.8): the
        // connection's end and the request crossed, unless it was the connection's first.
        _ if error.is_go_away() && error.is_remote() && reused => UpstreamError::Unsent,
        _ if error.is_go_away() && error.is_remote() => UpstreamError::Refused,
        _ if error.is_reset() && error.is_remote() => UpstreamError::Reset { remote: true },
        // The response was malformed or its head too large, and we have reset the stream.
        Some(Reason::PROTOCOL_ERROR) if error.is_reset() && error.is_library() => UpstreamError::Protocol,
        _ if unsent => UpstreamError::Unsent,
        _ => UpstreamError::Reset { remote: false },
    }
}

/// The response's body.
impl Source for Http2Lease {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        self.messages.stream.poll_data(cx)
    }

    fn data(&self) -> &[u8] {
        self.messages.stream.data()
    }

    fn consume(&mut self, count: usize) {
        self.messages.stream.consume(count);
    }

    fn take(&mut self, limit: usize) -> Bytes {
        self.messages.stream.take(limit)
    }

    fn is_end(&self) -> bool {
        self.messages.stream.is_end()
    }

    fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.messages.stream.take_trailers()
    }
}

/// The request's body.
impl Sink for Http2Lease {
    fn poll_accept<S: Source>(&mut self, source: &mut S, cx: &mut Context<'_>) -> Poll<Result<usize, BodyError>> {
        self.messages.stream.poll_accept(source, cx)
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), BodyError> {
        self.messages.stream.finish(trailers)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        self.messages.stream.poll_flush(cx)
    }
}
