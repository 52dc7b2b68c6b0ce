//! What we were told, compiled for the request path: immutable, replaced whole.
//!
//! `publisher` (control thread) turns updates into snapshots; `reader` (data threads) finds a host in the current one, and
//! `inbound` the application beside the proxy, by the address that it is called at.

mod application;
mod compile;
mod connections;
mod demand;
mod inbound;
mod located;
mod naming;
mod passthrough;
mod publisher;
mod reader;
mod resolved;
mod update;

pub use compile::{Cluster, Destination, Host, MirrorTarget, Port, Rule};
pub use connections::{ConnectionDestination, ConnectionRoute, ConnectionRoutes, SeenConnection};
pub use demand::Demand;
pub use inbound::{Inbound, InboundReader};
pub use located::Unlocated;
pub use passthrough::Passthrough;
pub use publisher::Publisher;
pub use reader::{Lookup, Reader, Shared, Snapshot};
pub use resolved::SeenName;
pub use update::Update;
