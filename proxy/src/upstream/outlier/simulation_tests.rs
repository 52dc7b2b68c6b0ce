//! Two simulations. In Envoy's mode, the proxy's own detection does the same as Envoy's published algorithm, event for event,
//! on thousands of random traces. In ours, clients of pools with one bad endpoint see fewer errors.

mod envoy;

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tsunagi_proto::model::OutlierDetection;

use super::counters::{Cause, Outcome};
use super::decision::{Event, Return};
use super::testing::{Happened, Pool, detection};
use envoy::{Action, Config, Detector, Kind, Logged};

const TRACES: u64 = 2000;
const STEPS: usize = 600;
/// What endpoints answer, errors of every kind among it.
const CODES: [u16; 10] = [200, 204, 404, 429, 500, 501, 502, 503, 504, 599];

/// What the proxy's detection did, in Envoy's words.
fn logged(happened: &Happened) -> Logged {
    let kind = |cause| match cause {
        Cause::Consecutive5xx => Kind::Consecutive5xx,
        Cause::ConsecutiveGatewayErrors => Kind::GatewayFailure,
        Cause::ConsecutiveLocalOrigin => Kind::LocalOriginFailure,
        Cause::FailedProbe => unreachable!("there are no probes in Envoy's mode"),
    };
    let action = match happened.event {
        Event::Ejected { cause, .. } => Action::Eject(kind(cause)),
        Event::Kept { cause, .. } => Action::Overflow(kind(cause)),
        Event::Returned {
            reason: Return::Time, ..
        } => Action::Uneject,
        other => unreachable!("{other:?} in Envoy's mode"),
    };
    (happened.at.as_millis() as u64, happened.port, action)
}

/// The same settings for both.
fn settings(random: &mut StdRng) -> (OutlierDetection, Config) {
    let mut threshold = || match random.random_range(0..5) {
        0 => 0,
        count => count,
    };
    let (any, gateway, local) = (threshold(), threshold(), threshold());
    let split = random.random_bool(0.4);
    let base = random.random_range(1..40) * 250;
    let config = Config {
        consecutive_5xx: any,
        consecutive_gateway_failure: gateway,
        split_external_local_origin_errors: split,
        consecutive_local_origin_failure: local,
        interval_ms: random.random_range(1..20) * 250,
        base_ejection_time_ms: base,
        max_ejection_time_ms: base + random.random_range(0..6) * base / 2,
        max_ejection_percent: [1, 10, 20, 33, 34, 50, 66, 67, 99, 100][random.random_range(0..10)],
        error_codes: if random.random_bool(0.3) {
            vec![404, 429, 503]
        } else {
            Vec::new()
        },
    };
    let threshold = |count: u64| (count != 0).then_some(count as u32);
    let detection = OutlierDetection {
        consecutive_5xx: threshold(config.consecutive_5xx),
        consecutive_gateway_errors: threshold(config.consecutive_gateway_failure),
        split_local_origin_errors: config.split_external_local_origin_errors,
        consecutive_local_origin_failures: threshold(config.consecutive_local_origin_failure),
        interval: Duration::from_millis(config.interval_ms),
        base_ejection_time: Duration::from_millis(config.base_ejection_time_ms),
        max_ejection_time: Duration::from_millis(config.max_ejection_time_ms),
        max_ejection_percent: config.max_ejection_percent as u32,
        min_health_percent: 0,
        error_statuses: config.error_codes.clone(),
        as_envoy: true,
    };
    (detection, config)
}

/// Both side by side.
struct Pair {
    ours: Pool,
    envoys: Detector,
    hosts: Vec<u16>,
}

impl Pair {
    fn new(random: &mut StdRng) -> Self {
        let (detection, config) = settings(random);
        let hosts: Vec<u16> = (1..=random.random_range(1..12)).collect();
        Self {
            ours: Pool::new(detection, hosts.len()),
            envoys: Detector::new(config, &hosts),
            hosts,
        }
    }

    fn now(&self) -> u64 {
        self.ours.elapsed.as_millis() as u64
    }

    /// An HTTP request that got a connection, or none; `bad`: how likely it goes wrong.
    fn request(&mut self, host: u16, bad: f64, random: &mut StdRng) {
        let now = self.now();
        if random.random_bool(bad * 0.3) {
            self.ours.report(host, Outcome::ConnectFailure);
            return self.envoys.connect_failed(now, host);
        }
        let request = self.ours.endpoint(host).begin();
        request.observe_acquired(Some(self.ours.detection()));
        self.envoys.pool_ready(host);
        match random.random_range(0..10) {
            0 if random.random_bool(bad) => {
                self.ours.answer(request, Outcome::Timeout);
                self.envoys.timeout(now, host);
            }
            1 if random.random_bool(bad) => {
                self.ours.answer(request, Outcome::Reset);
                self.envoys.connect_failed(now, host);
            }
            _ => {
                let good = if random.random_bool(bad) { 2 } else { 0 };
                let code = CODES[if good == 0 {
                    0
                } else {
                    random.random_range(good..CODES.len())
                }];
                self.ours.answer(request, Outcome::Status(code));
                self.envoys.response(now, host, code);
            }
        }
    }

    fn connection(&mut self, host: u16, bad: f64, random: &mut StdRng) {
        let now = self.now();
        if random.random_bool(bad) {
            self.ours.report(host, Outcome::ConnectFailure);
            self.envoys.connect_failed(now, host);
        } else {
            self.ours.report(host, Outcome::Connected);
            self.envoys.connect_success_final(now, host);
        }
    }

    fn change_hosts(&mut self, random: &mut StdRng) {
        let host = random.random_range(1..14);
        match self.hosts.iter().position(|known| *known == host) {
            Some(index) if self.hosts.len() > 1 => drop(self.hosts.remove(index)),
            Some(_) => {}
            None => self.hosts.push(host),
        }
        self.ours.tell(&self.hosts);
        self.envoys.update_hosts(&self.hosts);
    }

    fn sweep(&mut self) {
        self.ours.sweep();
        let now = self.now();
        self.envoys.on_interval_timer(now);
    }
}

/// One trace; returns what both logged.
fn run(seed: u64) -> (Vec<Logged>, Vec<Logged>) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pair = Pair::new(&mut random);
    let interval = pair.ours.detection().interval;
    let mut next_sweep = interval;
    let tcp = random.random_bool(0.2);
    // Some are mostly well, some mostly fail, and that changes.
    let mut bad = [0.0; 14];
    for _ in 0..STEPS {
        let mut time = Duration::from_millis(random.random_range(0..400));
        while pair.ours.elapsed + time >= next_sweep {
            time -= next_sweep - pair.ours.elapsed;
            pair.ours.elapsed = next_sweep;
            pair.sweep();
            next_sweep += interval;
        }
        pair.ours.pass(time);
        match random.random_range(0..50) {
            0 => bad[random.random_range(0..14)] = [0.0, 0.2, 0.7, 1.0][random.random_range(0..4)],
            1 => pair.change_hosts(&mut random),
            _ => {
                // Ejected ones as well: requests in flight end.
                let host = pair.hosts[random.random_range(0..pair.hosts.len())];
                let bad = bad[usize::from(host)];
                if tcp {
                    pair.connection(host, bad, &mut random);
                } else {
                    pair.request(host, bad, &mut random);
                }
            }
        }
    }
    (pair.ours.happened.iter().map(logged).collect(), pair.envoys.log)
}

#[test]
fn in_envoys_mode_every_event_is_envoys() {
    let (mut ejected, mut kept, mut returned) = (0, 0, 0);
    for seed in 0..TRACES {
        let (mut ours, mut envoys) = run(seed);
        for (_, _, action) in &envoys {
            match action {
                Action::Eject(_) => ejected += 1,
                Action::Overflow(_) => kept += 1,
                Action::Uneject => returned += 1,
            }
        }
        // A sweep visits hosts in no order that is promised.
        ours.sort();
        envoys.sort();
        assert_eq!(ours, envoys, "trace {seed}");
    }
    println!("{TRACES} traces: {ejected} ejections, {kept} overflows, {returned} returns, all equal");
    assert!(
        ejected > 10_000 && kept > 10_000 && returned > 10_000,
        "the traces say too little"
    );
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// From the beginning to the end.
    Always,
    /// Bad for 45 seconds of every 90.
    HalfTheTime,
    /// Bad for the first minute.
    FirstMinute,
}

impl Fault {
    fn is_on(self, elapsed: Duration) -> bool {
        match self {
            Self::Always => true,
            Self::HalfTheTime => elapsed.as_secs() % 90 < 45,
            Self::FirstMinute => elapsed.as_secs() < 60,
        }
    }
}

/// Half an hour of 50 requests a second, of which none is repeated, with one bad endpoint: how many clients see an error.
fn errors_seen(endpoints: usize, fault: Fault, as_envoy: bool) -> u32 {
    let mut pool = Pool::new(
        OutlierDetection {
            as_envoy,
            ..detection()
        },
        endpoints,
    );
    let mut errors = 0;
    for request in 1..=50 * 60 * 30u32 {
        pool.pass(Duration::from_millis(20));
        let chosen = pool.choose();
        let fails = chosen.endpoint.address.port() == 1 && fault.is_on(pool.elapsed);
        errors += u32::from(fails);
        pool.answer(chosen, Outcome::Status(if fails { 503 } else { 200 }));
        if request % (50 * 10) == 0 {
            pool.sweep();
        }
    }
    errors
}

#[test]
fn clients_see_fewer_errors_than_with_envoys_rules() {
    println!("One bad endpoint, 90,000 requests: errors that clients see with the default settings");
    println!("{:>10} {:>14} {:>8} {:>8}", "endpoints", "bad", "Envoy's", "ours");
    for endpoints in [2, 3, 5, 9, 10, 15, 20] {
        for fault in [Fault::Always, Fault::HalfTheTime, Fault::FirstMinute] {
            let (theirs, ours) = (
                errors_seen(endpoints, fault, true),
                errors_seen(endpoints, fault, false),
            );
            println!("{endpoints:>10} {:>14} {theirs:>8} {ours:>8}", format!("{fault:?}"));
            if endpoints < 10 {
                assert!(ours * 50 < theirs, "a small pool: {ours} of {theirs}");
            } else {
                assert!(ours <= theirs, "{ours} of {theirs}");
            }
            if endpoints >= 10 && matches!(fault, Fault::Always) {
                assert!(
                    ours * 3 < theirs,
                    "one probe instead of five errors: {ours} of {theirs}"
                );
            }
        }
    }
}
