//! `exec`.

use std::path::PathBuf;

use brush_core::commands::{compose_command, explain_failure};
use brush_core::{
    Error, ErrorKind, ExecutionContext, ExecutionControlFlow, ExecutionResult, ShellExtensions, builtins,
};
use clap::Parser;

/// Replace the shell by a program, or keep redirections.
#[derive(Parser)]
pub struct Exec {
    /// Name for the program (`argv[0]`).
    #[arg(short = 'a', value_name = "NAME")]
    name: Option<String>,

    /// Give the program an empty environment.
    #[arg(short = 'c')]
    empty_environment: bool,

    /// Put a dash before the program's name, as login does.
    #[arg(short = 'l')]
    login: bool,

    /// Program and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

impl builtins::Command for Exec {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        mut context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let Some((program, arguments)) = self.command.split_first() else {
            let files: Vec<_> = context.iter_fds().collect();
            context.shell.replace_open_files(files.into_iter());
            return Ok(ExecutionResult::success());
        };

        program.clone_into(&mut context.command_name);
        let path = if program.contains('/') {
            PathBuf::from(program)
        } else {
            match context.shell.find_first_executable_in_path_using_cache(program) {
                Some(path) => path,
                None => return Err(Error::from(ErrorKind::CommandNotFound(program.clone())).into_fatal()),
            }
        };
        let path = path.to_string_lossy();
        let mut name = self.name.clone().unwrap_or_else(|| program.clone());
        if self.login {
            name.insert(0, '-');
        }
        let command = compose_command(&context, &path, &name, arguments, self.empty_environment);

        // A subshell in parentheses shares its process with the shell around it, which must survive.
        let failure = if context.shell.is_subshell() {
            match command.spawn() {
                Ok(pid) => {
                    let status = await_process(pid)?;
                    return Ok(ExecutionResult {
                        next_control_flow: ExecutionControlFlow::ExitShell,
                        exit_code: status.shell_code().into(),
                    });
                }
                Err(error) => error,
            }
        } else {
            command.exec()
        };
        Err(explain_failure(&context, &path, failure).into_fatal())
    }
}

/// Waits for a process to its end.
fn await_process(pid: wisp_sys::Pid) -> std::io::Result<wisp_sys::ExitStatus> {
    loop {
        match wisp_sys::wait(pid) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result.map(|(_, status)| status),
        }
    }
}
