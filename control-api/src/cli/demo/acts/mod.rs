//! The acts: each shows one thing and checks that it is so. Called by the demo, in order.

pub(super) mod ejection;
pub(super) mod header;
pub(super) mod overflow;
pub(super) mod split;
pub(super) mod start;
pub(super) mod try_it;

use std::{io, time::Duration};

use super::{
    super::CliError,
    mesh::Mesh,
    numbers::{count, quantile, share, time},
    rules,
    screen::{Rows, Screen},
    traffic::{Load, Tally, Traffic},
};

/// Enough to keep a sidecar busy, few enough to be told apart.
const CONNECTIONS: usize = 4;

/// What the acts promised, and what of it was not so.
#[derive(Default)]
pub(super) struct Checks {
    made: usize,
    pub(super) unkept: Vec<String>,
}

impl Checks {
    fn check(&mut self, screen: &mut Screen, kept: bool, promise: &str) -> io::Result<()> {
        self.made += 1;
        if !kept {
            self.unkept.push(promise.to_owned());
        }
        screen.verdict(kept, promise)
    }

    pub(super) fn summary(&self, elapsed: Duration) -> String {
        let (made, kept) = (self.made, self.made - self.unkept.len());
        format!("\n{kept} of {made} checks ok, {} in all", time(elapsed))
    }
}

/// Sends requests while their table is shown, until all are answered.
async fn send(
    load: Load,
    screen: &mut Screen,
    expected: &[(&str, u64)],
    header: &'static [&'static str],
) -> Result<Tally, CliError> {
    let mut traffic = Traffic::start(load);
    while !traffic.ended_within_a_tick().await {
        let rows = versions(&traffic.tally(), expected);
        screen.draw(Rows { header, rows })?;
    }
    let tally = traffic.tally();
    let rows = versions(&tally, expected);
    screen.table(Rows { header, rows })?;
    Ok(tally)
}

const VERSIONS: &[&str] = &["VERSION", "REQUESTS", "SHARE", "EXPECTED", "P50", "P99"];

/// A row for each version with its expected percentage, then what was not answered 200.
fn versions(tally: &Tally, expected: &[(&str, u64)]) -> Vec<Vec<String>> {
    let all = tally.requests();
    let mut rows = Vec::new();
    for (version, percent) in expected {
        let mut latencies = tally.versions.get(*version).cloned().unwrap_or_default();
        latencies.sort_unstable();
        let number = latencies.len() as u64;
        let at = |part| match number {
            0 => "-".to_owned(),
            _ => time(quantile(&latencies, part)),
        };
        let percent = format!("{percent} %");
        rows.push(vec![
            (*version).to_owned(),
            count(number),
            share(number, all),
            percent,
            at(0.5),
            at(0.99),
        ]);
    }
    let broken = (tally.broken > 0).then(|| ("no answer".to_owned(), tally.broken));
    for (failure, number) in tally.failures.clone().into_iter().chain(broken) {
        let [dash, expected] = ["-", "0 %"].map(str::to_owned);
        rows.push(vec![
            failure,
            count(number),
            share(number, all),
            expected,
            dash.clone(),
            dash,
        ]);
    }
    rows
}

/// The rules to the letter again, after an act that changed them.
async fn restore(mesh: &Mesh, screen: &mut Screen) -> Result<(), CliError> {
    let (_, elapsed) = mesh.apply(rules::FILE, rules::VERBATIM).await?;
    let text = format!(
        "{} is in force again as it stands, after {}",
        rules::FILE,
        time(elapsed)
    );
    Ok(screen.note(&text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_each_version_and_every_failure() {
        let mut tally = Tally::default();
        tally
            .versions
            .insert("v1".to_owned(), vec![Duration::from_millis(2); 9]);
        tally.failures.insert("503 UO".to_owned(), 1);
        let rows = versions(&tally, &[("v1", 90), ("v2", 10)]);
        assert_eq!(rows[0], ["v1", "9", "90.0 %", "90 %", "2.00 ms", "2.00 ms"]);
        assert_eq!(rows[1], ["v2", "0", "0.0 %", "10 %", "-", "-"]);
        assert_eq!(rows[2][..3], ["503 UO", "1", "10.0 %"]);
    }

    #[test]
    fn what_was_not_kept_is_remembered() {
        let mut screen = Screen::new(Box::new(io::sink()), false, false);
        let mut checks = Checks::default();
        checks.check(&mut screen, true, "one").expect("a sink takes it");
        checks.check(&mut screen, false, "two").expect("a sink takes it");
        assert_eq!(checks.unkept, ["two"]);
        assert!(
            checks
                .summary(Duration::from_secs(2))
                .contains("1 of 2 checks ok, 2.0 s")
        );
    }
}
