//! `sh` and `bash`: the brush shell, with processes, pipes and signals of the wisp kernel.

mod builtins;
mod error_message;
mod input;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::process::ExitCode;

use brush_builtins::{BuiltinSet, ShellBuilderExt};
use brush_core::openfiles::OpenFile;
use brush_core::sys::process::block_on;
use brush_core::{ProfileLoadBehavior, RcLoadBehavior, Shell, ShellFd};
use wisp_sh::invocation::{self, Invocation, Request, Source};

use crate::error_message::BashMessages;

/// The shell with our own parts.
type Extensions = brush_core::extensions::ShellExtensionsImpl<BashMessages>;

/// Status of a shell that was called wrongly (bash(1), "Exit status").
const USAGE: u8 = 2;

fn main() -> ExitCode {
    // A directory that is gone is the shell's own matter: it knows where it is by PWD and says so when that is used.
    let _ = wisp_sys::enter_working_directory();
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let code = match invocation::parse(arguments) {
        Ok(Request::Run(invocation)) => block_on(run(invocation)),
        Ok(Request::Version) => {
            println!("{}", invocation::VERSION);
            0
        }
        Err(error) => {
            eprintln!("{error}");
            USAGE
        }
    };
    // A reader that went away has ended this process by SIGPIPE already; other failures have no place to go.
    let _ = std::io::stdout().flush();
    ExitCode::from(code)
}

/// Runs the shell to its end; returns its exit code.
async fn run(invocation: Invocation) -> u8 {
    let profile = if invocation.login {
        ProfileLoadBehavior::LoadDefault
    } else {
        ProfileLoadBehavior::Skip
    };
    let shell = Shell::builder_with_extensions::<Extensions>()
        .default_builtins(BuiltinSet::BashMode)
        .builtins(builtins::all())
        .rc(RcLoadBehavior::Skip)
        .profile(profile)
        .login(invocation.login)
        .interactive(invocation.interactive)
        .posix(invocation.posix)
        .command_string_mode(matches!(invocation.source, Source::Command(_)))
        .read_commands_from_stdin(matches!(invocation.source, Source::StandardInput))
        .enable_options(invocation.options_on)
        .disable_options(invocation.options_off)
        .enable_shopt_options(invocation.shopts_on)
        .disable_shopt_options(invocation.shopts_off)
        .fds(inherited_files())
        .shell_name(invocation.name)
        .shell_args(invocation.arguments.clone())
        .shell_version(env!("CARGO_PKG_VERSION").to_owned())
        .build()
        .await;
    let mut shell = match shell {
        Ok(shell) => shell,
        Err(error) => {
            eprintln!("sh: {error}");
            return USAGE;
        }
    };

    let result = match invocation.source {
        Source::Command(command) => shell.run_dash_c_command(command).await,
        Source::Script(path) => {
            if !shell.absolute_path(std::path::Path::new(&path)).exists() {
                eprintln!(
                    "{}: {path}: No such file or directory",
                    shell.current_shell_name().unwrap_or_default()
                );
                return 127;
            }
            shell.run_script(&path, invocation.arguments.iter()).await
        }
        Source::StandardInput => input::run_standard_input(&mut shell).await,
    };
    match result {
        // A trap on EXIT may have changed it.
        Ok(_) => shell.last_exit_status(),
        Err(error) => {
            let _ = shell.display_error(&mut shell.stderr(), &error);
            u8::from(error.into_result(&shell).exit_code)
        }
    }
}

/// The files ≥ 3 that the parent passed, under the numbers it chose.
#[allow(unsafe_code)]
fn inherited_files() -> HashMap<ShellFd, OpenFile> {
    wisp_sys::inherited()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|file| {
            // SAFETY: the kernel opened this descriptor for this process, and nothing else here knows its number.
            let own = unsafe { File::from_raw_fd(file.actual) };
            Some((ShellFd::try_from(file.chosen).ok()?, OpenFile::from(own)))
        })
        .collect()
}
