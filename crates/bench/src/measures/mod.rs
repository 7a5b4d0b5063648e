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

use clap::ValueEnum;

use super::competitors::{Choice, Field};
use super::effort::Effort;
use super::report::Section;

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
    /// Who takes part.
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

/// Tells whoever waits what is being measured.
fn progress(section: &Section, who: &str) {
    // Progress that cannot be shown is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{}: {who}", section.name);
}

/// A name in the tables: an image of ours and how it is used.
fn in_process_name(image: &str) -> String {
    format!("wisp {image}, in process")
}
