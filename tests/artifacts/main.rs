//! Images go through a registry and through files to other stores, whole or not at all.

mod bad_registry;
#[path = "../own_images/modules.rs"]
#[allow(dead_code, reason = "one module is enough here")]
mod modules;
mod peer;
mod registry;
mod running_server;
#[path = "../server_support/mod.rs"]
mod server_support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use server_support::{api, server};

/// A store without images, and what makes a program use it.
struct EmptyStore(tempfile::TempDir);

impl EmptyStore {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn wisp(&self, arguments: &[&str]) -> Output {
        self.wisp_with(&[], arguments)
    }

    /// Runs `wisp` with this store and these variables.
    fn wisp_with(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        self.command(variables, arguments).output().expect("wisp starts")
    }

    fn command(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wisp"));
        command
            .args(arguments)
            .env("WISP_CACHE_DIR", self.path())
            // No credentials of whoever runs the tests.
            .env("DOCKER_CONFIG", self.path().join("no-docker"))
            .env("RUST_LOG", "off")
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        command
    }

    /// The names of the files of the store.
    fn files(&self) -> Vec<String> {
        let (mut found, mut pending) = (Vec::new(), vec![self.path().join("images")]);
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.expect("an entry").path();
                let name = path.to_string_lossy().into_owned();
                if path.is_dir() {
                    pending.push(path);
                } else if !["/lock", "/generation", ".checked"]
                    .iter()
                    .any(|end| name.ends_with(end))
                {
                    found.push(name);
                }
            }
        }
        found.sort();
        found
    }

    /// Adds an own image `tool` that does nothing, well; or fails, as the second version does.
    fn add_tool(&self, version: u8) {
        let functions = match version {
            1 => vec![modules::body(&[])],
            _ => vec![modules::body(&[wasm_encoder::Instruction::Unreachable])],
        };
        let parts = modules::Parts {
            functions,
            // As large as a program is, so that there is something to cut off; and of bytes that no compression makes small.
            data: noise(1 << 20, version),
            memory: modules::memory(20),
            ..modules::Parts::default()
        };
        let file = self.path().join("tool.wasm");
        std::fs::write(&file, parts.encode()).expect("the module is written");
        let file = file.to_str().expect("UTF-8");
        let added = self.wisp(&["images", "add", file, "--name", "tool", "--parent", "none", "--replace"]);
        assert_ok(&added);
    }

    /// Which version of `tool` runs here; `None` when there is none.
    fn tool_version(&self) -> Option<u8> {
        let listed = self.wisp(&["images", "list"]);
        assert_ok(&listed);
        if !String::from_utf8_lossy(&listed.stdout).contains("tool ") {
            return None;
        }
        let ran = self.wisp(&["run", "tool", "/usr/bin/tool"]);
        Some(if ran.status.success() { 1 } else { 2 })
    }
}

/// Bytes that seem random.
fn noise(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A key to sign with: its file, and the public key.
fn key(directory: &Path) -> (String, String) {
    let file = directory.join("key");
    let made = Command::new(env!("CARGO_BIN_EXE_wisp"))
        .args(["images", "keygen"])
        .arg(&file)
        .output()
        .expect("wisp starts");
    assert_ok(&made);
    let public = String::from_utf8(made.stdout).expect("UTF-8");
    (file.to_str().expect("UTF-8").to_owned(), public.trim().to_owned())
}

#[track_caller]
fn assert_ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a command that must fail says.
#[track_caller]
fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}
