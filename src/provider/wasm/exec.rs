//! Commands: from the provider's terms to the kernel's.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::{Machine, simple_command};
use crate::kernel::{ExecError, ExecRequest, ExecSignals, Input, InputWriter, OutputSink, Stream};
use crate::provider::{
    Command, ExecControl, ExecEvent, ExecOutcome, ExecSpec, Execution, NoControl, OutputStream, ProviderError, Signal,
    Stdin,
};

/// Pieces of output that may wait for the reader before the command is held back.
const OUTPUT_QUEUE: usize = 16;
/// The shell of shell mode.
const SHELL: &str = "/bin/sh";
/// What a command that its deadline ended is said to exit with, as `timeout(1)` does.
const TIMED_OUT: i32 = 124;

/// Starts a command.
pub fn start(machine: &Machine, exec: ExecSpec) -> Result<Execution, ProviderError> {
    let cwd = exec.workdir.unwrap_or_else(|| machine.workdir.clone());
    let mut environment = environment(&machine.env, &exec.env)?;
    let (path, argv) = match exec.command {
        Command::Shell(script) => match without_shell(machine, &script, &mut environment, &cwd) {
            Some(argv) => (String::new(), argv),
            None => (SHELL.to_owned(), vec!["sh".to_owned(), "-c".to_owned(), script]),
        },
        Command::Argv(argv) => (String::new(), argv),
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
    };
    let running = match machine.kernel.exec(request) {
        Ok(running) => running,
        Err(ExecError::NotRunnable { exit_code, message }) => {
            return Ok(not_runnable(&sender, events, exit_code, &message));
        }
        Err(error @ ExecError::NoSuchDirectory(_)) => return Err(ProviderError::Invalid(error.to_string())),
        Err(error @ ExecError::LimitReached(_)) => return Err(limit_reached(error)),
    };
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

fn limit_reached(error: ExecError) -> ProviderError {
    ProviderError::LimitReached(error.to_string())
}

/// The program and arguments of a script that is one simple command, if a shell would do nothing but start it; adds to the
/// environment what the shell would add.
fn without_shell(machine: &Machine, script: &str, environment: &mut Vec<Vec<u8>>, cwd: &str) -> Option<Vec<String>> {
    let words = simple_command::words(script)?;
    let shell = machine.shell.as_ref()?;
    let argv: Vec<Vec<u8>> = words.iter().map(|word| word.clone().into_bytes()).collect();
    let as_usual = simple_command::is_usual_environment(environment)
        && machine.kernel.is_program(SHELL.as_bytes(), shell)
        // The shell says why a command cannot be run, and runs scripts that name no interpreter.
        && machine.kernel.can_start(&argv, environment, cwd.as_bytes());
    as_usual.then(|| {
        environment.push(simple_command::SHELL_LEVEL.to_vec());
        words
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
    message: &str,
) -> Execution {
    let exit = ExecOutcome {
        exit_code: i32::from(exit_code),
        timed_out: false,
        duration: std::time::Duration::ZERO,
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
