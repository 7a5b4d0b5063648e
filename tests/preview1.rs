//! Runs every program of `tests/guests/src/bin`, each as a test of the same name on a fresh machine.
//!
//! A program shows one behaviour of WASI preview1 or of the `wisp` module. To add a behaviour, add a program.

#![allow(clippy::print_stderr, reason = "a test program tells its user what is wrong")]

mod guest_support;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use guest_support::build;
use guest_support::machine::{DISK, Image};
use libtest_mimic::{Arguments, Failed, Trial};
use wisp::kernel::{ExitStatus, Limits, Runtime};

/// Far more than any of the programs needs, even on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    match trials(&arguments) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("the guest programs cannot be run: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A test for each program; nothing is built when they are only listed.
fn trials(arguments: &Arguments) -> anyhow::Result<Vec<Trial>> {
    let names = program_names()?;
    let modules = if arguments.list {
        build::sources()
    } else {
        build::build()?
    };
    let runtime = Runtime::new(2).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let trial = |name: String| {
        let (runtime, wasm) = (Arc::clone(&runtime), modules.join(&name).with_extension("wasm"));
        Trial::test(name, move || holds(&runtime, &wasm))
    };
    Ok(names.into_iter().map(trial).collect())
}

/// The names of the programs, in order.
fn program_names() -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(build::sources().join("src/bin"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs a program: status 0 says that its behaviour holds, its standard error what differs.
fn holds(runtime: &Arc<Runtime>, wasm: &Path) -> Result<(), Failed> {
    let machine = Image::of(runtime, wasm)?.machine(Limits::default(), DISK)?;
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let ran = tokio.block_on(machine.run(&[], TIMEOUT))?;
    if ran.outcome.status == ExitStatus::Exited(0) {
        Ok(())
    } else {
        Err(format!("{:?}\n{}{}", ran.outcome, ran.stdout, ran.stderr).into())
    }
}
