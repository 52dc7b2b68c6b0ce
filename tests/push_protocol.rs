//! The push protocol: both session machines back to back under random schedules, and client and server over sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what these tests are made of fails them the hard way, like the tests themselves"
)]

#[path = "push_protocol/mesh.rs"]
mod mesh;
#[path = "push_protocol/schedule.rs"]
mod schedule;
#[path = "push_protocol/sockets.rs"]
mod sockets;
