//! Pushes the world to the proxies: the server half of the delta discovery protocol.
//!
//! `session` decides by what `resources` offers, `entry` is its memory of one resource and `entries` of all of a kind,
//! `own` is what concerns the proxy alone,
//! `reaches` counts whose endpoints are needed, `coming` is what the next world changes, `batch` builds one response,
//! `request` reads what a proxy says of itself, `departures` sees off a proxy that leaves,
//! `debounce` paces the worlds and `pace` the requests, `server` alone has
//! sockets and time.

mod batch;
mod coming;
mod debounce;
mod departures;
mod entries;
mod entry;
mod own;
mod pace;
mod reaches;
mod request;
mod resources;
mod server;
pub mod session;

pub use departures::Departures;
pub use resources::Resources;
pub use server::service;
pub use session::Session;
