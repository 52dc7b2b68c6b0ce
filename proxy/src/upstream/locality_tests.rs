//! Tests of which endpoints are as good as which. The expected levels are those of Istio's own tests of the same cases
//! (`loadbalancer_test.go`), said anew.

use super::*;
use tsunagi_proto::model::ZoneAware;

fn endpoint(locality: &str, labels: &[(&str, &str)]) -> Endpoint {
    let mut endpoint = Endpoint::new(locality, "10.0.0.1".parse().unwrap(), Vec::new());
    endpoint.locality = locality.to_owned();
    endpoint.labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    endpoint
}

fn at(locality: &str) -> Place {
    Place {
        locality: locality.to_owned(),
        ..Place::default()
    }
}

fn failover(pairs: &[(&str, &str)]) -> LocalityBalancing {
    LocalityBalancing {
        failover: pairs
            .iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect(),
        ..LocalityBalancing::default()
    }
}

fn priority(labels: &[(&str, Option<&str>)]) -> LocalityBalancing {
    let label = |(key, value): &(&str, Option<&str>)| ((*key).to_owned(), value.map(str::to_owned));
    LocalityBalancing {
        failover_priority: labels.iter().map(label).collect(),
        ..LocalityBalancing::default()
    }
}

fn of(policy: &LocalityBalancing, place: &Place, endpoints: &[Endpoint]) -> Tiers {
    tiers(policy, place, &endpoints.iter().collect::<Vec<_>>())
}

/// The level of each endpoint.
fn levels(policy: &LocalityBalancing, place: &Place, endpoints: &[Endpoint]) -> Vec<usize> {
    let tiers = of(policy, place, endpoints);
    let groups = tiers.groups.iter();
    groups.map(|group| tiers.level_of(group.expect("it is used"))).collect()
}

fn places(localities: &[&str]) -> Vec<Endpoint> {
    localities.iter().map(|locality| endpoint(locality, &[])).collect()
}

#[test]
fn the_nearer_comes_first_and_no_level_is_empty() {
    let all = places(&["us/a/1", "eu/a/1", "eu/b/1", "eu/a/2", "eu/a/1", "asia"]);
    let policy = failover(&[]);
    assert_eq!(levels(&policy, &at("eu/a/1"), &all), [3, 0, 2, 1, 0, 3]);
    assert_eq!(levels(&policy, &at("eu/c"), &all), [1, 0, 0, 0, 0, 1]);
    assert_eq!(levels(&policy, &at("us/a/1"), &all), [0, 1, 1, 1, 1, 1]);
    // Nobody knows where the proxy is: all are far.
    assert_eq!(levels(&policy, &at(""), &all), [0; 6]);
}

#[test]
fn a_region_that_fails_over_to_another_prefers_that_one() {
    let all = places(&["eu/a", "us/a", "asia/a", "eu/b"]);
    let policy = failover(&[("eu", "asia"), ("us", "eu")]);
    assert_eq!(levels(&policy, &at("eu/a"), &all), [0, 3, 2, 1]);
    assert_eq!(levels(&policy, &at("us/a"), &all), [1, 0, 2, 1]);
    // Nothing is said of this region: the others are alike.
    assert_eq!(levels(&policy, &at("asia/a"), &all), [1, 1, 0, 1]);
}

#[test]
fn labels_in_common_count_from_the_first_on() {
    let all = [
        endpoint("eu/a", &[("version", "v1"), ("team", "x")]),
        endpoint("eu/a", &[("version", "v1"), ("team", "y")]),
        endpoint("eu/a", &[("version", "v2"), ("team", "x")]),
        endpoint("eu/a", &[]),
    ];
    let mut place = at("eu/a");
    place.labels = BTreeMap::from([
        ("version".to_owned(), "v1".to_owned()),
        ("team".to_owned(), "x".to_owned()),
    ]);
    let policy = priority(&[("version", None), ("team", None)]);
    assert_eq!(levels(&policy, &place, &all), [0, 1, 2, 2]);
    // A value that the policy gives goes over the proxy's own.
    let policy = priority(&[("version", Some("v2")), ("team", None)]);
    assert_eq!(levels(&policy, &place, &all), [1, 1, 0, 1]);
    // A label that neither has is in common.
    assert_eq!(levels(&priority(&[("rack", None)]), &place, &all), [0; 4]);
}

#[test]
fn topology_labels_are_where_proxy_and_endpoints_are() {
    let mut all = places(&["eu/a", "eu/b", "us/a", "eu/a"]);
    all[3].node_name = "m1".to_owned();
    let mut place = at("eu/a");
    place.node_name = "m1".to_owned();
    let region_and_zone = [
        ("topology.kubernetes.io/region", None),
        ("topology.kubernetes.io/zone", None),
    ];
    assert_eq!(levels(&priority(&region_and_zone), &place, &all), [0, 1, 2, 0]);
    let mut nodes = region_and_zone.to_vec();
    nodes.insert(0, ("topology.istio.io/network", None));
    nodes.push(("kubernetes.io/hostname", None));
    assert_eq!(levels(&priority(&nodes), &place, &all), [1, 2, 3, 0]);
    // Another network is worse than anything, and what comes after it still counts there.
    all[0].labels = vec![("topology.istio.io/network".to_owned(), "n2".to_owned())];
    all[3].labels = all[0].labels.clone();
    assert_eq!(levels(&priority(&nodes), &place, &all), [3, 0, 1, 2]);
}

#[test]
fn labels_and_failover_together_order_places_within_the_labels() {
    let all = [
        endpoint("eu/a", &[("version", "v2")]),
        endpoint("us/a", &[("version", "v1")]),
        endpoint("eu/a", &[("version", "v1")]),
        endpoint("asia/a", &[("version", "v1")]),
    ];
    let policy = LocalityBalancing {
        failover: vec![("eu".to_owned(), "asia".to_owned())],
        ..priority(&[("version", Some("v1"))])
    };
    assert_eq!(levels(&policy, &at("eu/a"), &all), [3, 2, 0, 1]);
    let labels_alone = priority(&[("version", Some("v1"))]);
    assert_eq!(levels(&labels_alone, &at("eu/a"), &all), [1, 0, 0, 0]);
}

fn distribute(from: &str, to: &[(&str, u32)]) -> LocalityBalancing {
    let to = to
        .iter()
        .map(|(locality, weight)| ((*locality).to_owned(), *weight))
        .collect();
    LocalityBalancing {
        distribute: vec![LocalityShares {
            from: from.to_owned(),
            to,
        }],
        ..LocalityBalancing::default()
    }
}

#[test]
fn distribute_names_who_gets_how_much_and_the_others_get_nothing() {
    let all = places(&["eu/a/1", "eu/b", "us/a", "asia/a", "eu/a/2"]);
    let policy = distribute("eu/a/*", &[("eu/a", 80), ("us/*", 20), ("asia", 0)]);
    let tiers = of(&policy, &at("eu/a/1"), &all);
    assert_eq!(tiers.groups, [Some(0), None, Some(1), None, Some(0)]);
    assert_eq!(
        tiers.levels,
        [Level {
            groups: 0..2,
            split: Split::Weights(vec![80, 20])
        }]
    );
    // It says nothing of proxies elsewhere.
    assert_eq!(of(&policy, &at("us/a"), &all).groups, [Some(0); 5]);
    assert_eq!(of(&distribute("*", &[("us", 100)]), &at(""), &all).groups[2], Some(0));
}

#[test]
fn endpoints_that_leave_make_no_level() {
    let mut all = places(&["eu/a", "eu/b", "us/a"]);
    all[0].health = Health::Draining;
    let tiers = of(&failover(&[]), &at("eu/a"), &all);
    assert_eq!(tiers.levels.len(), 2);
    assert_eq!(tiers.groups[1..], [Some(0), Some(1)]);
    all.iter_mut().for_each(|endpoint| endpoint.health = Health::Draining);
    assert_eq!(of(&failover(&[]), &at("eu/a"), &all).groups, [Some(0); 3]);
}

fn zone_aware() -> LocalityBalancing {
    LocalityBalancing {
        zone_aware: Some(ZoneAware { min_cluster_size: 2 }),
        ..LocalityBalancing::default()
    }
}

#[test]
fn zones_are_groups_of_the_own_region_and_other_regions_come_after() {
    let all = places(&["us/a", "eu/b", "eu/a", "eu/c", "asia/a"]);
    let mut place = at("eu/a");
    place.peers = vec![("eu/a".to_owned(), 3), ("eu/b".to_owned(), 1), ("mars".to_owned(), 4)];
    let tiers = of(&zone_aware(), &place, &all);
    assert_eq!(tiers.groups, [Some(3), Some(1), Some(0), Some(2), Some(3)]);
    let zones = Zones {
        own: Some(0),
        peers: vec![3, 1, 0],
        all_peers: 8,
        min_cluster_size: 2,
    };
    assert_eq!(
        tiers.levels[0],
        Level {
            groups: 0..3,
            split: Split::Zones(zones)
        }
    );
    assert_eq!(
        tiers.levels[1],
        Level {
            groups: 3..4,
            split: Split::Whole
        }
    );
    let to_asia = LocalityBalancing {
        failover: vec![("eu".to_owned(), "asia".to_owned())],
        ..zone_aware()
    };
    assert_eq!(levels(&to_asia, &place, &all), [2, 0, 0, 0, 1]);
}

#[test]
fn without_a_word_of_the_callers_zones_do_not_matter_and_regions_do() {
    let all = places(&["us/a", "eu/b", "eu/a"]);
    for peers in [vec![], vec![("eu/a", 3)], vec![("eu/b", 1), ("eu/c", 1)]] {
        let mut place = at("eu/a");
        place.peers = peers
            .iter()
            .map(|(locality, count)| ((*locality).to_owned(), *count))
            .collect();
        assert_eq!(
            of(&zone_aware(), &place, &all).groups,
            [Some(1), Some(0), Some(0)],
            "{peers:?}"
        );
    }
}
