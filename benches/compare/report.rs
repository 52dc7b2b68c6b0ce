//! Results for people, a table for each case, and for programs, one JSON document with every round.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::figures::{Figure, Measured, TOLERATED};
use crate::peers::Peer;
use crate::settings::Settings;

/// Medians, Tsunagi's ratio to each peer, and what was promised.
pub fn table(measured: &Measured) -> String {
    let has = |figure: &Figure| {
        measured
            .entrants
            .iter()
            .any(|entrant| entrant.median(*figure).is_some())
    };
    let figures: Vec<Figure> = Figure::ALL.into_iter().filter(has).collect();
    let compared = figures
        .iter()
        .filter(|figure| !matches!(figure, Figure::Busy | Figure::Others));
    let compared: Vec<Figure> = compared.copied().collect();
    let mut rows = vec![vec![String::new()]];
    rows[0].extend(figures.iter().map(|figure| figure.heading().to_owned()));
    rows[0].extend(compared.iter().map(|figure| format!("ours/it: {}", figure.heading())));
    for entrant in &measured.entrants {
        let mut row = vec![entrant.label()];
        let show = |figure: &Figure| {
            entrant
                .median(*figure)
                .map_or("-".to_owned(), |value| figure.show(value))
        };
        row.extend(figures.iter().map(show));
        row.extend(compared.iter().map(|figure| {
            let ratio = measured
                .ratio_to(entrant, *figure)
                .filter(|_| entrant.peer != "tsunagi");
            ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.3}"))
        }));
        rows.push(row);
    }
    let mut text = format!("\n{}: {}\n{}", measured.case, measured.title, aligned(&rows));
    for verdict in measured.verdicts() {
        let word = if verdict.passed { "PASS" } else { "MISS" };
        let _ = writeln!(text, "{word}  {}", verdict.said);
    }
    text
}

/// Says so when another process used the proxies' core: requests a second and latencies suffer, processor time hardly.
pub fn disturbed(all: &[Measured]) -> Option<String> {
    let rounds = all
        .iter()
        .flat_map(|measured| &measured.entrants)
        .flat_map(|entrant| &entrant.rounds);
    let shares: Vec<f64> = rounds.filter_map(|round| round.get(&Figure::Others).copied()).collect();
    let disturbed = shares.iter().filter(|share| **share > TOLERATED).count();
    (disturbed > 0).then(|| {
        let total = shares.len();
        format!("WARNING: in {disturbed} of {total} rounds other processes took more than 5 % of the proxies' core")
    })
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if index == 0 {
                write!(text, "{cell:<width$}")
            } else {
                write!(text, "  {cell:>width$}")
            };
        }
        text.push('\n');
    }
    text
}

pub fn json(settings: &Settings, peers: &[Peer], all: &[Measured]) -> Value {
    let versions: serde_json::Map<String, Value> = peers
        .iter()
        .map(|peer| (peer.name.to_owned(), json!(peer.version)))
        .collect();
    json!({
        "date": said("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "commit": said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "rev-parse", "HEAD"]),
        "kernel": fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "cpu": cpu_model(),
        "rounds": settings.rounds,
        "seconds": settings.seconds,
        "versions": versions,
        "cases": all.iter().map(case).collect::<Vec<Value>>(),
    })
}

fn case(measured: &Measured) -> Value {
    let entrants = measured.entrants.iter().map(|entrant| {
        let rounds = entrant
            .rounds
            .iter()
            .map(|round| keyed(|figure| round.get(&figure).copied()));
        json!({
            "peer": entrant.peer,
            "variant": entrant.variant,
            "medians": keyed(|figure| entrant.median(figure)),
            "tsunagi_by_it": keyed(|figure| measured.ratio_to(entrant, figure)),
            "rounds": rounds.collect::<Vec<Value>>(),
        })
    });
    let verdicts = measured.verdicts().into_iter();
    let checks =
        verdicts.map(|verdict| json!({"what": verdict.said, "value": verdict.value, "passed": verdict.passed}));
    json!({
        "name": measured.case,
        "title": measured.title,
        "entrants": entrants.collect::<Vec<Value>>(),
        "checks": checks.collect::<Vec<Value>>(),
    })
}

fn keyed(value: impl Fn(Figure) -> Option<f64>) -> Value {
    let fields = Figure::ALL
        .into_iter()
        .filter_map(|figure| Some((figure.key().to_owned(), json!(value(figure)?))));
    Value::Object(fields.collect())
}

pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}
