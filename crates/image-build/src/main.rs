//! `wisp-image-build`: builds images from the recipes of a checkout, and installs them into the store of this user.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Parser;
use wisp_image::{ImageStore, Progress, Step};
use wisp_image_build::{Builder, default_folder};
use wisp_kernel::Runtime;

/// Threads for guests that prepare an image; one runs at a time.
const GUEST_THREADS: usize = 1;

/// Builds images of wisp from their recipes, and installs them.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Names or aliases of images; those below them are built as well.
    #[arg(required_unless_present_any = ["all", "list"])]
    names: Vec<String>,
    /// Build all images that have a recipe.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Print the names of all images that have a recipe, and whether each is installed from it.
    #[arg(long)]
    list: bool,
    /// Compile for servers that count fuel (`fuel = true`) as well.
    #[arg(long, env = "WISP_FUEL")]
    fuel: bool,
    /// Show what builds print.
    #[arg(long, short)]
    verbose: bool,
}

/// Prints each step with the time since the beginning.
struct Lines {
    started: Instant,
    verbose: bool,
    /// Whether anything had to be done.
    worked: AtomicBool,
}

impl Lines {
    fn say(&self, line: &str) {
        let seconds = self.started.elapsed().as_secs();
        // A line that cannot be shown is no reason to stop.
        let _ = writeln!(io::stderr(), "[{seconds:4} s] {line}");
    }
}

impl Progress for Lines {
    fn step(&self, image: &str, step: Step, what: &str) {
        self.worked.store(true, Ordering::Relaxed);
        self.say(&format!("{image}: {} {what}", step.verb()));
    }

    fn line(&self, line: &str) {
        if self.verbose {
            self.say(line);
        }
    }

    fn done(&self, image: &str) {
        if self.worked.swap(false, Ordering::Relaxed) {
            self.say(&format!("{image}: installed"));
        }
    }
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if that cannot be told either.
            let _ = writeln!(io::stderr(), "wisp-image-build: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = ImageStore::open_default()?;
    let runtime = Runtime::with_fuel(GUEST_THREADS, arguments.fuel).map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let builder = Builder::new(&store, default_folder(), runtime);
    if arguments.list {
        for name in builder.names() {
            let state = if builder.is_current(&name)? {
                "installed"
            } else {
                "to build"
            };
            writeln!(io::stdout(), "{name}\t{state}")?;
        }
        return Ok(());
    }
    let progress = Lines {
        started: Instant::now(),
        verbose: arguments.verbose,
        worked: AtomicBool::new(false),
    };
    let names = if arguments.all {
        builder.names()
    } else {
        arguments.names.clone()
    };
    for name in names {
        let image = builder.install(&name, &progress)?;
        let mebibytes = image.size >> 20;
        writeln!(
            io::stdout(),
            "{} {} is installed ({mebibytes} MiB)",
            image.name,
            image.version
        )?;
    }
    Ok(())
}
