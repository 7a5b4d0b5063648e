//! Files of recorded cases, made to be read and written by hand:
//!
//! ```text
//! # What the topic is.
//!
//! ### name_of_a_case
//! echo the script
//! --- stdout
//! the script
//! --- status 0
//! ```
//! A case that was not recorded yet is only its name and script. Output that does not end in a newline is followed by
//! a line `\ no newline at end`, as in diff.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

const NAME: &str = "### ";
const STDOUT: &str = "--- stdout";
const STATUS: &str = "--- status ";
const NO_NEWLINE: &str = "\\ no newline at end";

/// What a case printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Standard output.
    pub stdout: String,
    /// Exit status, 128 + n for signal n.
    pub status: i32,
}

/// One snippet.
pub struct Case {
    /// Unique in its file.
    pub name: String,
    /// The text for `bash -c`.
    pub script: String,
    /// What the real bash did; `None` before the first recording.
    pub recorded: Option<Outcome>,
}

/// The cases of one topic.
pub struct CaseFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// The file's name without `.txt`.
    pub topic: String,
    /// The lines above the first case.
    preamble: String,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

impl CaseFile {
    /// All fixture files of a directory, by name.
    pub fn read_all(directory: &Path) -> Result<Vec<Self>> {
        let entries = std::fs::read_dir(directory).with_context(|| directory.display().to_string())?;
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "txt") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.into_iter().map(Self::read).collect()
    }

    fn read(path: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let topic = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .context("a fixture without a name")?
            .to_owned();
        Self::parse(path, topic, &text)
    }

    fn parse(path: PathBuf, topic: String, text: &str) -> Result<Self> {
        let mut lines = text.lines().peekable();
        let mut preamble = String::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with(NAME)) {
            preamble.push_str(line);
            preamble.push('\n');
        }
        let mut cases: Vec<Case> = Vec::new();
        while let Some(line) = lines.next() {
            let Some(name) = line.strip_prefix(NAME) else {
                ensure!(line.is_empty(), "{topic}: {line:?} stands between two cases");
                continue;
            };
            ensure!(
                cases.iter().all(|case| case.name != name),
                "{topic}: two cases are called {name}"
            );
            let mut script = String::new();
            while let Some(line) = lines.next_if(|line| *line != STDOUT && !line.starts_with(NAME)) {
                script.push_str(line);
                script.push('\n');
            }
            let recorded = match lines.next_if(|line| *line == STDOUT) {
                Some(_) => Some(parse_outcome(&mut lines).with_context(|| format!("{topic}/{name}"))?),
                None => None,
            };
            cases.push(Case {
                name: name.to_owned(),
                script: script.trim_end().to_owned(),
                recorded,
            });
        }
        Ok(Self {
            path,
            topic,
            preamble,
            cases,
        })
    }

    /// The file's text.
    pub fn render(&self) -> String {
        let mut text = self.preamble.clone();
        for (index, case) in self.cases.iter().enumerate() {
            if index > 0 {
                text.push('\n');
            }
            text.push_str(&format!("{NAME}{}\n{}\n", case.name, case.script));
            if let Some(Outcome { stdout, status }) = &case.recorded {
                text.push_str(&format!("{STDOUT}\n{stdout}"));
                if !stdout.is_empty() && !stdout.ends_with('\n') {
                    text.push_str(&format!("\n{NO_NEWLINE}\n"));
                }
                text.push_str(&format!("{STATUS}{status}\n"));
            }
        }
        text
    }

    /// Writes the file back, if what was recorded can be read again.
    pub fn write(&self) -> Result<()> {
        let text = self.render();
        let again = Self::parse(self.path.clone(), self.topic.clone(), &text)?;
        for (case, read) in self.cases.iter().zip(&again.cases) {
            let same = case.script == read.script && case.recorded == read.recorded;
            ensure!(
                same,
                "{}/{}: its text would not be read back as it is",
                self.topic,
                case.name
            );
        }
        std::fs::write(&self.path, text).with_context(|| self.path.display().to_string())
    }
}

/// Reads what follows the line `--- stdout`.
fn parse_outcome<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Result<Outcome> {
    let mut stdout = String::new();
    for line in lines {
        if let Some(status) = line.strip_prefix(STATUS) {
            return Ok(Outcome {
                stdout,
                status: status.parse().context("its status is not a number")?,
            });
        }
        if line == NO_NEWLINE {
            stdout.pop();
        } else {
            stdout.push_str(line);
            stdout.push('\n');
        }
    }
    bail!("its output does not end with a status");
}
