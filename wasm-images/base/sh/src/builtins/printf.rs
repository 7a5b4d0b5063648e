//! `printf`.

use std::io::Write;

use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, builtins, expansion};
use clap::Parser;
use wisp_sh::format::Formatter;

/// Write formatted text.
#[derive(Parser)]
#[clap(disable_help_flag = true, disable_version_flag = true)]
pub struct Printf {
    /// The variable that receives the text.
    #[arg(short = 'v', value_name = "VARIABLE")]
    variable: Option<String>,

    /// Format and arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    format_and_arguments: Vec<String>,
}

impl builtins::Command for Printf {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let Some((format, arguments)) = self.format_and_arguments.split_first() else {
            writeln!(context.stderr(), "printf: usage: printf [-v var] format [arguments]")?;
            return Ok(ExecutionResult::new(2));
        };
        let formatted = Formatter::run(format, arguments);
        match &self.variable {
            Some(variable) => {
                let text = String::from_utf8_lossy(&formatted.output).into_owned();
                expansion::assign_to_named_parameter(context.shell, &context.params, variable, text).await?;
            }
            None => {
                let mut output = context.stdout();
                output.write_all(&formatted.output)?;
                output.flush()?;
            }
        }
        for problem in &formatted.problems {
            let name = context.shell.current_shell_name().unwrap_or_default().into_owned();
            writeln!(context.stderr(), "{name}: printf: {problem}")?;
        }
        Ok(ExecutionResult::new(u8::from(!formatted.problems.is_empty())))
    }
}
