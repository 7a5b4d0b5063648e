//! How far an installation is.

/// A part of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A pinned input is fetched.
    Fetch,
    /// The recipe's build command runs.
    Build,
    /// A program is run once to prepare files or a snapshot.
    Prepare,
    /// A module is compiled.
    Compile,
    /// Files are packed.
    Index,
    /// Contents are packed for an artifact.
    Pack,
    /// A blob is sent to a registry.
    Push,
}

impl Step {
    /// The step as a verb.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Fetch => "fetching",
            Self::Build => "building",
            Self::Prepare => "preparing",
            Self::Compile => "compiling",
            Self::Index | Self::Pack => "packing",
            Self::Push => "pushing",
        }
    }
}

/// Is told how far an installation is. Calls come from one thread at a time.
pub trait Progress: Send + Sync {
    /// A step begins, on this thing. It ends when the next begins.
    fn step(&self, image: &str, step: Step, what: &str);

    /// A line a build command wrote.
    fn line(&self, line: &str);

    /// The image is installed.
    fn done(&self, image: &str);
}

/// Writes progress to the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogProgress;

impl Progress for LogProgress {
    fn step(&self, image: &str, step: Step, what: &str) {
        tracing::info!(image, what, "{}", step.verb());
    }

    fn line(&self, line: &str) {
        tracing::debug!("{line}");
    }

    fn done(&self, image: &str) {
        tracing::info!(image, "installed");
    }
}
