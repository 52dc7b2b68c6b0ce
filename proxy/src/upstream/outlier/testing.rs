//! A pool on a clock of its own, for the tests of this room: requests are told of one by one, and every event is kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tsunagi_proto::model::{self, LoadBalancer, OutlierDetection};

use super::counters::Outcome;
use super::decision::{self, Event};
use super::{LateOutcome, Standing, count, count_late};
use crate::upstream::testing::{cluster, endpoint, policy};
use crate::upstream::{ActiveRequest, Caller, Cluster, Endpoint, Members, choose};

/// As a DestinationRule with an empty `outlierDetection` has it.
pub(super) fn detection() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: Some(5),
        consecutive_gateway_errors: None,
        split_local_origin_errors: false,
        consecutive_local_origin_failures: None,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 10,
        min_health_percent: 0,
        error_statuses: Vec::new(),
        as_envoy: false,
    }
}

/// What happened when, to the endpoint on which port.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Happened {
    pub at: Duration,
    pub port: u16,
    pub event: Event,
}

pub(super) struct Pool {
    pub policy: Arc<model::Cluster>,
    pub cluster: Arc<Cluster>,
    pub members: Arc<Members>,
    pub happened: Vec<Happened>,
    start: Instant,
    pub elapsed: Duration,
}

impl Pool {
    /// Endpoints on ports 1, 2, 3 …
    pub fn new(detection: OutlierDetection, endpoints: usize) -> Self {
        let policy = policy(LoadBalancer::RoundRobin, Some(detection));
        let (cluster, members) = cluster(&policy, &vec![1; endpoints]);
        Self {
            policy,
            cluster,
            members,
            happened: Vec::new(),
            start: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    pub fn detection(&self) -> &OutlierDetection {
        self.policy.outlier_detection.as_ref().unwrap()
    }

    /// A push of these endpoints.
    pub fn tell(&mut self, ports: &[u16]) {
        let told: Vec<_> = ports.iter().map(|port| endpoint(*port, 1)).collect();
        self.members = self.cluster.reconcile(Arc::clone(&self.policy), &told);
    }

    pub fn endpoint(&self, port: u16) -> &Arc<Endpoint> {
        let mut all = self.members.list.iter().map(|member| &member.endpoint);
        all.find(|endpoint| endpoint.address.port() == port).unwrap()
    }

    pub fn standing(&self, port: u16) -> Standing {
        self.endpoint(port).health.standing()
    }

    pub fn choose(&self) -> ActiveRequest {
        choose(&self.policy, &self.members, &Caller::default(), &mut || 0).expect("an endpoint")
    }

    /// The request that probes.
    pub fn probe(&self) -> ActiveRequest {
        let mut chosen = (0..2 * self.members.list.len()).map(|_| self.choose());
        chosen.find(|request| request.probe).expect("a probe")
    }

    pub fn report(&mut self, port: u16, outcome: Outcome) {
        let request = self.endpoint(port).begin();
        self.answer(request, outcome);
    }

    pub fn fail(&mut self, port: u16, times: usize) {
        (0..times).for_each(|_| self.report(port, Outcome::Status(500)));
    }

    pub fn answer(&mut self, mut request: ActiveRequest, outcome: Outcome) {
        self.begin(&mut request, outcome);
    }

    /// How it began; it goes on.
    pub fn begin(&mut self, request: &mut ActiveRequest, outcome: Outcome) {
        let policy = Arc::clone(&self.policy);
        let detection = policy.outlier_detection.as_ref().unwrap();
        request.probed = std::mem::take(&mut request.probe);
        let seen = count(&request.endpoint.health, detection, outcome, request.probed);
        self.judge(detection, request, seen);
    }

    pub fn end(&mut self, port: u16, began: Outcome, outcome: LateOutcome) {
        let request = self.endpoint(port).begin();
        self.end_of(&request, began, outcome);
    }

    pub fn end_of(&mut self, request: &ActiveRequest, began: Outcome, outcome: LateOutcome) {
        let policy = Arc::clone(&self.policy);
        let detection = policy.outlier_detection.as_ref().unwrap();
        let seen = count_late(&request.endpoint.health, detection, began, outcome, request.probed);
        self.judge(detection, request, seen);
    }

    fn judge(&mut self, detection: &OutlierDetection, request: &ActiveRequest, seen: Option<decision::Seen>) {
        let Some(seen) = seen else { return };
        let (members, now) = (Arc::clone(&self.members), self.now());
        let mut tell = self.teller();
        decision::judge(&members, detection, &request.endpoint, seen, now, &mut tell);
    }

    /// So much later.
    pub fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }

    pub fn sweep(&mut self) {
        let (policy, members, now) = (Arc::clone(&self.policy), Arc::clone(&self.members), self.now());
        let detection = policy.outlier_detection.as_ref().unwrap();
        decision::sweep(detection, &members, now, &mut self.teller());
    }

    /// Sweeps so many seconds from the beginning on.
    pub fn sweep_at(&mut self, seconds: u64) {
        self.elapsed = Duration::from_secs(seconds);
        self.sweep();
    }

    fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    fn teller(&mut self) -> impl FnMut(&Endpoint, Event) {
        let (at, happened) = (self.elapsed, &mut self.happened);
        move |endpoint, event| {
            happened.push(Happened {
                at,
                port: endpoint.address.port(),
                event,
            });
        }
    }
}
