//! The list of differences, each with its reason: `tests/fixtures/python/starts/differences.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::{env, fs};

use crate::api::Ran;

/// What the reason of a difference is until somebody knows it.
const UNKNOWN: &str = "TODO";
/// Tests of several images write to the list.
static FILE: Mutex<()> = Mutex::new(());

/// The list.
pub struct Differences {
    /// What it begins with.
    introduction: String,
    /// By image and case.
    entries: BTreeMap<(String, String), Entry>,
}

/// A known difference.
#[derive(Default)]
struct Entry {
    reason: String,
    /// The lines of a plain start begin with `-`, those of a snapshot with `+`.
    lines: String,
}

impl Differences {
    /// Fails unless exactly these differences of an image are listed, with their reasons; or lists them, to be explained.
    #[track_caller]
    pub fn check(image: &str, found: &[(String, String)]) {
        let _turn = FILE.lock();
        let mut listed = Self::read();
        let mut wrong = String::new();
        let mut entries = BTreeMap::new();
        for (case, lines) in found {
            let entry = listed
                .entries
                .remove(&(image.to_owned(), case.clone()))
                .unwrap_or_default();
            if entry.lines != *lines {
                let _ = writeln!(wrong, "{case}: listed are\n{}found were\n{lines}", entry.lines);
            } else if !lines.is_empty() && [UNKNOWN, ""].contains(&entry.reason.as_str()) {
                let _ = writeln!(wrong, "{case}: is listed without a reason");
            }
            let reason = if entry.reason.is_empty() {
                UNKNOWN.to_owned()
            } else {
                entry.reason
            };
            if !lines.is_empty() {
                entries.insert(
                    (image.to_owned(), case.clone()),
                    Entry {
                        reason,
                        lines: lines.clone(),
                    },
                );
            }
        }
        for (_, case) in listed.entries.keys().filter(|(of, _)| of == image) {
            let _ = writeln!(wrong, "{case}: is listed, but there is no such case");
        }
        if env::var_os("WISP_RECORD").is_some() {
            listed.entries.retain(|(of, _), _| of != image);
            listed.entries.extend(entries);
            listed.write();
        } else {
            assert!(
                wrong.is_empty(),
                "{image} does not differ from a plain start as listed:\n{wrong}"
            );
        }
    }

    fn path() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/python/starts/differences.md")
    }

    fn read() -> Self {
        let text = fs::read_to_string(Self::path()).expect("the list");
        let (introduction, images) = text.split_once("\n## ").unwrap_or((&text, ""));
        let mut entries = BTreeMap::new();
        for section in images.split("\n## ").filter(|section| !section.is_empty()) {
            let mut parts = section.split("\n### ");
            let image = parts.next().unwrap_or_default().trim();
            for part in parts {
                let (case, rest) = part.split_once('\n').expect("a case and its difference");
                let (reason, rest) = rest.split_once("```diff\n").expect("a block of the difference");
                let (lines, _) = rest.split_once("```").expect("its end");
                let entry = Entry {
                    reason: reason.trim().to_owned(),
                    lines: lines.to_owned(),
                };
                entries.insert((image.to_owned(), case.to_owned()), entry);
            }
        }
        Self {
            introduction: introduction.trim_end().to_owned(),
            entries,
        }
    }

    fn write(&self) {
        let mut text = self.introduction.clone();
        let mut last = "";
        for ((image, case), entry) in &self.entries {
            if image != last {
                let _ = write!(text, "\n\n## {image}");
                last = image;
            }
            let _ = write!(
                text,
                "\n\n### {case}\n\n{}\n\n```diff\n{}```",
                entry.reason, entry.lines
            );
        }
        fs::write(Self::path(), text + "\n").expect("the list is written");
    }
}

/// The lines in which two runs differ.
pub fn between(plain: &Ran, snapshot: &Ran) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, ran: &Ran| {
        let path = directory.path().join(name);
        fs::write(&path, shown(ran)).expect("a file");
        path
    };
    let (plain, snapshot) = (write("plain", plain), write("snapshot", snapshot));
    let compared = Command::new("diff")
        .args([
            "--text",
            "--old-line-format=-%L",
            "--new-line-format=+%L",
            "--unchanged-line-format=",
        ])
        .args([plain, snapshot])
        .output()
        .expect("diff starts");
    assert!(compared.stderr.is_empty(), "{compared:?}");
    String::from_utf8(compared.stdout).expect("lines of text")
}

/// How a run ended and what it wrote, as lines of printable characters.
fn shown(ran: &Ran) -> String {
    let mut text = format!("status {}\n", ran.exit_code);
    for (name, output) in [("output", &ran.stdout), ("error", &ran.stderr)] {
        for line in output.split_inclusive('\n') {
            let end = if line.ends_with('\n') { "" } else { " (no end of line)" };
            let _ = write!(text, "{name}: ");
            for character in without_addresses(line.trim_end_matches('\n')).chars() {
                if character.is_control() {
                    text.extend(character.escape_default());
                } else {
                    text.push(character);
                }
            }
            let _ = writeln!(text, "{end}");
        }
    }
    text
}

/// Where in memory an object lies is nobody's concern.
fn without_addresses(line: &str) -> String {
    let mut parts = line.split("0x");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part
            .find(|character: char| !character.is_ascii_hexdigit())
            .unwrap_or(part.len());
        text.push_str("0x");
        text.push_str(if digits >= 5 { "ADDRESS" } else { &part[..digits] });
        text.push_str(&part[digits..]);
    }
    text
}
