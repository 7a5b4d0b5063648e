//! `wisp completions`.

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::Cli;

/// Arguments of `wisp completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the script that the shell loads.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        // Gathered first: clap_complete panics when a reader such as `head` goes before the end.
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "wisp", &mut script);
        Ok(std::io::stdout().write_all(&script)?)
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_completes_every_subcommand() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            generate(*shell, &mut Cli::command(), "wisp", &mut script);
            let script = String::from_utf8(script).unwrap();
            for subcommand in Cli::command()
                .get_subcommands()
                .filter(|command| !command.is_hide_set())
            {
                assert!(
                    script.contains(subcommand.get_name()),
                    "{shell}: {}",
                    subcommand.get_name()
                );
            }
        }
    }
}
