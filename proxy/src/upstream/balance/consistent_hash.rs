//! Equal keys to equal endpoints, on a ring or in a Maglev table. Built on the control thread when a group's endpoints or its
//! policy change, and shared by the workers; health changes nothing in it: a key whose endpoint cannot be chosen meets the
//! next one on its way, and comes back when that can be chosen again, so that no other key moves.
//!
//! Every hash is xxHash64 of what Envoy hashes, so that every proxy has the same tables, whatever it met before.

use std::net::SocketAddr;

use tsunagi_proto::model::HashTable;
use xxhash_rust::xxh64::xxh64;

use super::maglev::Maglev;
use super::ring::Ring;
use crate::upstream::Member;

/// Steps from a key's place on before all endpoints are looked at: far more than are needed unless nearly all have failed.
const STEPS: usize = 256;

#[derive(Debug)]
pub(in crate::upstream) enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub address: SocketAddr,
    pub weight: u32,
    /// In the group.
    pub index: u32,
}

impl Table {
    pub fn new(wanted: HashTable, members: &[Member]) -> Self {
        let place = |(member, index): (&Member, u32)| Place {
            address: member.endpoint.address,
            weight: member.weight,
            index,
        };
        let mut places: Vec<_> = members.iter().zip(0..).map(place).collect();
        // The same table wherever the endpoints are told in another order.
        places.sort_unstable();
        match wanted {
            HashTable::Ring(size) => Self::Ring(Ring::new(&places, size)),
            HashTable::Maglev(size) => Self::Maglev(Maglev::new(&places, size)),
        }
    }

    /// Where the key leads: of `0..count`, the first usable one on its way.
    pub fn find(&self, hash: u64, count: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let first = match self {
            Self::Ring(ring) => ring.way(hash).take(STEPS).find(|index| usable(*index)),
            Self::Maglev(table) => table.way(hash).take(STEPS).find(|index| usable(*index)),
        };
        first.or_else(|| highest(hash, count, usable))
    }
}

/// By rendezvous hashing (Thaler and Ravishankar, 1998): it needs no table and looks at every endpoint.
fn highest(hash: u64, count: usize, usable: impl Fn(usize) -> bool) -> Option<usize> {
    (0..count)
        .filter(|index| usable(*index))
        .max_by_key(|index| xxh64(&index.to_le_bytes(), hash))
}

#[cfg(test)]
#[path = "consistent_hash_tests.rs"]
mod tests;
