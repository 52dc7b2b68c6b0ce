//! Tsunagi's sidecar side by side with nginx, HAProxy, Envoy and no proxy at all, on this machine, with the rules of the
//! demo: processor time a request, requests a second, latency, memory. One worker each (two where the case says so), the
//! proxies alone on one core, load and upstreams on another. Rounds are interleaved; what is printed are medians, and
//! ratios made within a round. The settings, all from the environment, are in `settings.rs`, the cases in `cases.rs`.
//!
//! Mutual TLS is not compared, since Tsunagi does not have it yet.
#![allow(clippy::print_stdout, reason = "a benchmark prints its result")]

mod account;
mod cases;
mod chart;
mod client;
mod figures;
mod load;
mod peers;
mod plan;
mod report;
mod rounds;
mod settings;
mod slow;
mod started;
mod upstreams;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use figures::Measured;
use load::Generators;
use peers::Peer;
use rounds::Bench;
use settings::{Settings, raise_file_limit};
use slow::{SLOW_ROLE, serve_slow};
use tokio::signal::unix::{SignalKind, signal};
use upstreams::{GRPC_ROLE, Upstreams, serve_grpc};

/// An error says what to do next; it ends the benchmark.
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let outcome = match (std::env::var(GRPC_ROLE), std::env::var(SLOW_ROLE)) {
        (Ok(addresses), _) => serve_grpc(&addresses),
        (_, Ok(addresses)) => serve_slow(&addresses),
        _ => end_with_signals().and_then(|()| compare()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare() -> Outcome<()> {
    let settings = Settings::read()?;
    settings.check_names(cases::NAMES, peers::NAMES)?;
    let folder = settings.out.join("run");
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // Before the pin: a build takes all cores.
    let peers = Peer::find_all(&settings)?;
    settings.pin_this_process()?;
    raise_file_limit()?;
    for peer in &peers {
        println!("{} {}", peer.name, peer.version);
    }
    println!(
        "{}; {} rounds of {} s",
        report::cpu_model(),
        settings.rounds,
        settings.seconds
    );
    let upstreams = Upstreams::start(&settings, &folder)?;
    let generators = Generators::find(&folder)?;
    let bench = Bench {
        settings: &settings,
        folder: &folder,
        upstreams: &upstreams,
        generators: &generators,
    };
    let mut all = Vec::new();
    for case in cases::all() {
        if settings.wants_case(case.name) {
            let measured = bench.measure(&case, &peers)?;
            all.push(Measured {
                checks: case.checks,
                ..measured
            });
            // After each case: a later one may fail.
            write(&settings, &peers, &all)?;
        }
    }
    for measured in &all {
        print!("{}", report::table(measured));
    }
    if let Some(warning) = report::disturbed(&all) {
        println!("\n{warning}");
    }
    println!("\n{}", settings.out.join("compare.json").display());
    Ok(())
}

fn write(settings: &Settings, peers: &[Peer], all: &[Measured]) -> Outcome<()> {
    let put = |file: &Path, text: &str| fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()));
    put(
        &settings.out.join("compare.json"),
        &format!("{:#}\n", report::json(settings, peers, all)),
    )?;
    if let Some(svg) = chart::svg(all) {
        let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("compare");
        put(
            &if settings.chart { own } else { settings.out.clone() }.join("chart.svg"),
            &svg,
        )?;
    }
    Ok(())
}

/// Ctrl-C and SIGTERM end what was started, then this.
fn end_with_signals() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
            started::end_all();
            std::process::exit(130);
        });
    });
    Ok(())
}
