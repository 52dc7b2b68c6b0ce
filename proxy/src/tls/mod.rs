//! TLS to endpoints: who this proxy is, whom it believes, and the handshake.
//!
//! What config says is compiled when it is published; certificates and keys are files of this machine, read on the control
//! thread and looked at once a second. Private keys come as files because the channel to the control plane need not be
//! encrypted: no key ever crosses it. Files that are missing or broken are no reason to refuse config, which the control
//! plane cannot know better: connections fail with the reason until the files are there, and what worked before stays in
//! force while a newer version of it does not.

mod chain;
mod client;
mod failure;
mod files;
mod material;
mod revoked;
mod store;
mod verifier;

pub use client::{Client, Compiled, Offer, chosen};
pub use failure::{CERTIFICATE_WANTED, Failure};
pub use store::{State, Store};

#[cfg(test)]
mod resumption_tests;
#[cfg(test)]
#[path = "testing.rs"]
pub(crate) mod testing;
#[cfg(test)]
#[path = "handshake_tests.rs"]
mod tests;
#[cfg(test)]
mod trust_tests;
