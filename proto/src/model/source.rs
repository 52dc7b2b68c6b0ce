//! Which clients a match is for: `sourceLabels` and `sourceNamespace`. A proxy asks once, when it is told of rules; whatever
//! explains routes asks for each client that it is asked about.

use std::collections::BTreeMap;

use crate::wire::mesh;

/// A client's workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

/// What a match asks of the client. The default asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMatch {
    /// The client has all of these.
    pub labels: BTreeMap<String, String>,
    /// `None`: any.
    pub namespace: Option<String>,
}

impl SourceMatch {
    pub(super) fn new(labels: Vec<mesh::Label>, namespace: String) -> Self {
        Self {
            labels: labels.into_iter().map(|label| (label.key, label.value)).collect(),
            namespace: (!namespace.is_empty()).then_some(namespace),
        }
    }

    pub fn admits(&self, source: &Source) -> bool {
        self.namespace_admits(source)
            && self
                .labels
                .iter()
                .all(|(key, value)| source.labels.get(key) == Some(value))
    }

    pub fn namespace_admits(&self, source: &Source) -> bool {
        self.namespace.as_ref().is_none_or(|wanted| *wanted == source.namespace)
    }
}

/// Leaves out the matches that are not for the client, and rules of which none is left. A rule without matches is for all.
pub(super) fn retain<R, M>(rules: &mut Vec<R>, matches: impl Fn(&mut R) -> &mut Vec<M>, admits: impl Fn(&M) -> bool) {
    rules.retain_mut(|rule| {
        let matches = matches(rule);
        let any = matches.is_empty();
        matches.retain(&admits);
        any || !matches.is_empty()
    });
}
