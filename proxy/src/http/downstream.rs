//! The client's side of one request, in whatever protocol: the request's body comes from it, the response goes to it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::timeout;

use crate::codec::{BodyError, BodyLength, ResponseHead, Sink, Source};
use crate::telemetry::Direction;
use crate::upstream::ClientAddresses;

/// The connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub struct DownstreamConnection {
    pub direction: Direction,
    pub remote: Option<SocketAddr>,
    /// Where the client meant to connect to; `None`: to this proxy, it was not redirected.
    pub original_destination: Option<SocketAddr>,
    /// Where the client connected to, as it sees it.
    pub called_at: Option<SocketAddr>,
    /// Inside a `CONNECT`: only the worker's own connection may open one.
    pub tunnelled: bool,
    /// Its HTTP/2 began as HTTP/1.1.
    pub by_upgrade: bool,
}

impl DownstreamConnection {
    /// Between whom it is, as the client sees it.
    pub fn addresses(&self) -> Option<ClientAddresses> {
        Some(ClientAddresses {
            source: self.remote?,
            destination: self.original_destination.or(self.called_at)?,
        })
    }
}

pub trait Downstream: Source + Sink + Send {
    /// Sends the response's head; a body of this length is to follow. `over`: nothing will, not even trailers.
    fn respond(&mut self, head: &mut ResponseHead, length: BodyLength, over: bool) -> Result<(), BodyError>;

    /// The endpoint wants the request's body: a client that waits for that word hears it.
    fn tell_to_continue(&mut self);

    /// Answers the `CONNECT`: what follows are the tunnel's bytes.
    fn open_tunnel(&mut self) -> Result<(), BodyError>;

    /// Answers the request for another protocol: what follows is this one's.
    fn switch_protocols(&mut self, head: &mut ResponseHead, protocol: &str) -> Result<(), BodyError>;

    /// The connection serves no request after this one, because it cannot be told where this one ends.
    fn close_after(&mut self) {}

    /// Nobody reads the rest of the request's body.
    fn abandon_body(&mut self) {}

    /// Ready when the client has gone. May be asked at any time.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// The response ends here although its body did not: the client must not take it for whole. What was accepted has been
    /// flushed.
    fn abort(&mut self);

    /// The same, before anything of a response: an HTTP/2 stream with this error code, an HTTP/1 connection without any.
    fn reset(&mut self, code: u32);
}

/// For a client to take what was accepted before its response broke off.
const LAST_WORDS_TIME: Duration = Duration::from_secs(5);

/// Breaks the response off behind what there is of it.
pub async fn break_off<D: Downstream>(client: &mut D) {
    // Whoever does not take it in time has lost it.
    let _ = timeout(LAST_WORDS_TIME, poll_fn(|cx| client.poll_flush(cx))).await;
    // An HTTP/2 stream's words leave with its connection's task, and a reset would overtake them.
    yield_now().await;
    client.abort();
}

/// The work's result, unless the client goes first.
pub async fn unless_gone<D: Downstream, T>(client: &mut D, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        client.poll_gone(cx).map(|()| None)
    })
    .await
}
