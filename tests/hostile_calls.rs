//! Calls of WASI preview1 and of the `wisp` module with generated arguments, in process. `tests/guests/hostile` makes
//! them; it fails if its own memory or the calls it means well are harmed.
//!
//! `FUZZ_SECONDS` says for how long; otherwise one seed is run. `FUZZ_SEED` is the first seed.

#![allow(clippy::print_stdout, reason = "the number of executions is the result")]

mod guest_support;

use std::time::{Duration, Instant};

use guest_support::build;
use guest_support::machine::{DISK, Image};
use wisp::kernel::{ExitStatus, Limits, Runtime};

/// Calls the guest makes of one seed.
const CALLS_OF_A_SEED: u64 = 300_000;
/// Far more than one seed takes.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test]
async fn fuzz_host_calls() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect("a number"))
    };
    let time = number("FUZZ_SECONDS").map_or(Duration::ZERO, Duration::from_secs);
    let first = number("FUZZ_SEED").unwrap_or(100);
    let modules = build::build().unwrap_or_else(|error| panic!("the guest programs cannot be built: {error}"));
    let runtime = Runtime::new(2).expect("an engine");
    let image = Image::of(&runtime, &modules.join("hostile.wasm")).expect("the hostile program");
    let (started, mut calls) = (Instant::now(), 0);
    for seed in first.. {
        let machine = image.machine(Limits::default(), DISK).expect("a machine");
        let ran = machine.run(&["random-calls", &seed.to_string()], PATIENCE).await;
        let ran = ran.expect("starting it");
        assert_eq!(ran.outcome.status, ExitStatus::Exited(0), "seed {seed}: {ran:?}");
        machine.kernel.shut_down();
        calls += CALLS_OF_A_SEED;
        if started.elapsed() >= time {
            break;
        }
    }
    println!(
        "fuzz host_calls: {calls} calls in {:.1} s",
        started.elapsed().as_secs_f64()
    );
}
