//! Runs one load against one address for some seconds: wrk for many HTTP/1.1 connections, h2load for HTTP/2 and gRPC, the
//! client of this benchmark where single microseconds or an even pace count. A request that fails fails the benchmark.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tsunagi_benches::compare_output::{self, Tally};
use tsunagi_benches::percentile;

use crate::Outcome;
use crate::client::{Client, Target, closed_loop, paced};
use crate::settings::{Settings, find_program};
use crate::started::Started;
use crate::upstreams::grpc_frame;

#[derive(Clone, Copy, PartialEq)]
pub enum Load {
    /// wrk on kept connections.
    Wrk {
        connections: u32,
    },
    /// wrk with `Connection: close`: the proxy closes after its answer, wrk opens the next connection.
    WrkNewConnections {
        clients: u32,
    },
    H2load {
        clients: u32,
        streams: u32,
        grpc: bool,
    },
    OneConnection,
    Paced {
        rate: u32,
        connections: u32,
    },
}

/// Longer than the load is meant to take.
const GRACE: Duration = Duration::from_secs(30);

pub struct Generators {
    wrk: PathBuf,
    h2load: PathBuf,
    folder: PathBuf,
    frame: PathBuf,
}

impl Generators {
    pub fn find(folder: &Path) -> Outcome<Generators> {
        let frame = folder.join("grpc-frame");
        fs::write(&frame, grpc_frame()).map_err(|error| error.to_string())?;
        Ok(Generators {
            wrk: find_program("wrk", "wrk")?,
            h2load: find_program("h2load", "nghttp2-client")?,
            folder: folder.to_owned(),
            frame,
        })
    }

    /// A few requests, each of which must be answered as the target says.
    pub fn check(&self, settings: &Settings, load: Load, target: &Target<'_>) -> Outcome<()> {
        if let Load::H2load { grpc, .. } = load {
            let arguments = ["-n", "20", "-c", "1", "-m", "1"].map(str::to_owned);
            return self.h2load(settings, &arguments, grpc, target, GRACE).map(drop);
        }
        let mut client = Client::open(target)?;
        (0..20).try_for_each(|_| client.get(target))
    }

    pub fn run(&self, settings: &Settings, load: Load, target: &Target<'_>, length: Duration) -> Outcome<Tally> {
        match load {
            Load::Wrk { connections } => self.wrk(settings, connections, &[], target, length),
            Load::WrkNewConnections { clients } => {
                self.wrk(settings, clients, &["-H", "Connection: close"], target, length)
            }
            Load::H2load { clients, streams, grpc } => {
                let seconds = length.as_secs().to_string();
                let arguments = [
                    "-D".to_owned(),
                    seconds,
                    format!("-c{clients}"),
                    format!("-m{streams}"),
                    "-t1".to_owned(),
                ];
                self.h2load(settings, &arguments, grpc, target, length + GRACE)
            }
            Load::OneConnection => of_times(closed_loop(target, length)?, length),
            Load::Paced { rate, connections } => of_times(paced(target, rate, connections, length)?, length),
        }
    }

    fn wrk(
        &self,
        settings: &Settings,
        connections: u32,
        more: &[&str],
        target: &Target<'_>,
        length: Duration,
    ) -> Outcome<Tally> {
        let mut command = settings.on_load_core(&self.wrk);
        command.args(["--latency", "--timeout", "10s", "-t1", &format!("-c{connections}")]);
        command.args([
            &format!("-d{}s", length.as_secs()),
            "-H",
            &format!("Host: {}", target.host),
        ]);
        command
            .args(more)
            .arg(format!("http://{}{}", target.address, target.path));
        let output = Started::start("wrk", &mut command, &self.folder)?.finish(length + GRACE)?;
        compare_output::wrk(&output)
    }

    fn h2load(
        &self,
        settings: &Settings,
        arguments: &[String],
        grpc: bool,
        target: &Target<'_>,
        limit: Duration,
    ) -> Outcome<Tally> {
        let log = self.folder.join("h2load-times");
        fs::remove_file(&log).ok();
        let mut command = settings.on_load_core(&self.h2load);
        command.args(arguments).arg(format!("--log-file={}", log.display()));
        command.args(["-H", &format!(":authority: {}", target.host)]);
        if grpc {
            command
                .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"])
                .arg(&self.frame);
        }
        command.arg(format!("http://{}{}", target.address, target.path));
        let output = Started::start("h2load", &mut command, &self.folder)?.finish(limit)?;
        let tally = compare_output::h2load(&output)?;
        // The last requests of a timed run may be cut short; a gRPC error has no body at all.
        let expected = tally.requests * target.body_bytes;
        if tally.body_bytes.abs_diff(expected) * 100 > expected || tally.requests == 0 {
            return Err(format!(
                "answers of {} bytes were expected:\n{output}",
                target.body_bytes
            ));
        }
        let times = fs::read_to_string(&log).map_err(|error| format!("h2load's log: {error}"))?;
        let (p50, p99) = compare_output::h2load_times(&times)?;
        Ok(Tally {
            requests: tally.requests,
            per_second: tally.per_second,
            p50,
            p99,
        })
    }
}

fn of_times(mut times: Vec<Duration>, length: Duration) -> Outcome<Tally> {
    if times.is_empty() {
        return Err("not one request was answered".to_owned());
    }
    Ok(Tally {
        requests: times.len() as u64,
        per_second: times.len() as f64 / length.as_secs_f64(),
        p50: percentile(&mut times, 0.5),
        p99: percentile(&mut times, 0.99),
    })
}
