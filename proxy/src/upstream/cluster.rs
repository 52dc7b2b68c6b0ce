//! A cluster's learned state: limits, waiting requests, endpoints. One per (host, port, subset), whatever is pushed.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Instant, SystemTime};

use tsunagi_proto::model;
use tsunagi_proto::model::{ClusterKey, Discovery, Endpoint as ToldEndpoint, Health as ToldHealth};

use super::awake::{AwakeList, Wakefulness};
use super::balance::RequestKey;
use super::beginning::Beginning;
use super::destinations::Destinations;
use super::groups::{Arranged, Before, Groups, arrange};
use super::pool::evict;
use super::queue::ConnectionQueue;
use super::{Endpoint, OwnConnections, Place, Resolution, RetryBudget, outlier};
use crate::limits::Limit;
use crate::telemetry::ClusterSeries;
use crate::tls;

/// A quarter of the process's: one cluster that hangs leaves room for the others.
const MAX_COPIES: u32 = 256;

#[derive(Debug)]
pub struct Cluster {
    pub key: ClusterKey,
    /// `outbound|80|v1|host`, made once.
    pub name: String,
    pub series: Arc<ClusterSeries>,
    /// `http2MaxRequests`: requests on a connection.
    pub requests: Arc<Limit>,
    pub retries: RetryBudget,
    /// Its share of the copies of requests that may be on their way at once.
    pub copies: Arc<Limit>,
    /// Of the names of its endpoints.
    pub resolution: Resolution,
    pub(super) destinations: Destinations,
    pub(super) connections: ConnectionQueue,
    pub(super) beginning: Beginning,
    /// Of all clusters together.
    pub(super) own: Arc<OwnConnections>,
    workers: usize,
    told: Mutex<Told>,
    wakefulness: Wakefulness,
    this: Weak<Cluster>,
}

/// What all clusters of a registry have in common.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub awake: Arc<AwakeList>,
    pub credentials: Arc<tls::Store>,
    pub own: Arc<OwnConnections>,
}

impl Shared {
    pub fn of(credentials: tls::Store) -> Self {
        Self {
            awake: Arc::default(),
            credentials: Arc::new(credentials),
            own: Arc::default(),
        }
    }
}

/// The last that was published, for sweeps and ejections, which are rare.
#[derive(Debug)]
struct Told {
    policy: Arc<model::Cluster>,
    members: Arc<Members>,
    last_sweep: Instant,
    endpoints: HashMap<(String, SocketAddr), Arc<Endpoint>>,
}

/// The endpoints that a request may choose from: immutable, one a publish.
#[derive(Debug, Default)]
pub struct Members {
    /// Healthy as told; ejected ones included.
    pub list: Vec<Member>,
    /// Told unhealthy: chosen in a panic only.
    pub unhealthy: Vec<Member>,
    /// About to end, and still serving: chosen when there is no healthy one at all. Connections to them are not kept.
    pub draining: Vec<Member>,
    /// Of `list`.
    pub(super) groups: Groups,
    /// What of a request decides where it goes.
    pub key: Option<RequestKey>,
    /// A request gets no connection that leads elsewhere than to the endpoint chosen for it: these are a part of the
    /// cluster's, or requests have keys.
    pub(super) pinned: bool,
}

/// The application beside this proxy, at one of the addresses that it is called at.
#[derive(Debug, Clone)]
pub struct Local {
    pub told: Arc<ToldEndpoint>,
    /// Connections to it come from this address, or are not made.
    pub source: Option<IpAddr>,
}

#[derive(Debug, Clone)]
pub struct Member {
    pub endpoint: Arc<Endpoint>,
    pub weight: u32,
    /// Where it is, and of which version.
    pub told: Arc<ToldEndpoint>,
}

impl Members {
    /// Is there nobody, healthy or not?
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.unhealthy.is_empty() && self.draining.is_empty()
    }

    /// Those to whom no request goes are given back.
    fn arrange(
        &mut self,
        policy: &model::Cluster,
        place: &Place,
        before: Option<&Before<'_>>,
        workers: usize,
    ) -> Vec<Member> {
        let members = Arranged {
            list: &mut self.list,
            unhealthy: &mut self.unhealthy,
            draining: &mut self.draining,
        };
        let (groups, unused) = arrange(policy, place, members, before, workers);
        self.groups = groups;
        unused
    }

    /// After a change of somebody's health: how many requests each group gets.
    pub(super) fn renew_shares(&self) {
        self.groups.renew(&self.list, &self.unhealthy);
    }

    /// All of them, each with the level it is on: 0 is the best. `None`: it is about to end.
    pub fn with_levels(&self) -> impl Iterator<Item = (&Member, Option<usize>)> {
        let groups = &self.groups;
        let level = move |is_unhealthy| move |(place, member)| (member, groups.level_of(place, is_unhealthy));
        let list = self.list.iter().enumerate().map(level(false));
        let unhealthy = self.unhealthy.iter().enumerate().map(level(true));
        list.chain(unhealthy)
            .chain(self.draining.iter().map(|member| (member, None)))
    }

    /// So few are healthy somewhere that all get requests there (`minHealthPercent`).
    pub fn is_panic(&self) -> bool {
        (0..self.list.len()).any(|place| self.groups.is_panic_at(place))
    }

    /// Whether a request that failed at one of them may go to another.
    pub fn are_several(&self) -> bool {
        let serving = if self.list.is_empty() {
            &self.draining
        } else {
            &self.list
        };
        serving.len() > 1
    }

    /// Of these the one at this address, for requests that are for no other.
    pub fn only(&self, policy: &model::Cluster, id: &str, address: SocketAddr) -> Arc<Self> {
        let wanted = |member: &&Member| member.endpoint.id == id && member.endpoint.address == address;
        let only = |members: &[Member]| members.iter().filter(wanted).cloned().collect();
        Self::alone(policy, only(&self.list), only(&self.draining))
    }

    /// As `only`: the one at this place of `list`.
    pub(super) fn at(&self, policy: &model::Cluster, at: usize) -> Arc<Self> {
        let list = self.list.get(at).into_iter().cloned().collect();
        Self::alone(policy, list, Vec::new())
    }

    fn alone(policy: &model::Cluster, list: Vec<Member>, draining: Vec<Member>) -> Arc<Self> {
        let mut alone = Self {
            list,
            key: None,
            unhealthy: Vec::new(),
            draining,
            groups: Groups::default(),
            pinned: true,
        };
        alone.arrange(policy, &Place::default(), None, 1);
        alone.renew_shares();
        Arc::new(alone)
    }
}

impl Cluster {
    #[cfg(test)]
    pub fn new(policy: Arc<model::Cluster>, series: Arc<ClusterSeries>, workers: usize) -> Arc<Self> {
        let credentials = tls::Store::new(std::path::PathBuf::new());
        let name = policy.key.to_string();
        Self::called(name, policy, series, workers, Shared::of(credentials))
    }

    pub(super) fn called(
        name: String,
        policy: Arc<model::Cluster>,
        series: Arc<ClusterSeries>,
        workers: usize,
        shared: Shared,
    ) -> Arc<Self> {
        let pool = &policy.connection_pool;
        Arc::new_cyclic(|this| Self {
            name,
            key: policy.key.clone(),
            series,
            requests: Limit::new(pool.max_requests),
            retries: RetryBudget::new(&policy),
            copies: Limit::new(MAX_COPIES),
            resolution: Resolution::default(),
            destinations: Destinations::default(),
            connections: ConnectionQueue::new(pool.max_connections, pool.max_pending_requests),
            beginning: Beginning::new(shared.credentials, &policy),
            own: shared.own,
            workers,
            told: Mutex::new(Told {
                policy: Arc::clone(&policy),
                members: Arc::default(),
                last_sweep: Instant::now(),
                endpoints: HashMap::new(),
            }),
            wakefulness: Wakefulness::new(shared.awake),
            this: Weak::clone(this),
        })
    }

    #[cfg(test)]
    pub(super) fn wakefulness(&self) -> &Wakefulness {
        &self.wakefulness
    }

    /// There is something for the next sweep to look at.
    pub(super) fn wake(&self) {
        self.wakefulness.wake(&self.this);
    }

    /// Brings what was learned in line with what is told from now on: limits change in place, endpoints that stay keep
    /// their health and connections, those that left are retired.
    pub fn reconcile(&self, policy: Arc<model::Cluster>, told: &[Arc<ToldEndpoint>]) -> Arc<Members> {
        self.reconcile_from(&Place::default(), policy, told)
    }

    /// The same for a proxy that is at this place.
    pub fn reconcile_from(
        &self,
        place: &Place,
        policy: Arc<model::Cluster>,
        told: &[Arc<ToldEndpoint>],
    ) -> Arc<Members> {
        self.bring_in_line(place, policy, told.iter().map(|told| (told, None)))
    }

    /// The same for the application beside this proxy.
    pub fn reconcile_local(&self, policy: Arc<model::Cluster>, told: &[Local]) -> Arc<Members> {
        let told = told.iter().map(|local| (&local.told, local.source));
        self.bring_in_line(&Place::default(), policy, told)
    }

    fn bring_in_line<'t>(
        &self,
        place: &Place,
        policy: Arc<model::Cluster>,
        told: impl Iterator<Item = (&'t Arc<ToldEndpoint>, Option<IpAddr>)>,
    ) -> Arc<Members> {
        let pool = &policy.connection_pool;
        self.requests.set_maximum(pool.max_requests);
        self.retries.set(&policy);
        self.connections
            .set_maximum(pool.max_connections, pool.max_pending_requests);

        self.beginning.bring_in_line(&policy);

        let mut state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut previous = std::mem::take(&mut state.endpoints);
        let mut members = Members::default();
        let others = !state.members.list.is_empty();
        let (now, clock) = (Instant::now(), SystemTime::now());
        for (endpoint, source) in told {
            let Some(address) = endpoint.socket_address(self.key.port) else {
                continue;
            };
            let id = (endpoint.id.clone(), address);
            let learned = previous
                .remove(&id)
                .unwrap_or_else(|| Endpoint::new(id.0.clone(), address, source, self.workers));
            match endpoint.ready_since {
                Some(since) => learned.warming.ready(since, now, clock),
                None if endpoint.health == ToldHealth::Healthy && learned.warming.is_new() && others => {
                    learned.begin_warmup(now);
                }
                None => {}
            }
            state.endpoints.insert(id, Arc::clone(&learned));
            let member = Member {
                endpoint: learned,
                weight: endpoint.weight,
                told: Arc::clone(endpoint),
            };
            match endpoint.health {
                ToldHealth::Healthy => {
                    member.endpoint.restore();
                    members.list.push(member);
                }
                ToldHealth::Unhealthy => members.unhealthy.push(member),
                // Requests in flight finish; its idle connections are of no more use.
                ToldHealth::Draining => {
                    member.endpoint.retire();
                    members.draining.push(member);
                }
            }
        }
        for endpoint in previous.values() {
            endpoint.retire();
        }
        let before = Before {
            policy: &state.policy,
            list: &state.members.list,
            groups: &state.members.groups,
        };
        for unused in members.arrange(&policy, place, Some(&before), self.workers) {
            unused.endpoint.retire();
        }
        members.key = RequestKey::of(&policy.load_balancer);
        // A connection that others give up leads elsewhere as a rule: not to where the key or the place says.
        members.pinned = members.key.is_some() || members.groups.are_several();
        let before = state.policy.outlier_detection.as_ref();
        outlier::settle(before, policy.outlier_detection.as_ref(), &members, self);
        members.renew_shares();
        let members = Arc::new(members);
        state.policy = policy;
        state.members = Arc::clone(&members);
        drop(state);
        self.close_excess(&members);
        members
    }

    /// New connections to the endpoint that is a name go to the next of these addresses of it each. `id` as told.
    pub fn rotate(&self, id: &str, addresses: &[IpAddr]) {
        let state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let of_name = |(known, _): &(&(String, SocketAddr), &Arc<Endpoint>)| known.0 == id;
        for ((_, told), endpoint) in state.endpoints.iter().filter(of_name) {
            let addresses = addresses.iter().map(|address| SocketAddr::new(*address, told.port()));
            endpoint.rotate(addresses.collect());
        }
    }

    /// A lowered connection limit closes idle connections at once; those in use close when they come back.
    fn close_excess(&self, members: &Members) {
        let endpoints = || {
            members
                .list
                .iter()
                .chain(&members.unhealthy)
                .map(|member| &*member.endpoint)
        };
        for _ in 0..self.connections.excess() {
            if !endpoints().any(evict) {
                return;
            }
        }
    }

    /// Limits may have been raised: those who wait for a connection get what is free now.
    pub fn serve_waiting(self: &Arc<Self>) {
        ConnectionQueue::grant_open(self);
        self.connections.dismiss_occupied();
    }

    /// No resource needs this cluster any more.
    pub fn retire(&self) {
        let state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        state.endpoints.values().for_each(|endpoint| endpoint.retire());
    }

    pub fn told(&self) -> (Arc<model::Cluster>, Arc<Members>) {
        let state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&state.policy), Arc::clone(&state.members))
    }

    /// Called ten times a second on the control thread while the cluster is awake: idle connections expire, ejected
    /// endpoints return.
    pub fn sweep(&self, now: Instant) {
        self.wakefulness.sleep();
        let (policy, members, due) = {
            let mut state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            let interval = state
                .policy
                .outlier_detection
                .as_ref()
                .map(|detection| detection.interval);
            let due = interval.is_some_and(|interval| now.saturating_duration_since(state.last_sweep) >= interval);
            if due {
                state.last_sweep = now;
            }
            (Arc::clone(&state.policy), Arc::clone(&state.members), due)
        };
        let all = members.list.iter().chain(&members.unhealthy).chain(&members.draining);
        let mut restless = self.open_connections() > 0;
        if policy.discovery == Discovery::OriginalDestination {
            restless |= self.sweep_destinations(&policy, now);
        }
        for member in all {
            restless |= member.endpoint.sweep(&policy.connection_pool, now);
        }
        if let Some(detection) = policy.outlier_detection.as_ref().filter(|_| due) {
            outlier::sweep(detection, &members, self, now);
        }
        if restless {
            self.wake();
        }
    }

    pub(super) fn clear_gauges(&self) {
        let series = &self.series;
        let gauges = [
            &series.ejected_endpoints,
            &series.endpoints_healthy,
            &series.connections,
            &series.panic,
        ];
        gauges
            .into_iter()
            .chain([&series.active_requests, &series.pending_requests])
            .for_each(|gauge| gauge.set(0.0));
    }

    pub(super) fn add_to_gauges(&self) {
        let (_, members) = self.told();
        let ejected = members
            .list
            .iter()
            .filter(|member| member.endpoint.health.is_ejected())
            .count();
        self.series.ejected_endpoints.increment(ejected as f64);
        self.series
            .endpoints_healthy
            .increment((members.list.len() - ejected) as f64);
        if members.is_panic() {
            self.series.panic.set(1.0);
        }
        self.series.connections.increment(f64::from(self.connections.open()));
        self.series
            .active_requests
            .increment(f64::from(self.requests.current()));
        self.series
            .pending_requests
            .increment(f64::from(self.connections.pending()));
    }

    pub fn open_connections(&self) -> u32 {
        self.connections.open()
    }

    pub fn pending_requests(&self) -> u32 {
        self.connections.pending()
    }

    /// Sent ones and those that wait for a connection; those of HTTP/2 that wait may count twice.
    pub fn requests_in_flight(&self) -> u32 {
        self.requests.current().saturating_add(self.pending_requests())
    }

    /// Runs with the members of the last publish; one ejection of the cluster at a time.
    pub(super) fn with_members(&self, run: impl FnOnce(&Members)) {
        let state = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        run(&state.members);
    }
}
