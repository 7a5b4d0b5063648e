//! Commands: from the provider's terms to the engine's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bollard::container::LogOutput;
use bollard::query_parameters::EventsOptionsBuilder;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::engine::Engine;
use super::launch::{self, Handle, Launch, Program};
use super::{container, files};
use crate::provider::{
    Command, ExecControl, ExecEvent, ExecOutcome, ExecSpec, Execution, NoControl, OutputStream, ProviderError, Signal,
    Stdin,
};

/// Pieces of output that may wait for the reader before the command is held back.
const OUTPUT_QUEUE: usize = 16;
/// What a command that its deadline ended is said to exit with, as `timeout(1)` does.
const TIMED_OUT: i32 = 124;
/// 128 + SIGKILL.
const KILLED: i32 = 137;
/// Longest argument (`MAX_ARG_STRLEN` of Linux), and most bytes of all of them that surely fit.
const MAX_ARGUMENT: usize = (128 << 10) - 1;
const MAX_ARGUMENTS: usize = 1 << 20;
/// How long output that was written before a command was killed may take to arrive.
const LAST_OUTPUT: Duration = Duration::from_secs(1);
/// How long the engine may take to tell that the kernel has killed for want of memory.
const OOM_NOTICE: Duration = Duration::from_millis(300);

/// Starts a command.
///
/// # Errors
/// A sandbox or a directory that is not there, a NUL byte, an engine that does not answer.
pub async fn start(engine: &Arc<Engine>, container: &str, exec: ExecSpec) -> Result<Execution, ProviderError> {
    let argv = match exec.command {
        Command::Shell(script) => vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
        Command::Argv(argv) => argv,
    };
    if argv.iter().chain(&exec.workdir).any(|text| text.contains('\0')) {
        return Err(ProviderError::Invalid(
            "a command and its directory must not contain NUL".to_owned(),
        ));
    }
    let bad = |(name, value): (&String, &String)| name.is_empty() || name.contains(['=', '\0']) || value.contains('\0');
    if exec.env.iter().any(bad) {
        return Err(ProviderError::Invalid(
            "an environment variable has a bad name or a NUL in its value".to_owned(),
        ));
    }
    let env: Vec<String> = exec.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let strings = || argv.iter().chain(&env);
    if strings().any(|text| text.len() > MAX_ARGUMENT)
        || strings().map(|text| text.len() + 1).sum::<usize>() > MAX_ARGUMENTS
    {
        return Ok(too_long(&argv[0]));
    }
    if let Some(workdir) = &exec.workdir {
        files::must_be_directory(engine, container, workdir).await?;
    }
    let input = match exec.stdin {
        Stdin::Bytes(bytes) if bytes.is_empty() => None,
        stdin => Some(stdin),
    };
    let program = Program {
        argv,
        env,
        workdir: exec.workdir,
        stdin: input.is_some(),
    };
    let mut launch = launch::launch(engine, container, program).await?;
    let begun = SystemTime::now();
    let started = Instant::now();
    let (sender, events) = mpsc::channel(OUTPUT_QUEUE);
    let cancelled = CancellationToken::new();
    let ended = Arc::new(AtomicBool::new(false));
    let control = Arc::new(Control {
        handle: launch.handle(),
        ended: Arc::clone(&ended),
    });
    let feeder = match (input, launch.input.take()) {
        (Some(stdin), Some(input)) => Some(tokio::spawn(feed(stdin, input)).abort_handle()),
        (_, input) => {
            launch.input = input;
            None
        }
    };
    let running = Running {
        engine: Arc::clone(engine),
        container: container.to_owned(),
        launch,
        sender,
        cancelled: cancelled.clone(),
        begun,
        started,
        deadline: started + exec.timeout,
    };
    tokio::spawn(async move {
        running.run().await;
        ended.store(true, Ordering::Relaxed);
        if let Some(feeder) = feeder {
            feeder.abort();
        }
    });
    Ok(Execution {
        events: events.into(),
        control,
        cancel: Box::new(Cancel(cancelled.drop_guard())),
    })
}

/// Cancels a command when it is dropped.
struct Cancel(#[expect(dead_code, reason = "held for its `Drop`")] DropGuard);

struct Control {
    handle: Handle,
    ended: Arc<AtomicBool>,
}

#[async_trait]
impl ExecControl for Control {
    async fn signal(&self, signal: Signal) -> Result<(), ProviderError> {
        if self.ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.handle.signal(signal).await
    }
}

/// Writes a command's standard input. That a command does not read it is no error.
async fn feed(stdin: Stdin, mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>) {
    match stdin {
        Stdin::Bytes(bytes) => {
            let _ = input.write_all(&bytes).await;
        }
        Stdin::Stream(mut pieces) => {
            while let Some(bytes) = pieces.recv().await {
                if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = input.shutdown().await;
}

/// A command whose arguments the kernel would refuse: it ends at once, as it would in a shell.
fn too_long(program: &str) -> Execution {
    let (sender, events) = mpsc::channel(OUTPUT_QUEUE);
    let message = format!("{program}: argument list too long\n");
    // The queue is empty and has room for both.
    let _ = sender.try_send(ExecEvent::Output(OutputStream::Stderr, message.into()));
    let _ = sender.try_send(ExecEvent::Exit(ExecOutcome {
        exit_code: 126,
        timed_out: false,
        duration: Duration::ZERO,
        cpu_time: None,
        fuel_used: None,
        limit: None,
    }));
    Execution {
        events: events.into(),
        control: Arc::new(NoControl),
        cancel: Box::new(()),
    }
}

struct Running {
    engine: Arc<Engine>,
    container: String,
    launch: Launch,
    sender: mpsc::Sender<ExecEvent>,
    cancelled: CancellationToken,
    /// When it began, for the engine's record of events.
    begun: SystemTime,
    started: Instant,
    deadline: Instant,
}

/// Why a command is no longer waited for.
enum Stop {
    /// It ended.
    Ended(i32),
    /// Its time is over.
    TimedOut,
    /// Nobody wants it any more, or it is lost.
    Cancelled,
}

impl Running {
    async fn run(mut self) {
        let cancelled = self.cancelled.clone();
        let deadline = self.deadline;
        let stop = tokio::select! {
            stop = self.pass_on() => stop,
            () = tokio::time::sleep_until(deadline) => Stop::TimedOut,
            () = cancelled.cancelled() => Stop::Cancelled,
        };
        let exit_code = match stop {
            Stop::Ended(code) => {
                if code == KILLED && self.out_of_memory().await {
                    self.say_out_of_memory().await;
                }
                code
            }
            Stop::TimedOut => {
                if let Err(error) = self.launch.kill().await {
                    tracing::error!(container = self.container, %error, "a command could not be killed");
                }
                // What it wrote before.
                let _ = tokio::time::timeout(LAST_OUTPUT, self.pass_on()).await;
                TIMED_OUT
            }
            // Dropping the launch kills it.
            Stop::Cancelled => return,
        };
        let exit = ExecOutcome {
            exit_code,
            timed_out: matches!(stop, Stop::TimedOut),
            duration: self.started.elapsed(),
            cpu_time: None,
            fuel_used: None,
            limit: None,
        };
        // Nobody may be listening any more.
        let _ = self.sender.send(ExecEvent::Exit(exit)).await;
    }

    /// Passes output on until the command ends.
    async fn pass_on(&mut self) -> Stop {
        while let Some(piece) = self.launch.output.next().await {
            let (stream, bytes) = match piece {
                Ok(LogOutput::StdErr { message }) => (OutputStream::Stderr, message),
                Ok(other) => (OutputStream::Stdout, other.into_bytes()),
                // The engine has gone, or tells more when it is asked for the status.
                Err(_) => break,
            };
            if self.sender.send(ExecEvent::Output(stream, bytes)).await.is_err() {
                return Stop::Cancelled;
            }
        }
        // It may have closed its output and run on.
        match self.launch.ended().await {
            Ok(code) => Stop::Ended(code),
            Err(error) => {
                tracing::warn!(container = self.container, %error, "a command is lost");
                Stop::Cancelled
            }
        }
    }

    /// Whether the kernel has killed something in the container for want of memory since the command began.
    async fn out_of_memory(&mut self) -> bool {
        let Ok(connection) = self.engine.connect().await else {
            return false;
        };
        let seconds = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            format!("{}.{:09}", since.as_secs(), since.subsec_nanos())
        };
        let filters = [
            ("container", vec![self.container.clone()]),
            ("event", vec!["oom".to_owned()]),
        ];
        let options = EventsOptionsBuilder::default()
            .since(&seconds(self.begun))
            .until(&seconds(SystemTime::now() + OOM_NOTICE))
            .filters(
                &filters
                    .into_iter()
                    .map(|(name, values)| (name.to_owned(), values))
                    .collect(),
            )
            .build();
        let mut events = std::pin::pin!(connection.docker.events(Some(options)));
        let first = tokio::time::timeout(2 * OOM_NOTICE, events.next()).await;
        matches!(first, Ok(Some(Ok(_))))
    }

    async fn say_out_of_memory(&mut self) {
        let limit = container::memory_mb(&self.engine, &self.container).await;
        let line = format!("killed: memory limit of {limit} MiB reached\n");
        let line = ExecEvent::Output(OutputStream::Stderr, Bytes::from(line));
        let _ = self.sender.send(line).await;
    }
}
