//! `tsunagi-proxy`: reads the command line, runs the sidecar, or the packet filter's step before it, or waits for it or asks
//! it to drain; says why it could not (exit code 1; wrong usage is 2).

use std::io::Write;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use tsunagi_proxy::bootstrap::{Command, CommandLine, RedirectCommand};
use tsunagi_proxy::{app, redirect};

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Run(options) => app::run(*options).map_err(|error| error.to_string()),
        Command::Redirect(command) => run_redirect(&command),
        Command::Drain(options) => app::drain(&options).map_err(|error| error.to_string()),
        Command::Wait(options) => app::wait(&options).map_err(|error| error.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tsunagi-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_redirect(command: &RedirectCommand) -> Result<(), String> {
    if let RedirectCommand::Install(options) | RedirectCommand::Print(options) = command
        && let Err(wrong) = options.check()
    {
        CommandLine::command().error(ErrorKind::ValueValidation, wrong).exit();
    }
    let said = redirect::run(command).map_err(|error| error.to_string())?;
    // A reader that has seen enough is no failure.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(())
}
