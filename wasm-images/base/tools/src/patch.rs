//! `patch`: applies unified diffs.

use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use crate::cli::{Spec, Takes, complain, fail, reason};

const SPEC: Spec = Spec {
    short: "p:i:RNfsd:o:bEF:tuvl",
    long: &[
        ("strip", "p", Takes::Value),
        ("input", "i", Takes::Value),
        ("reverse", "R", Takes::Nothing),
        ("forward", "N", Takes::Nothing),
        ("force", "f", Takes::Nothing),
        ("batch", "t", Takes::Nothing),
        ("silent", "s", Takes::Nothing),
        ("quiet", "s", Takes::Nothing),
        ("directory", "d", Takes::Value),
        ("output", "o", Takes::Value),
        ("dry-run", "dry-run", Takes::Nothing),
        ("fuzz", "F", Takes::Value),
        ("backup", "b", Takes::Nothing),
        ("unified", "u", Takes::Nothing),
        ("no-backup-if-mismatch", "no-backup", Takes::Nothing),
    ],
    permute: true,
};

/// One line of a hunk: its mark (blank, `-`, `+`) and its text with its newline, if it has one.
type Line = (u8, Vec<u8>);

/// A hunk: the line it says it begins at in the old file, and its lines.
struct Hunk {
    start: usize,
    lines: Vec<Line>,
}

/// The part of a patch for one file.
struct FilePatch {
    old: String,
    new: String,
    hunks: Vec<Hunk>,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("patch", message, 2),
    };
    let mut text = Vec::new();
    let source = parsed
        .value("i")
        .or(parsed.operands.get(1).map(String::as_str))
        .filter(|name| *name != "-");
    let read = match source {
        Some(name) => fs::read(name).map(|bytes| text = bytes),
        None => io::stdin().read_to_end(&mut text).map(|_| ()),
    };
    if let Err(error) = read {
        return fail("patch", format_args!("cannot read the patch: {}", reason(&error)), 2);
    }
    if let Some(directory) = parsed.value("d")
        && let Err(error) = std::env::set_current_dir(directory)
    {
        return fail(
            "patch",
            format_args!("cannot change to directory {directory}: {}", reason(&error)),
            2,
        );
    }
    let files = match parse(&text) {
        Ok(files) if files.is_empty() => return fail("patch", "only garbage was found in the patch input", 2),
        Ok(files) => files,
        Err(message) => return fail("patch", message, 2),
    };
    let strip = parsed.value("p").map(str::parse::<usize>);
    if let Some(Err(_)) = strip {
        return fail("patch", "the number of leading directories to strip is not a number", 2);
    }
    let strip = strip.and_then(Result::ok);
    let fuzz = parsed.value("F").and_then(|n| n.parse().ok()).unwrap_or(2);
    let reverse = parsed.has("R");
    let mut status = 0;
    for mut file in files {
        if reverse {
            file.reverse();
        }
        let result = file.apply(parsed.operands.first().map(Path::new), strip, fuzz, &parsed);
        match result {
            Ok(failed) => status = status.max(i32::from(failed)),
            Err(message) => {
                complain("patch", message);
                status = 1;
            }
        }
    }
    status
}

/// The name in a `---` or `+++` line, without its date.
fn header_name(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[4..]);
    text.split(['\t', '\n', '\r'])
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

/// `-start,count` and `+start,count` of a hunk's first line.
fn ranges(line: &[u8]) -> Option<[(usize, usize); 2]> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.strip_prefix("@@ ")?.split(' ');
    let mut range = |sign: char| {
        let word = words.next()?.strip_prefix(sign)?;
        let (start, count) = word.split_once(',').unwrap_or((word, "1"));
        Some((start.parse().ok()?, count.parse().ok()?))
    };
    Some([range('-')?, range('+')?])
}

fn parse(text: &[u8]) -> Result<Vec<FilePatch>, String> {
    let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
    let mut files: Vec<FilePatch> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        if line.starts_with(b"--- ") && lines.get(at + 1).is_some_and(|next| next.starts_with(b"+++ ")) {
            files.push(FilePatch {
                old: header_name(line),
                new: header_name(lines[at + 1]),
                hunks: Vec::new(),
            });
            at += 2;
            continue;
        }
        at += 1;
        let (Some(file), Some([(old_start, mut old_left), (_, mut new_left)])) = (files.last_mut(), ranges(line))
        else {
            continue;
        };
        let mut hunk = Hunk {
            start: old_start,
            lines: Vec::new(),
        };
        if old_left == 0 {
            hunk.start = old_start.saturating_add(1);
        }
        while old_left > 0 || new_left > 0 {
            let line = lines.get(at).ok_or("malformed patch: it ends inside a hunk")?;
            at += 1;
            let (mark, body) = match line.first() {
                Some(mark @ (b' ' | b'-' | b'+')) => (*mark, line[1..].to_vec()),
                // Mail programs strip the blank of an empty context line.
                Some(b'\n') => (b' ', b"\n".to_vec()),
                Some(b'\\') => {
                    no_newline(&mut hunk);
                    continue;
                }
                _ => return Err(format!("malformed patch at line {at}")),
            };
            let too_long = || format!("malformed patch at line {at}: the hunk is longer than it says");
            if mark != b'+' {
                old_left = usize::checked_sub(old_left, 1).ok_or_else(too_long)?;
            }
            if mark != b'-' {
                new_left = usize::checked_sub(new_left, 1).ok_or_else(too_long)?;
            }
            hunk.lines.push((mark, body));
        }
        if lines.get(at).is_some_and(|line| line.starts_with(b"\\")) {
            no_newline(&mut hunk);
            at += 1;
        }
        file.hunks.push(hunk);
    }
    Ok(files)
}

/// `\ No newline at end of file` concerns the line before.
fn no_newline(hunk: &mut Hunk) {
    if let Some((_, text)) = hunk.lines.last_mut()
        && text.last() == Some(&b'\n')
    {
        text.pop();
    }
}

impl FilePatch {
    fn reverse(&mut self) {
        std::mem::swap(&mut self.old, &mut self.new);
        for (mark, _) in self.hunks.iter_mut().flat_map(|hunk| &mut hunk.lines) {
            *mark = match *mark {
                b'-' => b'+',
                b'+' => b'-',
                other => other,
            };
        }
    }

    fn target(&self, strip: Option<usize>) -> Result<PathBuf, String> {
        let stripped = |name: &str| -> Option<PathBuf> {
            if name == "/dev/null" {
                return None;
            }
            let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty()).collect();
            match strip {
                Some(count) => (count < parts.len()).then(|| parts[count..].iter().collect()),
                None => parts.last().map(PathBuf::from),
            }
        };
        let candidates: Vec<PathBuf> = [&self.old, &self.new]
            .into_iter()
            .filter_map(|name| stripped(name))
            .collect();
        let chosen = candidates.iter().find(|path| path.exists()).or(candidates.last());
        let chosen = chosen.ok_or_else(|| format!("cannot find the file to patch: {}", self.new))?;
        if chosen.components().any(|part| part == Component::ParentDir) {
            return Err(format!("the file name {} leads out of the directory", chosen.display()));
        }
        Ok(chosen.clone())
    }

    /// Applies the hunks; true when some failed.
    fn apply(
        &self,
        named: Option<&Path>,
        strip: Option<usize>,
        fuzz: usize,
        parsed: &crate::cli::Parsed,
    ) -> Result<bool, String> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => self.target(strip)?,
        };
        let shown = path.display();
        let dry = parsed.has("dry-run");
        if !parsed.has("s") {
            println!("{} file {shown}", if dry { "checking" } else { "patching" });
        }
        let old = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.old == "/dev/null" => Vec::new(),
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && self.hunks.iter().all(|h| h.lines.iter().all(|(m, _)| *m == b'+')) =>
            {
                Vec::new()
            }
            Err(error) => return Err(format!("{shown}: {}", reason(&error))),
        };
        let mut lines: Vec<Vec<u8>> = old.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        let mut shift = 0_isize;
        let mut rejected = Vec::new();
        for (index, hunk) in self.hunks.iter().enumerate() {
            let expected = hunk.start.saturating_sub(1).saturating_add_signed(shift);
            match hunk.apply(&mut lines, expected, fuzz) {
                Some((at, change)) => {
                    let offset = at as isize - expected as isize;
                    if offset != 0 && !parsed.has("s") {
                        println!("Hunk #{} succeeded at {} (offset {offset} lines).", index + 1, at + 1);
                    }
                    shift = shift.saturating_add(change).saturating_add(offset);
                }
                None => {
                    println!("Hunk #{} FAILED at {}.", index + 1, hunk.start);
                    rejected.push(hunk);
                }
            }
        }
        if !rejected.is_empty() {
            println!(
                "{} out of {} hunks FAILED -- saving rejects to file {shown}.rej",
                rejected.len(),
                self.hunks.len()
            );
        }
        if dry {
            return Ok(!rejected.is_empty());
        }
        let failure = |error: io::Error| format!("{shown}: {}", reason(&error));
        if !rejected.is_empty() {
            let mut text = format!("--- {}\n+++ {}\n", self.old, self.new).into_bytes();
            for hunk in &rejected {
                text.extend(format!("@@ -{} @@\n", hunk.start).bytes());
                hunk.lines.iter().for_each(|(mark, line)| {
                    text.push(*mark);
                    text.extend(line);
                });
            }
            fs::write(format!("{shown}.rej"), text).map_err(failure)?;
        }
        let new: Vec<u8> = lines.concat();
        let destination = parsed.value("o").map_or(path.clone(), PathBuf::from);
        if parsed.has("b") && !old.is_empty() {
            fs::write(format!("{shown}.orig"), &old).map_err(failure)?;
        }
        if new.is_empty() && self.new == "/dev/null" && rejected.is_empty() {
            fs::remove_file(&path).map_err(failure)?;
            return Ok(false);
        }
        if let Some(parent) = destination.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(failure)?;
        }
        fs::write(&destination, new).map_err(failure)?;
        Ok(!rejected.is_empty())
    }
}

impl Hunk {
    /// Puts the hunk in, at the place nearest to `expected` where its old lines stand. Up to `fuzz` lines of context
    /// at either end may differ. Gives where, and by how many lines the file grew.
    fn apply(&self, lines: &mut Vec<Vec<u8>>, expected: usize, fuzz: usize) -> Option<(usize, isize)> {
        let leading = self.lines.iter().take_while(|(mark, _)| *mark == b' ').count();
        let trailing = self.lines.iter().rev().take_while(|(mark, _)| *mark == b' ').count();
        for fuzz in 0..=fuzz {
            let (front, back) = (fuzz.min(leading), fuzz.min(trailing));
            if front + back > self.lines.len() {
                break;
            }
            let body = &self.lines[front..self.lines.len() - back];
            let old: Vec<&[u8]> = body
                .iter()
                .filter(|(mark, _)| *mark != b'+')
                .map(|(_, line)| line.as_slice())
                .collect();
            let place = |at: usize| {
                lines
                    .get(at..at.checked_add(old.len())?)?
                    .iter()
                    .zip(&old)
                    .all(|(a, b)| a.as_slice() == *b)
                    .then_some(at)
            };
            let wanted = expected.saturating_add(front);
            let found = (0..=lines.len()).find_map(|distance| {
                place(wanted.saturating_add(distance)).or_else(|| wanted.checked_sub(distance).and_then(place))
            });
            if let Some(at) = found {
                let new: Vec<Vec<u8>> = body
                    .iter()
                    .filter(|(mark, _)| *mark != b'-')
                    .map(|(_, line)| line.clone())
                    .collect();
                let change = new.len() as isize - old.len() as isize;
                lines.splice(at..at + old.len(), new);
                return Some((at - front.min(at), change));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(old: &str, patch: &str) -> Option<String> {
        let files = parse(patch.as_bytes()).unwrap();
        let mut lines: Vec<Vec<u8>> = old.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
        for hunk in &files[0].hunks {
            hunk.apply(&mut lines, hunk.start - 1, 2)?;
        }
        Some(String::from_utf8(lines.concat()).unwrap())
    }

    #[test]
    fn hunks_find_their_place() {
        let patch = "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n";
        assert_eq!(applied("a\nb\nc\n", patch).as_deref(), Some("a\nB\nc\n"));
        assert_eq!(applied("new\na\nb\nc\n", patch).as_deref(), Some("new\na\nB\nc\n"));
        assert_eq!(applied("x\nb\nc\n", patch).as_deref(), Some("x\nB\nc\n"));
        assert_eq!(applied("nothing\n", patch), None);
    }

    #[test]
    fn lying_patches_are_refused() {
        assert!(parse(b"--- a\n+++ b\n@@ -1,2 +1,2 @@\n a\n").is_err());
        assert!(parse(b"--- a\n+++ b\n@@ -1 +1 @@\n-a\n-b\n+c\n").is_err());
        assert!(
            parse(b"--- a\n+++ b\n@@ -1,99999999999999999999999 +1 @@\n").unwrap()[0]
                .hunks
                .is_empty()
        );
    }
}
