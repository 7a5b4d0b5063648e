//! The command line.

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
mod completions;
mod config;
mod doctor;
mod image_registry;
mod images;
mod keys;
#[cfg(feature = "client")]
mod man;
mod run;
mod serve;
mod terminal;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::duration::GoDuration;
#[cfg(feature = "compiler")]
use crate::image::{ChildLimits, ModuleOrigin, compile_in_child};

/// Disposable sandboxes over REST.
#[derive(Debug, Parser)]
#[command(name = "wisp", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the REST API.
    Serve(ServeArgs),
    /// Run one command in a sandbox of its own, without a server.
    Run(RunArgs),
    #[cfg(feature = "client")]
    /// Create a sandbox on a server and print its id.
    Create(CreateArgs),
    #[cfg(feature = "client")]
    /// Run a command in a sandbox on a server.
    ///
    /// Its output is passed on as text: what is no UTF-8 becomes U+FFFD. `wisp cp` copies any file.
    Exec(ExecArgs),
    #[cfg(feature = "client")]
    /// Copy files and directories into a sandbox on a server, or out of one.
    Cp(CopyArgs),
    #[cfg(feature = "client")]
    /// List the sandboxes of a server.
    #[command(visible_alias = "ls")]
    List(ListArgs),
    #[cfg(feature = "client")]
    /// Destroy sandboxes on a server.
    #[command(visible_alias = "rm")]
    Kill(KillArgs),
    /// Manage images on this machine.
    #[command(subcommand)]
    Images(images::ImagesCommand),
    /// Make, list and revoke API keys, beside a server that may be running.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show and check the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Tell what this machine lacks, and what to do about it.
    Doctor(doctor::DoctorArgs),
    #[cfg(feature = "client")]
    /// Print a shell's completions for wisp.
    Completions(completions::CompletionsArgs),
    #[cfg(feature = "client")]
    /// Print the manual page, or write all of them into a directory.
    Man(man::ManArgs),
    #[cfg(feature = "compiler")]
    /// Compile what comes on standard input, for the process that started this one.
    #[command(hide = true)]
    CompileModule(CompileModuleArgs),
    /// Run sandboxes for the server at the other end of standard input.
    #[command(hide = true)]
    Worker(WorkerArgs),
}

/// Arguments of `wisp worker`.
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Directory of the image store.
    #[arg(long)]
    pub cache: PathBuf,
    /// The server's process.
    #[arg(long)]
    pub parent: u32,
    /// Load code that counts fuel as well.
    #[arg(long)]
    pub fuel: bool,
    /// Images to load.
    pub images: Vec<String>,
}

/// Arguments of `wisp compile-module`.
#[cfg(feature = "compiler")]
#[derive(Debug, Args)]
pub struct CompileModuleArgs {
    /// Memory it may use, MiB.
    #[arg(long)]
    pub memory_mb: u64,
    /// Processor time it may use, seconds.
    #[arg(long)]
    pub cpu_seconds: u64,
    /// Compile code that counts fuel.
    #[arg(long)]
    pub fuel: bool,
    /// The module is a program of an image that was made elsewhere, not a user's.
    #[arg(long)]
    pub of_image: bool,
}

/// Arguments of `wisp serve`; each wins over the file and the environment.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Configuration file; without it, ./wisp.toml if there is one.
    #[arg(long, env = "WISP_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Serve without API keys on an address other machines can reach.
    #[arg(long)]
    pub allow_unauthenticated_remote: bool,
}

/// Arguments of `wisp run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Image to run it in.
    pub image: String,
    /// Memory, MiB.
    #[arg(long, default_value_t = 512)]
    pub memory_mb: u64,
    /// Files beyond the image, MiB.
    #[arg(long, default_value_t = 1024)]
    pub disk_mb: u64,
    /// Directory to start in.
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// Timeout, such as 30s; none by default.
    #[arg(long, value_parser = parse_duration)]
    pub timeout: Option<GoDuration>,
    /// Environment, NAME=VALUE; may be repeated.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse_assignment)]
    pub env: Vec<(String, String)>,
    /// What to run.
    #[command(flatten)]
    pub program: ProgramArgs,
}

/// How to reach a server.
#[cfg(feature = "client")]
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Base URL of the server.
    #[arg(long, env = "WISP_SERVER", default_value = "http://127.0.0.1:7423", global = true)]
    pub server: String,
    /// API key.
    #[arg(long, env = "WISP_API_KEY", hide_env_values = true, global = true)]
    pub api_key: Option<String>,
    /// User to act for.
    #[arg(long, env = "WISP_USER_ID", global = true)]
    pub user_id: Option<String>,
}

/// Arguments of `wisp create`.
#[cfg(feature = "client")]
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Image; the server's default when absent.
    pub image: Option<String>,
    /// Provider.
    #[arg(long)]
    pub provider: Option<String>,
    /// Memory, MiB.
    #[arg(long)]
    pub memory_mb: Option<u64>,
    /// Processes that may run at the same instant.
    #[arg(long)]
    pub vcpus: Option<u32>,
    /// Files beyond the image, MiB.
    #[arg(long)]
    pub disk_mb: Option<u64>,
    /// Time to live, such as 10m.
    #[arg(long, value_parser = parse_duration)]
    pub ttl: Option<GoDuration>,
    /// Environment of every command, NAME=VALUE; may be repeated.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse_assignment)]
    pub env: Vec<(String, String)>,
    /// Label, NAME=VALUE; may be repeated.
    #[arg(long = "metadata", value_name = "NAME=VALUE", value_parser = parse_assignment)]
    pub metadata: Vec<(String, String)>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// What to run: a script, or a program with arguments.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ProgramArgs {
    /// Script for the sandbox's shell.
    #[arg(short = 'c', long = "command", value_name = "SCRIPT")]
    pub script: Option<String>,
    /// Program and its arguments, without a shell.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PROGRAM")]
    pub argv: Vec<String>,
}

/// Arguments of `wisp exec`.
#[cfg(feature = "client")]
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// Id of the sandbox.
    pub id: String,
    /// Pass on standard input as it comes, and the signals INT (Ctrl-C), TERM and HUP. Ctrl-\ leaves at once.
    #[arg(short, long)]
    pub interactive: bool,
    /// Directory to start in.
    #[arg(short, long)]
    pub workdir: Option<String>,
    /// Timeout, such as 30s.
    #[arg(long, value_parser = parse_duration)]
    pub timeout: Option<GoDuration>,
    /// Units of fuel it may use; the amount used is printed at the end.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub fuel: Option<u64>,
    /// Environment, NAME=VALUE; may be repeated.
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = parse_assignment)]
    pub env: Vec<(String, String)>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to run.
    #[command(flatten)]
    pub program: ProgramArgs,
}

/// Arguments of `wisp cp`.
#[cfg(feature = "client")]
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// What to copy: ID:PATH in a sandbox, or a path here. With "/." at the end, what is in a directory. A path here that
    /// has a colon is written with a slash before it, such as ./a:b.
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// Where to, likewise. If that is a directory, the copy comes into it.
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments of `wisp list`.
#[cfg(feature = "client")]
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Print the server's JSON.
    #[arg(long)]
    pub json: bool,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Arguments of `wisp kill`.
#[cfg(feature = "client")]
#[derive(Debug, Args)]
pub struct KillArgs {
    /// Ids of the sandboxes.
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// The server.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// Does what the command line asks for.
pub fn main(cli: Cli) -> ExitCode {
    crate::kernel::bound_free_memory();
    #[cfg(feature = "compiler")]
    if let Command::CompileModule(args) = &cli.command {
        return compile_module(args);
    }
    if let Command::Worker(args) = cli.command {
        return work(args);
    }
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(dispatch(cli.command));
            // A guest thread or an installation may still be at work; nobody waits for it any more.
            runtime.shutdown_background();
            result.unwrap_or_else(|error| fail(&error))
        }
        Err(error) => fail(&error.into()),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    Ok(match command {
        Command::Serve(args) => serve::serve(args).await.map(|()| ExitCode::SUCCESS)?,
        Command::Run(args) => run::run(args).await?.into(),
        #[cfg(feature = "client")]
        Command::Create(args) => client::create(&args).await?,
        #[cfg(feature = "client")]
        Command::Exec(args) => client::exec(&args).await?,
        #[cfg(feature = "client")]
        Command::Cp(args) => client::copy(&args).await?,
        #[cfg(feature = "client")]
        Command::List(args) => client::list(&args).await?,
        #[cfg(feature = "client")]
        Command::Kill(args) => client::kill(&args).await?,
        Command::Images(command) => command.run().await.map(|()| ExitCode::SUCCESS)?,
        Command::Keys(command) => command.run().await.map(|()| ExitCode::SUCCESS)?,
        Command::Config(command) => command.run()?,
        Command::Doctor(args) => args.run().await?,
        #[cfg(feature = "client")]
        Command::Completions(args) => args.run().map(|()| ExitCode::SUCCESS)?,
        #[cfg(feature = "client")]
        Command::Man(args) => args.run().map(|()| ExitCode::SUCCESS)?,
        #[cfg(feature = "compiler")]
        Command::CompileModule(args) => compile_module(&args),
        Command::Worker(args) => work(args),
    })
}

/// Runs before there are other threads: it confines the process.
fn work(args: WorkerArgs) -> ExitCode {
    let args = crate::worker::WorkerArgs {
        cache: args.cache,
        images: args.images,
        counts_fuel: args.fuel,
        parent: args.parent,
    };
    match crate::worker::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.into()),
    }
}

/// Runs before there are other threads: it limits the process.
#[cfg(feature = "compiler")]
fn compile_module(args: &CompileModuleArgs) -> ExitCode {
    let limits = ChildLimits {
        memory_bytes: args.memory_mb.saturating_mul(1 << 20),
        cpu_seconds: args.cpu_seconds,
    };
    let origin = if args.of_image {
        ModuleOrigin::Image
    } else {
        ModuleOrigin::User
    };
    match compile_in_child(limits, args.fuel, origin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.into()),
    }
}

#[expect(
    clippy::print_stderr,
    reason = "this is where a command's failure is told to its user"
)]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("wisp: {}", terminal::printable(&format!("{error:#}")));
    ExitCode::FAILURE
}

/// Sends log lines to standard error; `RUST_LOG` chooses which.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

fn parse_duration(text: &str) -> Result<GoDuration, String> {
    GoDuration::parse(text).map_err(|error| error.to_string())
}

fn parse_assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "client")]
    #[test]
    fn a_programs_own_flags_are_not_ours() {
        let cli = Cli::try_parse_from(["wisp", "exec", "-e", "A=b=c", "sb_1", "python3", "-c", "print(1)"]).unwrap();
        let Command::Exec(exec) = cli.command else {
            panic!("not exec")
        };
        assert_eq!(exec.program.argv, ["python3", "-c", "print(1)"]);
        assert_eq!(exec.env, [("A".to_owned(), "b=c".to_owned())]);
        assert!(Cli::try_parse_from(["wisp", "exec", "sb_1"]).is_err());
        let cli = Cli::try_parse_from(["wisp", "exec", "sb_1", "-c", "echo hi | wc"]).unwrap();
        let Command::Exec(exec) = cli.command else {
            panic!("not exec")
        };
        assert_eq!(exec.program.script.as_deref(), Some("echo hi | wc"));
    }
}
