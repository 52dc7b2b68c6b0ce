//! Where the config comes from: the proxy's half of the delta discovery protocol, and the last config on disk.
//!
//! `session` decides (pure), `check` reads one resource, `held` keeps what is held, `outbox` is what is to be said,
//! `client` runs on the control thread with `link` (the connection), `backoff` and `saver` (the disk, by `remembered`);
//! `reporter` says how endpoints are seen, `outage` when it is said that there is no control plane.

mod backoff;
mod check;
mod client;
mod held;
mod link;
mod outage;
mod outbox;
mod remembered;
mod reporter;
mod saver;
pub mod session;
mod sink;

pub use client::{Client, ClientConfig};
pub use session::Session;
pub use sink::{Seen, Sink};
