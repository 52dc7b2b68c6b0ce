//! Keeps this proxy in touch with its control plane, on the control thread: connects, reconnects, feeds the session and
//! hands its updates to the sink. Called by `app`.
//!
//! Nothing here can stop traffic: while there is no control plane, what is in force stays in force, and a start without
//! one serves from what was remembered on disk.

use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::Uri;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tsunagi_proto::wire::discovery::DeltaDiscoveryResponse;

use super::backoff::Backoff;
use super::link::{Event, Link};
use super::outage::Outage;
use super::reporter::Reporter;
use super::saver::Saver;
use super::session::{Identity, Session};
use super::sink::Sink;
use crate::drain::{Callers, Drain};
use crate::snapshot::Update;
use crate::telemetry::{Telemetry, UpdateResult};

/// A session that lasted this long was healthy: the next attempt does not wait long.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);
/// After a start from the remembered config, the control plane has this long to say what changed since.
const SETTLE_TIME: Duration = Duration::from_secs(1);
const EXPIRY_INTERVAL: Duration = Duration::from_secs(10);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `http://host:port`.
    pub control_plane: Uri,
    pub node_id: String,
    pub namespace: String,
    pub service_account: String,
    pub labels: Vec<(String, String)>,
    /// Of its machine; empty: not known.
    pub node_name: String,
    /// This machine's addresses, without loopback.
    pub instance_ips: Vec<IpAddr>,
    /// Where the last config is kept; `None`: nowhere.
    pub state_dir: Option<PathBuf>,
}

/// The client of the control plane.
pub struct Client<S> {
    control_plane: Uri,
    session: Session,
    link: Link,
    backoff: Backoff,
    outage: Outage,
    saver: Saver,
    reporter: Reporter,
    sink: S,
    telemetry: Telemetry,
    drain: Drain,
    /// The control plane is to tell callers.
    leaving: bool,
    /// The remembered config is in force, and until then the control plane may still replace it.
    settles_at: Option<Instant>,
}

impl<S: Sink> Client<S> {
    /// Runs until `shutdown`, then remembers what is held. `wants` brings the hosts that the data path lacks. When the
    /// proxy leaves, `drain` learns what the control plane says of those who call it.
    /// Dropping the future ends the connection, and may lose the last second of what would be remembered.
    pub async fn run(
        config: ClientConfig,
        wants: mpsc::Receiver<String>,
        sink: S,
        telemetry: Telemetry,
        drain: Drain,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut client = Self::new(config, sink, telemetry, drain);
        client.restore();
        client.until(shutdown, wants).await;
        client.telemetry.set_control_plane_connected(false);
        client.saver.finish(&mut client.session).await;
    }

    fn new(config: ClientConfig, sink: S, telemetry: Telemetry, drain: Drain) -> Self {
        let identity = Identity {
            node_id: config.node_id,
            namespace: config.namespace,
            service_account: config.service_account,
            labels: config.labels,
            node_name: config.node_name,
            instance_ips: config.instance_ips,
        };
        let saver = Saver::new(config.state_dir.as_deref(), &identity);
        Self {
            control_plane: config.control_plane,
            session: Session::new(identity),
            link: Link::Waiting(Instant::now()),
            backoff: Backoff::default(),
            outage: Outage::default(),
            saver,
            reporter: Reporter::default(),
            sink,
            telemetry,
            drain,
            leaving: false,
            settles_at: None,
        }
    }

    /// A start without a control plane serves from this.
    fn restore(&mut self) {
        if let Some(remembered) = self.saver.load()
            && let Some(update) = self.session.restore(remembered, Instant::now())
        {
            tracing::info!(
                version = update.version,
                hosts = update.hosts.len(),
                "serving from the remembered config"
            );
            self.put_in_force(update);
            self.settles_at = Some(Instant::now() + SETTLE_TIME);
        }
    }

    /// What is in force is what there is to go by.
    fn settle(&mut self) {
        self.settles_at = None;
        self.sink.settled();
    }

    async fn until(&mut self, shutdown: impl Future<Output = ()>, mut wants: mpsc::Receiver<String>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut expiry = every(EXPIRY_INTERVAL);
        let mut idle = every(IDLE_INTERVAL);
        let mut report = every(REPORT_INTERVAL);
        loop {
            tokio::select! {
                () = &mut shutdown => return,
                () = self.drain.leaving(), if !self.leaving => self.leave(),
                event = self.link.event(self.session.has_request()) => self.on_event(event),
                Some(fqdn) = wants.recv() => self.want(fqdn, &mut wants),
                () = self.saver.time_to_save() => self.saver.save(&mut self.session),
                () = reach(self.settles_at) => self.settle(),
                _ = expiry.tick() => {
                    let expired = self.session.expire(Instant::now());
                    self.forget(&expired);
                }
                _ = idle.tick() => self.give_up_idle(),
                _ = report.tick() => self.report().await,
            }
            self.say();
            self.saver.note(&self.session, Instant::now());
        }
    }

    async fn report(&mut self) {
        self.reporter.check().await;
        if let Some(channel) = self.link.channel() {
            let seen = self.sink.seen();
            self.reporter.report(channel, self.session.identity(), &seen);
        }
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.session.leave();
        // Callers are not to wait for the next attempt.
        if let Link::Waiting(until) = &mut self.link {
            *until = Instant::now();
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::TimeToConnect => {
                self.session.connected();
                self.link = Link::open(&self.control_plane, self.session.request());
            }
            Event::Opened(stream) => {
                tracing::info!(control_plane = %self.control_plane, "connected to the control plane");
                self.telemetry.set_control_plane_connected(true);
                self.link = Link::Open(stream);
                self.reporter.connected();
            }
            Event::Response(response) => self.on_response(response),
            // `say` follows.
            Event::Writable => {}
            Event::Lost { reason, lasted } => self.on_lost(&reason, lasted),
        }
    }

    fn on_response(&mut self, response: DeltaDiscoveryResponse) {
        let outcome = self.session.response(response, Instant::now());
        if let Some(callers) = outcome.callers {
            self.drain.tell(callers);
        }
        if let Some(update) = outcome.update {
            self.put_in_force(update);
            self.settle();
        }
        let result = if outcome.refused {
            UpdateResult::Refused
        } else {
            UpdateResult::Applied
        };
        self.telemetry.count_config_update(result);
    }

    fn on_lost(&mut self, reason: &str, lasted: Duration) {
        self.session.disconnected();
        // A stream that broke is opened again, perhaps by another replica; where none opens, nobody can be asked.
        if self.leaving && matches!(self.link, Link::Opening(_)) {
            self.drain.tell(Callers::NotTold {
                reason: format!("there is no control plane: {reason}"),
            });
        }
        if self.settles_at.is_some() {
            self.settle();
        }
        self.telemetry.set_control_plane_connected(false);
        if lasted >= HEALTHY_AFTER {
            self.backoff.reset();
            self.outage.over();
        }
        let (now, retry_in) = (Instant::now(), self.backoff.failed(rand::random()));
        let control_plane = &self.control_plane;
        if self.outage.is_news(reason, now) {
            tracing::warn!(%control_plane, reason, ?retry_in, "no control plane: serving on with what is in force");
        } else {
            tracing::debug!(%control_plane, reason, ?retry_in, "no control plane");
        }
        self.link = Link::Waiting(now + retry_in);
    }

    /// Only when this has returned is the answer taken from the session.
    fn put_in_force(&mut self, update: Update) {
        let version = update.version.clone();
        self.sink.apply(update);
        self.telemetry.set_config_version(&version);
        let surplus = self.sink.surplus();
        self.give_up(&surplus);
    }

    fn want(&mut self, fqdn: String, wants: &mut mpsc::Receiver<String>) {
        let now = Instant::now();
        let mut evicted = self.session.want(&fqdn, now);
        // Those that have come together are asked for together.
        while let Ok(fqdn) = wants.try_recv() {
            evicted.extend(self.session.want(&fqdn, now));
        }
        self.forget(&evicted);
    }

    fn give_up_idle(&mut self) {
        let idle = self.sink.idle();
        self.give_up(&idle);
    }

    fn give_up(&mut self, fqdns: &[String]) {
        for fqdn in fqdns {
            self.session.unwant(fqdn);
        }
        self.forget(fqdns);
    }

    fn forget(&mut self, fqdns: &[String]) {
        if !fqdns.is_empty() {
            self.sink.forget(fqdns);
        }
    }

    /// Sends what there is to say, as far as there is room.
    fn say(&mut self) {
        while self.link.is_writable()
            && let Some(request) = self.session.request()
        {
            self.link.send(request);
        }
    }
}

async fn reach(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
