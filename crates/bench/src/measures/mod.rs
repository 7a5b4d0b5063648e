//! What is measured: a module for each table.

mod compute;
mod deadline;
mod idle;
mod latency;
mod lifecycle;
mod memory;
mod start;
mod throughput;
mod wall;

use std::io::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures_util::future::BoxFuture;
use tokio::task::JoinSet;

use super::competitors::{Choice, Field};
use super::effort::Effort;
use super::error::BenchError;
use super::report::Section;
use super::statistics::count;

/// A table of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// How long the smallest Python program takes.
    Latency,
    /// How many of them a second, by the number of clients.
    Throughput,
    /// Creating and destroying a sandbox.
    Lifecycle,
    /// Memory of an interpreter that lives.
    Memory,
    /// Memory of sandboxes that wait.
    Idle,
    /// How late a command ends that passes its deadline.
    Deadline,
    /// Starting a server, and the first command on it.
    Start,
    /// Ten computing programs against native Python.
    Compute,
    /// Worker processes against guests in the server.
    Wall,
}

/// What every measurement uses.
pub struct Setting<'a> {
    /// The competitors that take part.
    pub field: &'a Field,
    /// What the caller chose.
    pub choice: &'a Choice,
    /// How much is measured.
    pub effort: &'a Effort,
}

impl Measure {
    /// Short name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Throughput => "throughput",
            Self::Lifecycle => "lifecycle",
            Self::Memory => "memory",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
            Self::Start => "start",
            Self::Compute => "compute",
            Self::Wall => "wall",
        }
    }

    /// Measures it for all competitors, one after the other.
    pub async fn run(self, setting: &Setting<'_>) -> Section {
        match self {
            Self::Latency => latency::measure(setting).await,
            Self::Throughput => throughput::measure(setting).await,
            Self::Lifecycle => lifecycle::measure(setting).await,
            Self::Memory => memory::measure(setting).await,
            Self::Idle => idle::measure(setting).await,
            Self::Deadline => deadline::measure(setting).await,
            Self::Start => start::measure(setting).await,
            Self::Compute => compute::measure(setting).await,
            Self::Wall => wall::measure(setting).await,
        }
    }
}

/// What a client does again and again.
type Job = Box<dyn Fn() -> BoxFuture<'static, Result<(), BenchError>> + Send + Sync>;

/// How often a second so many clients do their jobs, each again as soon as it is done.
async fn rate(clients: usize, busy_for: Duration, job_of: impl Fn(usize) -> Job) -> Result<f64, BenchError> {
    let started = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let job = job_of(client);
        running.spawn(async move {
            let mut done = 0_usize;
            while started.elapsed() < busy_for {
                job().await?;
                done += 1;
            }
            Ok::<usize, BenchError>(done)
        });
    }
    let mut done = 0;
    while let Some(client) = running.join_next().await {
        done += client??;
    }
    // The last jobs end after the time is up, and count, so their time does as well.
    Ok(count(done) / started.elapsed().as_secs_f64())
}

/// Tells whoever waits what is being measured.
fn progress(section: &Section, who: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}: {who}", section.name);
}

/// A name in the tables: an image of ours and how it is used.
fn in_process_name(image: &str) -> String {
    format!("wisp {image}, in process")
}
