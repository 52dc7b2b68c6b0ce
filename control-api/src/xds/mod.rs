//! Pushes the world to the proxies: the server half of the delta discovery protocol.
//!
//! `session` decides by what `resources` offers, `entry` is its memory of one resource, `batch` builds one response,
//! `request` reads what a proxy says of itself, `debounce` paces the worlds, `server` alone has sockets and time.

mod batch;
mod debounce;
mod entry;
mod request;
mod resources;
mod server;
pub mod session;

pub use resources::Resources;
pub use server::service;
pub use session::Session;
