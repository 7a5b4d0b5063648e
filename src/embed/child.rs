//! Commands that run.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Error, LimitHit, Sandbox, Signal};
use crate::provider::{ExecEvent, ExecOutcome, Execution, OutputStream};

/// A command that runs. Dropping it kills the command and what it started in the foreground.
pub struct Child {
    execution: Execution,
    stdin: Option<mpsc::Sender<Bytes>>,
    end: Option<Result<Exit, Error>>,
    /// A command needs its sandbox.
    _sandbox: Sandbox,
}

/// A piece of what a command writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Written to descriptor 1.
    Stdout(Bytes),
    /// Written to descriptor 2.
    Stderr(Bytes),
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exit {
    /// As `$?` of a shell: 126 and 127 when there was nothing to run, 128 + signal when it was killed, 124 when its
    /// timeout ended it.
    pub code: i32,
    /// Whether its timeout ended it.
    pub timed_out: bool,
    /// The budget that ended it, if one did.
    pub limit: Option<LimitHit>,
    /// Time from its start to its end.
    pub duration: Duration,
    /// Processor time of all it started; `None` for a command that never ran.
    pub cpu_time: Option<Duration>,
    /// Units of fuel that all it started used; `None` when they were not counted.
    pub fuel_used: Option<u64>,
}

impl Exit {
    /// Whether it ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == 0
    }
}

impl From<ExecOutcome> for Exit {
    fn from(outcome: ExecOutcome) -> Self {
        Self {
            code: outcome.exit_code,
            timed_out: outcome.timed_out,
            limit: outcome.limit,
            duration: outcome.duration,
            cpu_time: outcome.cpu_time,
            fuel_used: outcome.fuel_used,
        }
    }
}

impl Child {
    pub(super) fn new(sandbox: Sandbox, execution: Execution, stdin: Option<mpsc::Sender<Bytes>>) -> Self {
        Self {
            execution,
            stdin,
            end: None,
            _sandbox: sandbox,
        }
    }

    /// The next piece of output; `None` when there will be no more, which is when the command has ended.
    ///
    /// ```
    /// use wisp::Event;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let mut child = sandbox.shell("echo out; echo err >&2").spawn().await?;
    /// while let Some(event) = child.next_event().await {
    ///     match event {
    ///         Event::Stdout(bytes) => assert_eq!(bytes, "out\n"),
    ///         Event::Stderr(bytes) => assert_eq!(bytes, "err\n"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next_event(&mut self) -> Option<Event> {
        if self.end.is_some() {
            return None;
        }
        let end = match self.execution.events.recv().await {
            Some(ExecEvent::Output(OutputStream::Stdout, bytes)) => return Some(Event::Stdout(bytes)),
            Some(ExecEvent::Output(OutputStream::Stderr, bytes)) => return Some(Event::Stderr(bytes)),
            Some(ExecEvent::Exit(outcome)) => Ok(outcome.into()),
            Some(ExecEvent::Failed(error)) => Err(error.into()),
            None => Err(Error::Internal("the command was lost".to_owned())),
        };
        self.end = Some(end);
        None
    }

    /// Writes to its standard input, and waits while it has more to read than it may have waiting. Bytes that nobody will
    /// read are dropped without an error.
    ///
    /// # Errors
    /// [`Error::Invalid`] when the command was not started with [`Command::stdin_piped`](super::Command::stdin_piped), or
    /// its input was closed.
    pub async fn write_stdin(&mut self, bytes: impl Into<Bytes>) -> Result<(), Error> {
        let Some(stdin) = &self.stdin else {
            return Err(Error::Invalid("the command has no open pipe as its input".to_owned()));
        };
        // It fails only when the command has ended.
        let _ = stdin.send(bytes.into()).await;
        Ok(())
    }

    /// Ends its standard input: the command reads what was written, then the end of the file.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal to the command and what it started in the foreground. Not an error when it has ended.
    ///
    /// # Errors
    /// [`Error::Internal`] when it cannot be sent.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let child = sandbox.command("sleep").arg("60").spawn().await?;
    /// child.signal(wisp::Signal::Term).await?;
    /// assert_eq!(child.wait().await?.code, 128 + 15);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn signal(&self, signal: Signal) -> Result<(), Error> {
        Ok(self.execution.control.signal(signal).await?)
    }

    /// Waits for its end. Output that was not read is thrown away. Its input is closed first.
    ///
    /// # Errors
    /// [`Error::Internal`] when how it ended cannot be told.
    pub async fn wait(mut self) -> Result<Exit, Error> {
        self.close_stdin();
        while self.next_event().await.is_some() {}
        self.end
            .unwrap_or_else(|| Err(Error::Internal("the command has no end".to_owned())))
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Child")
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
