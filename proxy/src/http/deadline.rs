//! Until when a request may take, and what its endpoint is told of that.
//!
//! The rule's `timeout` counts from the client's last byte on, as in Envoy: a slow upload is not the endpoint's fault. A gRPC
//! call is over at its own deadline (`grpc-timeout`, gRPC's `PROTOCOL-HTTP2.md`), at the latest at the rule's, counted from
//! its arrival, because that is how its client counts. Made by `request_path`, kept through every attempt and the response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::HeaderValue;
use tokio::time::{Instant, Sleep, sleep_until};

use super::request_body::RequestBody;
use crate::codec::{Headers, Known};

/// How many digits a `grpc-timeout` has at most.
const MOST_DIGITS: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    /// From `since` on; `None`: for ever.
    limit: Option<Duration>,
    since: Instant,
    /// What the client of a gRPC call asked for.
    asked: Option<Duration>,
    clock: Clock,
    /// Of the request's body, when `since` was last moved.
    received_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clock {
    /// Runs: a gRPC call, or a request that has come whole.
    Running,
    /// The request is not known to have come whole.
    Following,
    /// As before, and the client is seen to be still sending.
    Sending { waits_for_client: bool },
}

impl Deadline {
    /// `arrived`: when the request did.
    pub fn new(timeout: Option<Duration>, headers: &Headers, grpc: bool, arrived: std::time::Instant) -> Self {
        let asked = if grpc {
            headers.known(Known::GrpcTimeout).and_then(parse_grpc_timeout)
        } else {
            None
        };
        let since = match timeout {
            Some(_) if !grpc => Instant::now(),
            _ => Instant::from_std(arrived),
        };
        Self {
            limit: timeout.into_iter().chain(asked).min(),
            since,
            asked,
            clock: if grpc { Clock::Running } else { Clock::Following },
            received_bytes: 0,
        }
    }

    /// `None`: not yet, or never.
    pub fn at(&self) -> Option<Instant> {
        self.limit.and_then(|limit| self.after(limit))
    }

    /// So long after `since`, unless the client is who is waited for.
    fn after(&self, time: Duration) -> Option<Instant> {
        match self.clock {
            Clock::Sending { waits_for_client: true } => None,
            _ => self.since.checked_add(time),
        }
    }

    /// Looks how far the request has come: time counts from the last that was seen of it. `refused`: the endpoint reads no
    /// more of it, so nobody waits for the rest.
    pub fn follow(&mut self, body: &RequestBody, refused: bool) {
        self.clock = match (self.clock, body.is_received() || refused) {
            (Clock::Running, _) => return,
            (Clock::Following, true) => Clock::Running,
            (Clock::Sending { .. }, true) => {
                self.since = Instant::now();
                Clock::Running
            }
            (_, false) => {
                if self.received_bytes != body.bytes {
                    self.received_bytes = body.bytes;
                    self.since = Instant::now();
                }
                Clock::Sending {
                    waits_for_client: body.waits_for_client(),
                }
            }
        };
    }

    /// What the endpoint of a gRPC call is told: what is left of the time, where that is not what the client said itself.
    /// `first`: no time was used up by an earlier attempt.
    pub fn tell(&self, headers: &mut Headers, per_try: Option<Duration>, first: bool) {
        let Some(whole) = self.limit.into_iter().chain(per_try).min() else {
            return;
        };
        if first && self.asked == Some(whole) {
            return;
        }
        let left = match self.at() {
            Some(at) => at.saturating_duration_since(Instant::now()).min(whole),
            None => whole,
        };
        if let Ok(value) = HeaderValue::from_str(&grpc_timeout(left)) {
            headers.set(Known::GrpcTimeout.name(), &value);
        }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    Request,
    Try,
}

/// What one attempt may take.
#[derive(Debug)]
pub struct Limits<'a> {
    deadline: &'a mut Deadline,
    /// `None` for when it began: its clock stands still.
    per_try: Option<(Option<Instant>, Duration)>,
}

impl<'a> Limits<'a> {
    /// Of an attempt that begins now.
    pub fn new(deadline: &'a mut Deadline, per_try: Option<Duration>) -> Self {
        Self {
            deadline,
            per_try: per_try.map(|time| (Some(Instant::now()), time)),
        }
    }

    /// While the request waits for its turn at the connection limit, nothing is tried: as in Envoy, whose clock runs from
    /// the connection on. Otherwise whoever waited would have its time used up when its turn comes.
    pub fn hold_try(&mut self) {
        if let Some((began, _)) = &mut self.per_try {
            *began = None;
        }
    }

    pub fn begin_try(&mut self) {
        if let Some((began, _)) = &mut self.per_try {
            *began = Some(Instant::now());
        }
    }

    /// The sooner one; a try that could outlive the request has no limit of its own.
    pub fn next(&self) -> Option<(Instant, Late)> {
        let tried = self.per_try.and_then(|(began, time)| {
            let at = self.deadline.after(time)?;
            Some(at.max(began?.checked_add(time)?))
        });
        match (self.deadline.at(), tried) {
            (Some(at), Some(tried)) if tried < at => Some((tried, Late::Try)),
            (Some(at), _) => Some((at, Late::Request)),
            (None, tried) => tried.map(|at| (at, Late::Try)),
        }
    }

    pub fn follow(&mut self, body: &RequestBody, refused: bool) {
        self.deadline.follow(body, refused);
    }

    /// Ready when a limit is reached. `timer` is kept from one call to the next.
    pub fn poll(&self, mut timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<Late> {
        let Some((at, late)) = self.next() else {
            return Poll::Pending;
        };
        if timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() != at) {
            timer.set(Some(sleep_until(at)));
        }
        if let Some(timer) = timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        Poll::Ready(late)
    }
}

/// A positive number of at most 8 digits and a unit; anything else is as if it were not there, as in Envoy.
fn parse_grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let time = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time).filter(|time| !time.is_zero())
}

/// In milliseconds while that fits 8 digits, never less than one.
fn grpc_timeout(time: Duration) -> String {
    const TOO_MANY: u128 = 10u128.pow(MOST_DIGITS as u32);
    match time.as_millis().max(1) {
        milliseconds if milliseconds < TOO_MANY => format!("{milliseconds}m"),
        _ if u128::from(time.as_secs()) < TOO_MANY => format!("{}S", time.as_secs()),
        _ => format!("{}H", (time.as_secs() / 3600).min(99_999_999)),
    }
}

#[cfg(test)]
#[path = "deadline_tests.rs"]
mod tests;
