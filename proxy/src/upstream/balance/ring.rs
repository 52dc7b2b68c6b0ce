//! A ring of hashes: each endpoint has points on it, and a key leads to the first point that is not before it.
//!
//! Source: libketama, and Envoy's `ring_hash_lb.cc`, which hashes `address_0`, `address_1` … likewise. Ours is how many points
//! there are. Envoy scales them to the least ring size, so that the points of all endpoints change with the number of
//! endpoints. Here an endpoint of the commonest weight has as many points as the ring is to have at least, whatever the
//! number of endpoints: when one leaves, the points of the others stay, and only its keys move. Above 2^18 points (256
//! endpoints of the default size) all have fewer in proportion, and a little more than its keys may move. A point takes 12
//! bytes: a ring has at most 3 MiB, or what its own least size takes where that is more.

use std::collections::HashMap;
use std::io::Write;

use xxhash_rust::xxh64::xxh64;

use super::consistent_hash::Place;

const MOST_POINTS: u64 = 1 << 18;

#[derive(Debug)]
pub(in crate::upstream) struct Ring {
    /// Sorted.
    hashes: Box<[u64]>,
    /// Whose they are.
    owners: Box<[u32]>,
}

impl Ring {
    pub(super) fn new(places: &[Place], size: u64) -> Self {
        let mut points: Vec<(u64, u32)> = Vec::new();
        let mut text = Vec::new();
        for (place, count) in places.iter().zip(counts(places, size)) {
            text.clear();
            // Writing into a `Vec` does not fail.
            let _ = write!(text, "{}_", place.address);
            let stem = text.len();
            points.extend((0..count).map(|number| {
                text.truncate(stem);
                let _ = write!(text, "{number}");
                (xxh64(&text, 0), place.index)
            }));
        }
        points.sort_unstable();
        let (hashes, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self {
            hashes: hashes.into(),
            owners: owners.into(),
        }
    }

    /// The owners of the points from the key on, once around.
    pub(super) fn way(&self, hash: u64) -> impl Iterator<Item = usize> {
        let first = self.hashes.partition_point(|point| *point < hash);
        let (before, from) = self.owners.split_at(first);
        from.iter().chain(before).map(|owner| *owner as usize)
    }
}

/// How many points each has.
fn counts(places: &[Place], size: u64) -> Vec<u64> {
    let common = f64::from(commonest_weight(places));
    let share = |place: &Place| f64::from(place.weight) / common;
    let total = places.iter().map(share).sum::<f64>() * size as f64;
    let most = MOST_POINTS.max(size) as f64;
    let scale = size as f64 * (most / total).min(1.0);
    places
        .iter()
        .map(|place| (share(place) * scale).ceil() as u64)
        .collect()
}

/// The greatest of those that are equally common.
fn commonest_weight(places: &[Place]) -> u32 {
    let mut times = HashMap::<u32, u32>::new();
    for place in places {
        *times.entry(place.weight).or_default() += 1;
    }
    let most = times.into_iter().max_by_key(|(weight, times)| (*times, *weight));
    most.map_or(1, |(weight, _)| weight.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(weights: &[u32]) -> Vec<Place> {
        let place = |(weight, index): (&u32, u32)| Place {
            address: ([10, 0, (index >> 8) as u8, index as u8], 80).into(),
            weight: *weight,
            index,
        };
        weights.iter().zip(0..).map(place).collect()
    }

    #[test]
    fn points_follow_the_weights_and_their_number_is_bounded() {
        assert_eq!(counts(&places(&[7, 7, 7]), 1024), [1024, 1024, 1024]);
        assert_eq!(counts(&places(&[2, 2, 1, 4]), 1000), [1000, 1000, 500, 2000]);
        for weights in [&[1, u32::MAX, u32::MAX][..], &[u32::MAX, 1, 1, 1], &[1; 5_000], &[1]] {
            for size in [1, 1024, 300_000] {
                let places = places(weights);
                let total: u64 = counts(&places, size).iter().sum();
                let most = MOST_POINTS.max(size) + places.len() as u64;
                assert!(
                    (size..=most).contains(&total),
                    "{total} points of {} for {size}",
                    places.len()
                );
            }
        }
        assert!(counts(&[], 1024).is_empty());
    }

    #[test]
    fn points_are_where_envoy_has_them() {
        let ring = Ring::new(&places(&[1]), 2);
        let mut expected = [xxh64(b"10.0.0.0:80_0", 0), xxh64(b"10.0.0.0:80_1", 0)];
        expected.sort_unstable();
        assert_eq!(*ring.hashes, expected);
    }
}
