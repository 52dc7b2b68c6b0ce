//! What one proxy has been told, and has confirmed, of one resource. Called by `session` alone.

use std::sync::Arc;

use crate::status::{Refused, Span};

/// What the proxy holds of a resource, as far as this side knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Told {
    /// It holds nothing and has not asked.
    #[default]
    Nothing,
    /// It asks, or may hold anything: it must be told, whatever there is.
    Unknown,
    /// It knows that there is no such resource.
    Absent,
    Version(String),
}

impl Told {
    fn of(current: Option<&str>) -> Self {
        current.map_or(Self::Absent, |version| Self::Version(version.to_owned()))
    }

    pub(super) fn is_version(&self, version: &str) -> bool {
        matches!(self, Self::Version(held) if held == version)
    }
}

#[derive(Debug, Default)]
pub(super) struct Entry {
    /// In the world that the session saw last; `None`: does not exist, or nothing that the proxy uses reaches it.
    current: Option<String>,
    told: Told,
    acknowledged: Told,
    refused: Option<Refusal>,
    /// What the proxy has not settled carries the changes of these revisions.
    span: Span,
}

#[derive(Debug)]
struct Refusal {
    version: String,
    /// One text for all that a response brought.
    reason: Arc<str>,
}

impl Entry {
    pub(super) fn new(held: Told, current: Option<&str>, revision: u64) -> Self {
        Self {
            current: current.map(str::to_owned),
            told: held.clone(),
            acknowledged: held,
            refused: None,
            span: Span {
                after: revision.saturating_sub(1),
                upto: revision,
            },
        }
    }

    /// The world of `span.upto` has this version; true when that is not what the world of `span.after` had.
    pub(super) fn observe(&mut self, version: Option<&str>, span: Span) -> bool {
        if self.current.as_deref() == version {
            return false;
        }
        // What was not settled yet goes out together with this change.
        let after = if self.is_settled() { span.after } else { self.span.after };
        self.span = Span { after, upto: span.upto };
        self.current = version.map(str::to_owned);
        if self
            .refused
            .as_ref()
            .is_some_and(|refusal| Some(refusal.version.as_str()) != version)
        {
            self.refused = None;
        }
        true
    }

    /// Does the proxy lack something that it has not refused?
    pub(super) fn owes(&self) -> bool {
        match (&self.told, &self.current) {
            (Told::Nothing | Told::Absent, None) => false,
            (_, Some(version)) => !self.told.is_version(version) && !self.is_refused(version),
            _ => true,
        }
    }

    /// Goes out now; returns what is told.
    pub(super) fn tell(&mut self) -> Told {
        self.told = Told::of(self.current.as_deref());
        self.told.clone()
    }

    pub(super) fn acknowledge(&mut self, told: &Told) {
        if self.told == *told {
            self.acknowledged = told.clone();
        }
    }

    /// The last good version stays in force at the proxy, and this one is not sent again.
    pub(super) fn refuse(&mut self, told: &Told, reason: &Arc<str>) {
        if let Told::Version(version) = told
            && self.told == *told
        {
            self.told = self.acknowledged.clone();
            if self.current.as_ref() == Some(version) {
                self.refused = Some(Refusal {
                    version: version.clone(),
                    reason: Arc::clone(reason),
                });
            }
        }
    }

    /// The proxy asks anew: what it holds no longer counts.
    pub(super) fn forget(&mut self) {
        self.told = Told::Unknown;
        self.acknowledged = Told::Unknown;
        self.refused = None;
    }

    pub(super) fn acknowledged(&self) -> &Told {
        &self.acknowledged
    }

    /// May the proxy hold something of it?
    pub(super) fn may_be_held(&self) -> bool {
        let held = |told: &Told| matches!(told, Told::Unknown | Told::Version(_));
        held(&self.told) || held(&self.acknowledged)
    }

    #[cfg(test)]
    pub(super) fn current(&self) -> Option<&str> {
        self.current.as_deref()
    }

    pub(super) fn exists(&self) -> bool {
        self.current.is_some()
    }

    pub(super) fn refusal(&self, name: impl FnOnce() -> String) -> Option<Refused> {
        self.refused.as_ref().map(|refusal| Refused {
            resource: name(),
            version: refusal.version.clone(),
            reason: refusal.reason.to_string(),
            span: self.span,
        })
    }

    /// Constant as long as the refusal stands: another version ends both.
    pub(super) fn refused_span(&self) -> Option<Span> {
        self.refused.as_ref().map(|_| self.span)
    }

    /// Before anything is told: does the proxy come with something else than there is? That it asks for something that
    /// does not exist is nothing new.
    pub(super) fn is_behind(&self) -> bool {
        self.owes() && (self.exists() || matches!(self.told, Told::Version(_)))
    }

    fn is_refused(&self, version: &str) -> bool {
        self.refused.as_ref().is_some_and(|refusal| refusal.version == version)
    }

    /// The proxy has confirmed what the world has.
    pub(super) fn is_settled(&self) -> bool {
        match &self.current {
            Some(version) => self.acknowledged.is_version(version),
            None => !self.may_be_held(),
        }
    }
}
