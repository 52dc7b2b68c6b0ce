//! Runs a case: all peers are up, each answer is checked, then in every round each peer is measured in turn, and another
//! one is first in the next round. For memory each peer starts anew in each round, alone.

use std::path::Path;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::account::{CpuReading, core_busy, resident_bytes};
use crate::cases::{Case, Variant, Work};
use crate::client::{Client, Target};
use crate::figures::{Entrant, Figure, Measured, Round, TOLERATED};
use crate::load::{Generators, Load};
use crate::peers::{Peer, Running};
use crate::settings::Settings;
use crate::upstreams::Upstreams;

/// A sidecar asks for a host at the first request to it; ten thousand rules take a moment.
const READY_LIMIT: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(1);
/// What gives memory back when it has nothing to do has had time to.
const SETTLE: Duration = Duration::from_secs(2);
const IDLE_CONNECTIONS: usize = 1000;

pub struct Bench<'a> {
    pub settings: &'a Settings,
    pub folder: &'a Path,
    pub upstreams: &'a Upstreams,
    pub generators: &'a Generators,
}

/// A peer in a variant.
type Contestant<'a> = (&'a Peer, &'a Variant);

impl Bench<'_> {
    pub fn measure(&self, case: &Case, peers: &[Peer]) -> Outcome<Measured> {
        println!("\n{}: {}", case.name, case.title);
        let contestants: Vec<Contestant<'_>> = case
            .variants
            .iter()
            .flat_map(|variant| peers.iter().map(move |peer| (peer, variant)))
            .filter(|(peer, variant)| peer.can(&variant.plan))
            .filter(|(peer, _)| matches!(case.work, Work::Load(_)) || peer.name != "direct")
            .collect();
        let name = |(peer, variant): Contestant<'_>| format!("{} {}", peer.name, variant.name).trim().to_owned();
        let mut running = Vec::new();
        if let Work::Load(load) = case.work {
            for contestant in &contestants {
                let started = self.start(case, load, *contestant);
                let started = started.map_err(|error| format!("{}: {}: {error}", case.name, name(*contestant)))?;
                self.loaded(load, &started, contestant.1, WARM_UP)
                    .map_err(|error| format!("{}: {}: {error}", case.name, name(*contestant)))?;
                running.push(started);
            }
        }
        let mut entrants: Vec<Entrant> = contestants
            .iter()
            .map(|(peer, variant)| Entrant {
                peer: peer.name,
                variant: variant.name,
                rounds: Vec::new(),
            })
            .collect();
        let total = self.settings.rounds;
        for round in 0..total {
            for turn in 0..contestants.len() {
                let index = (turn + round) % contestants.len();
                let contestant = contestants[index];
                let length = Duration::from_secs(self.settings.seconds);
                let figures = match case.work {
                    Work::Load(load) => self.undisturbed(load, &running[index], contestant.1, length),
                    Work::Memory => self.memory(case, contestant),
                };
                let figures = figures
                    .map_err(|error| format!("{}, round {}: {}: {error}", case.name, round + 1, name(contestant)))?;
                let shown: Vec<String> = figures
                    .iter()
                    .map(|(figure, value)| format!("{} {}", figure.heading(), figure.show(*value)))
                    .collect();
                println!(
                    "  round {} of {total}  {:<24} {}",
                    round + 1,
                    name(contestant),
                    shown.join("  ")
                );
                entrants[index].rounds.push(figures);
            }
        }
        Ok(Measured {
            case: case.name,
            title: case.title,
            entrants,
            checks: Vec::new(),
        })
    }

    /// Once its answers are right.
    fn start(&self, case: &Case, load: Load, (peer, variant): Contestant<'_>) -> Outcome<Running> {
        let folder = self
            .folder
            .join(format!("{}-{}{}", case.name, peer.name, variant.name).replace(' ', "-"));
        std::fs::remove_dir_all(&folder).ok();
        let endpoints = self.upstreams.of(&variant.plan);
        let running = peer.start(self.settings, &folder, &variant.plan, &endpoints)?;
        let (started, target) = (Instant::now(), target(&running, variant));
        while let Err(error) = self.generators.check(self.settings, load, &target) {
            if started.elapsed() > READY_LIMIT {
                return Err(format!("no right answer in {READY_LIMIT:?}: {error}"));
            }
            sleep(Duration::from_millis(50));
        }
        self.generators.check(self.settings, load, &target)?;
        Ok(running)
    }

    /// Again, for `AGAIN` times, when another process took part of the proxies' core meanwhile.
    fn undisturbed(&self, load: Load, running: &Running, variant: &Variant, length: Duration) -> Outcome<Round> {
        let mut round = self.loaded(load, running, variant, length)?;
        for _ in 0..self.settings.again {
            let others = round.get(&Figure::Others).copied().unwrap_or_default();
            if running.accounted.is_empty() || others < TOLERATED {
                break;
            }
            round = self.loaded(load, running, variant, length)?;
        }
        Ok(round)
    }

    fn loaded(&self, load: Load, running: &Running, variant: &Variant, length: Duration) -> Outcome<Round> {
        let target = target(running, variant);
        let (started, core) = (Instant::now(), self.settings.proxy_core);
        let (before, busy_before) = (CpuReading::of(&running.accounted)?, core_busy(core));
        let (tally, resident) = scope(|threads| {
            let work = threads.spawn(|| self.generators.run(self.settings, load, &target, length));
            let mut most = 0;
            while !work.is_finished() {
                most = most.max(resident_bytes(&running.accounted));
                sleep(Duration::from_millis(50));
            }
            (work.join().unwrap_or(Err("the load panicked".to_owned())), most)
        });
        let tally = tally?;
        let spent = CpuReading::of(&running.accounted)?.since(&before);
        let others = core_busy(core).saturating_sub(busy_before).saturating_sub(spent);
        let share = |time: Duration| time.as_secs_f64() / started.elapsed().as_secs_f64();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let mut round = Round::from([
            (Figure::Rate, tally.per_second),
            (Figure::Others, share(others)),
            (Figure::P50, micros(tally.p50)),
            (Figure::P99, micros(tally.p99)),
        ]);
        if !running.accounted.is_empty() {
            let each = micros(spent) / tally.requests.max(1) as f64;
            round.insert(Figure::Cpu, each);
            round.insert(Figure::Busy, share(spent));
            round.insert(Figure::Resident, resident as f64);
        }
        Ok(round)
    }

    fn memory(&self, case: &Case, contestant: Contestant<'_>) -> Outcome<Round> {
        let running = self.start(case, Load::OneConnection, contestant)?;
        let target = target(&running, contestant.1);
        sleep(SETTLE);
        let idle = resident_bytes(&running.accounted);
        // One after the other: upstream connections stay few.
        let mut clients = Vec::with_capacity(IDLE_CONNECTIONS);
        for _ in 0..IDLE_CONNECTIONS {
            let mut client = Client::open(&target)?;
            client.get(&target)?;
            clients.push(client);
        }
        sleep(SETTLE);
        let filled = resident_bytes(&running.accounted);
        // They were all kept.
        clients.iter_mut().try_for_each(|client| client.get(&target))?;
        let each = filled.saturating_sub(idle) as f64 / IDLE_CONNECTIONS as f64;
        Ok(Round::from([
            (Figure::Idle, idle as f64),
            (Figure::PerConnection, each),
        ]))
    }
}

fn target<'a>(running: &Running, variant: &'a Variant) -> Target<'a> {
    Target {
        address: running.address,
        host: variant.plan.host(),
        path: &variant.path,
        body_bytes: variant.body_bytes,
    }
}
