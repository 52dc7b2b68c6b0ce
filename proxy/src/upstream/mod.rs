//! What we learned about those whom we call: clusters with their limits, endpoints with their health, open
//! connections. All of it survives every push; what was told lives in `snapshot`.

mod awake;
mod balance;
mod beginning;
mod cluster;
mod connection;
mod destinations;
mod endpoint;
mod groups;
mod http1;
mod http2;
mod http2_keepalive;
mod http2_lease;
mod http2_opening;
mod locality;
mod need;
mod outlier;
mod own;
mod plain;
mod pool;
#[cfg(test)]
mod pool_properties;
mod proxy_protocol;
mod queue;
mod registry;
mod resolution;
mod retry_budget;
mod rotation;
mod seen;
mod shares;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod upgraded;

pub use balance::{Caller, CookieKey, RequestKey, choose, hash_address, hash_text, hash_values};
pub use cluster::{Cluster, Local, Member, Members};
pub use connection::{Lease, UpstreamError};
pub use endpoint::{ActiveRequest, Endpoint};
pub use locality::Place;
pub use need::{Binding, Need};
pub use outlier::{Cause, EndpointHealth, LateOutcome, Outcome, Standing};
pub use own::OwnConnections;
pub use plain::{PlainConnection, PlainError, open_plain};
pub use pool::{AcquireError, acquire, acquire_ready};
pub use proxy_protocol::ClientAddresses;
pub use queue::ConnectionPermit;
pub use registry::Registry;
pub use resolution::{Resolution, Resolved};
pub use retry_budget::RetryBudget;
pub use seen::SeenEndpoint;
pub use stream::UpstreamStream;
pub use upgraded::UpgradedConnection;
