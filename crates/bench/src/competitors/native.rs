//! Python as a plain process of this machine: no sandbox at all.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use tokio::process::Command;

use super::{Ran, Runner, process};
use crate::error::BenchError;

/// An interpreter on this machine.
#[derive(Debug, Clone)]
pub struct Native {
    program: PathBuf,
    version: String,
}

impl Native {
    /// Looks behind wrappers such as pyenv's for the interpreter itself.
    pub async fn find(program: &Path) -> Result<Self, BenchError> {
        let tell = "import sys; print(sys.executable); print(sys.version.split()[0])";
        let told = process::run(Command::new(program).args(["-I", "-c", tell])).await;
        let told = told.map_err(|error| BenchError::Absent(format!("no native Python: {error}")))?;
        let mut lines = told.stdout.lines();
        match (lines.next(), lines.next()) {
            (Some(program), Some(version)) if !program.is_empty() => Ok(Self {
                program: program.into(),
                version: version.to_owned(),
            }),
            _ => Err(BenchError::Absent(format!(
                "{} does not say what it is",
                program.display()
            ))),
        }
    }

    /// Its name in the tables.
    pub fn name(&self) -> String {
        format!("native python3 {}", self.version)
    }

    /// What it is exactly.
    pub fn version(&self) -> String {
        format!("{} ({})", self.version, self.program.display())
    }

    /// `python3 -I -c PROGRAM`.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-I", "-c", program]);
        command
    }
}

#[async_trait]
impl Runner for Native {
    async fn run(&self, program: &str) -> Result<Ran, BenchError> {
        process::run(&mut self.command(program)).await
    }
}
