//! Taking turns. Every worker takes them by itself, so that none waits for another, and begins at a place of its own, so
//! that proxies that start together do not all call the same endpoint first.
//!
//! With equal weights a place moves on through the endpoints. With unequal ones the endpoint whose turn is due first is
//! next, and is due again after a time that is longer the less it weighs (earliest deadline first, as Envoy's
//! `edf_scheduler.h`; the first deadlines are random, so that light endpoints do not come one after another). In any
//! sequence of as many choices as the weights add up to, each endpoint has exactly its weight. Who cannot be chosen misses
//! its turns and nobody gets them twice: the others keep their ratio.

use std::cmp::Ordering as Order;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::alias::below;

const NOT_BEGUN: usize = usize::MAX;
/// Between two turns of the heaviest endpoint.
const SHORTEST: u64 = 1 << 32;
/// Deadlines are compared as they wrap around, so they are never further apart than half of what a `u64` holds.
const LONGEST: u64 = 1 << 60;

#[derive(Debug)]
pub(in crate::upstream) struct RoundRobin {
    workers: Box<[Worker]>,
    /// `None`: all are equal.
    strides: Option<Box<[u64]>>,
}

/// On a cache line of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Worker {
    turn: AtomicUsize,
    deadlines: Mutex<Option<Deadlines>>,
}

#[derive(Debug)]
struct Deadlines {
    due: BinaryHeap<Turn>,
    /// Those that were passed over on the way to a choice.
    passed: Vec<Turn>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    deadline: u64,
    place: u32,
}

impl Ord for Turn {
    /// The earliest is the greatest, which a heap yields first.
    fn cmp(&self, other: &Self) -> Order {
        let later = self.deadline.wrapping_sub(other.deadline) as i64;
        0.cmp(&later).then(other.place.cmp(&self.place))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}

impl RoundRobin {
    /// `shares_change`: weights are not all there is to an endpoint's share, because some warm up.
    pub fn new(weights: &[u32], shares_change: bool, workers: usize) -> Self {
        let equal = !shares_change && weights.windows(2).all(|pair| pair[0] == pair[1]);
        let heaviest = u64::from(weights.iter().copied().max().unwrap_or(1));
        let stride = |weight: &u32| (SHORTEST * heaviest / u64::from((*weight).max(1))).min(LONGEST);
        let worker = |_| Worker {
            turn: AtomicUsize::new(NOT_BEGUN),
            deadlines: Mutex::new(None),
        };
        Self {
            workers: (0..workers.max(1)).map(worker).collect(),
            strides: (!equal).then(|| weights.iter().map(stride).collect()),
        }
    }

    /// The next of `0..count` that is usable. `share`, over 0 to 1, is how much of its weight a place has now.
    pub fn next(
        &self,
        worker: usize,
        count: usize,
        usable: impl Fn(usize) -> bool,
        share: impl Fn(usize) -> f64,
        random: &mut impl FnMut() -> u64,
    ) -> Option<usize> {
        let worker = self.workers.get(worker % self.workers.len())?;
        let Some(strides) = &self.strides else {
            return worker.move_on(count, usable, random);
        };
        let mut deadlines = worker.deadlines.lock().unwrap_or_else(PoisonError::into_inner);
        deadlines
            .get_or_insert_with(|| Deadlines::begin(strides, random))
            .next(strides, usable, share)
    }
}

impl Worker {
    /// No other thread moves this worker's place: that it is read and written apart loses no turn.
    fn move_on(&self, count: usize, usable: impl Fn(usize) -> bool, random: &mut impl FnMut() -> u64) -> Option<usize> {
        let turn = match self.turn.load(Ordering::Relaxed) {
            NOT_BEGUN => below(random(), count.max(1)),
            turn if turn >= count => 0,
            turn => turn,
        };
        let place = (turn..count).chain(0..turn).find(|place| usable(*place))?;
        self.turn.store(place + 1, Ordering::Relaxed);
        Some(place)
    }
}

impl Deadlines {
    fn begin(strides: &[u64], random: &mut impl FnMut() -> u64) -> Self {
        let first = |(stride, place): (&u64, u32)| Turn {
            deadline: ((u128::from(random()) * u128::from(*stride)) >> 64) as u64,
            place,
        };
        Self {
            due: strides.iter().zip(0..).map(first).collect(),
            passed: Vec::new(),
        }
    }

    fn next(&mut self, strides: &[u64], usable: impl Fn(usize) -> bool, share: impl Fn(usize) -> f64) -> Option<usize> {
        let stride = |turn: &Turn| {
            let whole = strides.get(turn.place as usize).copied().unwrap_or(LONGEST);
            let share = share(turn.place as usize);
            if share < 1.0 {
                ((whole as f64 / share) as u64).min(LONGEST)
            } else {
                whole
            }
        };
        let chosen = loop {
            match self.due.peek_mut() {
                None => break None,
                Some(mut first) if usable(first.place as usize) => {
                    let chosen = *first;
                    first.deadline = first.deadline.wrapping_add(stride(&first));
                    break Some(chosen);
                }
                Some(first) => self.passed.push(std::collections::binary_heap::PeekMut::pop(first)),
            }
        };
        for mut missed in self.passed.drain(..) {
            if let Some(chosen) = chosen {
                // The first of its turns that is still to come.
                let stride = stride(&missed);
                let late = chosen.deadline.wrapping_sub(missed.deadline);
                missed.deadline = missed.deadline.wrapping_add((late / stride + 1) * stride);
            }
            self.due.push(missed);
        }
        chosen.map(|chosen| chosen.place as usize)
    }
}
