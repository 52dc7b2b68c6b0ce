//! What proxies are told: an immutable world made from documents, without I/O and without a clock.
//!
//! `world` finds what a change of documents touches and rebuilds only that; `catalog` knows which document concerns
//! which host, `scope` which VirtualService is in force there for whom, and `delegates` what rules it stands for; `host`,
//! `endpoints`, `addresses` and `workload` make the messages, `departures` knows whose endpoints are
//! leaving; `judge` refuses what a proxy would refuse; `routes` and `actions` say rules on the wire, `traffic_policy` policies.

mod actions;
mod addresses;
mod catalog;
mod clusters;
mod delegated_match;
mod delegates;
mod departures;
mod documents;
mod encoded;
mod endpoints;
mod host;
mod judge;
mod overruled;
mod places;
mod policy;
mod policy_index;
mod ranges;
mod remarked;
mod route_warnings;
mod routes;
mod rule_index;
mod scope;
mod service;
mod shared_names;
mod sidecars;
mod slices;
mod traffic_policy;
mod unseen;
mod unused_workloads;
mod whereabouts;
mod wildcards;
mod workload;
mod world;

pub use catalog::{fqdns, owners};
pub use departures::{Passage, departure};
pub use encoded::{Encoded, EncodedChange};
pub use endpoints::port_of;
pub use overruled::{Overruled, Reason};
pub use policy::{at_port, is_for, is_private, is_public, joins};
pub use service::discovery;
pub use shared_names::{SharedName, Sharing};
pub use sidecars::HiddenSidecar;
pub use unseen::UnseenSubset;
pub use unused_workloads::{Unused, UnusedWorkload};
pub use workload::Node;
pub use world::World;

#[cfg(test)]
mod tests;
