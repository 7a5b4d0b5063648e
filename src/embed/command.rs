//! Commands: what to run and how.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Child, Error, Event, Exit, Sandbox};
use crate::provider::{self, ExecSpec, GuestPath, Stdin};

/// Wall-clock limit of a command that sets none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of output that [`Command::output`] keeps if nothing else is said, of stdout and stderr together.
const DEFAULT_MAX_OUTPUT: usize = 16 << 20;
/// Pieces of input that may wait for the command.
const INPUT_QUEUE: usize = 8;

/// A command to run in a sandbox: made by [`Sandbox::command`] or [`Sandbox::shell`].
#[derive(Debug, Clone)]
pub struct Command {
    sandbox: Sandbox,
    invocation: provider::Command,
    env: BTreeMap<String, String>,
    workdir: Option<String>,
    timeout: Duration,
    cpu_time: Option<Duration>,
    fuel: Option<u64>,
    stdin: Input,
    max_output: usize,
}

#[derive(Debug, Clone)]
enum Input {
    Bytes(Bytes),
    Piped,
}

/// What a command wrote, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// What it wrote to descriptor 1.
    pub stdout: Vec<u8>,
    /// What it wrote to descriptor 2.
    pub stderr: Vec<u8>,
    /// Whether output beyond [`Command::max_output`] was thrown away.
    pub truncated: bool,
    /// How it ended.
    pub exit: Exit,
}

impl Output {
    /// Whether the command ended by itself with code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.exit.success()
    }
}

impl Command {
    pub(super) fn program(sandbox: Sandbox, program: String) -> Self {
        Self::new(sandbox, provider::Command::Argv(vec![program]))
    }

    pub(super) fn script(sandbox: Sandbox, script: String) -> Self {
        Self::new(sandbox, provider::Command::Shell(script))
    }

    fn new(sandbox: Sandbox, command: provider::Command) -> Self {
        Self {
            sandbox,
            invocation: command,
            env: BTreeMap::new(),
            workdir: None,
            timeout: DEFAULT_TIMEOUT,
            cpu_time: None,
            fuel: None,
            stdin: Input::Bytes(Bytes::new()),
            max_output: DEFAULT_MAX_OUTPUT,
        }
    }

    /// Adds an argument. For a script it is a positional parameter: `$1` and so on.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.invocation = match self.invocation {
            provider::Command::Argv(mut argv) => {
                argv.push(argument.into());
                provider::Command::Argv(argv)
            }
            provider::Command::Shell(script) => {
                let argv = ["sh", "-c"].map(str::to_owned).into_iter();
                provider::Command::Argv(argv.chain([script, "sh".to_owned(), argument.into()]).collect())
            }
        };
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, arguments: impl IntoIterator<Item = impl Into<String>>) -> Self {
        arguments.into_iter().fold(self, Self::arg)
    }

    /// Sets a variable of its environment, on top of the sandbox's and the image's.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The absolute directory it starts in; the image's if not set.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<String>) -> Self {
        self.workdir = Some(directory.into());
        self
    }

    /// How long it may take before it and all it started are killed, by the clock on the wall; 60 s if not set.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How much processor time it and all it starts may use. No limit if not set.
    #[must_use]
    pub fn cpu_time(mut self, cpu_time: Duration) -> Self {
        self.cpu_time = Some(cpu_time);
        self
    }

    /// How many units of fuel, about one an instruction, it and all it starts may use: a limit that is the same on every
    /// machine. It needs an engine with [`EngineBuilder::fuel`](super::EngineBuilder::fuel).
    #[must_use]
    pub fn fuel(mut self, fuel: u64) -> Self {
        self.fuel = Some(fuel);
        self
    }

    /// What it reads on descriptor 0, all at once.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Bytes>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Makes it read what [`Child::write_stdin`] writes.
    #[must_use]
    pub fn stdin_piped(mut self) -> Self {
        self.stdin = Input::Piped;
        self
    }

    /// Bytes of output that [`Command::output`] keeps, of stdout and stderr together; 16 MiB if not set. What comes after
    /// them is read and thrown away.
    #[must_use]
    pub fn max_output(mut self, bytes: usize) -> Self {
        self.max_output = bytes;
        self
    }

    /// Starts it. Output comes piece by piece; a caller that does not read holds the command back.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what cannot be a command, [`Error::LimitReached`] when the sandbox has no room for another
    /// process, [`Error::Unsupported`] for fuel without an engine that counts it. A program that does not exist is no
    /// error: it ends with code 127.
    ///
    /// ```
    /// use wisp::Event;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let mut child = sandbox.command("cat").stdin_piped().spawn().await?;
    /// child.write_stdin("hello").await?;
    /// assert_eq!(child.next_event().await, Some(Event::Stdout("hello".into())));
    /// child.close_stdin();
    /// assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn spawn(self) -> Result<Child, Error> {
        if let Some(directory) = &self.workdir {
            GuestPath::parse(directory)?;
        }
        let (stdin, writer) = match self.stdin {
            Input::Bytes(bytes) => (Stdin::Bytes(bytes), None),
            Input::Piped => {
                let (writer, pieces) = mpsc::channel(INPUT_QUEUE);
                (Stdin::Stream(pieces), Some(writer))
            }
        };
        let spec = ExecSpec {
            command: self.invocation,
            env: self.env,
            workdir: self.workdir,
            timeout: self.timeout,
            cpu_time: self.cpu_time,
            fuel: self.fuel,
            stdin,
        };
        let execution = self.sandbox.machine.exec(spec).await?;
        Ok(Child::new(self.sandbox, execution, writer))
    }

    /// Runs it to its end and collects what it writes.
    ///
    /// # Errors
    /// As [`Command::spawn`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), wisp::Error> {
    /// # let sandbox = wisp::Engine::new()?.sandbox("python:3.13").create().await?;
    /// let endless = sandbox.command("python3").args(["-c", "while True: pass"]);
    /// let output = endless.timeout(Duration::from_millis(200)).output().await?;
    /// assert!(output.exit.timed_out);
    /// assert_eq!(output.exit.code, 124);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn output(self) -> Result<Output, Error> {
        let max_output = self.max_output;
        let mut child = self.spawn().await?;
        child.close_stdin();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut truncated = false;
        while let Some(event) = child.next_event().await {
            let room = max_output - stdout.len() - stderr.len();
            let (into, bytes) = match &event {
                Event::Stdout(bytes) => (&mut stdout, bytes),
                Event::Stderr(bytes) => (&mut stderr, bytes),
            };
            let kept = bytes.len().min(room);
            into.extend_from_slice(&bytes[..kept]);
            truncated |= kept < bytes.len();
        }
        Ok(Output {
            stdout,
            stderr,
            truncated,
            exit: child.wait().await?,
        })
    }
}
