//! What concerns the session's proxy alone: its workload, and its departure once it asks for that. Called by `session`.
//!
//! The workload is made anew only for a world that may have changed it. A departure is owed from the moment that there is
//! something to say: until then the proxy that asks for it hears nothing.

use std::sync::Arc;

use tsunagi_proto::names;

use super::entries::Entries;
use super::entry::{Entry, Told};
use super::resources::Resources;
use crate::snapshot::{Encoded, Node};
use crate::status::Span;

#[derive(Debug)]
pub(super) struct Own {
    node: Node,
    workload_name: Arc<str>,
    departure_name: Arc<str>,
    /// By resource name: at most the two.
    entries: Entries,
    /// Once it was asked for, with the revision of the world from which it was made.
    workload: Option<(Arc<Encoded>, u64)>,
    leave: Leave,
    /// Once there is something to say.
    departure: Option<Arc<Encoded>>,
}

/// How far a proxy is with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leave {
    Stays,
    Asks,
    /// Whoever sees to it knows.
    Goes,
    Told,
}

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Workload,
    Departure,
}

impl Own {
    pub(super) fn new(node: Node) -> Self {
        Self {
            workload_name: names::workload(&node.namespace, &node.node_id).into(),
            departure_name: names::departure(&node.namespace, &node.node_id).into(),
            node,
            entries: Entries::default(),
            workload: None,
            leave: Leave::Stays,
            departure: None,
        }
    }

    pub(super) fn node(&self) -> &Node {
        &self.node
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    /// `None`: another proxy's.
    pub(super) fn part(&self, name: &str) -> Option<Part> {
        if *name == *self.workload_name {
            Some(Part::Workload)
        } else if *name == *self.departure_name {
            Some(Part::Departure)
        } else {
            None
        }
    }

    /// False: it is another proxy's.
    pub(super) fn subscribe(&mut self, name: &str, held: Told, world: &impl Resources) -> bool {
        match self.part(name) {
            Some(Part::Workload) => {
                let version = self.refresh_workload(world);
                let entry = Entry::new(held, Some(&version), world.revision());
                self.entries.insert(name, entry);
            }
            Some(Part::Departure) => match self.leave {
                Leave::Stays => self.leave = Leave::Asks,
                Leave::Asks | Leave::Goes => {}
                Leave::Told => self.owe_departure(world.revision()),
            },
            None => return false,
        }
        true
    }

    /// A proxy that has said that it leaves does not take it back by that.
    pub(super) fn unsubscribe(&mut self, name: &str) {
        self.entries.remove(name);
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leave != Leave::Stays
    }

    pub(super) fn take_departure(&mut self) -> bool {
        let asks = self.leave == Leave::Asks;
        if asks {
            self.leave = Leave::Goes;
        }
        asks
    }

    pub(super) fn depart(&mut self, departure: Encoded, revision: u64) {
        self.leave = Leave::Told;
        self.departure = Some(Arc::new(departure));
        self.owe_departure(revision);
    }

    fn owe_departure(&mut self, revision: u64) {
        if let Some(departure) = &self.departure {
            let entry = Entry::new(Told::Unknown, Some(&departure.version), revision);
            self.entries.insert(&self.departure_name, entry);
        }
    }

    pub(super) fn change<R>(&mut self, name: &str, change: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        self.entries.change(name, change)
    }

    /// What the proxy lacks first.
    pub(super) fn first_owed(&self) -> Option<(Arc<str>, Arc<Encoded>)> {
        let name = self.entries.first_owed()?;
        let encoded = match self.part(&name)? {
            Part::Workload => self.workload.as_ref().map(|(encoded, _)| encoded),
            Part::Departure => self.departure.as_ref(),
        };
        encoded.map(|encoded| (name, Arc::clone(encoded)))
    }

    /// A newer world; true when it changes the workload that the proxy has asked for.
    pub(super) fn observe(&mut self, world: &impl Resources, span: Span) -> bool {
        if !self.entries.contains(&self.workload_name) {
            return false;
        }
        let version = self.refresh_workload(world);
        let observe = |entry: &mut Entry| entry.observe(Some(&version), span);
        self.entries.change(&self.workload_name, observe).unwrap_or_default()
    }

    /// As it is in this world; returns its version.
    fn refresh_workload(&mut self, world: &impl Resources) -> String {
        match &mut self.workload {
            Some((encoded, made)) if world.workload_revision(&self.node.namespace) <= *made => {
                *made = world.revision();
                encoded.version.clone()
            }
            workload => {
                let encoded = world.workload(&self.node);
                let version = encoded.version.clone();
                *workload = Some((encoded, world.revision()));
                version
            }
        }
    }
}
