//! What we learned about those whom we call: clusters with their limits, endpoints with their health, open
//! connections. All of it survives every push; what was told lives in `snapshot`.

mod balance;
mod body;
mod cluster;
mod connection;
mod endpoint;
mod http1;
mod http2;
mod outlier;
mod pool;
mod queue;
mod registry;
mod retry_budget;
#[cfg(test)]
mod testing;

pub use balance::choose;
pub use body::{BodyError, RequestBody};
pub use cluster::{Cluster, Member, Members};
pub use connection::Lease;
pub use endpoint::{ActiveRequest, Endpoint};
pub use outlier::Outcome;
pub use pool::{AcquireError, acquire};
pub use queue::ConnectionPermit;
pub use registry::Registry;
pub use retry_budget::RetryBudget;
