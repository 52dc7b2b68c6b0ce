//! What the worlds between the one that a session knows and the next one that it is shown have changed. Called by
//! `session` alone.
//!
//! Worlds come faster than they are pushed, and each knows only what differs from the one before it.

use std::sync::Arc;

use super::resources::Resources;
use crate::status::Span;

#[derive(Debug)]
pub(super) struct Coming {
    /// Up to this revision.
    upto: u64,
    /// Names of resources; `None`: a world was missed, anything may have changed.
    changed: Option<Vec<Arc<[String]>>>,
}

impl Coming {
    /// Nothing since this revision.
    pub(super) fn since(revision: u64) -> Self {
        Self {
            upto: revision,
            changed: Some(Vec::new()),
        }
    }

    pub(super) fn notice(&mut self, world: &impl Resources) {
        let names = world.changed_since(self.upto);
        self.upto = world.revision();
        match (&mut self.changed, names) {
            (Some(changed), Some(names)) => changed.push(names),
            (changed, _) => *changed = None,
        }
    }

    pub(super) fn upto(&self) -> u64 {
        self.upto
    }

    /// All that the worlds of these revisions changed, unless it is unknown, or so much that it is cheaper to compare
    /// `most` resources.
    pub(super) fn names_upto(self, span: Span, most: usize) -> Option<Vec<Arc<[String]>>> {
        let ahead = span.after < span.upto && span.upto == self.upto;
        let few = |changed: &Vec<Arc<[String]>>| changed.iter().map(|names| names.len()).sum::<usize>() <= most;
        self.changed.filter(|changed| ahead && few(changed))
    }
}
