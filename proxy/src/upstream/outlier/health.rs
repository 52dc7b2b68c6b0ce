//! What outlier detection knows of one endpoint: its standing, its counts, and how often it was ejected.
//!
//! Requests read one byte of it. The rest is written when an endpoint is ejected or returns, which is rare.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tsunagi_proto::model::OutlierDetection;

use super::counters::{Cause, Counters};

/// May the endpoint be given requests?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    Healthy = 0,
    Ejected = 1,
    /// Its time is over: the next request that chooses it is the probe.
    AwaitingProbe = 2,
    Probing = 3,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Ejected => "ejected",
            Self::AwaitingProbe => "awaiting probe",
            Self::Probing => "probing",
        }
    }

    fn of(byte: u8) -> Self {
        match byte {
            0 => Self::Healthy,
            1 => Self::Ejected,
            2 => Self::AwaitingProbe,
            _ => Self::Probing,
        }
    }
}

/// An endpoint's health, for whoever shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    pub standing: Standing,
    /// Of the ejection that is not over yet.
    pub cause: Option<Cause>,
    /// It has reached this threshold, and the pool could not spare it.
    pub kept: Option<Cause>,
    /// When it was ejected, unless it has returned.
    pub since: Option<Instant>,
    /// When its time is over; the sweep after that lets it be probed.
    pub until: Option<Instant>,
    /// Ever since it is known.
    pub ejections: u32,
}

#[derive(Debug, Default)]
pub(in crate::upstream) struct Health {
    standing: AtomicU8,
    /// Of what is known when a response begins.
    pub counters: Counters,
    /// Of what is known only when it has ended.
    pub late: Counters,
    /// A whole sweep found nobody who would rather probe: any request may.
    overdue: AtomicBool,
    /// It should have been ejected and the pool could not spare it, since it was last well.
    kept: AtomicBool,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    /// An ejection lasts this many times the base.
    pub multiplier: u32,
    pub ejections: u32,
    pub cause: Option<Cause>,
    /// Why it would have been ejected.
    pub kept: Option<Cause>,
    pub ejected_at: Option<Instant>,
    pub returned_at: Option<Instant>,
    /// Since a sweep first saw that it is probed.
    pub probing_since: Option<Instant>,
}

impl History {
    /// Is the last ejection's time over?
    pub fn is_over(&self, detection: &OutlierDetection, now: Instant) -> bool {
        let time = ejection_time(detection, self.multiplier);
        self.ejected_at
            .is_none_or(|at| now.saturating_duration_since(at) >= time)
    }
}

pub(super) fn ejection_time(detection: &OutlierDetection, multiplier: u32) -> Duration {
    detection
        .base_ejection_time
        .saturating_mul(multiplier)
        .min(detection.max_ejection_time)
}

impl EndpointHealth {
    /// It gets no requests, or has its share although it fails.
    pub fn is_otherwise(&self) -> bool {
        self.standing != Standing::Healthy || self.kept.is_some()
    }

    pub fn as_str(&self) -> &'static str {
        match self.kept {
            Some(_) => "failing",
            None => self.standing.as_str(),
        }
    }
}

impl Health {
    pub fn standing(&self) -> Standing {
        Standing::of(self.standing.load(Ordering::Acquire))
    }

    pub(super) fn stand(&self, standing: Standing) {
        self.standing.store(standing as u8, Ordering::Release);
    }

    /// Only from `from`: false when another was faster.
    fn step(&self, from: Standing, to: Standing) -> bool {
        self.standing
            .compare_exchange(from as u8, to as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    pub fn is_healthy(&self) -> bool {
        self.standing() == Standing::Healthy
    }

    /// Healthy, and its next ejection would last as long as a first one: time changes nothing.
    pub fn is_settled(&self) -> bool {
        self.is_healthy() && !self.kept.load(Ordering::Relaxed) && self.history().multiplier == 0
    }

    pub fn is_ejected(&self) -> bool {
        !self.is_healthy()
    }

    /// It counts as failed until its time is over: where there is not enough without it, others take its part.
    pub fn is_out(&self) -> bool {
        self.standing() == Standing::Ejected
    }

    /// May a request choose the endpoint? A probe is still to be claimed.
    pub fn is_available(&self) -> bool {
        matches!(self.standing(), Standing::Healthy | Standing::AwaitingProbe)
    }

    /// Claims the endpoint for one request: `Some(true)` makes that request the probe, `None` means that another
    /// request was faster.
    pub fn claim(&self) -> Option<bool> {
        if self.step(Standing::AwaitingProbe, Standing::Probing) {
            return Some(true);
        }
        self.is_healthy().then_some(false)
    }

    /// The probe ended without a verdict: the next request probes.
    pub fn abandon_probe(&self) {
        self.step(Standing::Probing, Standing::AwaitingProbe);
    }

    /// From now on a request may probe. `overdue`: any request.
    pub(super) fn await_probe(&self, overdue: bool) -> bool {
        self.overdue.store(overdue, Ordering::Relaxed);
        self.step(Standing::Ejected, Standing::AwaitingProbe)
    }

    pub(super) fn set_overdue(&self) {
        self.overdue.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    /// True the first time since all was well.
    pub(super) fn keep(&self, cause: Cause) -> bool {
        self.history().kept = Some(cause);
        !self.kept.swap(true, Ordering::Relaxed)
    }

    /// All is well.
    pub(super) fn forget_kept(&self) {
        if self.kept.load(Ordering::Relaxed) {
            self.kept.store(false, Ordering::Relaxed);
        }
    }

    pub(super) fn clear_counters(&self) {
        self.counters.clear();
        self.late.clear();
        self.forget_kept();
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn read(&self, detection: Option<&OutlierDetection>) -> EndpointHealth {
        let history = self.history();
        let standing = self.standing();
        let ejected = standing != Standing::Healthy;
        let until = |at: Instant| {
            let time = ejection_time(detection?, history.multiplier);
            at.checked_add(time)
        };
        EndpointHealth {
            standing,
            cause: history.cause.filter(|_| ejected),
            kept: history.kept.filter(|_| self.kept.load(Ordering::Relaxed)),
            since: history.ejected_at.filter(|_| ejected),
            until: history
                .ejected_at
                .filter(|_| standing == Standing::Ejected)
                .and_then(until),
            ejections: history.ejections,
        }
    }
}
