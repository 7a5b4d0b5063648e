//! A store of images for one test, with what the default store has installed.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs, io};

use super::images;
use super::server::Server;

/// How the name of a file begins that is being written; it is gone a moment later.
const TEMPORARY: &[u8] = b".tmp-";

/// The directory that `WISP_CACHE_DIR` names; removed when dropped.
pub struct Store(tempfile::TempDir);

impl Store {
    /// A copy of the default store, without what only installing needs.
    pub fn new() -> Self {
        images::install();
        Self::with(&["images", "layers", "modules", "compiled"])
    }

    /// A copy of the default store, from which its images can be installed again.
    pub fn with_inputs() -> Self {
        Self::with(&["images", "layers", "modules", "compiled", "sources", "builds"])
    }

    fn with(parts: &[&str]) -> Self {
        let from = default_cache().join("images");
        let to = tempfile::tempdir().expect("a directory");
        for part in parts {
            copy(&from.join(part), &to.path().join("images").join(part)).expect("the default store is copied");
        }
        Self(to)
    }

    /// Where it is, for `WISP_CACHE_DIR`.
    pub fn path(&self) -> &str {
        self.0.path().to_str().expect("a path that is text")
    }

    /// Starts a server with this store that prepares no image on its own: nothing but requests changes the store.
    pub fn serve(&self, settings: &[(&str, &str)]) -> Server {
        let mut all = vec![("WISP_CACHE_DIR", self.path()), ("WISP_IMAGES", "")];
        all.extend_from_slice(settings);
        Server::start("127.0.0.1:0", &all)
    }

    /// The names of all its files, but for notes on files that are there: any use of an image may make them.
    pub fn files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    directories.push(path);
                } else if path
                    .file_name()
                    .is_some_and(|name| name != "lock" && name != "generation")
                {
                    files.insert(path);
                }
            }
        }
        let is_there = |file: &PathBuf| files.contains(file);
        let notes = files
            .iter()
            .filter(|file| noted(file).is_some_and(|file| is_there(&file)));
        &files - &notes.cloned().collect()
    }

    /// Runs `wisp` with this store.
    pub fn wisp(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_wisp"))
            .args(arguments)
            .output()
            .expect("wisp starts")
    }

    /// A program that uses this store.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("WISP_CACHE_DIR", self.path())
            .env("RUST_LOG", "off")
            .stdin(Stdio::null());
        command
    }
}

/// The file that `file` is a note on, if it is one.
fn noted(file: &Path) -> Option<PathBuf> {
    (file.extension()? == "checked").then(|| file.with_extension(""))
}

/// The directory of the default store.
pub fn default_cache() -> PathBuf {
    let named = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("WISP_CACHE_DIR")
        .or_else(|| Some(named("XDG_CACHE_HOME")?.join("wisp")))
        .or_else(|| Some(named("HOME")?.join(".cache/wisp")))
        .expect("a home directory")
}

/// Gives a store what its images can be installed from: all that was fetched, built and compiled for the default store, and
/// its `base`.
pub fn share_inputs(cache: &Path) {
    let (from, to) = (default_cache().join("images"), cache.join("images"));
    for part in ["layers", "modules", "compiled", "sources", "builds"] {
        copy(&from.join(part), &to.join(part)).expect("the default store is copied");
    }
    fs::create_dir_all(to.join("images")).expect("a directory");
    let base = Path::new("images/base.json");
    fs::copy(from.join(base), to.join(base)).expect("the record of base is copied");
}

/// Copies a directory, what is not there yet; files that are never written to again are shared.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY) {
            continue;
        }
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else if !to.exists() && fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}
