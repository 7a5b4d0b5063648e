//! Processes started in a container, and how they are found again to be signalled and killed.
//!
//! The engine's API starts processes but does not end them. So each is started below an init of its own, the same
//! `docker-init` that is the container's process 1, told to be a subreaper: whatever a command starts stays a
//! descendant of that init, also what takes a session of its own and loses its parent, until the command ends.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use super::container;
use super::engine::{Connection, Engine, has_status};
use crate::provider::{ProviderError, Signal};

/// The init that the engine puts into every container which asks for one.
const INIT: &str = "/sbin/docker-init";
/// What every token begins with.
const TOKEN: &str = "wisp-exec-";
/// Becomes the program, after the token by which the launch is found among the processes. One line, because
/// `processes.sh` looks for the token on the line that names the init.
const LAUNCH: &str = r#"shift; exec "$@""#;
const KILL: &str = concat!(include_str!("scripts/processes.sh"), include_str!("scripts/kill.sh"));
const SIGNAL: &str = concat!(include_str!("scripts/processes.sh"), include_str!("scripts/signal.sh"));
/// How often killing is tried before the whole container is restarted.
const KILL_ATTEMPTS: usize = 3;
/// How long one attempt may take.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How often the engine is asked whether a process has ended.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A program to start in a container.
#[derive(Default)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// `NAME=value`, on top of the container's.
    pub env: Vec<String>,
    /// Where it starts; the container's own directory when `None`.
    pub workdir: Option<String>,
    /// Whether something will be written to its standard input.
    pub stdin: bool,
}

/// A process that was started. Dropped before [`Launch::ended`], it is killed with all its descendants.
pub struct Launch {
    engine: Arc<Engine>,
    connection: Arc<Connection>,
    container: String,
    exec: String,
    token: String,
    /// Its standard output and standard error, as they come.
    pub output: BoxStream<'static, Result<LogOutput, Error>>,
    /// What it reads. Dropping it does not end the input; shutting it down does.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    ended: bool,
}

/// The name of a launch, for signals.
#[derive(Clone)]
pub struct Handle {
    engine: Arc<Engine>,
    container: String,
    token: String,
}

/// Starts a process in a container, which is started itself if it has stopped.
///
/// # Errors
/// [`ProviderError::SandboxNotFound`] when there is no such container.
pub async fn launch(engine: &Arc<Engine>, container: &str, program: Program) -> Result<Launch, ProviderError> {
    let connection = engine.connect().await?;
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| ProviderError::Internal(format!("no random bytes: {error}")))?;
    let token = format!("{TOKEN}{}", hex::encode(random));
    let launcher = [INIT, "-s", "-g", "--", "/bin/sh", "-c", LAUNCH, "sh", &token];
    let argv = launcher.into_iter().map(str::to_owned).chain(program.argv).collect();
    let options = CreateExecOptions {
        attach_stdin: Some(program.stdin),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        env: Some(program.env),
        cmd: Some(argv),
        working_dir: program.workdir,
        ..CreateExecOptions::default()
    };
    let exec = create_exec(engine, &connection, container, options).await?;
    let started = connection.docker.start_exec(&exec, None).await;
    match started.map_err(|error| engine.failure(error))? {
        StartExecResults::Attached { output, input } => Ok(Launch {
            engine: Arc::clone(engine),
            connection,
            container: container.to_owned(),
            exec,
            token,
            output,
            input: Some(input),
            ended: false,
        }),
        StartExecResults::Detached => Err(ProviderError::Internal(
            "the Docker Engine started a process without its streams".to_owned(),
        )),
    }
}

/// A guest that kills all its processes ends the container's own as well, and with it the container; its files stay.
async fn create_exec(
    engine: &Engine,
    connection: &Connection,
    container: &str,
    options: CreateExecOptions<String>,
) -> Result<String, ProviderError> {
    let created = match connection.docker.create_exec(container, options.clone()).await {
        Err(error) if has_status(&error, 409) => {
            container::start(engine, connection, container).await?;
            connection.docker.create_exec(container, options).await
        }
        created => created,
    };
    Ok(created.map_err(|error| engine.failure(error))?.id)
}

impl Launch {
    /// What signals are sent to.
    pub fn handle(&self) -> Handle {
        Handle {
            engine: Arc::clone(&self.engine),
            container: self.container.clone(),
            token: self.token.clone(),
        }
    }

    /// Waits until the process has ended, and tells its status: 128 + signal when it was killed.
    ///
    /// # Errors
    /// [`ProviderError::SandboxNotFound`] when the container is gone.
    pub async fn ended(&mut self) -> Result<i32, ProviderError> {
        let (mut pause, longest) = POLL;
        loop {
            let state = self.connection.docker.inspect_exec(&self.exec).await;
            let state = state.map_err(|error| self.engine.failure(error))?;
            // Before it runs, and between its end and the engine's notice of it, there is no status.
            if let (Some(false), Some(code)) = (state.running, state.exit_code) {
                self.ended = true;
                return Ok(i32::try_from(code).unwrap_or(i32::MAX));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(longest);
        }
    }

    /// Kills it with all its descendants. They are gone when this returns, and the launch has ended.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn kill(&mut self) -> Result<(), ProviderError> {
        self.handle().kill().await?;
        self.ended = true;
        Ok(())
    }

    /// Leaves the process to itself when this is dropped.
    pub fn let_go(&mut self) {
        self.ended = true;
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let handle = self.handle();
        // Without a runtime, the process that started it is ending.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                match handle.kill().await {
                    Ok(()) | Err(ProviderError::SandboxNotFound) => {}
                    Err(error) => {
                        tracing::error!(container = handle.container, %error, "a command could not be killed");
                    }
                }
            });
        }
    }
}

impl Handle {
    /// Sends a signal to what runs in the foreground.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn signal(&self, signal: Signal) -> Result<(), ProviderError> {
        let name = match signal {
            Signal::Hup => "HUP",
            Signal::Int => "INT",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            Signal::Term => "TERM",
            Signal::Kill => return self.kill().await,
        };
        run_bare(&self.engine, &self.container, &[SIGNAL, "sh", &self.token, name])
            .await
            .map(|_| ())
    }

    /// Kills the process with all its descendants.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn kill(&self) -> Result<(), ProviderError> {
        kill(&self.engine, &self.container, &self.token).await
    }
}

/// Kills what an earlier server has started in a container.
///
/// # Errors
/// When the engine does not answer.
pub async fn kill_all(engine: &Arc<Engine>, container: &str) -> Result<(), ProviderError> {
    kill(engine, container, TOKEN).await
}

/// A guest may kill the killer, which runs as the same user; it does not get far with that.
async fn kill(engine: &Arc<Engine>, container: &str, token: &str) -> Result<(), ProviderError> {
    for _ in 0..KILL_ATTEMPTS {
        let script = [KILL, "sh", token];
        let killed = run_bare(engine, container, &script);
        match tokio::time::timeout(KILL_TIME, killed).await {
            Ok(Ok(0)) => return Ok(()),
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => return Err(error),
        }
    }
    tracing::warn!(container, "a command resists; its container is restarted");
    let connection = engine.connect().await?;
    container::restart(engine, &connection, container).await
}

/// Runs a shell script outside of any launch; tells its status.
async fn run_bare(engine: &Arc<Engine>, container: &str, script: &[&str]) -> Result<i32, ProviderError> {
    let connection = engine.connect().await?;
    let argv = ["/bin/sh", "-c"]
        .into_iter()
        .chain(script.iter().copied())
        .map(str::to_owned);
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(argv.collect()),
        working_dir: Some("/".to_owned()),
        ..CreateExecOptions::default()
    };
    let exec = match connection.docker.create_exec(container, options).await {
        // Nothing runs in a container that has stopped.
        Err(error) if has_status(&error, 409) => return Ok(0),
        created => created.map_err(|error| engine.failure(error))?.id,
    };
    let started = connection.docker.start_exec(&exec, None).await;
    let StartExecResults::Attached { output, input } = started.map_err(|error| engine.failure(error))? else {
        return Err(ProviderError::Internal("a script lost its streams".to_owned()));
    };
    let mut launch = Launch {
        engine: Arc::clone(engine),
        connection,
        container: container.to_owned(),
        exec,
        token: String::new(),
        output,
        input: Some(input),
        // It ends by itself.
        ended: true,
    };
    while launch.output.next().await.is_some() {}
    launch.ended().await
}
