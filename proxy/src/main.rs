//! `tsunagi-proxy`: reads the command line, runs the sidecar or waits for it, says why it could not (exit code 1; wrong usage is 2).

use std::process::ExitCode;

use clap::Parser;
use tsunagi_proxy::app;
use tsunagi_proxy::bootstrap::{Command, CommandLine};

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Run(options) => app::run(*options).map_err(|error| error.to_string()),
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
