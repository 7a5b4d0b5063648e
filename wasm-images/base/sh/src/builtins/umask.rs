//! `umask`.

use std::io::Write;

use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, builtins};
use clap::Parser;
use wisp_sh::mask::{parse, symbolic};

/// Tell or set which permissions new files do not get.
#[derive(Parser)]
#[clap(disable_help_flag = true, disable_version_flag = true)]
pub struct Umask {
    /// Tell it as a command that sets it.
    #[arg(short = 'p')]
    reusable: bool,

    /// Tell it as the permissions that files do get.
    #[arg(short = 'S')]
    symbolic: bool,

    /// The new mask, octal or symbolic as for chmod.
    #[arg(allow_hyphen_values = true)]
    mask: Option<String>,
}

impl builtins::Command for Umask {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let current = wisp_sys::umask(None)?;
        let Some(text) = &self.mask else {
            let shown = if self.symbolic {
                symbolic(current)
            } else {
                format!("{current:04o}")
            };
            let command = match (self.reusable, self.symbolic) {
                (true, true) => "umask -S ",
                (true, false) => "umask ",
                (false, _) => "",
            };
            writeln!(context.stdout(), "{command}{shown}")?;
            return Ok(ExecutionResult::success());
        };
        match parse(text, current) {
            Some(mask) => {
                wisp_sys::umask(Some(mask))?;
                if self.symbolic {
                    writeln!(context.stdout(), "{}", symbolic(mask))?;
                }
                Ok(ExecutionResult::success())
            }
            None => {
                writeln!(context.stderr(), "umask: {text}: invalid symbolic mode or octal number")?;
                Ok(ExecutionResult::general_error())
            }
        }
    }
}
