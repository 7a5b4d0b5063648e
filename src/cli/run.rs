//! `wisp run`: one command in a sandbox of its own, without a server.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::BytesMut;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{ProgramArgs, RunArgs};
use crate::image::ImageStore;
use crate::kernel::{Runtime, guest_threads};
use crate::provider::wasm::WasmProvider;
use crate::provider::{Command, ExecEvent, ExecSpec, Network, OutputStream, Provider as _, SandboxSpec, Stdin};

/// The tenant of the one sandbox.
const TENANT: &str = "default";
/// The sandbox's name; it is the only one of this process.
const ID: &str = "sandbox";
/// Bytes of input that are read at once.
const PIECE: usize = 64 << 10;
/// Most of a command's run time when none is asked for: in effect no limit.
const NO_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the command and returns its exit code.
///
/// # Errors
/// When there is no such image, or the command cannot be started.
pub async fn run(args: RunArgs) -> anyhow::Result<u8> {
    let runtime = Runtime::new(guest_threads())?;
    let provider = WasmProvider::new(runtime, Arc::new(ImageStore::open_default()?));
    let spec = SandboxSpec {
        image: args.image,
        memory_mb: args.memory_mb,
        vcpus: u32::try_from(guest_threads()).unwrap_or(1),
        disk_mb: args.disk_mb,
        cpu_time: None,
        env: BTreeMap::new(),
        network: Network::None,
    };
    provider.create(TENANT, ID, &spec).await?;
    let (stdin, feeding) = standard_input();
    let exec = ExecSpec {
        command: command(args.program),
        env: args.env.into_iter().collect(),
        workdir: args.workdir,
        timeout: args.timeout.map_or(NO_TIMEOUT, |timeout| timeout.0),
        cpu_time: None,
        fuel: None,
        stdin,
    };
    let mut running = provider.exec(ID, exec).await?;
    let mut exit_code = 1;
    while let Some(event) = running.events.recv().await {
        match event {
            ExecEvent::Output(OutputStream::Stdout, bytes) => pass_on(&mut std::io::stdout(), &bytes)?,
            ExecEvent::Output(OutputStream::Stderr, bytes) => pass_on(&mut std::io::stderr(), &bytes)?,
            ExecEvent::Exit(outcome) => exit_code = outcome.exit_code,
            ExecEvent::Failed(error) => return Err(error.into()),
        }
    }
    // While the command ran, input may have been waited for in vain; what matters is whether some was lost.
    if feeding.is_finished() {
        feeding.await?.context("cannot read standard input")?;
    }
    provider.destroy(ID).await?;
    Ok(u8::try_from(exit_code).unwrap_or(u8::MAX))
}

fn command(program: ProgramArgs) -> Command {
    match program.script {
        Some(script) => Command::Shell(script),
        None => Command::Argv(program.argv),
    }
}

/// Standard input as it comes, unless it is a terminal, and the task that reads it.
fn standard_input() -> (Stdin, JoinHandle<std::io::Result<()>>) {
    if std::io::stdin().is_terminal() {
        return (Stdin::default(), tokio::spawn(async { Ok(()) }));
    }
    let (sender, pieces) = mpsc::channel(1);
    let feeding = tokio::spawn(async move {
        let mut input = tokio::io::stdin();
        loop {
            let mut piece = BytesMut::with_capacity(PIECE);
            // The command ends, or closes its input, without having read it all: that is its own affair.
            if input.read_buf(&mut piece).await? == 0 || sender.send(piece.freeze()).await.is_err() {
                return Ok(());
            }
        }
    });
    (Stdin::Stream(pieces), feeding)
}

fn pass_on(stream: &mut impl std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)?;
    stream.flush()
}
