//! `grep`, `egrep`, `fgrep`.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use crate::cli::{Parsed, Spec, Takes, complain, fail, finish, reason, stdout};
use crate::glob;
use crate::matcher::{Bounds, Matcher, Syntax};
use crate::posix_regex::Dialect;

use Takes::{MaybeValue, Nothing, Value};

const SPEC: Spec = Spec {
    short: "rRinvEFGPocA:B:C:lLwxqshHe:f:m:zaIbTUyZd:D:0123456789",
    long: &[
        ("recursive", "r", Nothing),
        ("dereference-recursive", "R", Nothing),
        ("ignore-case", "i", Nothing),
        ("no-ignore-case", "no-ignore-case", Nothing),
        ("line-number", "n", Nothing),
        ("invert-match", "v", Nothing),
        ("extended-regexp", "E", Nothing),
        ("fixed-strings", "F", Nothing),
        ("basic-regexp", "G", Nothing),
        ("perl-regexp", "P", Nothing),
        ("only-matching", "o", Nothing),
        ("count", "c", Nothing),
        ("after-context", "A", Value),
        ("before-context", "B", Value),
        ("context", "C", Value),
        ("files-with-matches", "l", Nothing),
        ("files-without-match", "L", Nothing),
        ("word-regexp", "w", Nothing),
        ("line-regexp", "x", Nothing),
        ("quiet", "q", Nothing),
        ("silent", "q", Nothing),
        ("no-messages", "s", Nothing),
        ("no-filename", "h", Nothing),
        ("with-filename", "H", Nothing),
        ("regexp", "e", Value),
        ("file", "f", Value),
        ("max-count", "m", Value),
        ("null-data", "z", Nothing),
        ("null", "Z", Nothing),
        ("text", "a", Nothing),
        ("byte-offset", "b", Nothing),
        ("initial-tab", "T", Nothing),
        ("include", "include", Value),
        ("exclude", "exclude", Value),
        ("exclude-dir", "exclude-dir", Value),
        ("color", "color", MaybeValue),
        ("colour", "color", MaybeValue),
        ("binary-files", "binary-files", Value),
        ("line-buffered", "line-buffered", Nothing),
        ("label", "label", Value),
        ("directories", "d", Value),
        ("devices", "D", Value),
        ("binary", "U", Nothing),
        ("help", "help", Nothing),
        ("version", "V", Nothing),
    ],
    permute: true,
};

const USAGE: &str = "Usage: grep [OPTION]... PATTERNS [FILE]...\n\
Search for PATTERNS in each FILE; standard input without one, the working directory with -r.\n\
  -E -F -G -P           extended, fixed, basic (default), Perl syntax\n\
  -e PATTERN, -f FILE   more patterns\n\
  -i -v -w -x           ignore case; select lines that do not match; match words; match lines\n\
  -c -l -L -o -q -s     counts; names with, without matches; matched parts; nothing; no messages\n\
  -m N -n -b -H -h      at most N lines; line numbers; byte offsets; with, without names\n\
  -A N -B N -C N        lines of context after, before, around\n\
  -r -R                 descend into directories; -R follows links\n\
  --include --exclude --exclude-dir=GLOB   choose files\n\
  -a -I -z -Z --color   binary as text; skip binary; NUL-ended lines; NUL after names; colours\n\
Status 0: a line was selected, 1: none was, 2: trouble.\n";

/// Binary files: how to treat them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binary {
    Report,
    Text,
    Skip,
}

struct Grep {
    matcher: Matcher,
    invert: bool,
    only_matching: bool,
    count: bool,
    list_matching: bool,
    list_others: bool,
    quiet: bool,
    no_messages: bool,
    names: bool,
    numbers: bool,
    offsets: bool,
    initial_tab: bool,
    before: usize,
    after: usize,
    max_count: u64,
    terminator: u8,
    null_names: bool,
    color: bool,
    binary: Binary,
    label: String,
    include: Vec<String>,
    exclude: Vec<String>,
    exclude_dir: Vec<String>,
    recursive: bool,
    /// Recursive without an operand: names are shown without a leading `./`.
    implicit_root: bool,
    follow: bool,
    skip_directories: bool,
}

/// What became of the whole run.
#[derive(Default)]
struct Outcome {
    selected: bool,
    trouble: bool,
}

/// Runs the program; `args[0]` is the name it was called by.
pub fn main(args: &[String]) -> i32 {
    let (grep, files) = match configure(args) {
        Ok(Some(configured)) => configured,
        Ok(None) => return 0,
        Err(message) => return fail("grep", message, 2),
    };
    let mut out = stdout();
    let mut outcome = Outcome::default();
    let result = files
        .iter()
        .try_for_each(|file| grep.operand(file, &mut out, &mut outcome));
    if let Err(error) = result
        && error.kind() != io::ErrorKind::BrokenPipe
        && error.kind() != io::ErrorKind::Interrupted
    {
        return fail("grep", format_args!("write error: {}", reason(&error)), 2);
    }
    let status = if outcome.selected && (!outcome.trouble || grep.quiet) {
        0
    } else if outcome.trouble {
        2
    } else {
        1
    };
    finish("grep", out, status)
}

fn configure(args: &[String]) -> Result<Option<(Grep, Vec<String>)>, String> {
    let parsed = SPEC.parse(args.get(1..).unwrap_or_default())?;
    let called = args
        .first()
        .map_or("grep", |name| name.rsplit('/').next().unwrap_or(name));
    if parsed.has("help") {
        let _ = io::stdout().write_all(USAGE.as_bytes());
        return Ok(None);
    }
    if parsed.has("V") {
        println!("grep (wisp) 1.0");
        return Ok(None);
    }
    let mut operands = parsed.operands.clone();
    let patterns = patterns(&parsed, &mut operands)?;
    let syntax = syntax(&parsed, called);
    let bounds = if parsed.has("x") {
        Bounds::Line
    } else if parsed.has("w") {
        Bounds::Word
    } else {
        Bounds::Anywhere
    };
    let fold = parsed.options.iter().rev().find_map(|(k, _)| match k.as_str() {
        "i" | "y" => Some(true),
        "no-ignore-case" => Some(false),
        _ => None,
    });
    let matcher = Matcher::new(&patterns, syntax, bounds, fold.unwrap_or(false))?;
    let (before, after) = context(&parsed)?;
    let recursive = parsed.has("r") || parsed.has("R") || parsed.value("d") == Some("recurse");
    let many = operands.len() > 1 || recursive;
    let implicit_root = operands.is_empty();
    if implicit_root {
        operands.push(if recursive { "." } else { "-" }.to_owned());
    }
    let all = |key: &str| {
        parsed
            .options
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.clone())
            .collect()
    };
    let names = parsed.options.iter().rev().find_map(|(k, _)| match k.as_str() {
        "H" => Some(true),
        "h" => Some(false),
        _ => None,
    });
    let grep = Grep {
        matcher,
        invert: parsed.has("v"),
        only_matching: parsed.has("o"),
        count: parsed.has("c"),
        list_matching: parsed.has("l"),
        list_others: parsed.has("L"),
        quiet: parsed.has("q"),
        no_messages: parsed.has("s"),
        names: names.unwrap_or(many),
        numbers: parsed.has("n"),
        offsets: parsed.has("b"),
        initial_tab: parsed.has("T"),
        before,
        after,
        max_count: match parsed.value("m") {
            Some(text) => text.parse().map_err(|_| "invalid max count".to_owned())?,
            None => u64::MAX,
        },
        terminator: if parsed.has("z") { 0 } else { b'\n' },
        null_names: parsed.has("Z"),
        color: parsed.value("color") == Some("always"),
        binary: match (parsed.has("a"), parsed.has("I"), parsed.value("binary-files")) {
            (true, ..) | (_, _, Some("text")) => Binary::Text,
            (_, true, _) | (_, _, Some("without-match")) => Binary::Skip,
            _ => Binary::Report,
        },
        label: parsed.value("label").unwrap_or("(standard input)").to_owned(),
        include: all("include"),
        exclude: all("exclude"),
        exclude_dir: all("exclude-dir"),
        recursive,
        implicit_root,
        follow: parsed.has("R"),
        skip_directories: parsed.value("d") == Some("skip"),
    };
    Ok(Some((grep, operands)))
}

/// The patterns of `-e` and `-f`, or the first operand; each line is a pattern of its own.
fn patterns(parsed: &Parsed, operands: &mut Vec<String>) -> Result<Vec<String>, String> {
    let mut patterns = Vec::new();
    let mut given = false;
    for (key, value) in &parsed.options {
        match key.as_str() {
            "e" => patterns.extend(value.split('\n').map(str::to_owned)),
            "f" => {
                let text = read_pattern_file(value).map_err(|error| format!("{value}: {}", reason(&error)))?;
                patterns.extend(text.lines().map(str::to_owned));
            }
            _ => continue,
        }
        given = true;
    }
    if !given {
        if operands.is_empty() {
            return Err("no pattern given\nUsage: grep [OPTION]... PATTERNS [FILE]...".into());
        }
        patterns.extend(operands.remove(0).split('\n').map(str::to_owned));
    }
    if patterns.is_empty() {
        // An empty pattern file matches nothing; this expression cannot match.
        patterns.push("[^[:alpha:][:^alpha:]]".into());
    }
    Ok(patterns)
}

fn read_pattern_file(name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    if name == "-" {
        io::stdin().read_to_end(&mut bytes)?;
    } else {
        File::open(name)?.read_to_end(&mut bytes)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn syntax(parsed: &Parsed, called: &str) -> Syntax {
    let chosen = parsed.options.iter().rev().find_map(|(key, _)| match key.as_str() {
        "E" => Some(Syntax::Posix(Dialect::Extended)),
        "F" => Some(Syntax::Fixed),
        "G" => Some(Syntax::Posix(Dialect::Basic)),
        "P" => Some(Syntax::Perl),
        _ => None,
    });
    chosen.unwrap_or(match called {
        "egrep" => Syntax::Posix(Dialect::Extended),
        "fgrep" => Syntax::Fixed,
        _ => Syntax::Posix(Dialect::Basic),
    })
}

/// Lines of context before and after; `-5` means `-C 5`.
fn context(parsed: &Parsed) -> Result<(usize, usize), String> {
    let number = |key: &str| -> Result<Option<usize>, String> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text}: invalid context length argument"))
        };
        parsed.value(key).map(parse).transpose()
    };
    let digits: String = parsed
        .options
        .iter()
        .map(|(key, _)| key.as_str())
        .filter(|key| key.bytes().all(|b| b.is_ascii_digit()))
        .collect();
    let around = number("C")?.or_else(|| digits.parse().ok()).unwrap_or(0);
    Ok((number("B")?.unwrap_or(around), number("A")?.unwrap_or(around)))
}

impl Grep {
    fn operand(&self, file: &str, out: &mut impl Write, outcome: &mut Outcome) -> io::Result<()> {
        if file == "-" {
            return self.search(&self.label, &mut io::stdin().lock(), out, outcome);
        }
        match fs::metadata(file) {
            Ok(meta) if meta.is_dir() && self.recursive => self.tree(file, out, outcome),
            Ok(meta) if meta.is_dir() => {
                if !self.skip_directories {
                    self.trouble(&format!("{file}: Is a directory"), outcome);
                }
                Ok(())
            }
            Err(error) => {
                self.trouble(&format!("{file}: {}", reason(&error)), outcome);
                Ok(())
            }
            Ok(_) if !self.wanted(file) => Ok(()),
            Ok(_) => self.file(file, out, outcome),
        }
    }

    /// Searches a directory tree with a stack of its own, so that depth costs no call stack.
    fn tree(&self, root: &str, out: &mut impl Write, outcome: &mut Outcome) -> io::Result<()> {
        let mut pending = vec![(PathBuf::from(root), true)];
        while let Some((path, is_dir)) = pending.pop() {
            let shown = path.to_string_lossy().into_owned();
            if !is_dir {
                self.file(&shown, out, outcome)?;
                continue;
            }
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) => {
                    self.trouble(&format!("{shown}: {}", reason(&error)), outcome);
                    continue;
                }
            };
            let mut children = Vec::new();
            for entry in entries.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let child = if self.implicit_root && shown == "." {
                    PathBuf::from(&name)
                } else {
                    path.join(&name)
                };
                let Ok(mut kind) = entry.file_type() else { continue };
                if kind.is_symlink() {
                    if !self.follow {
                        continue;
                    }
                    let Ok(target) = fs::metadata(&child) else { continue };
                    kind = target.file_type();
                }
                let excluded = |globs: &[String]| globs.iter().any(|glob| glob::matches(glob, &name, false));
                if kind.is_dir() {
                    if !excluded(&self.exclude_dir) {
                        children.push((child, true));
                    }
                } else if kind.is_file() && self.wanted(&name) {
                    children.push((child, false));
                }
            }
            children.sort_by(|a, b| b.0.cmp(&a.0));
            pending.extend(children);
        }
        Ok(())
    }

    fn wanted(&self, file: &str) -> bool {
        let name = file.rsplit('/').next().unwrap_or(file);
        let any = |globs: &[String]| globs.iter().any(|glob| glob::matches(glob, name, false));
        !any(&self.exclude) && (self.include.is_empty() || any(&self.include))
    }

    fn file(&self, file: &str, out: &mut impl Write, outcome: &mut Outcome) -> io::Result<()> {
        match File::open(file) {
            Ok(open) => self.search(file, &mut BufReader::with_capacity(64 * 1024, open), out, outcome),
            Err(error) => {
                self.trouble(&format!("{file}: {}", reason(&error)), outcome);
                Ok(())
            }
        }
    }

    fn trouble(&self, message: &str, outcome: &mut Outcome) {
        outcome.trouble = true;
        if !self.no_messages {
            complain("grep", message);
        }
    }

    /// Searches one input. The error is one of writing; `Interrupted` ends the run early and is not a failure.
    fn search(
        &self,
        name: &str,
        input: &mut impl BufRead,
        out: &mut impl Write,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let mut line = Vec::new();
        let mut number = 0_u64;
        let mut offset = 0_u64;
        let mut selected = 0_u64;
        let mut waiting: VecDeque<(u64, u64, Vec<u8>)> = VecDeque::new();
        let mut after_left = 0_usize;
        let mut last_shown = 0_u64;
        let silent = self.quiet || self.count || self.list_matching || self.list_others;
        let mut binary = false;
        let mut first_block = true;
        while selected < self.max_count || after_left > 0 {
            line.clear();
            if first_block {
                first_block = false;
                binary = match input.fill_buf() {
                    Ok(block) => self.binary != Binary::Text && self.terminator != 0 && block.contains(&0),
                    Err(_) => false,
                };
                if binary && self.binary == Binary::Skip {
                    break;
                }
            }
            match input.read_until(self.terminator, &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    self.trouble(&format!("{name}: {}", reason(&error)), outcome);
                    break;
                }
            }
            number += 1;
            let start = offset;
            offset += line.len() as u64;
            if line.last() == Some(&self.terminator) {
                line.pop();
            }
            let hit = selected < self.max_count && self.matcher.is_match(&line) != self.invert;
            if !hit {
                if silent || binary {
                    continue;
                }
                if after_left > 0 {
                    after_left -= 1;
                    self.show(name, number, start, &line, b'-', out)?;
                    last_shown = number;
                } else if self.before > 0 {
                    if waiting.len() == self.before {
                        waiting.pop_front();
                    }
                    waiting.push_back((number, start, line.clone()));
                }
                continue;
            }
            selected += 1;
            outcome.selected |= !self.list_others;
            if self.quiet {
                return Err(io::ErrorKind::Interrupted.into());
            }
            if self.list_matching || self.list_others {
                break;
            }
            if self.count {
                continue;
            }
            if binary {
                out.flush()?;
                complain("grep", format_args!("{name}: binary file matches"));
                break;
            }
            let group_start = waiting.front().map_or(number, |(n, ..)| *n);
            if (self.before > 0 || self.after > 0)
                && last_shown > 0
                && group_start > last_shown + 1
                && !self.only_matching
            {
                writeln!(
                    out,
                    "{}",
                    if self.color {
                        "\x1b[36m\x1b[K--\x1b[m\x1b[K"
                    } else {
                        "--"
                    }
                )?;
            }
            for (n, at, text) in waiting.drain(..) {
                self.show(name, n, at, &text, b'-', out)?;
            }
            self.show(name, number, start, &line, b':', out)?;
            last_shown = number;
            after_left = self.after;
        }
        if self.list_matching && selected > 0 || self.list_others && selected == 0 {
            outcome.selected |= self.list_others;
            self.paint("35", name.as_bytes(), out)?;
            out.write_all(if self.null_names { b"\0" } else { b"\n" })?;
        } else if self.count && !self.list_matching && !self.list_others {
            if self.names {
                self.paint("35", name.as_bytes(), out)?;
                self.name_end(b':', out)?;
            }
            writeln!(out, "{selected}")?;
        }
        Ok(())
    }

    fn paint(&self, color: &str, text: &[u8], out: &mut impl Write) -> io::Result<()> {
        if self.color {
            write!(out, "\x1b[{color}m\x1b[K")?;
            out.write_all(text)?;
            return write!(out, "\x1b[m\x1b[K");
        }
        out.write_all(text)
    }

    fn name_end(&self, separator: u8, out: &mut impl Write) -> io::Result<()> {
        if self.null_names {
            out.write_all(b"\0")
        } else {
            self.paint("36", &[separator], out)
        }
    }

    fn prefix(&self, name: &str, number: u64, offset: u64, separator: u8, out: &mut impl Write) -> io::Result<()> {
        if self.names {
            self.paint("35", name.as_bytes(), out)?;
            self.name_end(separator, out)?;
        }
        if self.numbers {
            self.paint("32", number.to_string().as_bytes(), out)?;
            self.paint("36", &[separator], out)?;
        }
        if self.offsets {
            self.paint("32", offset.to_string().as_bytes(), out)?;
            self.paint("36", &[separator], out)?;
        }
        if self.initial_tab {
            out.write_all(b"\t")?;
        }
        Ok(())
    }

    fn show(
        &self,
        name: &str,
        number: u64,
        start: u64,
        line: &[u8],
        separator: u8,
        out: &mut impl Write,
    ) -> io::Result<()> {
        if self.only_matching {
            if separator == b':' && !self.invert {
                for found in self.matcher.find_all(line) {
                    self.prefix(name, number, start + found.start as u64, separator, out)?;
                    self.paint("01;31", &line[found], out)?;
                    out.write_all(&[self.terminator])?;
                }
            }
            return Ok(());
        }
        self.prefix(name, number, start, separator, out)?;
        let mut at = 0;
        if self.color && separator == b':' && !self.invert {
            for found in self.matcher.find_all(line) {
                out.write_all(&line[at..found.start])?;
                at = found.end;
                self.paint("01;31", &line[found], out)?;
            }
        }
        out.write_all(&line[at..])?;
        out.write_all(&[self.terminator])
    }
}
