//! A thousand sandboxes in one process: each with files of its own, each runs a command.
//!
//! `cargo run --release --example thousand_sandboxes`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program may print")]

use std::time::{Duration, Instant};

use wisp::{Engine, Error};

/// What it took.
#[derive(Debug)]
pub struct Report {
    /// To make all sandboxes.
    pub created_in: Duration,
    /// To run a command in each, all at once.
    pub ran_in: Duration,
    /// Memory of this process beyond what it had before the first sandbox, for each of them after their commands, bytes.
    pub bytes_each: u64,
    /// What the commands wrote, in order.
    pub outputs: Vec<String>,
}

/// Makes `count` sandboxes and runs a command in each.
pub async fn run(count: usize) -> Result<Report, Error> {
    let engine = Engine::new()?;
    engine.load_image("base").await?;
    let before = resident_bytes();
    let started = Instant::now();
    let create = (0..count).map(|number| engine.sandbox("base").env("NUMBER", number.to_string()).create());
    let sandboxes = futures_util::future::try_join_all(create).await?;
    let created_in = started.elapsed();
    let started = Instant::now();
    let commands = sandboxes.iter().map(|sandbox| {
        let script = "echo $NUMBER > /tmp/number; cat /tmp/number";
        sandbox.shell(script).output()
    });
    let outputs = futures_util::future::try_join_all(commands).await?;
    Ok(Report {
        created_in,
        ran_in: started.elapsed(),
        bytes_each: resident_bytes().saturating_sub(before) / count.max(1) as u64,
        outputs: outputs
            .into_iter()
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
            .collect(),
    })
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0) * 4096
}

#[allow(dead_code, reason = "the tests call `run`")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let report = run(1000).await?;
    println!("made a thousand sandboxes in {:?}", report.created_in);
    println!("ran a command in each in {:?}", report.ran_in);
    println!("{} KiB of memory each", report.bytes_each / 1024);
    Ok(())
}
