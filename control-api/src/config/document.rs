//! A checked document: what the store keeps, what people see, and its typed meaning.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use super::{
    DestinationRule, EndpointSlice, Key, Machine, Service, ServiceEntry, Sidecar, VirtualService, WorkloadEntry,
};

/// One accepted document. Nothing in `spec` can be invalid on its own.
#[derive(Clone, Debug)]
pub struct Document {
    pub key: Key,
    /// What is stored and shown: as written, with the namespace filled in and without `status`.
    pub object: serde_json::Value,
    pub spec: Spec,
    pub origin: Origin,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.creationTimestamp`; `None` before the document is stored.
    pub created: Option<Created>,
    /// What is taken and does nothing.
    pub remarks: Vec<Remark>,
}

/// Something that its author may not have meant, in this document alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    pub about: About,
    /// As in `spec.trafficPolicy.loadBalancer.warmup`.
    pub field: String,
    pub what: String,
}

/// What a remark is about, for who says more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum About {
    /// Of a balancer that warms nothing up.
    Warmup,
    UnknownAnnotation,
    /// Of another kind.
    MisplacedAnnotation,
    /// A ServiceEntry has none by which its connections are known.
    Addresses,
    /// One port of a policy.
    PortTwice,
}

/// As the beginning of a message, as in `a.yaml:7: `; nothing where it is not known.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => Ok(()),
            (file, 0) => write!(f, "{file}: "),
            (file, line) => write!(f, "{file}:{line}: "),
        }
    }
}

/// Seconds and nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created {
    pub seconds: i64,
    pub nanoseconds: i32,
}

/// Where the document was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Empty: from the store.
    pub file: String,
    /// First line of the document, from 1; 0: not known.
    pub line: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    Service(Service),
    VirtualService(VirtualService),
    /// Several times as large as the others.
    DestinationRule(Box<DestinationRule>),
    ServiceEntry(ServiceEntry),
    WorkloadEntry(WorkloadEntry),
    Sidecar(Sidecar),
    EndpointSlice(EndpointSlice),
    Node(Machine),
}

impl Document {
    /// Nothing that anybody is told depends on which of the two it is.
    pub fn means_the_same(&self, other: &Document) -> bool {
        self.spec == other.spec
            && self.labels == other.labels
            && self.created == other.created
            && self.remarks == other.remarks
    }

    /// Istio's order of precedence: the oldest first, then by name and namespace. What is not stored yet is the newest.
    pub fn by_age(&self, other: &Document) -> Ordering {
        let age = |document: &Document| (document.created.is_none(), document.created);
        age(self)
            .cmp(&age(other))
            .then_with(|| self.key.name.cmp(&other.key.name))
            .then_with(|| self.key.namespace.cmp(&other.key.namespace))
            .then_with(|| self.key.kind.cmp(&other.key.kind))
    }
}
