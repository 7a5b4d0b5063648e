//! Attacks on a running server, each beside a bystander of another tenant and a prober of `/health`.
//!
//! An attack must be contained: its outcome is the expected one, the bystander's answers are right and come in time,
//! and the server's private memory stays bounded and comes back. `cargo test --test hostile` runs the quick form of
//! all. Environment variables:
//!
//! - `HOSTILE_STRICT=1`: the bounds of an idle machine instead of those of a busy one ([`bounds`]);
//! - `HOSTILE_SECONDS=N`: how long an attack without an end of its own may go on; 0.3 when absent;
//! - `HOSTILE_MIXED_SECONDS=N`: not one after the other, but several at once for so long ([`mixed`]);
//! - `WISP_RECORD=PATH`: writes the figures as Markdown.
//!
//! To add an attack, add a row to a table in `groups/`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test program tells its user what it found"
)]

mod attack;
mod bounds;
mod groups;
#[path = "../guest_support/build.rs"]
#[allow(dead_code, reason = "a part of it builds the guests")]
mod guest_build;
#[path = "../guest_support/component.rs"]
mod guest_component;
mod known;
mod measure;
mod mixed;
#[path = "../own_images/modules.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod modules;
mod probe;
#[allow(dead_code, reason = "tests/soak.rs uses the rest")]
mod process;
mod record;
mod scene;
#[path = "../server_support/mod.rs"]
mod server_support;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};

use attack::Attack;
use measure::measure;
use record::Record;
use scene::Stage;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // One attack at a time: what is measured is what it does to others.
    arguments.test_threads = Some(1);
    let attacks = groups::all();
    if let Some(twice) = twice(&attacks) {
        eprintln!("two attacks are named {twice}");
        return ExitCode::FAILURE;
    }
    if !arguments.list
        && let Err(error) = guest_build::build()
    {
        eprintln!("the guest programs cannot be built: {error}");
        return ExitCode::FAILURE;
    }
    let record = Arc::new(Record::default());
    let stage = Arc::new(Stage::default());
    if let Some(time) = mixed::time() {
        let attacks = Arc::new(attacks);
        let trial = Trial::test("mixed attacks", move || mixed::run(&stage, &attacks, time));
        return libtest_mimic::run(&arguments, vec![trial]).exit_code();
    }
    let trials = attacks.into_iter().map(|attack| {
        let (record, stage) = (Arc::clone(&record), Arc::clone(&stage));
        Trial::test(attack.full_name(), move || run(&stage, &record, &attack))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !arguments.list {
        record.print();
        if let Some(path) = std::env::var_os("WISP_RECORD") {
            std::fs::write(path, record.to_markdown()).expect("the record is written");
        }
    }
    conclusion.exit_code()
}

/// A name that is there twice.
fn twice(attacks: &[Attack]) -> Option<String> {
    let mut names: Vec<String> = attacks.iter().map(Attack::full_name).collect();
    names.sort();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0].clone())
}

/// Runs one attack and judges it. After one that was not contained the next gets a fresh server.
fn run(stage: &Stage, record: &Record, attack: &Attack) -> Result<(), Failed> {
    let figures = measure(stage, attack);
    let verdict = figures.verdict(attack);
    if verdict.is_err() {
        stage.restart();
    }
    let fault = known::fault_of(&attack.full_name());
    record.add(attack, &figures, &verdict, fault);
    match (verdict, fault) {
        (Ok(()), None) => Ok(()),
        (Err(what), None) => Err(what.into()),
        (Err(what), Some(fault)) => {
            println!("known ({fault}): {}: {what}", attack.full_name());
            Ok(())
        }
        (Ok(()), Some(fault)) => {
            Err(format!("contained now: take it off the list in tests/hostile/known.rs ({fault})").into())
        }
    }
}
