//! The binary `tsunagi`: hands the command line to `cli` and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    tsunagi::cli::main()
}
