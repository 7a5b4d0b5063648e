//! Runs Python that nobody has read, with limits on memory, disk, time and output.
//!
//! `cargo run --example run_python -- 'print(6 * 7)'`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program may print")]

use std::process::ExitCode;
use std::time::Duration;

use wisp::blocking::Engine;
use wisp::{Error, Output};

/// Runs a Python program in a sandbox of its own.
pub fn run(code: &str) -> Result<Output, Error> {
    let engine = Engine::new()?;
    let sandbox = engine.sandbox("python:3.13").memory_mb(128).disk_mb(16).create()?;
    sandbox.write_file("/work/main.py", code.to_owned())?;
    sandbox
        .command("python3")
        .arg("/work/main.py")
        .timeout(Duration::from_secs(5))
        .max_output(64 << 10)
        .output()
}

#[allow(dead_code, reason = "the tests call `run`")]
fn main() -> ExitCode {
    let code = std::env::args().nth(1).unwrap_or_else(|| "print(6 * 7)".to_owned());
    match run(&code) {
        Ok(output) => {
            print!("{}", String::from_utf8_lossy(&output.stdout));
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            if output.exit.timed_out {
                eprintln!("stopped after five seconds");
            }
            ExitCode::from(u8::try_from(output.exit.code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
