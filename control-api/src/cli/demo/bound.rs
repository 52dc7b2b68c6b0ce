//! `tsunagi demo-process`: becomes another program, bound to the demo's life. The demo starts every child through it.
//!
//! A child that is only killed by its parent outlives a parent that is itself killed. Linux can promise more, but only to
//! the child: it asks for a signal at its parent's death (`prctl(2)`, `PR_SET_PDEATHSIG`), and the promise survives the
//! change of program. Same pid, no process in between. Elsewhere than on Linux a `kill -9` of the demo leaves children.

use std::{ffi::OsString, os::unix::process::CommandExt, process::Command};

use clap::Args;

use super::super::CliError;

#[derive(Args, Debug)]
pub(in super::super) struct Options {
    /// The pid of the demo
    #[arg(long)]
    parent: u32,

    /// The program and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

/// Returns only when it failed.
pub(super) fn become_program(options: &Options) -> CliError {
    bind();
    if std::os::unix::process::parent_id() != options.parent {
        return CliError::Failed("the demo has ended already".to_owned());
    }
    let Some((program, arguments)) = options.command.split_first() else {
        return CliError::Usage("a program is needed".to_owned());
    };
    let error = Command::new(program).args(arguments).exec();
    CliError::Failed(format!("cannot run {}: {error}", program.display()))
}

#[cfg(target_os = "linux")]
fn bind() {
    // Only an old or strange kernel refuses; then the demo's own clean-up is all there is.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

#[cfg(not(target_os = "linux"))]
fn bind() {}
