//! Sockets: listening with one accept queue a worker, connecting within a time, and where a connection was headed.

mod connect;
mod lingering;
mod listen;
mod original_destination;

pub use connect::{ConnectError, connect};
pub use lingering::{LINGER_TIME, Lingering};
pub use listen::{bind, bind_only_v6};
pub use original_destination::{is_own_address, original_destination};
