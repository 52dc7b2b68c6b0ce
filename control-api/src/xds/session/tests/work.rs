//! What a session does for a request and for a world: as much as these name and change, and never less than it must.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const HOSTS: usize = 5_000;

/// Many hosts, each of which reaches itself and one that is shared; counts what it is asked.
#[derive(Default)]
struct Crowd {
    revision: u64,
    changed: Vec<usize>,
    asked: AtomicUsize,
}

fn fqdn(index: usize) -> String {
    format!("service-{index}.default.svc.cluster.local")
}

impl Crowd {
    fn version(&self, name: String) -> Option<Arc<Encoded>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let changed = self.changed.iter().any(|&index| name.ends_with(&fqdn(index)));
        Some(Arc::new(Encoded {
            name,
            version: if changed {
                format!("v{}", self.revision)
            } else {
                "v1".to_owned()
            },
            bytes: Bytes::from_static(b"x"),
            change: None,
        }))
    }
}

impl Resources for Crowd {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn host(&self, fqdn: &str, _: &str) -> Option<Arc<Encoded>> {
        self.version(names::host(fqdn))
    }
    fn endpoints(&self, fqdn: &str) -> Option<Arc<Encoded>> {
        self.version(names::endpoints(fqdn))
    }
    fn reaches(&self, fqdn: &str, _: &str) -> Arc<[String]> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Arc::new([fqdn.to_owned(), "shared".to_owned()])
    }
    fn workload(&self, node: &crate::snapshot::Node) -> Arc<Encoded> {
        self.version(names::workload(&node.namespace, &node.node_id)).unwrap()
    }
    fn changed_since(&self, revision: u64) -> Option<Arc<[String]>> {
        let names = self.changed.iter().flat_map(|&index| {
            let fqdn = fqdn(index);
            [names::host(&fqdn), names::endpoints(&fqdn)]
        });
        (revision + 1 == self.revision).then(|| names.collect())
    }
}

fn crowded() -> (Arc<Crowd>, Session<Crowd>) {
    let world = Arc::new(Crowd {
        revision: 1,
        ..Crowd::default()
    });
    let mut first = first_request(&["workload/default/pod-1"], &[]);
    let hosts = (0..HOSTS).map(|index| names::host(&fqdn(index)));
    first.resource_names_subscribe.extend(hosts);
    let mut session = Session::new(Arc::clone(&world), &first).unwrap();
    let response = session.response().unwrap();
    assert_eq!(response.resources.len(), 2 * HOSTS + 2);
    session.request(&ack(&response)).unwrap();
    assert_eq!(session.response(), None);
    assert!(session.news().is_some());
    world.asked.store(0, Ordering::Relaxed);
    (world, session)
}

#[test]
fn an_empty_or_stale_request_looks_at_nothing_and_reports_nothing() {
    let (world, mut session) = crowded();
    let mut stale = request(&[], &[]);
    stale.response_nonce = "1".to_owned();
    for request in [request(&[], &[]), stale] {
        assert!(!session.is_answered_by(&request));
        session.request(&request).unwrap();
        assert_eq!(session.response(), None);
        assert_eq!(session.news(), None);
    }
    assert_eq!(world.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_request_looks_at_what_it_names() {
    let (world, mut session) = crowded();
    let name = names::host(&fqdn(7));
    session.request(&request(&[&name], &[])).unwrap();
    let response = session.response().unwrap();
    assert_eq!(response.resources.len(), 1);
    session.request(&ack(&response)).unwrap();
    session.request(&request(&[], &[&name])).unwrap();
    let response = session.response().unwrap();
    assert_eq!(response.removed_resources, [names::endpoints(&fqdn(7))]);
    session.request(&ack(&response)).unwrap();
    assert!(world.asked.load(Ordering::Relaxed) < 10);
}

#[test]
fn a_world_is_looked_at_where_it_changed() {
    let (_, mut session) = crowded();
    let next = |revision, changed: &[usize]| {
        Arc::new(Crowd {
            revision,
            changed: changed.to_vec(),
            ..Crowd::default()
        })
    };
    // Two that are pushed together.
    session.notice(&next(2, &[3]));
    let both = next(3, &[3, HOSTS + 1]);
    assert_eq!(session.world(Arc::clone(&both)), Some(Span { after: 1, upto: 3 }));
    assert!(both.asked.load(Ordering::Relaxed) < 10);
    let response = session.response().unwrap();
    assert_eq!(response.resources.len(), 2);
    session.request(&ack(&response)).unwrap();
    // After one that it never saw, it compares all.
    let later = next(5, &[3]);
    assert_eq!(session.world(Arc::clone(&later)), Some(Span { after: 3, upto: 5 }));
    assert!(later.asked.load(Ordering::Relaxed) > 2 * HOSTS);
}

const FQDNS: [&str; 5] = ["a", "b", "c", "d", "e"];
const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];

/// The same things happen to two sessions: one is told what worlds change, the other compares all.
struct Twins {
    rng: StdRng,
    world: Fake,
    told: Session<Fake>,
    blind: Session<Fake>,
    in_flight: Option<DeltaDiscoveryResponse>,
}

impl Twins {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut names: Vec<String> = FQDNS.iter().map(|fqdn| names::host(fqdn)).collect();
        names.truncate(rng.random_range(0..=FQDNS.len()));
        let mut held: Vec<(String, &str)> = Vec::new();
        for fqdn in FQDNS {
            for name in [names::host(fqdn), names::endpoints(fqdn)] {
                if rng.random_bool(0.4) {
                    held.push((name, VERSIONS[rng.random_range(0..3)]));
                }
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let held: Vec<(&str, &str)> = held.iter().map(|(name, version)| (name.as_str(), *version)).collect();
        let first = first_request(&names, &held);
        let world = Fake {
            revision: 1,
            ..Fake::default()
        };
        let mut twins = Self {
            told: Session::new(Arc::new(world.clone()), &first).unwrap(),
            blind: Session::new(Arc::new(world.clone()), &first).unwrap(),
            rng,
            world,
            in_flight: None,
        };
        twins.change();
        twins
    }

    fn any(&mut self) -> &'static str {
        FQDNS[self.rng.random_range(0..FQDNS.len())]
    }

    fn step(&mut self) {
        match self.rng.random_range(0..10) {
            0..3 => self.change(),
            3..6 => self.say(),
            _ => self.answer(),
        }
        let (told, blind) = (self.told.response(), self.blind.response());
        assert_eq!(told.as_ref().map(shown), blind.as_ref().map(shown));
        self.in_flight = told.or(self.in_flight.take());
        assert_eq!(self.told.progress(), self.blind.progress());
        for session in [&mut self.told, &mut self.blind] {
            session.refresh();
            assert_consistent(session);
        }
    }

    fn change(&mut self) {
        let mut changed = Vec::new();
        for _ in 0..self.rng.random_range(1..3) {
            let (fqdn, other) = (self.any(), self.any());
            let version = VERSIONS[self.rng.random_range(0..3)];
            let mut world = std::mem::take(&mut self.world);
            match self.rng.random_range(0..6) {
                0 => world = world.without(fqdn),
                // The version tells what it reaches, as it does in the product.
                1..4 => world = world.host(fqdn, &format!("{version}-{other}"), &[fqdn, other]),
                _ => world = world.endpoints(fqdn, version, None),
            }
            self.world = world;
            changed.extend([names::host(fqdn), names::endpoints(fqdn)]);
        }
        self.world = std::mem::take(&mut self.world).next();
        let told = self.world.clone().knowing(&changed);
        self.told.notice(&told);
        if self.rng.random_bool(0.7) {
            let seen = self.told.world(Arc::new(told));
            assert_eq!(seen, self.blind.world(Arc::new(self.world.clone())));
        }
    }

    fn say(&mut self) {
        let fqdn = self.any();
        let name = match self.rng.random_range(0..5) {
            0 => names::endpoints(fqdn),
            1 => "workload/default/pod-1".to_owned(),
            _ => names::host(fqdn),
        };
        let request = match self.rng.random_bool(0.6) {
            true => request(&[&name], &[]),
            false => request(&[], &[&name]),
        };
        self.request(&request);
    }

    fn answer(&mut self) {
        let Some(response) = self.in_flight.take() else {
            return;
        };
        let refused = names::host(self.any());
        let answer = match self.rng.random_range(0..10) {
            0 => nack(&response, &[]),
            1..4 => nack(&response, &[(&refused, "bad")]),
            _ => ack(&response),
        };
        self.request(&answer);
    }

    fn request(&mut self, request: &DeltaDiscoveryRequest) {
        self.told.request(request).unwrap();
        self.blind.request(request).unwrap();
    }
}

/// What is counted is what a walk over everything finds.
fn assert_consistent(session: &Session<Fake>) {
    session.reaches.assert_counted();
    for entries in [&session.hosts, &session.endpoints, session.own.entries()] {
        entries.assert_indexed();
    }
    let mut wanted: BTreeSet<&str> = session.reaches.reached().map(String::as_str).collect();
    if session.reaches.needs_all() {
        wanted.extend(session.endpoints.names().map(|fqdn| &**fqdn));
    }
    for fqdn in FQDNS {
        let current = Resources::endpoints(session.world.as_ref(), fqdn).filter(|_| wanted.contains(fqdn));
        let current = current.as_ref().map(|encoded| encoded.version.as_str());
        match session.endpoints.get(fqdn) {
            Some(entry) => {
                assert_eq!(entry.current(), current, "{fqdn}");
                assert!(entry.exists() || entry.may_be_held(), "{fqdn}");
            }
            None => assert_eq!(current, None, "{fqdn}"),
        }
        if let Some(host) = session.hosts.get(fqdn) {
            let current = Resources::host(session.world.as_ref(), fqdn, "default");
            assert_eq!(host.current(), current.as_ref().map(|encoded| encoded.version.as_str()));
        }
    }
}

#[test]
fn a_session_that_is_told_what_changed_sends_what_one_that_compares_all_does() {
    for seed in 0..300 {
        let mut twins = Twins::new(seed);
        for _ in 0..150 {
            twins.step();
        }
    }
}
