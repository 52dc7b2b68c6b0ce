//! Both machines, wired back to back: whatever the order of subscriptions, changes, refusals, losses and
//! disconnections, the proxy ends with exactly what the control plane has, and never routes to what it does not know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use prost::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;
use tsunagi::xds::Session as Server;
use tsunagi_proto::names;
use tsunagi_proto::wire::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tsunagi_proto::wire::mesh::{self as wire, resource::Kind};
use tsunagi_proxy::snapshot::Update;
use tsunagi_proxy::xds::Session as Proxy;
use tsunagi_proxy::xds::session::Identity;

use crate::mesh::{Host, Mesh};

const FQDNS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SEEDS: u64 = 400;
const STEPS: usize = 250;

/// What the proxy has in force: per host what it reaches, and whose endpoints there are.
#[derive(Default)]
struct InForce {
    hosts: BTreeMap<String, BTreeSet<String>>,
    endpoints: BTreeSet<String>,
}

struct Pair {
    rng: StdRng,
    newest: Arc<Mesh>,
    /// `None`: not connected, or the first request is still under way.
    server: Option<Server<Mesh>>,
    proxy: Proxy,
    connected: bool,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_proxy: VecDeque<DeltaDiscoveryResponse>,
    wanted: BTreeSet<String>,
    in_force: InForce,
    /// Resources sent since the last connection.
    sent: usize,
    changes_sent: usize,
}

fn identity() -> Identity {
    Identity {
        node_id: "pod-1".to_owned(),
        namespace: "default".to_owned(),
        ..Identity::default()
    }
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut mesh = Mesh {
            revision: 1,
            ..Mesh::default()
        };
        for fqdn in FQDNS {
            mesh.service(fqdn).add_endpoint("0");
        }
        Self {
            rng: StdRng::seed_from_u64(seed),
            newest: Arc::new(mesh.next()),
            server: None,
            proxy: Proxy::new(identity()),
            connected: false,
            to_server: VecDeque::new(),
            to_proxy: VecDeque::new(),
            wanted: BTreeSet::new(),
            in_force: InForce::default(),
            sent: 0,
            changes_sent: 0,
        }
    }

    fn any_fqdn(&mut self) -> String {
        FQDNS[self.rng.random_range(0..FQDNS.len())].to_owned()
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..10 => self.want(),
            10..15 => self.unwant(),
            15..30 => self.change(),
            30..40 => self.observe(),
            40..62 => self.deliver_to_server(),
            62..84 => self.deliver_to_proxy(),
            84..88 => self.lose_a_base(),
            88..92 => self.ask_again(),
            92..94 => self.disconnect(),
            94..95 => self.restart_proxy(),
            _ => self.connect(),
        }
        self.say();
    }

    fn want(&mut self) {
        let fqdn = self.any_fqdn();
        assert!(self.proxy.want(&fqdn, Instant::now()).is_empty());
        self.wanted.insert(fqdn);
    }

    fn unwant(&mut self) {
        let fqdn = self.any_fqdn();
        self.proxy.unwant(&fqdn);
        self.wanted.remove(&fqdn);
        self.in_force.hosts.remove(&fqdn);
    }

    fn change(&mut self) {
        let mut mesh = self.newest.next();
        for _ in 0..self.rng.random_range(1..4) {
            let fqdn = self.any_fqdn();
            let host = Host {
                generation: self.rng.random_range(0..4),
                reaches: (0..self.rng.random_range(0..3)).map(|_| self.any_fqdn()).collect(),
                bad: self.rng.random_bool(0.15),
            };
            let (id, weight) = (self.rng.random_range(0..4).to_string(), self.rng.random_range(1..4));
            let service = mesh.service(&fqdn);
            match self.rng.random_range(0..10) {
                0..4 => service.host = Some(host),
                4 => service.host = None,
                5..8 => {
                    service.endpoints.insert(id, weight);
                }
                _ => {
                    service.endpoints.remove(&id);
                }
            }
        }
        self.newest = Arc::new(mesh);
    }

    fn observe(&mut self) {
        if let Some(server) = &mut self.server {
            server.world(Arc::clone(&self.newest));
        }
        self.push();
    }

    fn push(&mut self) {
        let Some(response) = self.server.as_mut().and_then(Server::response) else {
            return;
        };
        assert!(self.to_proxy.is_empty(), "two responses in flight");
        self.sent += response.resources.len();
        self.changes_sent += response.resources.iter().filter(|resource| is_change(resource)).count();
        self.to_proxy.push_back(response);
    }

    fn deliver_to_server(&mut self) {
        let Some(request) = self.to_server.pop_front() else {
            return;
        };
        match &mut self.server {
            Some(server) => server.request(&request).unwrap(),
            None => self.server = Some(Server::new(Arc::clone(&self.newest), &request).unwrap()),
        }
        self.push();
    }

    fn deliver_to_proxy(&mut self) {
        let Some(response) = self.to_proxy.pop_front() else {
            return;
        };
        let outcome = self.proxy.response(response, Instant::now());
        if let Some(update) = outcome.update {
            self.apply(&update);
        }
    }

    /// As the snapshot does: whole.
    fn apply(&mut self, update: &Update) {
        for (fqdn, set) in &update.endpoints {
            match set {
                Some(_) => self.in_force.endpoints.insert(fqdn.clone()),
                None => self.in_force.endpoints.remove(fqdn),
            };
        }
        for (fqdn, host) in &update.hosts {
            match host {
                Some(host) => {
                    let reached = host.clusters.iter().map(|cluster| cluster.key.host.clone()).collect();
                    self.in_force.hosts.insert(fqdn.clone(), reached);
                }
                None => drop(self.in_force.hosts.remove(fqdn)),
            }
        }
        for (fqdn, reached) in &self.in_force.hosts {
            let missing: Vec<_> = reached.difference(&self.in_force.endpoints).collect();
            assert!(
                missing.is_empty(),
                "{fqdn} is in force without the endpoints of {missing:?}"
            );
        }
    }

    fn say(&mut self) {
        while let Some(request) = self.proxy.request() {
            assert!(self.connected);
            self.to_server.push_back(request);
        }
    }

    /// A change arrives that does not start from what the proxy holds.
    fn lose_a_base(&mut self) {
        let Some(response) = self.to_proxy.front_mut() else {
            return;
        };
        for resource in response.resources.iter_mut().filter(|resource| is_change(resource)) {
            let any = resource.resource.as_mut().unwrap();
            let mut decoded = wire::Resource::decode(any.value.as_slice()).unwrap();
            if let Some(Kind::Endpoints(endpoints)) = &mut decoded.kind {
                endpoints.base_checksum ^= 1;
            }
            any.value = decoded.encode_to_vec();
        }
    }

    /// The proxy names again what it has subscribed to already.
    fn ask_again(&mut self) {
        if self.connected && self.server.is_some() {
            let fqdn = self.any_fqdn();
            let names = [names::host(&fqdn), names::endpoints(&fqdn)];
            let name = names[self.rng.random_range(0..2)].clone();
            if self.wanted.contains(&fqdn) {
                self.to_server.push_back(DeltaDiscoveryRequest {
                    type_url: names::RESOURCE_TYPE_URL.to_owned(),
                    resource_names_subscribe: vec![name],
                    ..DeltaDiscoveryRequest::default()
                });
            }
        }
    }

    fn disconnect(&mut self) {
        self.connected = false;
        self.server = None;
        self.to_server.clear();
        self.to_proxy.clear();
        self.proxy.disconnected();
    }

    fn connect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.sent = 0;
            self.proxy.connected();
        }
    }

    /// With what it remembers: hosts that are not there have to be asked for anew.
    fn restart_proxy(&mut self) {
        self.disconnect();
        let held = self.proxy.versions();
        let remembered = self.proxy.remember();
        let Some(remembered) = remembered else { return };
        self.proxy = Proxy::new(identity());
        self.in_force = InForce::default();
        if let Some(update) = self.proxy.restore(remembered, Instant::now()) {
            self.apply(&update);
        }
        assert_eq!(self.proxy.versions(), held);
        for fqdn in &self.wanted {
            self.proxy.want(fqdn, Instant::now());
        }
    }

    fn quiesce(&mut self) {
        self.connect();
        self.say();
        for _ in 0..200 {
            self.deliver_to_server();
            self.observe();
            self.deliver_to_proxy();
            self.say();
            if self.to_server.is_empty() && self.to_proxy.is_empty() {
                return;
            }
        }
        panic!("the two do not come to rest");
    }

    fn is_bad(&self, fqdn: &str) -> bool {
        self.newest.services[fqdn].host.as_ref().is_some_and(|host| host.bad)
    }

    /// The proxy holds exactly the current versions of what it wants; of what it refused, the last good one.
    fn check(&self) {
        let held = self.proxy.versions();
        let current = |name: &str| self.newest.version(name);
        for fqdn in FQDNS {
            let name = names::host(fqdn);
            if !self.wanted.contains(fqdn) {
                assert_eq!(held.get(&name), None, "{name} is not wanted");
            } else if !self.is_bad(fqdn) {
                assert_eq!(held.get(&name).cloned(), current(&name), "{name}");
            }
        }
        let hosts: BTreeSet<&String> = self.in_force.hosts.keys().collect();
        let held_hosts: Vec<&str> = held.keys().filter_map(|name| name.strip_prefix("host/")).collect();
        assert!(hosts.iter().copied().eq(held_hosts), "what is held is in force");
        for fqdn in self.in_force.hosts.values().flatten() {
            let name = names::endpoints(fqdn);
            assert_eq!(held.get(&name).cloned(), current(&name), "{name}");
        }
        let refused = self.wanted.iter().any(|fqdn| self.is_bad(fqdn));
        if !refused {
            let reached: BTreeSet<&String> = self.in_force.hosts.values().flatten().collect();
            let kept: BTreeSet<&str> = held.keys().filter_map(|name| name.strip_prefix("endpoints/")).collect();
            assert!(
                reached.into_iter().map(String::as_str).eq(kept),
                "endpoints that nothing reaches are gone"
            );
        }
        let progress = self.server.as_ref().unwrap().progress();
        assert_eq!(
            (progress.seen, progress.answered),
            (self.newest.revision, self.newest.revision)
        );
        assert_eq!(
            progress.acknowledged == self.newest.revision,
            progress.refused.is_empty()
        );
        let refusing: BTreeSet<&str> = progress
            .refused
            .iter()
            .map(|refused| refused.resource.as_str())
            .collect();
        let bad: BTreeSet<String> = self
            .wanted
            .iter()
            .filter(|fqdn| self.is_bad(fqdn))
            .map(|fqdn| names::host(fqdn))
            .collect();
        assert!(bad.iter().map(String::as_str).eq(refusing));
    }
}

fn is_change(resource: &tsunagi_proto::wire::discovery::Resource) -> bool {
    let decoded = wire::Resource::decode(resource.resource.as_ref().unwrap().value.as_slice()).unwrap();
    matches!(decoded.kind, Some(Kind::Endpoints(endpoints)) if endpoints.change)
}

#[test]
fn whatever_the_schedule_the_proxy_ends_with_what_the_control_plane_has() {
    let mut changes_sent = 0;
    for seed in 0..SEEDS {
        let mut pair = Pair::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for step in 0..STEPS {
                pair.step();
                if step % 50 == 49 {
                    pair.quiesce();
                    pair.check();
                }
            }
        }));
        assert!(run.is_ok(), "seed {seed}");
        changes_sent += pair.changes_sent;
    }
    assert!(changes_sent > 100, "changes of endpoints travel as changes");
}

#[test]
fn a_reconnection_to_an_unchanged_world_sends_nothing() {
    for seed in 0..50 {
        let mut pair = Pair::new(seed);
        for _ in 0..STEPS {
            pair.step();
        }
        // Nothing may be refused: a refused version is offered anew on a new stream.
        let mut mesh = pair.newest.next();
        for host in mesh.services.values_mut().filter_map(|service| service.host.as_mut()) {
            host.bad = false;
        }
        pair.newest = Arc::new(mesh);
        pair.quiesce();
        pair.check();
        pair.disconnect();
        pair.quiesce();
        pair.check();
        assert_eq!(pair.sent, 0, "seed {seed}");
    }
}
