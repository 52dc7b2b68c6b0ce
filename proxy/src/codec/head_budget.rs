//! How much memory the heads may hold that have not arrived whole: clients decide when the rest comes, so without a bound
//! they would decide how much memory this process has. Called by whoever waits for a head.
//!
//! A head within `FREE_BYTES` costs nothing, so those of all usual clients do not know of each other.

use std::sync::atomic::{AtomicUsize, Ordering};

const FREE_BYTES: usize = 4 * 1024;
/// Of all connections together.
const MOST_BYTES: usize = 16 << 20;

static OF_THIS_PROCESS: HeadBudget = HeadBudget::new(MOST_BYTES);

#[derive(Debug)]
pub struct HeadBudget {
    held: AtomicUsize,
    most: usize,
}

impl HeadBudget {
    pub const fn new(most_bytes: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            most: most_bytes,
        }
    }

    pub fn of_this_process() -> &'static HeadBudget {
        &OF_THIS_PROCESS
    }

    fn take(&self, bytes: usize) -> bool {
        let add = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        let relaxed = Ordering::Relaxed;
        self.held.fetch_update(relaxed, relaxed, add).is_ok()
    }
}

/// One head's part of it.
#[derive(Debug)]
pub struct HeadClaim {
    budget: &'static HeadBudget,
    bytes: usize,
}

impl HeadClaim {
    pub fn of(budget: &'static HeadBudget) -> Self {
        Self { budget, bytes: 0 }
    }

    /// `length` bytes of a head have come, in a buffer of `capacity`. False: that is too much.
    pub fn grow_to(&mut self, length: usize, capacity: usize) -> bool {
        if length <= FREE_BYTES {
            return true;
        }
        let wanted = capacity.max(length) - FREE_BYTES;
        let more = wanted.saturating_sub(self.bytes);
        if more > 0 && !self.budget.take(more) {
            return false;
        }
        self.bytes += more;
        true
    }

    /// The head is there, or given up.
    pub fn release(&mut self) {
        if self.bytes > 0 {
            self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
            self.bytes = 0;
        }
    }
}

impl Drop for HeadClaim {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_heads_are_free_large_ones_share_what_there_is_and_give_it_back() {
        static BUDGET: HeadBudget = HeadBudget::new(100_000);
        let mut small: Vec<_> = (0..100).map(|_| HeadClaim::of(&BUDGET)).collect();
        assert!(small.iter_mut().all(|claim| claim.grow_to(FREE_BYTES, 16 * 1024)));
        assert_eq!(BUDGET.held.load(Ordering::Relaxed), 0);

        let (mut first, mut second) = (HeadClaim::of(&BUDGET), HeadClaim::of(&BUDGET));
        assert!(first.grow_to(5000, 16 * 1024) && first.grow_to(60_000, 64 * 1024));
        assert!(second.grow_to(5000, 16 * 1024));
        assert!(!second.grow_to(60_000, 64 * 1024), "the first has most of it");
        drop(first);
        assert!(second.grow_to(60_000, 64 * 1024));
        second.release();
        assert_eq!(BUDGET.held.load(Ordering::Relaxed), 0);
    }
}
