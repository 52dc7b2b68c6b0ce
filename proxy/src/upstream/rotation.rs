//! The addresses of an endpoint that is a name: each new connection goes to the next one, and the open ones stay where they
//! are when the addresses change (`DNS_ROUND_ROBIN`, Envoy's `LOGICAL_DNS`).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Rotation {
    /// Empty: the endpoint has one address of its own. Looked at for a new connection only.
    addresses: Mutex<Arc<[SocketAddr]>>,
    turn: AtomicUsize,
}

impl Rotation {
    pub(super) fn set(&self, addresses: Arc<[SocketAddr]>) {
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Where the next connection goes.
    pub(super) fn next(&self) -> Option<SocketAddr> {
        self.at(self.turn.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the last one went.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        self.at(self.turn.load(Ordering::Relaxed).wrapping_sub(1))
    }

    fn at(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.get(turn % addresses.len().max(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_goes_to_the_next_address() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let rotation = Rotation::default();
        assert_eq!(rotation.next(), None);
        rotation.set([1, 2, 3].map(address).into());
        let ports: Vec<u16> = (0..6).map(|_| rotation.next().unwrap().port()).collect();
        assert_eq!(
            (&ports[..], rotation.last().unwrap().port()),
            (&[2, 3, 1, 2, 3, 1][..], 1)
        );
        rotation.set([9].map(address).into());
        assert_eq!(rotation.next().unwrap().port(), 9);
    }
}
