//! Commands: from the provider's terms to the kernel's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Machine, simple_command};
use crate::kernel::{self, ExecError, ExecRequest, ExecSignals, Input, InputWriter, OutputSink, SimpleCommand, Stream};
use crate::provider::{
    Command, ExecControl, ExecEvent, ExecOutcome, ExecSpec, Execution, LimitHit, NoControl, OutputStream,
    ProviderError, Signal, Stdin,
};

/// Pieces of output that may wait for the reader before the command is held back.
const OUTPUT_QUEUE: usize = kernel::MAX_WAITING / kernel::MAX_PIECE;
/// The shell of shell mode.
const SHELL: &str = "/bin/sh";
/// What a command that its deadline ended is said to exit with, as `timeout(1)` does.
const TIMED_OUT: i32 = 124;

/// Starts a command. What takes as long as its sender wants it to is done by the command's own process.
pub async fn start(machine: &Machine, exec: ExecSpec) -> Result<Execution, ProviderError> {
    let cwd = exec.workdir.unwrap_or_else(|| machine.workdir.clone());
    let environment = environment(&machine.env, &exec.env)?;
    let (path, argv, simple_command) = match exec.command {
        Command::Shell(script) => {
            let simple_command = simple_command(machine, &script, &environment);
            let argv = vec!["sh".to_owned(), "-c".to_owned(), script];
            (SHELL.to_owned(), argv, simple_command)
        }
        Command::Argv(argv) => (String::new(), argv, None),
    };
    if argv.iter().chain([&cwd]).any(|text| text.contains('\0')) {
        return Err(ProviderError::Invalid(
            "a command and its directory must not contain NUL".to_owned(),
        ));
    }
    let (sender, events) = mpsc::channel(OUTPUT_QUEUE);
    let (stdin, feed) = match exec.stdin {
        Stdin::Bytes(bytes) => (Input::Bytes(bytes), None),
        Stdin::Stream(pieces) => {
            let (reader, writer) = machine.kernel.input_pipe().map_err(limit_reached)?;
            (Input::Pipe(reader), Some((pieces, writer)))
        }
    };
    let request = ExecRequest {
        path: path.into_bytes(),
        argv: argv.into_iter().map(String::into_bytes).collect(),
        environment,
        cwd: cwd.into_bytes(),
        stdin,
        output: Arc::new(EventSink(sender.clone())),
        cpu_time: exec.cpu_time,
        fuel: exec.fuel,
        simple_command,
    };
    let mut running = machine.kernel.exec(request).map_err(not_started)?;
    match running.started(exec.timeout).await {
        Ok(()) => {}
        Err(ExecError::NotRunnable { exit_code, message }) => {
            let fuel_used = exec.fuel.map(|_| 0);
            return Ok(not_runnable(&sender, events, exit_code, fuel_used, &message));
        }
        Err(error @ ExecError::NoSuchDirectory(_)) => return Err(ProviderError::Invalid(error.to_string())),
        Err(error) => return Err(not_started(error)),
    }
    if let Some((pieces, writer)) = feed {
        tokio::spawn(pass_on(pieces, writer));
    }
    let control = Arc::new(Control(running.signals()));
    let files = machine.files.clone();
    let task = tokio::spawn(async move {
        let outcome = running.wait(exec.timeout).await;
        // Whoever is told that the command has ended finds its files again after a restart.
        match files.sync().await {
            // Of a sandbox that was destroyed meanwhile nothing is to be kept.
            Ok(()) | Err(ProviderError::SandboxNotFound) => {}
            Err(error) => {
                tracing::error!(%error, "the files of a command that ended cannot be kept");
                // Nobody may be listening any more.
                let _ = sender.send(ExecEvent::Failed(error)).await;
                return;
            }
        }
        let exit_code = if outcome.timed_out {
            TIMED_OUT
        } else {
            outcome.status.shell_code()
        };
        let exit = ExecOutcome {
            exit_code,
            timed_out: outcome.timed_out,
            duration: outcome.duration,
            cpu_time: Some(outcome.cpu_time),
            fuel_used: outcome.fuel_used,
            limit: outcome.limit.map(|limit| match limit {
                kernel::LimitHit::ExecCpuTime => LimitHit::ExecCpuTime,
                kernel::LimitHit::SandboxCpuTime => LimitHit::SandboxCpuTime,
                kernel::LimitHit::ExecFuel => LimitHit::ExecFuel,
            }),
        };
        // Nobody may be listening any more.
        let _ = sender.send(ExecEvent::Exit(exit)).await;
    });
    Ok(Execution {
        events: events.into(),
        control,
        cancel: Box::new(CancelOnDrop(task.abort_handle())),
    })
}

/// Why a command that could be run is not.
fn not_started(error: ExecError) -> ProviderError {
    match error {
        ExecError::FuelNotCounted => ProviderError::Unsupported(
            "this server does not count fuel; leave fuel out, or have the server's configuration say `fuel = true`"
                .to_owned(),
        ),
        error => limit_reached(error),
    }
}

fn limit_reached(error: ExecError) -> ProviderError {
    ProviderError::LimitReached(error.to_string())
}

/// The simple command that a script consists of, if the sandbox has a shell that is known to understand it so.
fn simple_command(machine: &Machine, script: &str, environment: &[Vec<u8>]) -> Option<SimpleCommand> {
    let words = simple_command::words(script)?;
    let shell = machine.shell.clone()?;
    simple_command::is_usual_environment(environment).then(|| SimpleCommand {
        shell,
        argv: words.into_iter().map(String::into_bytes).collect(),
        variable: simple_command::SHELL_LEVEL.to_vec(),
    })
}

/// Passes input on to a command until it ends or nobody reads it any more.
async fn pass_on(mut pieces: mpsc::Receiver<Bytes>, writer: InputWriter) {
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            () = writer.closed() => return,
        };
        let Some(piece) = piece else { return };
        if writer.write_all(&piece).await.is_err() {
            return;
        }
    }
}

/// Sends signals to a command.
struct Control(ExecSignals);

#[async_trait]
impl ExecControl for Control {
    async fn signal(&self, signal: Signal) -> Result<(), ProviderError> {
        self.0.send(signal.number());
        Ok(())
    }
}

/// The environment of a command: the machine's, overridden by its own.
fn environment(
    machine: &BTreeMap<String, String>,
    own: &BTreeMap<String, String>,
) -> Result<Vec<Vec<u8>>, ProviderError> {
    let bad = |(name, value): (&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
    if own.iter().any(bad) {
        return Err(ProviderError::Invalid(
            "an environment variable has a bad name or a NUL in its value".to_owned(),
        ));
    }
    let kept = machine.iter().filter(|(name, _)| !own.contains_key(*name));
    Ok(kept
        .chain(own)
        .map(|(name, value)| format!("{name}={value}").into_bytes())
        .collect())
}

/// A command that never ran: it ends at once, as it would in a shell.
fn not_runnable(
    sender: &mpsc::Sender<ExecEvent>,
    events: mpsc::Receiver<ExecEvent>,
    exit_code: u8,
    fuel_used: Option<u64>,
    message: &str,
) -> Execution {
    let exit = ExecOutcome {
        exit_code: i32::from(exit_code),
        timed_out: false,
        duration: std::time::Duration::ZERO,
        cpu_time: None,
        fuel_used,
        limit: None,
    };
    // The queue is empty and has room for both.
    let _ = sender.try_send(ExecEvent::Output(
        OutputStream::Stderr,
        Bytes::from(format!("{message}\n")),
    ));
    let _ = sender.try_send(ExecEvent::Exit(exit));
    Execution {
        events: events.into(),
        control: Arc::new(NoControl),
        cancel: Box::new(()),
    }
}

/// Passes a console's output on as events.
struct EventSink(mpsc::Sender<ExecEvent>);

#[async_trait]
impl OutputSink for EventSink {
    async fn write(&self, stream: Stream, bytes: Bytes) {
        let stream = match stream {
            Stream::Stdout => OutputStream::Stdout,
            Stream::Stderr => OutputStream::Stderr,
        };
        // Nobody may be listening any more.
        let _ = self.0.send(ExecEvent::Output(stream, bytes)).await;
    }
}

/// Ends the task that waits for a command, which ends the command.
struct CancelOnDrop(AbortHandle);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
