//! What a change of the endpoints moves, and how evenly keys are spread, on many keys.

use std::net::SocketAddr;

use super::*;
use crate::upstream::Endpoint;
use tsunagi_proto::model;

const KEYS: u64 = 20_000;
const RING: HashTable = HashTable::Ring(1024);
const MAGLEV: HashTable = HashTable::Maglev(65_537);

/// Addresses 10.0.0.0, 10.0.0.1 …, each with its weight.
fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(weight, number): (&u32, u16)| {
        let [high, low] = number.to_be_bytes();
        let address = SocketAddr::from(([10, 0, high, low], 8080));
        Member {
            endpoint: Endpoint::new(number.to_string(), address, None, 1),
            weight: *weight,
            told: model::Endpoint::new(number.to_string(), address.ip(), Vec::new()).into(),
        }
    };
    weights.iter().zip(0..).map(member).collect()
}

fn hash(key: u64) -> u64 {
    xxh64(&key.to_le_bytes(), 0)
}

/// Where each key leads.
fn found(wanted: HashTable, members: &[Member], usable: impl Fn(&Member) -> bool) -> Vec<SocketAddr> {
    let table = Table::new(wanted, members);
    let find = |key| {
        let index = table.find(hash(key), members.len(), |index| usable(&members[index]));
        members[index.unwrap()].endpoint.address
    };
    (0..KEYS).map(find).collect()
}

fn moved(before: &[SocketAddr], after: &[SocketAddr]) -> (usize, Vec<usize>) {
    let moved: Vec<_> = (0..before.len()).filter(|key| before[*key] != after[*key]).collect();
    (moved.len(), moved)
}

#[test]
fn on_a_ring_only_the_keys_of_the_removed_endpoint_move_and_they_come_back_with_it() {
    for count in [2, 3, 10, 100] {
        let all = members(&vec![1; count]);
        let before = found(RING, &all, |_| true);
        for removed in [0, count / 2, count - 1] {
            let mut rest = all.clone();
            let gone = rest.remove(removed).endpoint.address;
            let after = found(RING, &rest, |_| true);
            let (number, moved) = moved(&before, &after);
            assert!(
                moved.iter().all(|key| before[*key] == gone),
                "of {count}, without {removed}"
            );
            assert_eq!(number, before.iter().filter(|address| **address == gone).count());
            rest.push(all[removed].clone());
            assert_eq!(found(RING, &rest, |_| true), before, "the order does not matter");
        }
    }
}

#[test]
fn on_a_ring_with_weights_only_the_keys_of_the_removed_endpoint_move_while_the_commonest_weight_stays() {
    let all = members(&[100, 100, 100, 50, 10]);
    let before = found(RING, &all, |_| true);
    for removed in 0..all.len() {
        let mut rest = all.clone();
        let gone = rest.remove(removed).endpoint.address;
        let (_, moved) = moved(&before, &found(RING, &rest, |_| true));
        assert!(moved.iter().all(|key| before[*key] == gone), "without {removed}");
    }
}

#[test]
fn on_a_great_ring_hardly_more_than_the_keys_of_the_removed_endpoint_move() {
    let all = members(&[1; 1_000]);
    let before = found(RING, &all, |_| true);
    let mut rest = all.clone();
    rest.remove(500);
    let (number, _) = moved(&before, &found(RING, &rest, |_| true));
    // Its own, a thousandth, and the keys of one point in 262 of the others.
    assert!(number as u64 * 1_000 < KEYS * 8, "{number} of {KEYS}");
}

#[test]
fn in_a_maglev_table_at_most_two_percent_of_the_keys_move_when_one_of_a_hundred_endpoints_leaves() {
    let all = members(&[1; 100]);
    let before = found(MAGLEV, &all, |_| true);
    for removed in [0, 17, 50, 99] {
        let mut rest = all.clone();
        let removed = rest.remove(removed);
        let after = found(MAGLEV, &rest, |_| true);
        let (number, _) = moved(&before, &after);
        assert!(number as u64 * 100 <= KEYS * 2, "{number} of {KEYS}");
        rest.push(removed);
        assert_eq!(found(MAGLEV, &rest, |_| true), before, "the order does not matter");
    }
}

#[test]
fn only_the_keys_of_an_endpoint_that_cannot_be_chosen_move_and_they_spread_over_the_others() {
    for table in [RING, MAGLEV] {
        let all = members(&[1; 10]);
        let before = found(table, &all, |_| true);
        let gone = all[3].endpoint.address;
        let after = found(table, &all, |member| member.endpoint.address != gone);
        let (_, moved) = moved(&before, &after);
        assert!(moved.iter().all(|key| before[*key] == gone), "{table:?}");
        // A tenth of the keys to nine others: 222 each are expected, and 1024 points a ring leave 20 % of spread.
        for member in all.iter().filter(|member| member.endpoint.address != gone) {
            let taken = moved
                .iter()
                .filter(|key| after[**key] == member.endpoint.address)
                .count();
            assert!((100..=350).contains(&taken), "{table:?}: {taken} of {}", moved.len());
        }
    }
}

#[test]
fn keys_are_spread_by_weight_within_bounds() {
    for (table, percent) in [(RING, 12), (MAGLEV, 8)] {
        for weights in [&[1; 10][..], &[1, 1, 2, 4], &[30, 20, 10]] {
            let all = members(weights);
            let found = found(table, &all, |_| true);
            let total: u32 = weights.iter().sum();
            for member in &all {
                let keys = found
                    .iter()
                    .filter(|address| **address == member.endpoint.address)
                    .count() as u64;
                let expected = KEYS * u64::from(member.weight) / u64::from(total);
                assert!(
                    keys.abs_diff(expected) * 100 <= expected * percent,
                    "{table:?} {weights:?}: {keys} of {expected}"
                );
            }
        }
    }
}

#[test]
fn when_nearly_all_have_failed_the_last_is_found_and_none_is_made_up() {
    for table in [
        HashTable::Ring(1),
        RING,
        HashTable::Maglev(2),
        HashTable::Maglev(7),
        MAGLEV,
    ] {
        let all = members(&[1; 600]);
        let last = all[599].endpoint.address;
        let built = Table::new(table, &all);
        for key in 0..100 {
            let index = built.find(hash(key), all.len(), |index| all[index].endpoint.address == last);
            assert_eq!(index, Some(599), "{table:?}");
            assert_eq!(built.find(hash(key), all.len(), |_| false), None);
        }
        assert_eq!(Table::new(table, &[]).find(1, 0, |_| true), None);
        let one = Table::new(table, &all[..1]);
        assert!((0..100).all(|key| one.find(hash(key), 1, |_| true) == Some(0)));
    }
}
