//! What proxies are told: an immutable world made from documents, without I/O and without a clock.
//!
//! `world` finds what a change of documents touches and rebuilds only that; `catalog` knows which document concerns
//! which host; `host` and `endpoints` make the messages; `judge` refuses what a proxy would refuse.

mod catalog;
mod clusters;
mod diff;
mod encoded;
mod endpoints;
mod host;
mod judge;
mod policy;
mod routes;
mod service;
mod shards;
mod slices;
mod world;

pub use encoded::{Encoded, EncodedChange};
pub use world::World;

#[cfg(test)]
mod tests;
