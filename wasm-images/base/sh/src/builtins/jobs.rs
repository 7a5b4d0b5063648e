//! `jobs`.

use std::io::Write;

use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, builtins};
use clap::Parser;

/// List the jobs of the shell.
#[derive(Parser)]
pub struct Jobs {
    /// Also tell process IDs.
    #[arg(short = 'l')]
    long: bool,

    /// Tell process IDs only.
    #[arg(short = 'p')]
    pids: bool,

    /// Only jobs that changed since last told.
    #[arg(short = 'n')]
    changed: bool,

    /// Only running jobs.
    #[arg(short = 'r')]
    running: bool,

    /// Only stopped jobs.
    #[arg(short = 's')]
    stopped: bool,

    /// The jobs to list.
    #[arg(value_name = "JOB")]
    specs: Vec<String>,
}

impl builtins::Command for Jobs {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let mut output = context.stdout();
        let mut errors = context.stderr();
        let manager = context.shell.jobs_mut();
        let ended = manager.poll()?;
        if self.stopped {
            // Nothing in the sandbox stops a process.
            return Ok(ExecutionResult::success());
        }

        let mut chosen = Vec::new();
        let mut result = ExecutionResult::success();
        for spec in &self.specs {
            match manager.resolve_job_spec(spec) {
                Some(job) => chosen.push(job.id),
                None => {
                    writeln!(errors, "jobs: {spec}: no such job")?;
                    result = ExecutionResult::general_error();
                }
            }
        }
        let told = ended
            .iter()
            .filter(|_| !self.running && !self.pids)
            .map(|(job, _)| job)
            .chain(&manager.jobs);
        for job in told.filter(|job| self.specs.is_empty() || chosen.contains(&job.id)) {
            let pid = job.pid.unwrap_or_default();
            let mark = job.annotation().to_string();
            let mark = if mark.is_empty() { " " } else { mark.as_str() };
            let (state, command) = (job.state.to_string(), &job.command_line);
            let ampersand = if state == "Running" { " &" } else { "" };
            if self.pids {
                writeln!(output, "{pid}")?;
            } else if self.long {
                writeln!(output, "[{}]{mark} {pid} {state:<23} {command}{ampersand}", job.id)?;
            } else {
                writeln!(output, "[{}]{mark}  {state:<24}{command}{ampersand}", job.id)?;
            }
        }
        Ok(result)
    }
}
