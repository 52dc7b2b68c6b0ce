//! What a round yields, medians over rounds, and ratios: made within each round first, since what disturbs a machine
//! disturbs a whole round.

use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    Cpu,
    Rate,
    Busy,
    Others,
    P50,
    P99,
    Resident,
    Idle,
    PerConnection,
}

/// Of the proxies' core, for everything that is not measured: the kernel, proxies that wait for their turn.
pub const TOLERATED: f64 = 0.05;

pub type Round = BTreeMap<Figure, f64>;

/// One peer in one variant of a case.
pub struct Entrant {
    pub peer: &'static str,
    pub variant: &'static str,
    pub rounds: Vec<Round>,
}

pub struct Measured {
    pub case: &'static str,
    pub title: &'static str,
    pub entrants: Vec<Entrant>,
    pub checks: Vec<Check>,
}

/// What Tsunagi has to be.
pub struct Check {
    pub figure: Figure,
    pub against: Against,
    pub bound: Bound,
}

pub enum Against {
    Peer(&'static str),
    /// Its own variant, and the one that it is divided by.
    Variants(&'static str, &'static str),
    /// The figure itself.
    Nothing,
}

pub enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

pub struct Verdict {
    pub said: String,
    pub value: f64,
    pub passed: bool,
}

impl Figure {
    pub const ALL: [Figure; 9] = [
        Figure::Cpu,
        Figure::Rate,
        Figure::Busy,
        Figure::Others,
        Figure::P50,
        Figure::P99,
        Figure::Resident,
        Figure::Idle,
        Figure::PerConnection,
    ];

    pub fn key(self) -> &'static str {
        match self {
            Figure::Cpu => "cpu_microseconds_a_request",
            Figure::Rate => "requests_a_second",
            Figure::Busy => "proxy_core_busy",
            Figure::Others => "proxy_core_taken_by_others",
            Figure::P50 => "latency_p50_microseconds",
            Figure::P99 => "latency_p99_microseconds",
            Figure::Resident => "resident_bytes_under_load",
            Figure::Idle => "resident_bytes_idle",
            Figure::PerConnection => "resident_bytes_per_idle_connection",
        }
    }

    pub fn heading(self) -> &'static str {
        match self {
            Figure::Cpu => "CPU us/req",
            Figure::Rate => "req/s",
            Figure::Busy => "busy",
            Figure::Others => "others",
            Figure::P50 => "p50 us",
            Figure::P99 => "p99 us",
            Figure::Resident => "RSS MB",
            Figure::Idle => "idle MB",
            Figure::PerConnection => "KB/idle conn",
        }
    }

    pub fn show(self, value: f64) -> String {
        match self {
            Figure::Cpu => format!("{value:.2}"),
            Figure::Rate => format!("{value:.0}"),
            Figure::Busy | Figure::Others => format!("{:.0}%", value * 100.0),
            Figure::P50 | Figure::P99 => format!("{value:.1}"),
            Figure::Resident | Figure::Idle => format!("{:.2}", value / 1e6),
            Figure::PerConnection => format!("{:.2}", value / 1e3),
        }
    }
}

impl Entrant {
    pub fn median(&self, figure: Figure) -> Option<f64> {
        median(
            self.rounds
                .iter()
                .filter_map(|round| round.get(&figure).copied())
                .collect(),
        )
    }

    pub fn label(&self) -> String {
        if self.variant.is_empty() {
            self.peer.to_owned()
        } else {
            format!("{}, {}", self.peer, self.variant)
        }
    }
}

impl Measured {
    pub fn find(&self, peer: &str, variant: &str) -> Option<&Entrant> {
        self.entrants
            .iter()
            .find(|entrant| entrant.peer == peer && entrant.variant == variant)
    }

    /// Tsunagi's figure by this entrant's, in the same variant.
    pub fn ratio_to(&self, theirs: &Entrant, figure: Figure) -> Option<f64> {
        median(ratios(self.find("tsunagi", theirs.variant)?, theirs, figure))
    }

    /// A check whose peer did not take part has none.
    pub fn verdicts(&self) -> Vec<Verdict> {
        self.checks.iter().filter_map(|check| self.verdict(check)).collect()
    }

    fn verdict(&self, check: &Check) -> Option<Verdict> {
        let figure = check.figure;
        let heading = figure.heading();
        let (what, values) = match check.against {
            Against::Peer(peer) => {
                let (ours, theirs) = (self.find("tsunagi", "")?, self.find(peer, "")?);
                (format!("{heading}, tsunagi / {peer}"), ratios(ours, theirs, figure))
            }
            Against::Variants(ours, theirs) => {
                let values = ratios(self.find("tsunagi", ours)?, self.find("tsunagi", theirs)?, figure);
                (format!("{heading}, {ours} / {theirs}"), values)
            }
            Against::Nothing => {
                let rounds = self.find("tsunagi", "")?.rounds.iter();
                (
                    heading.to_owned(),
                    rounds.filter_map(|round| round.get(&figure).copied()).collect(),
                )
            }
        };
        let show = |value: f64| match check.against {
            Against::Nothing => figure.show(value),
            _ => format!("{value:.3}"),
        };
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let value = median(values)?;
        let (passed, bound) = match check.bound {
            Bound::AtMost(most) => (value <= most, format!("at most {}", show(most))),
            Bound::AtLeast(least) => (value >= least, format!("at least {}", show(least))),
        };
        let range = format!("rounds {} to {}", show(low), show(high));
        let said = format!("{what}: {} ({range}), {bound}", show(value));
        Some(Verdict { said, value, passed })
    }
}

fn ratios(ours: &Entrant, theirs: &Entrant, figure: Figure) -> Vec<f64> {
    let rounds = ours.rounds.iter().zip(&theirs.rounds);
    let both = rounds.filter_map(|(ours, theirs)| Some((ours.get(&figure)?, theirs.get(&figure)?)));
    both.filter(|(_, theirs)| **theirs > 0.0)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    if values.len().is_multiple_of(2) {
        let lower = values[values.len() / 2 - 1];
        return Some(f64::midpoint(lower, upper));
    }
    Some(upper)
}
