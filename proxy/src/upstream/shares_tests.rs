//! Tests of the shares: Envoy's published examples, what holds of any health, and the drawing.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn count(healthy: u64, total: u64) -> Count {
    let serving = total;
    Count {
        healthy,
        serving,
        total,
    }
}

fn whole_levels(count: usize) -> Vec<Level> {
    let level = |index: usize| Level {
        groups: index..index + 1,
        split: Split::Whole,
    };
    (0..count).map(level).collect()
}

/// Of levels of 100 endpoints each, in whole percents, and which of them ignore health.
fn of_levels(healthy: &[u64], panic_percent: u32) -> (Vec<u64>, Vec<bool>) {
    let counts: Vec<Count> = healthy.iter().map(|healthy| count(*healthy, 100)).collect();
    let loads = loads(&whole_levels(counts.len()), &counts, panic_percent);
    let percent = |load: &Load| (load.share * 100.0).round() as u64;
    (
        loads.iter().map(percent).collect(),
        loads.iter().map(|load| load.panic).collect(),
    )
}

#[test]
fn levels_get_what_envoys_tables_say() {
    for (healthy, expected) in [
        (&[100, 100][..], &[100, 0][..]),
        (&[72, 100], &[100, 0]),
        (&[71, 100], &[99, 1]),
        (&[50, 100], &[70, 30]),
        (&[25, 100], &[35, 65]),
        (&[0, 100], &[0, 100]),
        (&[25, 25], &[50, 50]),
        (&[20, 20, 10], &[40, 40, 20]),
        (&[0, 100, 100], &[0, 100, 0]),
        (&[5, 0, 5], &[50, 0, 50]),
        (&[0, 0, 0], &[100, 0, 0]),
    ] {
        assert_eq!(of_levels(healthy, 0).0, expected, "{healthy:?}");
    }
}

#[test]
fn health_is_ignored_as_envoys_tables_say() {
    for (healthy, percents, panics) in [
        ([72, 72], [100, 0], [false, false]),
        ([71, 71], [99, 1], [false, false]),
        ([50, 60], [70, 30], [false, false]),
        ([25, 100], [35, 65], [false, false]),
        ([25, 25], [50, 50], [true, true]),
        ([5, 65], [8, 92], [true, false]),
        ([0, 0], [50, 50], [true, true]),
    ] {
        assert_eq!(
            of_levels(&healthy, 50),
            (percents.to_vec(), panics.to_vec()),
            "{healthy:?}"
        );
    }
    // Without a threshold nobody is asked who is not healthy.
    assert_eq!(of_levels(&[0, 0], 0), (vec![100, 0], vec![false, false]));
}

#[test]
fn in_a_total_panic_levels_get_requests_by_their_endpoints() {
    let loads = loads(&whole_levels(2), &[count(0, 30), count(1, 10)], 50);
    assert_eq!(loads.iter().map(|load| load.share).collect::<Vec<_>>(), [0.75, 0.25]);
}

#[test]
fn weights_are_scaled_by_health() {
    let levels = [Level {
        groups: 0..2,
        split: Split::Weights(vec![80, 20]),
    }];
    let shares = |counts: [Count; 2]| {
        loads(&levels, &counts, 0)
            .iter()
            .map(|load| load.share)
            .collect::<Vec<_>>()
    };
    assert_eq!(shares([count(4, 4), count(1, 1)]), [0.8, 0.2]);
    // 3 of 4 are more than enough.
    assert_eq!(shares([count(3, 4), count(1, 1)]), [0.8, 0.2]);
    // 70 % of 80 against 20.
    let [first, _] = shares([count(2, 4), count(1, 1)])[..] else {
        panic!("two groups")
    };
    assert!((first - 56.0 / 76.0).abs() < 1e-9);
    assert_eq!(shares([count(0, 4), count(1, 1)]), [0.0, 1.0]);
    assert_eq!(shares([count(0, 4), count(0, 1)]), [0.5, 0.5]);
}

fn zoned(peers: &[u32], own: Option<usize>, healthy: &[u64]) -> Vec<f64> {
    let zones = Zones {
        own,
        peers: peers.to_vec(),
        all_peers: peers.iter().map(|peers| u64::from(*peers)).sum(),
        min_cluster_size: 6,
    };
    let levels = [Level {
        groups: 0..healthy.len(),
        split: Split::Zones(zones),
    }];
    let counts: Vec<Count> = healthy.iter().map(|healthy| count(*healthy, *healthy)).collect();
    loads(&levels, &counts, 0).iter().map(|load| load.share).collect()
}

#[test]
fn a_zone_with_its_part_of_the_endpoints_keeps_its_requests() {
    assert_eq!(zoned(&[2, 4, 4], Some(0), &[2, 4, 4]), [1.0, 0.0, 0.0]);
    assert_eq!(zoned(&[1, 4, 4], Some(0), &[2, 4, 4]), [1.0, 0.0, 0.0]);
}

#[test]
fn a_zone_with_more_callers_than_endpoints_gives_the_rest_to_those_with_room() {
    // Envoy's own example: callers 40, 40, 20; endpoints 25, 50, 25. Of the rest two thirds to the second.
    let shares = zoned(&[40, 40, 20], Some(0), &[25, 50, 25]);
    let expected = [0.625, 0.25, 0.125];
    assert!(
        shares
            .iter()
            .zip(expected)
            .all(|(share, expected)| (share - expected).abs() < 1e-9),
        "{shares:?}"
    );
    assert_eq!(zoned(&[5, 5, 0], None, &[0, 5, 5]), [0.0, 0.0, 1.0]);
}

#[test]
fn with_every_caller_at_it_each_endpoint_gets_the_same() {
    let (callers, endpoints) = ([40u32, 40, 20], [25u64, 50, 25]);
    let mut load = [0.0; 3];
    for (zone, callers) in callers.into_iter().enumerate() {
        for (load, share) in load.iter_mut().zip(zoned(&[40, 40, 20], Some(zone), &endpoints)) {
            *load += share * f64::from(callers);
        }
    }
    for (load, endpoints) in load.into_iter().zip(endpoints) {
        assert!((load - endpoints as f64).abs() < 1e-9, "{load} of {endpoints}");
    }
}

#[test]
fn in_a_small_cluster_zones_do_not_matter() {
    assert_eq!(zoned(&[2, 2], Some(0), &[1, 4]), [0.2, 0.8]);
    assert_eq!(zoned(&[2, 2], Some(0), &[3, 3]), [1.0, 0.0]);
}

#[test]
fn of_any_health_the_shares_are_one_in_all_and_nothing_goes_where_nobody_is_healthy() {
    let mut random = StdRng::seed_from_u64(7);
    for _ in 0..20_000 {
        let level_count = random.random_range(1..5);
        let (mut levels, mut counts) = (Vec::new(), Vec::new());
        for _ in 0..level_count {
            let first = counts.len();
            let groups = random.random_range(1..4);
            for _ in 0..groups {
                let total = random.random_range(1..20);
                counts.push(count(random.random_range(0..=total), total));
            }
            let weights = (0..groups).map(|_| random.random_range(1..100)).collect();
            let zones = Zones {
                own: random.random_bool(0.7).then(|| random.random_range(0..groups)),
                peers: (0..groups).map(|_| random.random_range(0..5)).collect(),
                all_peers: random.random_range(groups as u64 * 4..groups as u64 * 5),
                min_cluster_size: random.random_range(0..10),
            };
            let split = match random.random_range(0..3) {
                0 => Split::Weights(weights),
                1 => Split::Zones(zones),
                _ if groups == 1 => Split::Whole,
                _ => Split::Weights(weights),
            };
            levels.push(Level {
                groups: first..first + groups,
                split,
            });
        }
        let panic_percent = random.random_range(0..101);
        let loads = loads(&levels, &counts, panic_percent);
        assert_eq!(loads.len(), counts.len());
        let sum: f64 = loads.iter().map(|load| load.share).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum} {levels:?} {counts:?} {panic_percent}");
        assert!(
            loads.iter().all(|load| (0.0..=1.000_001).contains(&load.share)),
            "{loads:?}"
        );
        let is_any_healthy = counts.iter().any(|count| count.healthy > 0);
        for (load, count) in loads.iter().zip(&counts) {
            if is_any_healthy && !load.panic && count.healthy == 0 {
                assert_eq!(load.share, 0.0, "{levels:?} {counts:?} {panic_percent}");
            }
        }
    }
}

#[test]
fn a_level_that_gets_healthier_never_gets_less() {
    let mut random = StdRng::seed_from_u64(8);
    for _ in 0..20_000 {
        let mut counts: Vec<Count> = (0..random.random_range(1..5))
            .map(|_| {
                let total = random.random_range(1..30);
                count(random.random_range(0..=total), total)
            })
            .collect();
        let index = random.random_range(0..counts.len());
        if counts[index].healthy == counts[index].total || counts.iter().all(|count| count.healthy == 0) {
            continue;
        }
        let levels = whole_levels(counts.len());
        let before = loads(&levels, &counts, 0)[index].share;
        counts[index].healthy += 1;
        let after = loads(&levels, &counts, 0)[index].share;
        // What whole percents leave over goes to the first level, which may cost it that when another gets some.
        assert!(
            after >= before - 0.01 * counts.len() as f64,
            "{counts:?} {index}: {before} -> {after}"
        );
    }
}

#[test]
fn requests_are_drawn_by_the_shares() {
    let shares = Shares::new(4);
    let of = |share: f64, panic: bool| Load { share, panic };
    shares.renew(|| vec![of(0.0, false), of(0.25, true), of(0.0, false), of(0.75, false)]);
    let mut random = StdRng::seed_from_u64(9);
    let mut counts = [0; 4];
    for _ in 0..100_000 {
        counts[shares.pick(random.random())] += 1;
    }
    assert_eq!((counts[0], counts[2]), (0, 0));
    assert!((24_000..26_000).contains(&counts[1]), "{counts:?}");
    assert_eq!((shares.pick(0), shares.pick(u64::MAX)), (1, 3));
    assert_eq!(
        [0, 1, 2, 3].map(|group| shares.is_panic(group)),
        [false, true, false, false]
    );
    shares.renew(|| vec![of(1.0, false), of(0.0, false), of(0.0, false), of(0.0, false)]);
    assert_eq!([0, 1 << 63, u64::MAX].map(|point| shares.pick(point)), [0; 3]);
}
