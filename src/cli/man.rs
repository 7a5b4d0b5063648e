//! `wisp man`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};

use super::Cli;

/// Arguments of `wisp man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write wisp.1 and a page for each subcommand into this directory.
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

impl ManArgs {
    /// Prints or writes the manual.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn run(&self) -> anyhow::Result<()> {
        let command = Cli::command().name("wisp");
        match &self.dir {
            Some(dir) => {
                std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
                clap_mangen::generate_to(command, dir)
                    .with_context(|| format!("cannot write the manual into {}", dir.display()))
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command).render(&mut page)?;
                Ok(std::io::stdout().write_all(&page)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let args = ManArgs {
            dir: Some(dir.path().join("man1")),
        };
        args.run().unwrap();
        for subcommand in Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            let page = dir.path().join(format!("man1/wisp-{}.1", subcommand.get_name()));
            let text = std::fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
            assert!(text.contains(".SH"), "{text}");
        }
        assert!(
            std::fs::read_to_string(dir.path().join("man1/wisp.1"))
                .unwrap()
                .contains("sandboxes")
        );
    }
}
