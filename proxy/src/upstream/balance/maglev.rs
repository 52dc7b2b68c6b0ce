//! A table in which each endpoint has places in proportion to its weight, and a key leads to the one at its hash: one look,
//! shares that are nearly exact, and few keys more than its own move when an endpoint leaves.
//!
//! Source: Eisenbud and others, "Maglev: A Fast and Reliable Software Network Load Balancer" (2016), 3.4, with the weights of
//! Envoy's `maglev_lb.cc`: in each round an endpoint takes a place when its weight, of the heaviest, adds up to one more.
//! Four bytes a place: 256 KiB by default, 20 MB at most.

use xxhash_rust::xxh64::xxh64;

use super::consistent_hash::Place;

const FREE: u32 = u32::MAX;

#[derive(Debug)]
pub(in crate::upstream) struct Maglev {
    owners: Box<[u32]>,
}

/// An endpoint's order of preference: `next`, then on by `skip`.
struct Preference {
    next: u64,
    skip: u64,
    weight: u64,
    /// The weight at which it takes its next place.
    due: u64,
    index: u32,
}

impl Maglev {
    /// `size` is a prime number, so that every preference has every place.
    pub(super) fn new(places: &[Place], size: u64) -> Self {
        let size = size.max(2);
        let heaviest = u64::from(places.iter().map(|place| place.weight).max().unwrap_or(1));
        let preference = |place: &Place| {
            let name = place.address.to_string();
            Preference {
                next: xxh64(name.as_bytes(), 0) % size,
                skip: xxh64(name.as_bytes(), 1) % (size - 1) + 1,
                weight: u64::from(place.weight.max(1)),
                due: 0,
                index: place.index,
            }
        };
        let mut preferences: Vec<_> = places.iter().map(preference).collect();
        let mut owners = vec![FREE; if places.is_empty() { 0 } else { size as usize }];
        let mut free = owners.len();
        let mut round = 0;
        while free > 0 {
            round += 1;
            for own in &mut preferences {
                if round * own.weight < own.due {
                    continue;
                }
                own.due += heaviest;
                while owners.get(own.next as usize).is_some_and(|owner| *owner != FREE) {
                    own.next = (own.next + own.skip) % size;
                }
                if let Some(owner) = owners.get_mut(own.next as usize) {
                    *owner = own.index;
                }
                free -= 1;
                if free == 0 {
                    break;
                }
            }
        }
        Self { owners: owners.into() }
    }

    /// The owner of the key's place, then those of other places, in an order of the key's own: the keys of an endpoint that
    /// cannot be chosen spread over all others.
    pub(super) fn way(&self, hash: u64) -> impl Iterator<Item = usize> {
        let size = self.owners.len() as u64;
        let first = hash.checked_rem(size).unwrap_or(0);
        // The places of one endpoint do not tell where its keys go on.
        let step = xxh64(&hash.to_le_bytes(), 1)
            .checked_rem(size.saturating_sub(1))
            .unwrap_or(0)
            + 1;
        let places = (0..size).scan(first, move |place, _| {
            let here = *place;
            *place = (here + step) % size;
            Some(here)
        });
        places.filter_map(|place| self.owners.get(place as usize).map(|owner| *owner as usize))
    }
}
