//! `tsunagi demo`: a control plane, a sidecar and four endpoints of one service as real processes on free loopback ports,
//! the user's own rules applied to them, five acts that show and check what they do, and a sixth for whoever stays. Called by the command line.
//!
//! This file decides the order and the end: whatever ends the demo (the last act, a signal, an error, a child that died),
//! every process is ended and the folder removed before the command returns. `processes` says what holds after `kill -9`.

mod acts;
mod bound;
mod connection;
mod mesh;
mod numbers;
mod processes;
mod rules;
mod sample;
mod screen;
mod traffic;

use std::{
    future::Future,
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::timeout,
};

use super::CliError;
use acts::Checks;
use mesh::Mesh;
use processes::{Deaths, Processes};
use screen::Screen;

/// For the news of a child's death to arrive, when what it died of was seen first.
const DEATH_NEWS_LIMIT: Duration = Duration::from_secs(2);

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// See it work on this machine: control plane, sidecar and a service with two versions, then yours to try
    ///
    /// It needs the sidecar's program, tsunagi-proxy, beside this one (as `cargo build` and the release archives put it) or
    /// in PATH, and nothing else: every port is a free one of 127.0.0.1, every file is in a temporary folder, and both are
    /// given back at the end.
    Demo(Options),
    /// One endpoint of the demo's service
    #[command(hide = true)]
    SampleService(sample::Options),
    /// Becomes another program that ends when the demo does
    #[command(hide = true)]
    DemoProcess(bound::Options),
}

#[derive(Args, Debug)]
pub(super) struct Options {
    /// End after the last act instead of leaving the mesh up until Ctrl-C; exit code 1 if an act did not turn out as told
    #[arg(long)]
    exit: bool,
}

/// Runs one of this room's commands. On the thread that it is called on, whose end is the end of every child.
pub(super) fn main(command: &Command) -> Result<(), CliError> {
    if let Command::DemoProcess(options) = command {
        return Err(bound::become_program(options));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Demo(options) => demo(options).await,
            Command::SampleService(options) => sample::run(options).await,
            Command::DemoProcess(_) => Ok(()),
        }
    })
}

async fn demo(options: &Options) -> Result<(), CliError> {
    let mut signals = Signals::watch().map_err(|error| CliError::Failed(format!("cannot watch signals: {error}")))?;
    let mut screen = Screen::stdout();
    let (mut processes, mut deaths) = Processes::new()?;
    let proxy = mesh::find_proxy(processes.program())?;
    let watched = Watched {
        deaths: &mut deaths,
        signals: &mut signals,
    };
    let ended = perform(options, proxy, &mut processes, &mut screen, watched).await;
    let folder = processes.folder().to_owned();
    let count = processes.end().await;
    // Nobody may read any more; the children are gone all the same.
    drop(screen.line(&format!("{count} processes ended, {} removed", folder.display())));
    ended
}

/// The acts, then rest until a signal. Dropping it leaves the processes to `processes`.
async fn perform(
    options: &Options,
    proxy: PathBuf,
    processes: &mut Processes,
    screen: &mut Screen,
    mut watched: Watched<'_>,
) -> Result<(), CliError> {
    let unkept = match watched.until_ended(story(proxy, options, processes, screen)).await? {
        Some(unkept) => unkept,
        None => {
            screen.line("\nstopped before the last act")?;
            return Err(CliError::Told);
        }
    };
    if !options.exit {
        screen.line("\nThe mesh stays up until Ctrl-C.")?;
        watched.until_ended(std::future::pending::<Result<(), _>>()).await?;
        screen.line("")?;
    }
    match unkept.as_slice() {
        [] => Ok(()),
        unkept => Err(CliError::Failed(format!(
            "not everything turned out as told: {}",
            unkept.join("; ")
        ))),
    }
}

/// All acts; what did not turn out as told.
async fn story(
    proxy: PathBuf,
    options: &Options,
    processes: &mut Processes,
    screen: &mut Screen,
) -> Result<Vec<String>, CliError> {
    let started = Instant::now();
    let mut checks = Checks::default();
    screen.line("tsunagi demo: a mesh on this machine, made of real processes")?;
    screen.act(
        1,
        "A control plane, a sidecar and four endpoints start; the rules come into force",
    )?;
    let mesh = Mesh::start(processes, proxy).await?;
    acts::start::play(&mesh, screen, &mut checks).await?;
    screen.act(2, "10,000 requests: 90 % to v1, 10 % to v2")?;
    acts::split::play(&mesh, screen, &mut checks).await?;
    screen.act(3, "1,000 requests with the header `version: v2`: all to v2")?;
    acts::header::play(&mesh, screen, &mut checks).await?;
    screen.act(4, "An endpoint fails, is ejected, and comes back through one probe")?;
    acts::ejection::play(&mesh, screen, &mut checks).await?;
    screen.act(5, "A limit overflows: who is over it is told so at once")?;
    acts::overflow::play(&mesh, screen, &mut checks).await?;
    if !options.exit {
        screen.act(6, "Yours to try")?;
        acts::try_it::play(&mesh, screen)?;
    }
    screen.line(&checks.summary(started.elapsed()))?;
    Ok(checks.unkept)
}

/// What can end the demo from outside.
struct Watched<'a> {
    deaths: &'a mut Deaths,
    signals: &'a mut Signals,
}

impl Watched<'_> {
    /// Runs until it is done, or `None` when a signal came first. A child that died explains whatever failed with it.
    async fn until_ended<T>(&mut self, work: impl Future<Output = Result<T, CliError>>) -> Result<Option<T>, CliError> {
        let failed = tokio::select! {
            done = work => match done {
                Ok(value) => return Ok(Some(value)),
                Err(error) => error,
            },
            death = self.deaths.next() => return Err(CliError::Failed(death)),
            () = self.signals.next() => return Ok(None),
        };
        match timeout(DEATH_NEWS_LIMIT, self.deaths.next()).await {
            Ok(death) => Err(CliError::Failed(death)),
            Err(_) => Err(failed),
        }
    }
}

/// Ctrl-C, `kill`, and the terminal's end, which mean the same.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
