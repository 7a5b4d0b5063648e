//! What the store remembers of an installed image.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// Number of the record's form; a record of another form counts as not installed.
pub const FORM: u32 = 1;

/// The terms of one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// The part.
    pub what: String,
    /// SPDX expression.
    pub licence: String,
}

/// An installed image, complete without its recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The form of this record: [`FORM`].
    pub form: u32,
    /// Its name.
    pub name: String,
    /// Other names.
    pub aliases: Vec<String>,
    /// Version of what is inside.
    pub version: String,
    /// The image below it.
    pub parent: Option<String>,
    /// One line for people.
    pub summary: String,
    /// Terms of its parts.
    pub licences: Vec<Licence>,
    /// Where it comes from.
    pub provenance: String,
    /// What it can do.
    pub capabilities: Vec<String>,
    /// What it cannot do.
    pub known_limits: Vec<String>,
    /// Environment, over the parent's.
    pub env: BTreeMap<String, String>,
    /// Where processes start.
    pub workdir: Option<String>,
    /// Brought by a user as a file, not installed from a recipe.
    #[serde(default)]
    pub own: bool,
    /// Came as an artifact: its modules are compiled in the limited process, as a user's are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub received: bool,
    /// Digest of the recipe it was installed from, or of the file.
    pub recipe: Digest,
    /// Digests of what was fetched.
    pub sources: Vec<Digest>,
    /// Key of the build it was made from.
    pub build: Option<Digest>,
    /// Its programs.
    pub programs: Vec<ProgramRecord>,
    /// Its packed layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Bytes its modules and layers take in the store.
    pub size: u64,
}

impl Record {
    /// As it leaves this store: without what only building it again needs.
    pub(super) fn portable(&self) -> Self {
        Self {
            received: false,
            sources: Vec::new(),
            build: None,
            ..self.clone()
        }
    }

    /// As it is installed from an artifact.
    pub(super) fn received(&self) -> Self {
        Self {
            received: true,
            ..self.portable()
        }
    }

    /// Whether another record is of the same image, however that was installed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let content = |record: &Self| Self {
            size: 0,
            ..record.portable()
        };
        content(self) == content(other)
    }
}

/// A program of an installed image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRecord {
    /// Digest of the module as it is run: without custom sections, pre-initialised where the recipe says so.
    pub digest: Digest,
    /// Its form.
    #[serde(default)]
    pub kind: ModuleKind,
    /// Program files.
    pub paths: Vec<String>,
    /// Preopened directories.
    pub preopens: Vec<String>,
    /// How it starts.
    pub launch: LaunchRecord,
    /// A write to a pipe nobody reads is an error for it.
    pub ignores_sigpipe: bool,
}

/// The form of a program's WebAssembly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModuleKind {
    /// A core module that imports WASI preview1.
    #[default]
    Module,
    /// A component that is a command of WASI 0.2.
    Component,
}

impl ModuleKind {
    /// The word for it among the capabilities of an image.
    pub(super) fn capability(self) -> &'static str {
        match self {
            Self::Module => "wasi-preview1",
            Self::Component => "wasi-0.2",
        }
    }
}

/// How a program starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchRecord {
    /// By `_start`, with these arguments before the user's.
    Command {
        /// In place of the program's name unless empty.
        arguments: Vec<String>,
    },
    /// By another export of a pre-initialised module.
    Resume {
        /// Its name.
        export: String,
        /// What it is called with.
        parameters: Vec<i32>,
    },
}
