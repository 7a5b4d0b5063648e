//! `kill`.

use std::io::Write;

use brush_core::{Error, ExecutionContext, ExecutionExitCode, ExecutionResult, ShellExtensions, builtins};
use clap::Parser;
use wisp_sys::{Pid, Signal};

/// Send a signal to processes or jobs.
#[derive(Parser)]
#[clap(disable_help_flag = true, disable_version_flag = true)]
pub struct Kill {
    /// `-s NAME`, `-n NUMBER`, `-NAME`, `-NUMBER` or `-l`, and process IDs or jobs.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl builtins::Command for Kill {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let mut errors = context.stderr();
        let mut operands = self.arguments.as_slice();
        let mut signal = Some(Signal::TERM);
        let name = match operands {
            [list, signals @ ..] if list == "-l" || list == "-L" => return list_signals(&context, signals),
            [option, name, rest @ ..] if option == "-s" || option == "-n" => {
                operands = rest;
                Some(name.as_str())
            }
            [option, rest @ ..] if option.len() > 1 && option.starts_with('-') && option != "--" => {
                operands = rest;
                option.strip_prefix('-')
            }
            _ => None,
        };
        if let Some(name) = name {
            signal = Signal::from_name(name);
            if signal.is_none() && name != "0" && !name.eq_ignore_ascii_case("EXIT") {
                writeln!(errors, "kill: {name}: invalid signal specification")?;
                return Ok(ExecutionResult::general_error());
            }
        }
        if let [dashes, rest @ ..] = operands
            && dashes == "--"
        {
            operands = rest;
        }
        if operands.is_empty() {
            writeln!(
                errors,
                "kill: usage: kill [-s sigspec | -n signum | -sigspec] pid | jobspec ... or kill -l"
            )?;
            return Ok(ExecutionExitCode::InvalidUsage.into());
        }

        let mut result = ExecutionResult::success();
        for operand in operands {
            let pid = if operand.starts_with('%') {
                context
                    .shell
                    .jobs_mut()
                    .resolve_job_spec(operand)
                    .and_then(|job| job.pid)
            } else {
                operand.parse::<Pid>().ok()
            };
            let problem = match pid {
                None if operand.starts_with('%') => "no such job".to_owned(),
                None => "arguments must be process or job IDs".to_owned(),
                Some(pid) => match wisp_sys::kill(pid, signal) {
                    Ok(()) => continue,
                    Err(_) => {
                        writeln!(errors, "kill: ({pid}) - No such process")?;
                        result = ExecutionResult::general_error();
                        continue;
                    }
                },
            };
            writeln!(errors, "kill: {operand}: {problem}")?;
            result = ExecutionResult::general_error();
        }
        // A signal to the shell itself takes effect before the next command.
        if let Some(left) = context.shell.run_pending_traps(&context.params).await? {
            return Ok(left);
        }
        Ok(result)
    }
}

/// Tells names for numbers and numbers for names, or all of them.
fn list_signals<SE: ShellExtensions>(
    context: &ExecutionContext<'_, SE>,
    signals: &[String],
) -> Result<ExecutionResult, Error> {
    let mut output = context.stdout();
    if signals.is_empty() {
        for signal in Signal::all() {
            let end = if signal.number() % 5 == 0 || signal.number() == 31 {
                '\n'
            } else {
                '\t'
            };
            write!(output, "{:2}) SIG{}{end}", signal.number(), signal.name())?;
        }
        return Ok(ExecutionResult::success());
    }
    let mut result = ExecutionResult::success();
    for text in signals {
        // A status above 128 names the signal that ended a process.
        let number = text
            .parse::<u32>()
            .ok()
            .map(|number| if number > 128 { number - 128 } else { number });
        let signal = number.map_or_else(|| Signal::from_name(text), Signal::from_number);
        match (signal, number) {
            (Some(signal), Some(_)) => writeln!(output, "{}", signal.name())?,
            (Some(signal), None) => writeln!(output, "{}", signal.number())?,
            (None, _) => {
                writeln!(context.stderr(), "kill: {text}: invalid signal specification")?;
                result = ExecutionResult::general_error();
            }
        }
    }
    Ok(result)
}
