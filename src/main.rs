//! The `wisp` program: parse, run, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use wisp::cli::{self, Cli};

fn main() -> ExitCode {
    cli::start_logging();
    cli::main(Cli::parse())
}
