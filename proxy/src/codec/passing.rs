//! Passing bytes between two connections that nobody understands, until both sides are done.
//!
//! Called for TCP connections, for tunnels and behind requests that were upgraded. A side's end is passed on as its end, and the other direction goes on; an
//! abort of one side is an abort of the other, never an end. Each direction has one buffer, lent while there is something
//! in it: an idle connection holds none.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use metrics::Counter;
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::buffer::{Input, LARGE_BYTES};
use super::transport::{Transport, Unfinished};
use crate::telemetry::{Flags, TcpSeries};

/// How often a side is asked whether it has aborted while it is not read from: it has ended, or the other is slower.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Longer than any process lives.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How long bytes are passed on. Boxed where it is held: every connection's state would be larger by it.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// While nothing passes.
    pub idle: Duration,
    /// Whatever passes; `None`: that is no reason.
    pub ends_at: Option<Instant>,
}

impl Lifetime {
    /// When to look again, if something passed at `last`.
    fn next_look(&self, last: Instant) -> Instant {
        let idle = last.checked_add(self.idle).unwrap_or_else(|| last + NEVER);
        self.ends_at.map_or(idle, |end| end.min(idle))
    }

    fn is_over(&self, last: Instant) -> Option<Ending> {
        let now = Instant::now();
        if self.ends_at.is_some_and(|end| end <= now) {
            return Some(Ending::TooLong);
        }
        (now.saturating_duration_since(last) >= self.idle).then_some(Ending::Idle)
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Both sides have ended.
    Closed,
    DownstreamReset,
    UpstreamReset,
    /// Nothing was passed for too long.
    Idle,
    /// It has lasted for as long as it may.
    TooLong,
}

impl Ending {
    pub fn flags(self) -> Flags {
        match self {
            Self::Closed => Flags::NONE,
            Self::DownstreamReset => Flags::DC,
            Self::UpstreamReset => Flags::UC,
            Self::Idle => Flags::SI,
            Self::TooLong => Flags::DT,
        }
    }
}

/// What was passed on, in bytes.
#[derive(Debug, Default)]
pub struct Passed {
    /// From the downstream to the upstream.
    pub received: u64,
    /// From the upstream to the downstream.
    pub sent: u64,
}

/// Which end of a flow broke.
enum Broken {
    From,
    To,
}

/// One direction.
struct Flow<'c> {
    input: Input,
    /// The last read filled its buffer.
    filled: bool,
    ended: bool,
    /// The end was passed on.
    done: bool,
    bytes: u64,
    counter: &'c Counter,
}

/// Passes until both sides are done, one aborts, or its lifetime is over. `read` is what was read from the
/// downstream already. The connection is counted when it has ended. When this returns, dropping both connections ends them
/// as it says. Behind a future that was dropped before, dropping them aborts them.
pub async fn pass<D: Transport, U: Transport>(
    downstream: &mut D,
    upstream: &mut U,
    read: Bytes,
    lifetime: Box<Lifetime>,
    series: &TcpSeries,
) -> (Passed, Ending) {
    let mut uncounted = Uncounted(Some(series));
    let (passed, ending) = pass_counted(downstream, upstream, read, lifetime, [&series.received, &series.sent]).await;
    uncounted.0 = None;
    series.record(ending.flags());
    (passed, ending)
}

/// A connection that has not ended yet; one that is cut off is counted, too.
struct Uncounted<'s>(Option<&'s TcpSeries>);

impl Drop for Uncounted<'_> {
    fn drop(&mut self) {
        if let Some(series) = self.0 {
            series.record(Flags::DC);
        }
    }
}

/// The same behind a request that was upgraded: what is counted is the request.
pub async fn pass_upgraded<D: Transport, U: Transport>(
    downstream: &mut D,
    upstream: &mut U,
    lifetime: Box<Lifetime>,
) -> (Passed, Ending) {
    let uncounted = Counter::noop();
    pass_counted(downstream, upstream, Bytes::new(), lifetime, [&uncounted; 2]).await
}

async fn pass_counted<D: Transport, U: Transport>(
    downstream: &mut D,
    upstream: &mut U,
    read: Bytes,
    lifetime: Box<Lifetime>,
    [received, sent]: [&Counter; 2],
) -> (Passed, Ending) {
    let mut up = Flow::new(&read, received);
    let mut down = Flow::new(&[], sent);
    // Connections last for long.
    drop(read);
    let mut last = Instant::now();
    let mut timer = pin!(sleep_until(lifetime.next_look(last)));
    let mut look: Option<Pin<Box<Sleep>>> = None;
    let (down_side, up_side) = (Unfinished(downstream), Unfinished(upstream));
    let (downstream, upstream) = (&mut *down_side.0, &mut *up_side.0);
    let ending = poll_fn(|cx| {
        let before = up.bytes + down.bytes;
        let polled = (up.poll(downstream, upstream, cx), down.poll(upstream, downstream, cx));
        match polled {
            (Poll::Ready(Err(Broken::From)), _) | (_, Poll::Ready(Err(Broken::To))) => {
                return Poll::Ready(Ending::DownstreamReset);
            }
            (Poll::Ready(Err(Broken::To)), _) | (_, Poll::Ready(Err(Broken::From))) => {
                return Poll::Ready(Ending::UpstreamReset);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ending::Closed),
            _ => {}
        }
        if up.bytes + down.bytes != before {
            last = Instant::now();
        }
        if up.is_unread() || down.is_unread() {
            loop {
                let timer = look.get_or_insert_with(|| Box::pin(sleep(LOOK_INTERVAL)));
                if timer.as_mut().poll(cx).is_pending() {
                    break;
                }
                if up.is_unread() && downstream.is_reset(cx) {
                    return Poll::Ready(Ending::DownstreamReset);
                }
                if down.is_unread() && upstream.is_reset(cx) {
                    return Poll::Ready(Ending::UpstreamReset);
                }
                timer.as_mut().reset(Instant::now() + LOOK_INTERVAL);
            }
        } else {
            look = None;
        }
        while timer.as_mut().poll(cx).is_ready() {
            if let Some(ending) = lifetime.is_over(last) {
                return Poll::Ready(ending);
            }
            timer.set(sleep_until(lifetime.next_look(last)));
        }
        Poll::Pending
    })
    .await;
    if matches!(ending, Ending::DownstreamReset | Ending::UpstreamReset) {
        downstream.reset_when_dropped();
        upstream.reset_when_dropped();
    }
    mem::forget((down_side, up_side));
    let passed = Passed {
        received: up.bytes,
        sent: down.bytes,
    };
    (passed, ending)
}

impl<'c> Flow<'c> {
    fn new(read: &[u8], counter: &'c Counter) -> Self {
        Self {
            input: Input::holding(read),
            filled: false,
            ended: false,
            done: false,
            bytes: 0,
            counter,
        }
    }

    /// Nothing would tell of an abort of the side that it reads from.
    fn is_unread(&self) -> bool {
        self.ended || !self.input.is_empty()
    }

    /// Moves what can be moved; ready when the end was passed on.
    fn poll(
        &mut self,
        from: &mut impl Transport,
        to: &mut impl Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        while !self.done {
            while !self.input.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, self.input.bytes())) {
                    Ok(count @ 1..) => {
                        self.input.consume(count);
                        self.bytes += count as u64;
                        self.counter.increment(count as u64);
                    }
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::To)),
                }
            }
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(|_| Broken::To)?;
                self.done = true;
                break;
            }
            // It is empty, so there is room.
            let Some(room) = self.input.room(LARGE_BYTES, self.filled) else {
                return Poll::Ready(Err(Broken::From));
            };
            let size = room.len();
            let mut buffer = ReadBuf::new(room);
            let polled = Pin::new(&mut *from).poll_read(cx, &mut buffer);
            let count = buffer.filled().len();
            match polled {
                Poll::Ready(Ok(())) if count > 0 => {
                    self.filled = count == size;
                    self.input.filled(count);
                }
                Poll::Ready(Ok(())) => {
                    self.input.release();
                    self.ended = true;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::From)),
                Poll::Pending => {
                    self.input.release();
                    self.filled = false;
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Broken::To)?;
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[path = "passing_tests.rs"]
mod tests;
