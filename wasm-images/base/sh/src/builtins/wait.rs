//! `wait`.

use std::io::Write;

use brush_core::jobs::JobManager;
use brush_core::sys::signal::Signal as SignalName;
use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, ShellVariable, builtins};
use clap::Parser;
use wisp_sys::Pid;

/// Status of a `wait` for a process that is not a child (POSIX, "wait").
const NOT_A_CHILD: u8 = 127;

/// Wait for jobs to end.
#[derive(Parser)]
pub struct Wait {
    /// Wait for the end, not for any change.
    #[arg(short = 'f')]
    end: bool,

    /// Wait for the first job that ends.
    #[arg(short = 'n')]
    next: bool,

    /// The variable that receives the process ID.
    #[arg(short = 'p', value_name = "VARIABLE")]
    variable: Option<String>,

    /// Process IDs or jobs.
    jobs: Vec<String>,
}

/// Why waiting came to an end.
enum Outcome {
    /// This child ended with this status.
    Ended(Pid, u8),
    /// A trapped signal arrived.
    Interrupted,
    /// There is no such child.
    NoChild,
}

impl builtins::Command for Wait {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let mut errors = context.stderr();
        let manager = context.shell.jobs_mut();
        let mut status = 0;
        let mut awaited = Vec::new();
        for text in &self.jobs {
            let pid = if text.starts_with('%') {
                manager.resolve_job_spec(text).and_then(|job| job.pid)
            } else {
                text.parse::<Pid>().ok().filter(|pid| is_known(manager, *pid))
            };
            match pid {
                Some(pid) => awaited.push(pid),
                None => {
                    let problem = match text.parse::<Pid>() {
                        Ok(_) => format!("wait: pid {text} is not a child of this shell"),
                        Err(_) => format!("wait: {text}: no such job"),
                    };
                    writeln!(errors, "{problem}")?;
                    status = NOT_A_CHILD;
                }
            }
        }
        let all = self.jobs.is_empty();
        if all {
            awaited.extend(
                manager
                    .jobs
                    .iter()
                    .filter(|job| !job.of_parent)
                    .filter_map(|job| job.pid),
            );
        }

        let mut ended = None;
        let mut interrupted = false;
        if self.next {
            match wait_for_first(manager, &awaited, all) {
                Outcome::Ended(pid, code) => (ended, status) = (Some(pid), code),
                Outcome::Interrupted => interrupted = true,
                Outcome::NoChild => status = NOT_A_CHILD,
            }
        } else {
            for pid in awaited {
                match wait_for(manager, pid) {
                    Outcome::Ended(pid, code) => {
                        ended = Some(pid);
                        if !all {
                            status = code;
                        }
                    }
                    Outcome::Interrupted => {
                        interrupted = true;
                        break;
                    }
                    Outcome::NoChild if all => {}
                    Outcome::NoChild => status = NOT_A_CHILD,
                }
            }
            if all && !interrupted {
                manager.finished.clear();
            }
        }
        if let (Some(variable), Some(pid)) = (&self.variable, ended) {
            context
                .shell
                .env_mut()
                .set_global(variable, ShellVariable::new(pid.to_string()))?;
        }
        // A signal may arrive together with the end of the process that sent it.
        let (left, signals) = context.shell.run_pending_traps_telling(&context.params).await?;
        if let Some(left) = left {
            return Ok(left);
        }
        match signals.last() {
            Some(signal) if interrupted || *signal != SignalName::SIGCHLD => {
                Ok(ExecutionResult::new(128 + *signal as u8))
            }
            _ => Ok(ExecutionResult::new(status)),
        }
    }
}

/// Whether the process is or was a job of this shell.
fn is_known(manager: &JobManager, pid: Pid) -> bool {
    manager.jobs.iter().any(|job| job.pid == Some(pid)) || manager.finished.iter().any(|(ended, _)| *ended == pid)
}

/// Takes the status of a process that ended before.
fn take_finished(manager: &mut JobManager, wanted: impl Fn(Pid) -> bool) -> Option<(Pid, u8)> {
    let index = manager.finished.iter().position(|(pid, _)| wanted(*pid))?;
    manager.finished.remove(index)
}

/// Waits for one child.
fn wait_for(manager: &mut JobManager, pid: Pid) -> Outcome {
    // Its status stays known: a script may ask twice.
    if let Some((_, status)) = manager.finished.iter().find(|(ended, _)| *ended == pid) {
        return Outcome::Ended(pid, *status);
    }
    match wisp_sys::wait(pid) {
        Ok((_, status)) => {
            manager.jobs.retain(|job| job.pid != Some(pid));
            manager.remember(pid, status.shell_code());
            Outcome::Ended(pid, status.shell_code())
        }
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Outcome::Interrupted,
        Err(_) => {
            manager.jobs.retain(|job| job.pid != Some(pid));
            Outcome::NoChild
        }
    }
}

/// Waits for the first of several children.
fn wait_for_first(manager: &mut JobManager, awaited: &[Pid], all: bool) -> Outcome {
    if let Some((pid, status)) = take_finished(manager, |pid| all || awaited.contains(&pid)) {
        return Outcome::Ended(pid, status);
    }
    if awaited.is_empty() {
        return Outcome::NoChild;
    }
    loop {
        // Any child: others, such as those of process substitutions, are remembered on the way.
        match wisp_sys::wait(-1) {
            Ok((pid, status)) => {
                manager.jobs.retain(|job| job.pid != Some(pid));
                if awaited.contains(&pid) {
                    return Outcome::Ended(pid, status.shell_code());
                }
                manager.remember(pid, status.shell_code());
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Outcome::Interrupted,
            Err(_) => return Outcome::NoChild,
        }
    }
}
