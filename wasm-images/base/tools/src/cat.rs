//! `cat`: also of devices, pipes and `/dev/fd/N`, which the uutils version refuses on WASI.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::cli::{Parsed, Spec, Takes, complain, fail, finish, reason, stdout};

const SPEC: Spec = Spec {
    short: "AbeEnstTuv",
    long: &[
        ("show-all", "A", Takes::Nothing),
        ("number-nonblank", "b", Takes::Nothing),
        ("show-ends", "E", Takes::Nothing),
        ("number", "n", Takes::Nothing),
        ("squeeze-blank", "s", Takes::Nothing),
        ("show-tabs", "T", Takes::Nothing),
        ("show-nonprinting", "v", Takes::Nothing),
    ],
    permute: true,
};

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// What to do with each line, and where in the output it stands.
#[derive(Default)]
struct Style {
    number: bool,
    number_nonblank: bool,
    squeeze: bool,
    ends: bool,
    tabs: bool,
    nonprinting: bool,
    line: u64,
    blank_lines: u32,
    inside_line: bool,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("cat", message, 1),
    };
    if parsed.operands.is_empty() {
        parsed.operands.push("-".to_owned());
    }
    let mut style = style(&parsed);
    let mut out = stdout();
    let mut status = 0;
    for name in &parsed.operands {
        let result = if name == "-" {
            copy(io::stdin().lock(), &mut out, style.as_mut())
        } else {
            File::open(name).and_then(|file| copy(file, &mut out, style.as_mut()))
        };
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return 1,
            Err(error) => {
                // What was read before comes first.
                let _ = out.flush();
                complain("cat", format_args!("{name}: {}", reason(&error)));
                status = 1;
            }
        }
    }
    finish("cat", out, status)
}

/// `None` when bytes are passed on as they are.
fn style(parsed: &Parsed) -> Option<Style> {
    let has = |keys: &[&str]| keys.iter().any(|key| parsed.has(key));
    let style = Style {
        number: has(&["n"]) && !has(&["b"]),
        number_nonblank: has(&["b"]),
        squeeze: has(&["s"]),
        ends: has(&["E", "e", "A"]),
        tabs: has(&["T", "t", "A"]),
        nonprinting: has(&["v", "e", "t", "A"]),
        ..Style::default()
    };
    has(&["A", "b", "e", "E", "n", "s", "t", "T", "v"]).then_some(style)
}

fn copy(mut input: impl Read, out: &mut impl Write, mut style: Option<&mut Style>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match &mut style {
            None => {
                out.write_all(&buffer[..count])?;
                // A reader at the other end of a pipe waits for what is there.
                out.flush()?;
            }
            Some(style) => style.write(&buffer[..count], out)?,
        }
    }
}

impl Style {
    fn write(&mut self, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
        for &byte in bytes {
            if !self.inside_line {
                let blank = byte == b'\n';
                self.blank_lines = if blank { self.blank_lines + 1 } else { 0 };
                if self.squeeze && self.blank_lines > 1 {
                    continue;
                }
                if self.number || self.number_nonblank && !blank {
                    self.line += 1;
                    write!(out, "{:6}\t", self.line)?;
                }
                self.inside_line = true;
            }
            match byte {
                b'\n' => {
                    self.inside_line = false;
                    out.write_all(if self.ends { b"$\n" } else { b"\n" })?;
                }
                b'\t' if self.tabs => out.write_all(b"^I")?,
                b'\t' => out.write_all(b"\t")?,
                byte if self.nonprinting => out.write_all(&visible(byte))?,
                byte => out.write_all(&[byte])?,
            }
        }
        Ok(())
    }
}

/// `^X` and `M-X` notation.
fn visible(byte: u8) -> Vec<u8> {
    let (mut text, low) = if byte >= 128 {
        (b"M-".to_vec(), byte - 128)
    } else {
        (Vec::new(), byte)
    };
    match low {
        0..=31 => text.extend([b'^', low + 64]),
        127 => text.extend(b"^?"),
        _ => text.push(low),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(style: &mut Style, text: &[u8]) -> String {
        let mut out = Vec::new();
        style.write(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn blank_lines_are_squeezed_before_they_are_numbered() {
        let mut style = Style {
            number: true,
            squeeze: true,
            ..Style::default()
        };
        assert_eq!(shown(&mut style, b"a\n\n\n\nb\n"), "     1\ta\n     2\t\n     3\tb\n");
    }

    #[test]
    fn invisible_bytes_are_shown() {
        let mut style = Style {
            nonprinting: true,
            tabs: true,
            ends: true,
            ..Style::default()
        };
        assert_eq!(shown(&mut style, b"a\t\x01\x7f\xe9\n"), "a^I^A^?M-i$\n");
    }
}
