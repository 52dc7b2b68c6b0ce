//! The body of a request on its way upstream: streamed with back-pressure, and watched, because a connection may be
//! used again only when its request was sent whole, and a client that stops sending is not the endpoint's fault.
//!
//! Where the rule's retries may need it again, its first 64 KiB are kept; a body that outgrows that is not repeated.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

const MAX_KEPT_BYTES: u64 = 64 * 1024;

/// Nothing, or the client's body. The clones of it are the request's attempts; only the newest reads.
#[derive(Debug, Default)]
pub struct RequestBody {
    shared: Option<Arc<Mutex<Shared>>>,
    attempt: u32,
    /// Kept frames that this attempt has sent.
    position: usize,
}

#[derive(Debug)]
struct Shared {
    incoming: Incoming,
    attempt: u32,
    kept: Vec<Kept>,
    /// Everything so far is in `kept`.
    repeatable: bool,
    started: bool,
    finished: bool,
    broken: bool,
    bytes: u64,
}

#[derive(Debug, Clone)]
enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::default()
    }

    /// `keep`: another attempt may need the body again.
    pub fn streamed(incoming: Incoming, keep: bool) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let shared = Shared {
            incoming,
            attempt: 0,
            kept: Vec::new(),
            repeatable: keep,
            started: false,
            finished: false,
            broken: false,
            bytes: 0,
        };
        Self {
            shared: Some(Arc::new(Mutex::new(shared))),
            attempt: 0,
            position: 0,
        }
    }

    fn shared(&self) -> Option<MutexGuard<'_, Shared>> {
        self.shared
            .as_ref()
            .map(|shared| shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn is_absent(&self) -> bool {
        self.shared.is_none()
    }

    /// The same body, to watch it; it must not be sent.
    pub fn watch(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            attempt: self.attempt,
            position: self.position,
        }
    }

    /// Is all of it still there for another attempt?
    pub fn is_repeatable(&self) -> bool {
        self.shared().is_none_or(|shared| shared.is_repeatable())
    }

    /// The body for one more attempt, from its start; earlier attempts read no more. `None`: it is gone.
    pub fn again(&self) -> Option<Self> {
        let Some(mut shared) = self.shared() else {
            return Some(Self::empty());
        };
        if !shared.is_repeatable() {
            return None;
        }
        shared.attempt += 1;
        let attempt = shared.attempt;
        drop(shared);
        Some(Self {
            shared: self.shared.clone(),
            attempt,
            position: 0,
        })
    }

    /// Everything was handed to the connection.
    pub fn is_sent(&self) -> bool {
        self.shared().is_none_or(|shared| shared.finished)
    }

    /// The client broke off.
    pub fn is_broken(&self) -> bool {
        self.shared().is_some_and(|shared| shared.broken)
    }

    pub fn bytes(&self) -> u64 {
        self.shared().map_or(0, |shared| shared.bytes)
    }
}

impl Shared {
    fn is_repeatable(&self) -> bool {
        !self.broken && (!self.started || self.repeatable)
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.bytes += data.len() as u64;
            self.repeatable &= self.bytes <= MAX_KEPT_BYTES;
            if self.repeatable {
                self.kept.push(Kept::Data(data.clone()));
            }
        } else if let Some(trailers) = frame.trailers_ref().filter(|_| self.repeatable) {
            self.kept.push(Kept::Trailers(trailers.clone()));
        }
        if !self.repeatable {
            self.kept = Vec::new();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(shared) = &this.shared else {
            return Poll::Ready(None);
        };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.attempt != this.attempt {
            return Poll::Ready(Some(Err("another attempt took over".into())));
        }
        if let Some(kept) = shared.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(match kept.clone() {
                Kept::Data(data) => Frame::data(data),
                Kept::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        let frame = ready!(Pin::new(&mut shared.incoming).poll_frame(cx));
        shared.started = true;
        match &frame {
            Some(Ok(frame)) => {
                shared.keep(frame);
                shared.finished = shared.incoming.is_end_stream();
                this.position = shared.kept.len();
            }
            Some(Err(_)) => shared.broken = true,
            None => shared.finished = true,
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.shared()
            .is_none_or(|shared| self.position >= shared.kept.len() && shared.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(shared) = self.shared() else {
            return SizeHint::with_exact(0);
        };
        let kept = shared.kept[self.position.min(shared.kept.len())..]
            .iter()
            .map(|kept| match kept {
                Kept::Data(data) => data.len() as u64,
                Kept::Trailers(_) => 0,
            });
        let kept: u64 = kept.sum();
        let rest = shared.incoming.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + kept);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + kept);
        }
        hint
    }
}
