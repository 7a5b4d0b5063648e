//! Running a recipe's build command.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::error::BuildError;
use super::manifest::Build;
use super::recipe::Recipe;
use wisp_image::PrivateDir;
use wisp_image::{Digest, Hasher, build_name};
use wisp_image::{Progress, Step};

/// Lines of a failed build that are shown.
const SHOWN_LINES: usize = 30;

/// What a build left.
pub(crate) struct Built {
    /// Names the result: the digest of the inputs.
    pub(crate) key: Digest,
    /// The directory the build wrote to.
    pub(crate) out: PathBuf,
}

/// Builds a recipe, unless the same inputs were built before.
pub(crate) fn build(
    recipe: &Recipe,
    build: &Build,
    store: &PrivateDir,
    cache: &OsStr,
    progress: &dyn Progress,
) -> Result<Built, BuildError> {
    let key = key(recipe, build)?;
    let name = build_name(key);
    if !store.exists(&name) {
        progress.step(&recipe.manifest.name, Step::Build, &build.command.join(" "));
        let scratch = store.scratch()?;
        let out = scratch.path().join("out");
        std::fs::create_dir(&out).map_err(BuildError::io(&out))?;
        std::fs::create_dir_all(cache).map_err(BuildError::io(cache))?;
        let mut command = Command::new(&build.command[0]);
        command
            .args(&build.command[1..])
            .current_dir(recipe.path())
            .env("WISP_OUT", &out)
            .env("WISP_BUILD_DIR", cache);
        run(command, &recipe.manifest.name, progress)?;
        store.adopt(&scratch, "out", &name)?;
    }
    Ok(Built {
        key,
        out: store.path(&name),
    })
}

/// The digest of all a build depends on.
fn key(recipe: &Recipe, build: &Build) -> Result<Digest, BuildError> {
    let mut hasher = Hasher::default();
    for word in &build.command {
        hasher.field(word.as_bytes());
    }
    hasher.field(recipe.tree_digest(&build.inputs)?.to_string().as_bytes());
    if let Some(shared) = recipe.shared_digest()? {
        hasher.field(shared.to_string().as_bytes());
    }
    // Asked for in the recipe's folder, where a toolchain file may decide. A build without Rust does not mind.
    let version = Command::new("rustc")
        .arg("--version")
        .current_dir(recipe.path())
        .stdin(Stdio::null())
        .output();
    hasher.field(&version.map(|output| output.stdout).unwrap_or_default());
    Ok(hasher.finish())
}

/// Runs a build command and passes its lines on.
fn run(mut command: Command, image: &str, progress: &dyn Progress) -> Result<(), BuildError> {
    let failed = |reason: String| BuildError::Build {
        image: image.to_owned(),
        reason,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| {
            failed(format!(
                "{} could not be run: {error}",
                command.get_program().to_string_lossy()
            ))
        })?;
    let (sender, lines) = mpsc::channel();
    let stdout = child.stdout.take().map(|stream| forward(stream, sender.clone()));
    let stderr = child.stderr.take().map(|stream| forward(stream, sender));
    let mut last = VecDeque::with_capacity(SHOWN_LINES);
    for line in lines {
        progress.line(&line);
        if last.len() == SHOWN_LINES {
            last.pop_front();
        }
        last.push_back(line);
    }
    for thread in [stdout, stderr].into_iter().flatten() {
        // It only reads; had it panicked, the lines it did not pass on would be the only loss.
        let _ = thread.join();
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(format!(
        "the command ended with {status}; its last lines:\n{}",
        Vec::from(last).join("\n")
    )))
}

fn forward(stream: impl Read + Send + 'static, lines: mpsc::Sender<String>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    })
}
