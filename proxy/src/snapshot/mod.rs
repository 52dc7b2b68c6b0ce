//! What we were told, compiled for the request path: immutable, replaced whole.
//!
//! `publisher` (control thread) turns updates into snapshots; `reader` (data threads) finds a host in the current one.

mod application;
mod compile;
mod demand;
mod passthrough;
mod publisher;
mod reader;
mod update;

pub use application::application;
pub use compile::{Cluster, Destination, Host, Port, Rule};
pub use demand::Demand;
pub use passthrough::Passthrough;
pub use publisher::Publisher;
pub use reader::{Lookup, Reader, Shared, Snapshot};
pub use update::Update;
