//! `xargs`.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use wisp_sys::{Command, ExitStatus};

use crate::cli::{Spec, Takes, complain, fail, reason};

const SPEC: Spec = Spec {
    short: "0a:d:E:e::I:i::L:l::n:P:ps:rtxo",
    long: &[
        ("null", "0", Takes::Nothing),
        ("arg-file", "a", Takes::Value),
        ("delimiter", "d", Takes::Value),
        ("replace", "i", Takes::MaybeValue),
        ("max-lines", "l", Takes::MaybeValue),
        ("max-args", "n", Takes::Value),
        ("max-procs", "P", Takes::Value),
        ("max-chars", "s", Takes::Value),
        ("no-run-if-empty", "r", Takes::Nothing),
        ("verbose", "t", Takes::Nothing),
        ("exit", "x", Takes::Nothing),
        ("open-tty", "o", Takes::Nothing),
        ("interactive", "p", Takes::Nothing),
    ],
    permute: false,
};

/// Bytes of arguments for one command when `-s` does not say.
const DEFAULT_CHARS: usize = 128 * 1024;

/// How the input is cut into items.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Blanks and newlines, with quotes and backslashes.
    Words,
    /// One byte ends an item; nothing is special.
    At(u8),
    /// A line is an item (`-I`); quotes and backslashes count, inner blanks do not.
    Lines,
}

struct Xargs {
    command: Vec<String>,
    replace: Option<String>,
    max_items: usize,
    max_lines: usize,
    max_chars: usize,
    parallel: usize,
    verbose: bool,
    running: usize,
    status: i32,
    stop: bool,
}

/// An item, and whether it was the last of its line.
type Item = (String, bool);

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("xargs", message, 1),
    };
    let number = |key: &str, default: usize| match parsed.value(key) {
        None | Some("") => Ok(default),
        Some(text) => text
            .parse()
            .map_err(|_| format!("invalid number \"{text}\" for -{key} option")),
    };
    let (max_items, lines, parallel, max_chars) = match (
        number("n", usize::MAX),
        number("L", usize::MAX),
        number("P", 1),
        number("s", DEFAULT_CHARS),
    ) {
        (Ok(n), Ok(l), Ok(p), Ok(s)) => (n.max(1), l.max(1), p, s.max(1)),
        (Err(m), ..) | (_, Err(m), ..) | (_, _, Err(m), _) | (.., Err(m)) => return fail("xargs", m, 1),
    };
    let max_lines = if parsed.has("l") {
        number("l", 1).unwrap_or(1)
    } else {
        lines
    };
    let replace = match (parsed.value("I"), parsed.value("i")) {
        (Some(text), _) => Some(text.to_owned()),
        (None, Some("")) => Some("{}".to_owned()),
        (None, other) => other.map(str::to_owned),
    };
    let cut = if parsed.has("0") {
        Cut::At(0)
    } else if let Some(text) = parsed.value("d") {
        match delimiter(text) {
            Some(byte) => Cut::At(byte),
            None => return fail("xargs", format_args!("invalid input delimiter specification {text}"), 1),
        }
    } else if replace.is_some() {
        Cut::Lines
    } else {
        Cut::Words
    };
    let input: Box<dyn Read> = match parsed.value("a") {
        Some(file) if file != "-" => match File::open(file) {
            Ok(open) => Box::new(open),
            Err(error) => return fail("xargs", format_args!("{file}: {}", reason(&error)), 1),
        },
        _ => Box::new(io::stdin().lock()),
    };
    let command = if parsed.operands.is_empty() {
        vec!["echo".to_owned()]
    } else {
        parsed.operands.clone()
    };
    let end = parsed
        .value("E")
        .or_else(|| parsed.value("e").filter(|text| !text.is_empty()))
        .map(str::to_owned);
    let mut xargs = Xargs {
        command,
        replace,
        max_items,
        max_lines,
        max_chars,
        parallel: if parallel == 0 { 16 } else { parallel },
        verbose: parsed.has("t"),
        running: 0,
        status: 0,
        stop: false,
    };
    xargs.run(Items::new(input, cut, end), !parsed.has("r"))
}

fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [byte] => Some(*byte),
        b"\\n" => Some(b'\n'),
        b"\\t" => Some(b'\t'),
        b"\\0" => Some(0),
        b"\\r" => Some(b'\r'),
        b"\\\\" => Some(b'\\'),
        _ => text
            .strip_prefix("\\x")
            .and_then(|hex| u8::from_str_radix(hex, 16).ok()),
    }
}

/// The items of the input, read as they are asked for.
struct Items {
    bytes: io::Bytes<BufReader<Box<dyn Read>>>,
    cut: Cut,
    end: Option<String>,
    ended: bool,
    error: Option<String>,
    /// A byte read ahead.
    peeked: Option<u8>,
}

impl Items {
    fn new(input: Box<dyn Read>, cut: Cut, end: Option<String>) -> Self {
        Self {
            bytes: BufReader::new(input).bytes(),
            cut,
            end,
            ended: false,
            error: None,
            peeked: None,
        }
    }

    fn next_item(&mut self) -> Option<Item> {
        let item = match self.cut {
            Cut::At(byte) => self.until(byte),
            Cut::Words | Cut::Lines => self.word(),
        }?;
        if self.end.as_ref() == Some(&item.0) {
            self.ended = true;
            return None;
        }
        Some(item)
    }

    fn byte(&mut self) -> Option<u8> {
        if let Some(byte) = self.peeked.take() {
            return Some(byte);
        }
        match self.bytes.next()? {
            Ok(byte) => Some(byte),
            Err(error) => {
                self.error = Some(reason(&error));
                None
            }
        }
    }

    fn until(&mut self, end: u8) -> Option<Item> {
        let mut item = Vec::new();
        loop {
            match self.byte() {
                Some(byte) if byte == end => break,
                Some(byte) => item.push(byte),
                None if item.is_empty() => return None,
                None => break,
            }
        }
        Some((String::from_utf8_lossy(&item).into_owned(), true))
    }

    fn word(&mut self) -> Option<Item> {
        if self.ended {
            return None;
        }
        let by_line = self.cut == Cut::Lines;
        let mut item = Vec::new();
        let mut begun = false;
        loop {
            let Some(byte) = self.byte() else {
                self.ended = true;
                return begun.then(|| (String::from_utf8_lossy(&item).into_owned(), true));
            };
            match byte {
                b'\n' if begun => return Some((String::from_utf8_lossy(&item).into_owned(), true)),
                b'\n' => {}
                b' ' | b'\t' if !begun => {}
                b' ' | b'\t' if !by_line => {
                    return Some((String::from_utf8_lossy(&item).into_owned(), self.line_ends()));
                }
                b'\'' | b'"' => {
                    begun = true;
                    loop {
                        match self.byte() {
                            Some(inner) if inner == byte => break,
                            Some(b'\n') | None => {
                                let kind = if byte == b'"' { "double" } else { "single" };
                                self.error = Some(format!(
                                    "unmatched {kind} quote; by default quotes are special to xargs unless you use the -0 option"
                                ));
                                self.ended = true;
                                return None;
                            }
                            Some(inner) => item.push(inner),
                        }
                    }
                }
                b'\\' => {
                    begun = true;
                    item.extend(self.byte());
                }
                other => {
                    begun = true;
                    item.push(other);
                }
            }
        }
    }

    /// After a blank: whether the input ends here. A blank at the end of a line continues it on the next (POSIX, `-L`).
    fn line_ends(&mut self) -> bool {
        loop {
            match self.byte() {
                Some(b' ' | b'\t' | b'\n') => {}
                None => return true,
                Some(other) => {
                    self.peeked = Some(other);
                    return false;
                }
            }
        }
    }
}

impl Xargs {
    fn run(&mut self, mut items: Items, run_if_empty: bool) -> i32 {
        let fixed: usize = self.command.iter().map(|word| word.len() + 1).sum();
        let mut batch: Vec<String> = Vec::new();
        let (mut chars, mut lines) = (fixed, 0);
        let mut ran = false;
        while !self.stop {
            let Some((item, ends_line)) = items.next_item() else {
                break;
            };
            if let Some(marker) = self.replace.clone() {
                let words = self.command.iter().map(|word| word.replace(&marker, &item)).collect();
                self.start(words);
                ran = true;
                continue;
            }
            if !batch.is_empty() && chars + item.len() + 1 > self.max_chars {
                self.start_batch(&mut batch);
                (chars, lines, ran) = (fixed, 0, true);
            }
            if chars + item.len() + 1 > self.max_chars.max(DEFAULT_CHARS) {
                self.status = 1;
                complain("xargs", "argument line too long");
                break;
            }
            chars += item.len() + 1;
            lines += usize::from(ends_line);
            batch.push(item);
            if batch.len() >= self.max_items || lines >= self.max_lines {
                self.start_batch(&mut batch);
                (chars, lines, ran) = (fixed, 0, true);
            }
        }
        if let Some(error) = items.error.take() {
            complain("xargs", error);
            self.status = 1;
        } else if !self.stop && (!batch.is_empty() || !ran && run_if_empty && self.replace.is_none()) {
            self.start_batch(&mut batch);
        }
        while self.running > 0 {
            self.reap();
        }
        self.status
    }

    fn start_batch(&mut self, batch: &mut Vec<String>) {
        let mut words = self.command.clone();
        words.append(batch);
        self.start(words);
    }

    fn start(&mut self, words: Vec<String>) {
        while self.running >= self.parallel {
            self.reap();
        }
        let Some((program, arguments)) = words.split_first() else {
            return;
        };
        if self.verbose {
            let _ = writeln!(io::stderr(), "{}", words.join(" "));
        }
        // The command must not eat the items: it reads nothing.
        let Ok(null) = File::open("/dev/null") else {
            self.status = 1;
            self.stop = true;
            return complain("xargs", "/dev/null cannot be opened");
        };
        let descriptors = [(0, std::os::fd::AsRawFd::as_raw_fd(&null)), (1, 1), (2, 2)];
        match Command::new(program).args(arguments).descriptors(descriptors).spawn() {
            Ok(_) => self.running += 1,
            Err(error) => {
                self.stop = true;
                self.status = if error.kind() == io::ErrorKind::NotFound {
                    127
                } else {
                    126
                };
                complain("xargs", format_args!("{program}: {}", reason(&error)));
            }
        }
    }

    fn reap(&mut self) {
        match wisp_sys::wait(-1) {
            Ok((_, status)) => {
                self.running = self.running.saturating_sub(1);
                match status {
                    ExitStatus::Exited(0) => {}
                    ExitStatus::Exited(255) => {
                        self.stop = true;
                        self.status = 124;
                        complain("xargs", "the command exited with status 255; aborting");
                    }
                    ExitStatus::Exited(code @ (126 | 127)) => self.status = i32::from(code),
                    ExitStatus::Exited(_) => self.status = if self.status == 0 { 123 } else { self.status },
                    ExitStatus::Killed(_) => {
                        self.stop = true;
                        self.status = 125;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.running = 0,
        }
    }
}
