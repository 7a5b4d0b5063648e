//! `ulimit`.

use std::io::Write;

use brush_core::{Error, ExecutionContext, ExecutionResult, ShellExtensions, builtins};
use clap::Parser;

/// Limits by letter: what it limits, its unit, and the value. The sandbox enforces its own, which a guest cannot change.
const LIMITS: [(char, &str, &str, &str); 9] = [
    ('c', "core file size", "blocks", "0"),
    ('d', "data seg size", "kbytes", "unlimited"),
    ('f', "file size", "blocks", "unlimited"),
    ('l', "max locked memory", "kbytes", "0"),
    ('n', "open files", "", "1024"),
    ('s', "stack size", "kbytes", "1024"),
    ('t', "cpu time", "seconds", "unlimited"),
    ('u', "max user processes", "", "unlimited"),
    ('v', "virtual memory", "kbytes", "unlimited"),
];

/// Tell resource limits. Setting one is accepted and has no effect.
#[derive(Parser)]
#[clap(disable_help_flag = true, disable_version_flag = true)]
pub struct Ulimit {
    /// `-H`, `-S`, `-a`, letters of limits, and a value.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl builtins::Command for Ulimit {
    type Error = Error;

    async fn execute<SE: ShellExtensions>(
        &self,
        context: ExecutionContext<'_, SE>,
    ) -> Result<ExecutionResult, Self::Error> {
        let mut letters = Vec::new();
        let mut value = None;
        for argument in &self.arguments {
            match argument.strip_prefix('-') {
                Some(options) => letters.extend(options.chars().filter(|letter| !matches!(letter, 'H' | 'S'))),
                None => value = Some(argument),
            }
        }
        if let Some(unknown) = letters
            .iter()
            .find(|letter| **letter != 'a' && !LIMITS.iter().any(|l| l.0 == **letter))
        {
            writeln!(context.stderr(), "ulimit: -{unknown}: invalid option")?;
            return Ok(ExecutionResult::new(2));
        }
        if let Some(value) = value {
            if value.parse::<u64>().is_err() && !matches!(value.as_str(), "unlimited" | "hard" | "soft") {
                writeln!(context.stderr(), "ulimit: {value}: invalid number")?;
                return Ok(ExecutionResult::general_error());
            }
            return Ok(ExecutionResult::success());
        }
        if letters.is_empty() {
            letters.push('f');
        }
        let all = letters.contains(&'a');
        let several = all || letters.len() > 1;
        for (letter, what, unit, value) in LIMITS.iter().filter(|limit| all || letters.contains(&limit.0)) {
            if several {
                let unit = if unit.is_empty() {
                    format!("(-{letter})")
                } else {
                    format!("({unit}, -{letter})")
                };
                writeln!(context.stdout(), "{what:<20} {unit:>20} {value}")?;
            } else {
                writeln!(context.stdout(), "{value}")?;
            }
        }
        Ok(ExecutionResult::success())
    }
}
