//! Sockets: the machine's addresses, listening with one accept queue a worker, connecting within a time, and where a
//! connection was headed.

mod addresses;
mod connect;
mod happy_eyeballs;
mod lingering;
mod listen;
mod original_destination;

pub use addresses::instance_ips;
pub use connect::{ConnectError, connect};
pub use happy_eyeballs::first_of;
pub use lingering::{LINGER_TIME, Lingering};
pub use listen::{bind, bind_only_v6};
pub use original_destination::{
    canonical, is_outbound_listener, is_own_address, original_destination, set_outbound_port,
};
