//! Records a command while it runs and when it ends: console lines, counters, event.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::events::EventKind;
use super::life::Sandbox;
use super::manager::Shared;
use super::metrics::CommandOutcome;
use super::{ExecExit, SandboxError};
use crate::provider::{OutputStream, ProviderError};

/// The record of one command. Dropped before the end of the command was noted, it counts as cancelled.
pub(super) struct ExecRecord {
    shared: Arc<Shared>,
    sandbox: Arc<Sandbox>,
    /// Tells the commands of a sandbox apart.
    number: u64,
    started: Instant,
    closed: bool,
}

impl ExecRecord {
    /// Opens the record of a command that is about to start.
    pub(super) fn open(shared: &Arc<Shared>, sandbox: &Arc<Sandbox>) -> Self {
        Self {
            shared: Arc::clone(shared),
            sandbox: Arc::clone(sandbox),
            number: sandbox.next_exec(),
            started: Instant::now(),
            closed: false,
        }
    }

    /// Notes output.
    pub(super) fn output(&self, stream: OutputStream, bytes: &[u8]) {
        self.shared.metrics.sent(bytes.len() as u64);
        self.sandbox.console.push(self.number, stream, bytes);
    }

    /// Notes how the command ended.
    pub(super) fn ended(&mut self, exit: &ExecExit) {
        let outcome = match exit {
            exit if exit.outcome.timed_out => CommandOutcome::Timeout,
            exit if exit.killed_because.is_some() => CommandOutcome::Killed,
            exit if exit.outcome.exit_code == 0 => CommandOutcome::Ok,
            _ => CommandOutcome::Nonzero,
        };
        let duration = exit.outcome.duration;
        let kind = if exit.outcome.timed_out {
            EventKind::ExecTimeout { duration }
        } else {
            EventKind::ExecCompleted {
                exit_code: exit.outcome.exit_code,
                duration,
            }
        };
        self.close(outcome, duration, kind);
    }

    /// Notes that the runtime could not start the command or lost it. What the client got wrong is no such failure.
    pub(super) fn failed(&mut self, error: &SandboxError) {
        if let SandboxError::Provider(ProviderError::Internal(_) | ProviderError::Unavailable(_)) = error {
            let reason = "the runtime failed";
            let kind = EventKind::ExecFailed { reason };
            self.close(CommandOutcome::Error, self.started.elapsed(), kind);
        } else {
            self.closed = true;
        }
    }

    fn close(&mut self, outcome: CommandOutcome, duration: Duration, kind: EventKind) {
        if !std::mem::replace(&mut self.closed, true) {
            let provider = self.sandbox.provider_label();
            self.shared.metrics.command_ended(provider, outcome, duration);
            self.shared.tell(&self.sandbox, kind);
        }
    }
}

impl Drop for ExecRecord {
    fn drop(&mut self) {
        let reason = "the client went away before the command ended";
        let kind = EventKind::ExecFailed { reason };
        self.close(CommandOutcome::Cancelled, self.started.elapsed(), kind);
    }
}
