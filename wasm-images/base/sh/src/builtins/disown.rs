//! `disown`.

use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, builtins};
use clap::Parser;

/// Forget jobs, so that the shell neither lists nor awaits them.
#[derive(Parser)]
pub struct Disown {
    /// All jobs.
    #[arg(short = 'a')]
    all: bool,

    /// Keep the job, but do not tell it when the shell ends.
    #[arg(short = 'h')]
    keep: bool,

    /// Running jobs only.
    #[arg(short = 'r')]
    running: bool,

    /// The jobs.
    jobs: Vec<String>,
}

impl builtins::Command for Disown {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let manager = context.shell.jobs_mut();
        if self.keep {
            return Ok(ExecutionResult::success());
        }
        if self.all || self.running {
            manager.jobs.clear();
        } else if self.jobs.is_empty() {
            manager.jobs.pop();
        }
        for spec in &self.jobs {
            let id = manager.resolve_job_spec(spec).map(|job| job.id);
            manager
                .jobs
                .retain(|job| Some(job.id) != id && job.pid.map(|pid| pid.to_string()).as_ref() != Some(spec));
        }
        Ok(ExecutionResult::success())
    }
}
