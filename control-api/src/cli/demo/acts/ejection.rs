//! Act 4: an endpoint answers 503, is ejected after the fifth in a row, rests, and comes back through one probe.
//!
//! How many requests reach the endpoint is what the endpoint itself counts. One client, one request at a time, drives it to
//! its ejection, so that exactly five clients see an error. For the probe it is made slow: while that one request is under
//! way, the others show that it is the only one.

use std::time::{Duration, Instant};

use super::{
    super::{
        super::CliError,
        connection::Connection,
        mesh::{Endpoint, Mesh},
        numbers::{count, time},
        rules,
        screen::{Rows, Screen},
        traffic::{Load, Tally, Traffic, request},
    },
    CONNECTIONS, Checks, restore,
};

const FAILING: &str = "v1-b";
const HEADER: &[&str] = &["STEP", "REQUESTS", "TO v1-b", "ERRORS SEEN"];
/// `consecutiveErrors`
const ERRORS: u64 = 5;
/// `baseEjectionTime` of the changed rule: no request before that.
const REST: Duration = Duration::from_secs(2);
/// Well inside the rest.
const WATCHED: Duration = Duration::from_millis(1_200);
/// The rest, rounded up to the next sweep, and time for the probe on a busy machine.
const RETURN_LIMIT: Duration = Duration::from_secs(8);
const HEALTHY_REQUESTS: u64 = 300;
/// One of three endpoints of nine tenths of the requests; far fewer would mean that it is not back.
const BACK_REQUESTS: u64 = 1_000;
const BACK_AT_LEAST: u64 = 100;
/// By then a third of nine tenths of them has reached it five times; chance forbids it once in 10^50 runs.
const TRIES: u64 = 500;
const SLOW: &str = "delay=250ms";

pub(in super::super) async fn play(mesh: &Mesh, screen: &mut Screen, checks: &mut Checks) -> Result<(), CliError> {
    let rule = rules::destination_rule(&rules::SHORT_EJECTION);
    mesh.apply("the changed DestinationRule", &rule).await?;
    screen.note("For this act the rule says `interval: 1s, baseEjectionTime: 2s` instead of 30s.")?;
    let mut act = Act {
        mesh,
        endpoint: mesh.endpoint(FAILING)?,
        rows: Vec::new(),
    };
    act.healthy(screen).await?;
    let failed = act.failing(screen).await?;
    let ejected_at = Instant::now();
    let resting = act.resting(screen).await?;
    let watched = ejected_at.elapsed();
    let cause = act.cause().await?;
    let probe = act.probe(screen, ejected_at).await?;
    let back = act.back(screen).await?;
    let rows = act.rows;
    screen.table(Rows { header: HEADER, rows })?;

    let seen = format!("{failed} errors in a row ejected it ({cause}); clients saw the endpoint's own 503 (no flag)");
    checks.check(screen, failed == ERRORS && !cause.is_empty(), &seen)?;
    // A machine that was stopped for so long shows the return already.
    let none = resting.reached == 0 || watched >= REST;
    let rest = format!(
        "{} of the {} requests after that reached it",
        resting.reached,
        count(resting.requests)
    );
    checks.check(screen, none && resting.errors == 0, &rest)?;
    let alone = match probe {
        Some(probe) => format!(
            "it came back after {} through {} probe",
            time(probe.after),
            probe.at_once
        ),
        None => format!("it did not come back within {}", time(RETURN_LIMIT)),
    };
    checks.check(screen, probe.is_some_and(|probe| probe.at_once == 1), &alone)?;
    let share = format!("then {} of {} requests", count(back.reached), count(back.requests));
    checks.check(screen, back.reached >= BACK_AT_LEAST && back.errors == 0, &share)?;
    restore(mesh, screen).await
}

struct Act<'a> {
    mesh: &'a Mesh,
    endpoint: &'a Endpoint,
    rows: Vec<Vec<String>>,
}

/// One step of the story.
#[derive(Clone, Copy)]
struct Step {
    requests: u64,
    /// The endpoint's own count.
    reached: u64,
    errors: u64,
}

#[derive(Clone, Copy)]
struct Probe {
    after: Duration,
    /// Requests that reached the endpoint before the first one was answered.
    at_once: u64,
}

impl Act<'_> {
    async fn healthy(&mut self, screen: &mut Screen) -> Result<(), CliError> {
        self.endpoint.behave("").await?;
        let step = self.watch(screen, "all is well", HEALTHY_REQUESTS, None).await?;
        self.end(screen, "all is well", step)
    }

    /// One request at a time until the endpoint failed as often as the rule lets it. How often clients saw it.
    async fn failing(&mut self, screen: &mut Screen) -> Result<u64, CliError> {
        self.endpoint.behave("status=503").await?;
        let mut connection = Connection::open(self.mesh.sidecar.outbound).await?;
        let mut tally = Tally::default();
        while tally.endpoint(FAILING) < ERRORS && tally.requests() < TRIES {
            tally.count(&connection.send(request(None)).await?);
        }
        let step = Step {
            requests: tally.requests(),
            reached: self.endpoint.counts().await?.received,
            errors: tally.failed(),
        };
        self.end(screen, "v1-b answers 503", step)?;
        Ok(step.errors)
    }

    async fn resting(&mut self, screen: &mut Screen) -> Result<Step, CliError> {
        let name = "ejected";
        let step = self.watch(screen, name, u64::MAX, Some(WATCHED)).await?;
        self.end(screen, name, step)?;
        Ok(step)
    }

    /// The endpoint answers well again, but slowly. `None`: nothing reached it in time.
    async fn probe(&mut self, screen: &mut Screen, ejected_at: Instant) -> Result<Option<Probe>, CliError> {
        let name = "v1-b answers 200, slowly: the probe";
        self.endpoint.behave(SLOW).await?;
        let mut traffic = self.traffic(u64::MAX);
        let mut counts = self.endpoint.counts().await?;
        while counts.answered == 0 && ejected_at.elapsed() < RETURN_LIMIT && !traffic.ended_within_a_tick().await {
            counts = self.endpoint.counts().await?;
            let tally = traffic.tally();
            self.draw(screen, name, Step::new(&tally, counts.received))?;
        }
        let after = ejected_at.elapsed();
        let at_once = counts.received_by_first_answer;
        self.endpoint.behave("").await?;
        let tally = traffic.stop().await;
        self.end(screen, name, Step::new(&tally, at_once))?;
        Ok((counts.answered > 0).then_some(Probe { after, at_once }))
    }

    async fn back(&mut self, screen: &mut Screen) -> Result<Step, CliError> {
        let name = "back";
        self.endpoint.behave("").await?;
        let step = self.watch(screen, name, BACK_REQUESTS, None).await?;
        self.end(screen, name, step)?;
        Ok(step)
    }

    fn traffic(&self, requests: u64) -> Traffic {
        Traffic::start(Load {
            outbound: self.mesh.sidecar.outbound,
            requests,
            connections: CONNECTIONS,
            version: None,
        })
    }

    /// Shows traffic until it ends, or is stopped after `limit`.
    async fn watch(
        &self,
        screen: &mut Screen,
        name: &str,
        requests: u64,
        limit: Option<Duration>,
    ) -> Result<Step, CliError> {
        let before = self.endpoint.counts().await?.received;
        let started = Instant::now();
        let mut traffic = self.traffic(requests);
        while !traffic.ended_within_a_tick().await && limit.is_none_or(|limit| started.elapsed() < limit) {
            let reached = self.endpoint.counts().await?.received - before;
            self.draw(screen, name, Step::new(&traffic.tally(), reached))?;
        }
        let tally = traffic.stop().await;
        let reached = self.endpoint.counts().await?.received - before;
        Ok(Step::new(&tally, reached))
    }

    fn draw(&self, screen: &mut Screen, name: &str, step: Step) -> Result<(), CliError> {
        let mut rows = self.rows.clone();
        rows.push(step.row(name));
        Ok(screen.draw(Rows { header: HEADER, rows })?)
    }

    fn end(&mut self, screen: &mut Screen, name: &str, step: Step) -> Result<(), CliError> {
        self.draw(screen, name, step)?;
        self.rows.push(step.row(name));
        Ok(())
    }

    /// Why the sidecar says it ejected an endpoint of v1; empty if it ejected none.
    async fn cause(&self) -> Result<&'static str, CliError> {
        for cause in ["consecutive_5xx", "consecutive_gateway_errors"] {
            let labels = [r#"destination_subset="v1""#, &format!(r#"cause="{cause}""#)];
            if self.mesh.metric("tsunagi_outlier_ejections_total", &labels).await? > 0.0 {
                return Ok(cause);
            }
        }
        Ok("")
    }
}

impl Step {
    fn new(tally: &Tally, reached: u64) -> Self {
        Self {
            requests: tally.requests(),
            reached,
            errors: tally.failed(),
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let numbers = [self.requests, self.reached, self.errors].map(count);
        std::iter::once(name.to_owned()).chain(numbers).collect()
    }
}
