//! Sockets: the machine's addresses, listening with one accept queue a worker, connecting within a time, and bytes that
//! were read too early.

mod addresses;
mod connect;
mod lingering;
mod listen;

pub use addresses::instance_ips;
pub use connect::{ConnectError, connect};
pub use lingering::{LINGER_TIME, Lingering};
pub use listen::bind;
