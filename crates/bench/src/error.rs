//! Why something could not be measured.

use std::process::ExitStatus;

/// Why a row of the comparison has no figures. The row says it; the other rows are measured all the same.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// This machine lacks what would be measured.
    #[error("{0}")]
    Absent(String),
    /// A program could not be started or talked to.
    #[error("{what}: {source}")]
    Io {
        /// The program or file.
        what: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A server could not be reached.
    #[error("no answer over HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// A program failed.
    #[error("{what} failed ({status}): {stderr}")]
    Failed {
        /// The program.
        what: String,
        /// Exit status of the program.
        status: ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// A sandbox of this process failed.
    #[error("{0:#}")]
    InProcess(#[from] anyhow::Error),
    /// Something that ran beside others broke off.
    #[error("{0}")]
    Task(#[from] tokio::task::JoinError),
    /// The work was done, but not as asked.
    #[error("{0}")]
    Unexpected(String),
}

impl BenchError {
    /// Makes an error of what went wrong with a program or a file.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
