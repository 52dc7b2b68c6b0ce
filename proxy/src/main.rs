//! `tsunagi-proxy`: reads the command line, runs the sidecar, says why it could not (exit code 1; wrong usage is 2).

use std::process::ExitCode;

use clap::Parser;
use tsunagi_proxy::app;
use tsunagi_proxy::bootstrap::{Command, CommandLine};

fn main() -> ExitCode {
    let Command::Run(options) = CommandLine::parse().command;
    match app::run(*options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tsunagi-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}
