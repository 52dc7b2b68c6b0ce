//! The push protocol: both session machines back to back under random schedules, and client and server over sockets.

#[path = "push_protocol/mesh.rs"]
mod mesh;
#[path = "push_protocol/schedule.rs"]
mod schedule;
#[path = "push_protocol/sockets.rs"]
mod sockets;
