//! The packet-filter rules that send a pod's connections through its sidecar: `tsunagi-proxy redirect`, an init step that
//! needs NET_ADMIN and NET_RAW and leaves nothing behind when it is undone. Called by `main`.
//!
//! What is redirected follows Istio's `istio-iptables` (`rules`). The rules stand in a table (`nft`) or in chains
//! (`iptables`) of their own, and what install changed besides them is noted there too, as the names of empty chains: so
//! `remove` needs no file, works from any container of the pod, and restores what was there.

mod capability;
mod error;
mod install;
mod iptables;
mod loopback_address;
mod nft;
mod rules;
mod summary;
mod tool;

pub use error::RedirectError;

use crate::bootstrap::RedirectCommand;

/// Does it, and says for people what was done.
pub fn run(command: &RedirectCommand) -> Result<String, RedirectError> {
    match command {
        RedirectCommand::Install(options) => install::install(options),
        RedirectCommand::Remove(options) => install::remove(options.backend),
        RedirectCommand::Print(options) => install::print(options),
    }
}

#[cfg(test)]
mod tests;
