//! Envoy's outlier detection, told a second time from what Envoy publishes of it (`outlier.rst`, the comments of
//! `outlier_detection.proto`, the order of steps of `outlier_detection_impl.cc`): hosts by name, milliseconds, percentages in
//! floating point. It shares nothing with the proxy's, so that two mistakes would have to be the same to go unseen.
//! Success rates and failure percentages are left out, as DestinationRule leaves them.

use std::collections::BTreeMap;

#[derive(Clone, Debug)]
pub struct Config {
    pub consecutive_5xx: u64,
    pub consecutive_gateway_failure: u64,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failure: u64,
    pub interval_ms: u64,
    pub base_ejection_time_ms: u64,
    pub max_ejection_time_ms: u64,
    pub max_ejection_percent: u64,
    /// The error matcher of the cluster's HTTP options, on `:status`.
    pub error_codes: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Consecutive5xx,
    GatewayFailure,
    LocalOriginFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    Eject(Kind),
    Overflow(Kind),
    Uneject,
}

/// What goes to the event log (and, of overflows, to the statistics): when, which host, what.
pub type Logged = (u64, u16, Action);

#[derive(Clone, Debug, Default)]
struct Monitor {
    failed_outlier_check: bool,
    consecutive_5xx: u64,
    consecutive_gateway_failure: u64,
    consecutive_local_origin_failure: u64,
    eject_time_backoff: u64,
    last_ejection: Option<u64>,
    last_unejection: Option<u64>,
}

pub struct Detector {
    config: Config,
    monitors: BTreeMap<u16, Monitor>,
    ejections_active: u64,
    pub log: Vec<Logged>,
}

impl Detector {
    pub fn new(config: Config, hosts: &[u16]) -> Self {
        Self {
            config,
            monitors: hosts.iter().map(|host| (*host, Monitor::default())).collect(),
            ejections_active: 0,
            log: Vec::new(),
        }
    }

    pub fn update_hosts(&mut self, hosts: &[u16]) {
        let gone: Vec<u16> = self
            .monitors
            .keys()
            .copied()
            .filter(|host| !hosts.contains(host))
            .collect();
        for host in gone {
            if self.monitors[&host].failed_outlier_check {
                self.ejections_active -= 1;
            }
            self.monitors.remove(&host);
        }
        for host in hosts {
            self.monitors.entry(*host).or_default();
        }
    }

    /// An HTTP request got a connection.
    pub fn pool_ready(&mut self, host: u16) {
        if self.config.split_external_local_origin_errors {
            self.monitor(host).consecutive_local_origin_failure = 0;
        }
    }

    pub fn response(&mut self, now: u64, host: u16, code: u16) {
        let listed = self.config.error_codes.contains(&code);
        let code = match (self.config.error_codes.is_empty(), listed) {
            (true, _) => code,
            (false, true) if code >= 500 => code,
            (false, true) => 500,
            (false, false) => 200,
        };
        self.http_code(now, host, code);
    }

    /// A TCP connection stands, and nothing is known of what is on it.
    pub fn connect_success_final(&mut self, now: u64, host: u16) {
        if self.config.split_external_local_origin_errors {
            self.monitor(host).consecutive_local_origin_failure = 0;
        } else {
            self.http_code(now, host, 200);
        }
    }

    pub fn connect_failed(&mut self, now: u64, host: u16) {
        self.local_origin_failure(now, host, 503);
    }

    pub fn timeout(&mut self, now: u64, host: u16) {
        self.local_origin_failure(now, host, 504);
    }

    fn local_origin_failure(&mut self, now: u64, host: u16, code: u16) {
        if !self.config.split_external_local_origin_errors {
            return self.http_code(now, host, code);
        }
        let threshold = self.config.consecutive_local_origin_failure;
        let monitor = self.monitor(host);
        monitor.consecutive_local_origin_failure += 1;
        if monitor.consecutive_local_origin_failure == threshold {
            self.on_consecutive_error(now, host, Kind::LocalOriginFailure);
        }
    }

    fn http_code(&mut self, now: u64, host: u16, code: u16) {
        let (gateway_threshold, threshold) = (self.config.consecutive_gateway_failure, self.config.consecutive_5xx);
        if !(500..=599).contains(&code) {
            let monitor = self.monitor(host);
            monitor.consecutive_5xx = 0;
            monitor.consecutive_gateway_failure = 0;
            return;
        }
        if [502, 503, 504].contains(&code) {
            let monitor = self.monitor(host);
            monitor.consecutive_gateway_failure += 1;
            if monitor.consecutive_gateway_failure == gateway_threshold {
                self.on_consecutive_error(now, host, Kind::GatewayFailure);
            }
        } else {
            self.monitor(host).consecutive_gateway_failure = 0;
        }
        let monitor = self.monitor(host);
        monitor.consecutive_5xx += 1;
        if monitor.consecutive_5xx == threshold {
            self.on_consecutive_error(now, host, Kind::Consecutive5xx);
        }
    }

    fn on_consecutive_error(&mut self, now: u64, host: u16, kind: Kind) {
        if self.monitors[&host].failed_outlier_check {
            return;
        }
        self.eject(now, host, kind);
        let monitor = self.monitor(host);
        match kind {
            Kind::Consecutive5xx => monitor.consecutive_5xx = 0,
            Kind::GatewayFailure => monitor.consecutive_gateway_failure = 0,
            Kind::LocalOriginFailure => monitor.consecutive_local_origin_failure = 0,
        }
    }

    fn eject(&mut self, now: u64, host: u16, kind: Kind) {
        let ejected_percent = 100.0 * (self.ejections_active as f64 + 1.0) / self.monitors.len() as f64;
        if ejected_percent > self.config.max_ejection_percent.min(100) as f64 {
            self.log.push((now, host, Action::Overflow(kind)));
            return;
        }
        self.ejections_active += 1;
        let (base, max) = (self.config.base_ejection_time_ms, self.config.max_ejection_time_ms);
        let monitor = self.monitor(host);
        monitor.failed_outlier_check = true;
        monitor.last_ejection = Some(now);
        if monitor.eject_time_backoff * base < max + base {
            monitor.eject_time_backoff += 1;
        }
        self.log.push((now, host, Action::Eject(kind)));
    }

    pub fn on_interval_timer(&mut self, now: u64) {
        let config = self.config.clone();
        let mut returned = Vec::new();
        for (host, monitor) in &mut self.monitors {
            let Some(ejected_at) = monitor.last_ejection.filter(|_| monitor.failed_outlier_check) else {
                continue;
            };
            let time = (config.base_ejection_time_ms * monitor.eject_time_backoff).min(config.max_ejection_time_ms);
            if time <= now - ejected_at {
                monitor.failed_outlier_check = false;
                monitor.consecutive_5xx = 0;
                monitor.consecutive_gateway_failure = 0;
                monitor.consecutive_local_origin_failure = 0;
                monitor.last_unejection = Some(now);
                returned.push((now, *host, Action::Uneject));
            }
        }
        self.ejections_active -= returned.len() as u64;
        self.log.extend(returned);
        for monitor in self
            .monitors
            .values_mut()
            .filter(|monitor| !monitor.failed_outlier_check)
        {
            if monitor.last_unejection.is_some_and(|at| now - at >= config.interval_ms) {
                monitor.eject_time_backoff = monitor.eject_time_backoff.saturating_sub(1);
            }
        }
    }

    fn monitor(&mut self, host: u16) -> &mut Monitor {
        self.monitors.get_mut(&host).expect("a host of the cluster")
    }
}
