//! The addresses of an endpoint that is a name: each new connection goes to the next one, or to one after it that answers, and the
//! open ones stay where they are when the addresses change (`DNS_ROUND_ROBIN`, Envoy's `LOGICAL_DNS`).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Rotation(Mutex<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// Empty: the endpoint has one address of its own.
    addresses: Arc<[SocketAddr]>,
    /// Where the next connection goes.
    next: usize,
    /// Where the last one went.
    reached: Option<SocketAddr>,
}

impl Rotation {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, addresses: Arc<[SocketAddr]>) {
        self.turns().addresses = addresses;
    }

    /// Where the next connection goes, and then where it goes when nobody answers there.
    pub(super) fn take_turn(&self) -> Vec<SocketAddr> {
        let mut turns = self.turns();
        let Some(first) = turns.next.checked_rem(turns.addresses.len()) else {
            return Vec::new();
        };
        turns.next = first + 1;
        let (later, now) = turns.addresses.split_at(first);
        [now, later].concat()
    }

    pub(super) fn reached(&self, address: SocketAddr) {
        self.turns().reached = Some(address);
    }

    /// Where the last connection went; before there was one, where it would go.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        let turns = self.turns();
        turns.reached.or_else(|| turns.addresses.first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_goes_to_the_next_address_or_to_one_after_it() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let rotation = Rotation::default();
        assert!(rotation.take_turn().is_empty() && rotation.last().is_none());
        rotation.set([1, 2, 3].map(address).into());
        for turn in [[1, 2, 3], [2, 3, 1], [3, 1, 2], [1, 2, 3]] {
            assert_eq!(rotation.take_turn(), turn.map(address));
        }
        assert_eq!(rotation.last(), Some(address(1)));
        rotation.reached(address(3));
        rotation.set([9].map(address).into());
        assert_eq!(rotation.take_turn(), [address(9)]);
        assert_eq!(rotation.last(), Some(address(3)), "there its connections are");
    }
}
