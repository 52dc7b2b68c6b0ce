//! Is the endpoint of an HTTP/2 connection still there? A PING after each interval says so (`http2KeepAlive`, Envoy's
//! `connection_keepalive`): an endpoint that does not answer in time has gone without a word, and no request should wait
//! for it. Asked by the connection's task, behind everything that has come in.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};
use tsunagi_proto::model::Http2Keepalive;

pub(super) struct Keepalive {
    told: Http2Keepalive,
    pings: PingPong,
    /// Until the next PING, or the end of the wait for an answer.
    timer: Pin<Box<Sleep>>,
    asked: bool,
}

impl Keepalive {
    pub fn new((told, pings): (Http2Keepalive, PingPong)) -> Self {
        Self {
            told,
            pings,
            timer: Box::pin(sleep(told.interval)),
            asked: false,
        }
    }

    /// Ready when the endpoint did not answer in this time.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Duration> {
        loop {
            if self.asked && self.pings.poll_pong(cx).is_ready() {
                self.asked = false;
                self.timer.as_mut().reset(Instant::now() + self.told.interval);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.asked {
                tracing::debug!(timeout = ?self.told.timeout, "an HTTP/2 PING was not answered");
                return Poll::Ready(self.told.timeout);
            }
            // It wakes this task, which sends it; a connection that has ended says so itself.
            let _ = self.pings.send_ping(Ping::opaque());
            self.asked = true;
            self.timer.as_mut().reset(Instant::now() + self.told.timeout);
        }
    }
}
