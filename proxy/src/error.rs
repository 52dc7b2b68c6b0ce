//! Why the proxy could not start. Everything that can go wrong later has an enum in the room where it goes wrong.
//!
//! Made by `app`; `main` prints it and exits with 1. The text names the flag to change.

use std::io;
use std::net::SocketAddr;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener's address is taken, not ours, or not permitted.
    #[error("cannot listen on {address} (--{flag}): {source}")]
    Bind {
        flag: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    /// The runtime or a thread of it could not be made: out of file descriptors or threads.
    #[error("cannot start {what}: {source}")]
    Thread { what: &'static str, source: io::Error },
    /// The signal handlers could not be installed.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
    /// A data thread has ended while the proxy was meant to run.
    #[error("a data thread ended unexpectedly: see the log above")]
    DataThread,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_bind_names_the_flag_and_the_address() {
        let address = SocketAddr::from(([127, 0, 0, 1], 15001));
        let source = io::Error::from(io::ErrorKind::AddrInUse);
        let text = StartError::Bind {
            flag: "outbound-addr",
            address,
            source,
        }
        .to_string();
        assert!(
            text.contains("--outbound-addr") && text.contains("127.0.0.1:15001") && text.contains("in use"),
            "{text}"
        );
    }
}
