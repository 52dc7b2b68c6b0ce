//! What proxies are told: an immutable world made from documents, without I/O.

mod world;

pub use world::{Encoded, EncodedChange, World};
