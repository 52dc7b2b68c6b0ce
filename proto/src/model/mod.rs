//! Checked configuration: what comes out of these `TryFrom`s cannot be invalid. The control plane admits with the very
//! code that the proxy refuses with.

mod action;
mod cluster;
mod connection_pool;
mod connection_rule;
mod cors;
mod endpoints;
mod fault;
mod header_operations;
mod header_template;
mod host;
mod load_balancer;
mod locality;
mod matching;
mod outlier_detection;
mod place;
mod retry;
mod retry_budget;
mod route_table;
mod rule_index;
mod sorted_texts;
mod source;
mod time_format;
mod upstream_tls;
mod workload;

pub use action::{
    ALWAYS, DirectResponse, Mirror, PathRewrite, Redirect, RedirectPath, RedirectPort, Rewrite, Substitution,
    SubstitutionPart, draws, is_authority, is_path, is_redirect_path, is_substitution,
};
pub use cluster::{Cluster, ClusterKey, Discovery};
pub use connection_pool::{ConnectionPool, FOREVER, H2UpgradePolicy, Http2Keepalive, TcpKeepalive, UNLIMITED};
pub use connection_rule::{ConnectionMatch, ConnectionRule, SniMatch, is_subnet};
pub use cors::CorsPolicy;
pub use endpoints::{Endpoint, EndpointSet, Health, endpoints_checksum, keep_one_an_address};
pub use fault::{Abort, AbortKind, Delay, DelayKind, Fault};
pub use header_operations::{EditFields, HeaderOperations, HeaderText};
pub use header_template::{AddressPart, FieldText, Formatter, HeaderTemplate, Peer, RequestField, TemplatePart};
pub use host::{Host, Port, Protocol};
pub use load_balancer::{
    ConsistentHash, HashCookie, HashKey, HashTable, LoadBalancer, MAX_MAGLEV_SIZE, MAX_RING_SIZE, Warmup, is_prime,
};
pub use locality::{LocalityBalancing, LocalityShares, ZoneAware};
pub use matching::{HttpMatch, NamedMatch, StringMatch, full_match};
pub use outlier_detection::OutlierDetection;
pub use place::{Locality, NETWORK_LABEL, NODE_NAME_LABEL, REGION_LABEL, SUBZONE_LABEL, ZONE_LABEL};
pub use retry::{RetryOn, RetryPolicy};
pub use retry_budget::RetryBudget;
pub use route_table::{Action, HttpRule, Origin, RouteAction, RouteTable, WeightedDestination};
pub(crate) use rule_index::{Bucket, Look, NamedLooks, Node, Place, RuleIndex};
pub use source::{Source, SourceMatch};
pub use time_format::TimeFormat;
pub use upstream_tls::{ProxyProtocol, TlsFiles, UpstreamTls};
pub use workload::{InboundPort, OutboundTrafficPolicy, Workload};

use std::time::Duration;

/// Why a resource is refused: the field's path on the wire and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    pub field: String,
    pub reason: String,
}

impl Invalid {
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }

    /// The same, seen from the message that contains the field.
    pub(crate) fn within(mut self, outer: impl AsRef<str>) -> Self {
        self.field = format!("{}.{}", outer.as_ref(), self.field);
        self
    }
}

/// A duration on the wire; zero and absent are `None`.
pub(crate) fn duration(field: &str, value: Option<prost_types::Duration>) -> Result<Option<Duration>, Invalid> {
    let Some(value) = value else { return Ok(None) };
    match Duration::try_from(value) {
        Ok(Duration::ZERO) => Ok(None),
        Ok(duration) if duration <= MAX_DURATION => Ok(Some(duration)),
        Ok(_) => Err(Invalid::new(field, "longer than a year")),
        Err(_) => Err(Invalid::new(field, "a duration must not be negative")),
    }
}

/// Keeps every sum of an `Instant` and a configured duration far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);
