//! The names that are wanted and what is known of them, shared by whoever wants them (the publisher of snapshots), the loop
//! that asks, and the operator's pages. All of them run on the control thread: its lock is never waited for.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::names::{Answer, Names};

#[derive(Debug, Default)]
pub struct Book {
    names: Mutex<Names>,
    pub(super) wanted: Notify,
}

/// A line of the operator's page.
#[derive(Debug)]
pub struct Line {
    pub name: Arc<str>,
    pub answer: Answer,
}

impl Book {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(super) fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is asked for from now on.
    pub fn want(&self, name: &str) {
        self.names().want(name, Instant::now());
        self.wanted.notify_one();
    }

    pub fn unwant(&self, name: &str) {
        self.names().unwant(name);
    }

    /// What is known of a name that is wanted.
    pub fn answer(&self, name: &str) -> Answer {
        let known = self.names().answer(name).cloned();
        known.unwrap_or_else(Answer::never)
    }

    /// All names, sorted.
    pub fn lines(&self) -> Vec<Line> {
        let names = self.names();
        let mut lines: Vec<Line> = names
            .iter()
            .map(|(name, answer)| Line {
                name: Arc::clone(name),
                answer: answer.clone(),
            })
            .collect();
        lines.sort_by(|one, other| one.name.cmp(&other.name));
        lines
    }

    /// As if a lookup had just brought these.
    #[cfg(test)]
    pub(crate) fn learn(&self, name: &str, outcome: super::Outcome) {
        let mut names = self.names();
        let now = names.next_due().unwrap_or_else(Instant::now);
        while let Some(due) = names.take_due(now) {
            if *due == *name {
                names.take(&due, outcome, now, 1.0);
                return;
            }
        }
    }
}

impl Line {
    /// Addresses with commas between them.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.answer.addresses.iter().map(IpAddr::to_string).collect();
        addresses.join(",")
    }
}
