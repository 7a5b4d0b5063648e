//! Commands that run in a sandbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::exec_record::ExecRecord;
use super::life::Sandbox;
use super::metrics::Rejection;
use super::{Caller, ExecRequest, Permit, SandboxError, SandboxId, SandboxManager};
use crate::provider::{ExecControl, ExecEvent, ExecOutcome, Execution, LimitHit, OutputStream, ProviderError, Stdin};

/// Providers enforce the timeout of a command. One that has not done so this long after is given up on.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// Exit status of a command that passed its timeout, as of timeout(1).
const TIMED_OUT: i32 = 124;
/// Exit status of a command that was killed: 128 + SIGKILL.
const KILLED: i32 = 137;

/// A command that runs. Dropping it kills the command.
pub struct RunningExec {
    execution: Execution,
    pub(super) sandbox: Arc<Sandbox>,
    /// Cancelled when the server kills all commands.
    stopping: CancellationToken,
    /// Resolves when the sandbox ends or the server kills all commands. Boxed because it must not move once polled.
    ended: std::pin::Pin<Box<WaitForCancellationFutureOwned>>,
    started: Instant,
    /// When a provider that overlooks the timeout is given up on.
    give_up: Instant,
    /// Most bytes [`RunningExec::collect`] keeps of each stream.
    pub(super) max_output_bytes: usize,
    /// Most bytes all running commands of the sandbox may hold.
    pub(super) max_buffered_bytes: usize,
    /// Where its output and its end are noted.
    record: ExecRecord,
    /// Holds nothing; what is kept of the output is charged to permits of its budget.
    pub(super) transfer: Permit,
    /// Held for its `Drop`.
    _slot: ExecSlot,
    /// What the request is charged to, standard input above all.
    _request: Option<Permit>,
}

/// What a command reports.
#[derive(Debug)]
pub enum ExecItem {
    /// Bytes it wrote.
    Output(OutputStream, Bytes),
    /// It ended; nothing follows.
    Exit(ExecExit),
}

/// How a command ended, and why when it did not end by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecExit {
    /// Exit status and time.
    pub outcome: ExecOutcome,
    /// Who killed it, in a sentence, when neither itself nor its timeout did.
    pub killed_because: Option<String>,
}

/// One of the commands a sandbox may run at once.
struct ExecSlot(Arc<Sandbox>);

impl ExecSlot {
    fn take(sandbox: &Arc<Sandbox>, max: usize) -> Option<Self> {
        let counted = reserve(&sandbox.running_execs, 1, max) == 1;
        counted.then(|| Self(Arc::clone(sandbox)))
    }
}

impl Drop for ExecSlot {
    fn drop(&mut self) {
        self.0.running_execs.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds up to `wanted` to a counter without passing `max`, and returns how much was added.
pub(super) fn reserve(counter: &AtomicUsize, wanted: usize, max: usize) -> usize {
    let mut granted = 0;
    // The counter only keeps count; nothing else is published through it, so relaxed ordering is enough.
    let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
        granted = wanted.min(max.saturating_sub(used));
        Some(used + granted)
    });
    granted
}

impl SandboxManager {
    /// Starts a command.
    ///
    /// # Errors
    /// A sandbox that is not there, a malformed request, too many commands at once, a stopping server, a failing
    /// provider. A program that does not exist is no error: the command ends with 127.
    pub async fn exec(
        &self,
        caller: &Caller,
        id: &SandboxId,
        mut request: ExecRequest,
    ) -> Result<RunningExec, SandboxError> {
        self.refuse_when_closing()?;
        let sandbox = self.running(caller, id)?;
        self.shared.pressure.check()?;
        let held = request.held.take();
        let limits = &self.shared.config.limits;
        let spec = request.specify(limits, &self.shared.quotas.of(&sandbox.holder))?;
        let max = limits.max_execs_per_sandbox;
        let slot = ExecSlot::take(&sandbox, max).ok_or_else(|| {
            self.shared.metrics.rejected(Rejection::Commands);
            SandboxError::LimitReached(format!(
                "sandbox {id} already runs {max} commands at once; wait for one to end"
            ))
        })?;
        let timeout = spec.timeout;
        if let Stdin::Bytes(bytes) = &spec.stdin {
            self.shared.metrics.received(bytes.len() as u64);
        }
        let mut record = ExecRecord::open(&self.shared, &sandbox);
        let mut ended = Box::pin(sandbox.ended.clone().cancelled_owned());
        let started = tokio::select! {
            biased;
            result = sandbox.provider()?.exec(id.as_str(), spec) => {
                result.map_err(|error| SandboxError::of_provider(id, error))
            }
            () = &mut ended => Err(SandboxError::NotFound(id.clone())),
        };
        let execution = started.inspect_err(|error| record.failed(error))?;
        let started = Instant::now();
        Ok(RunningExec {
            execution,
            stopping: self.shared.stopping.clone(),
            ended,
            started,
            give_up: started + timeout + TIMEOUT_GRACE,
            max_output_bytes: limits.max_output_bytes,
            max_buffered_bytes: limits.max_buffered_output_bytes,
            record,
            transfer: self.shared.budgets.transfer.empty(&sandbox.holder.tenant),
            _slot: slot,
            _request: held,
            sandbox,
        })
    }
}

impl RunningExec {
    /// Waits for what the command reports next. Not to be called again after [`ExecItem::Exit`].
    ///
    /// # Errors
    /// When the runtime loses the command; nothing follows.
    pub async fn next(&mut self) -> Result<ExecItem, SandboxError> {
        let item = self.report().await;
        match &item {
            Ok(ExecItem::Output(stream, bytes)) => self.record.output(*stream, bytes),
            Ok(ExecItem::Exit(exit)) => self.record.ended(exit),
            Err(error) => self.record.failed(error),
        }
        item
    }

    async fn report(&mut self) -> Result<ExecItem, SandboxError> {
        let event = tokio::select! {
            // Output that is there already is not lost to an end that comes at the same time.
            biased;
            event = self.execution.events.recv() => event,
            () = &mut self.ended => return Ok(ExecItem::Exit(self.killed())),
            () = tokio::time::sleep_until(self.give_up) => {
                tracing::error!(sandbox = %self.sandbox.id, "the provider did not enforce a command's timeout");
                let duration = self.started.elapsed();
                let outcome = ExecOutcome { exit_code: TIMED_OUT, timed_out: true, duration, cpu_time: None, fuel_used: None, limit: None };
                return Ok(ExecItem::Exit(ExecExit { outcome, killed_because: None }));
            }
        };
        match event {
            Some(ExecEvent::Output(stream, bytes)) => Ok(ExecItem::Output(stream, bytes)),
            Some(ExecEvent::Exit(outcome)) => Ok(ExecItem::Exit(ExecExit {
                outcome,
                killed_because: outcome.limit.map(|limit| match limit {
                    LimitHit::ExecCpuTime => "its cpu_time is used up".to_owned(),
                    LimitHit::SandboxCpuTime => "the cpu_time of its sandbox is used up".to_owned(),
                    LimitHit::ExecFuel => "its fuel is used up".to_owned(),
                }),
            })),
            Some(ExecEvent::Failed(error)) => Err(SandboxError::of_provider(&self.sandbox.id, error)),
            // The provider may have dropped the command because its sandbox ended.
            None if self.sandbox.ended.is_cancelled() => Ok(ExecItem::Exit(self.killed())),
            None => Err(SandboxError::Provider(ProviderError::Internal(
                "the command's channel closed before it reported an exit".to_owned(),
            ))),
        }
    }

    /// A handle to send it signals with.
    #[must_use]
    pub fn control(&self) -> Arc<dyn ExecControl> {
        Arc::clone(&self.execution.control)
    }

    /// Time since the command started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The end of a command whose sandbox ended first.
    fn killed(&self) -> ExecExit {
        let id = &self.sandbox.id;
        let killed_because = if self.stopping.is_cancelled() {
            "the server is shutting down".to_owned()
        } else {
            format!("sandbox {id} was destroyed or expired")
        };
        let outcome = ExecOutcome {
            exit_code: KILLED,
            timed_out: false,
            duration: self.started.elapsed(),
            cpu_time: None,
            fuel_used: None,
            limit: None,
        };
        ExecExit {
            outcome,
            killed_because: Some(killed_because),
        }
    }
}
