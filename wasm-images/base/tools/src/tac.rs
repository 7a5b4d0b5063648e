//! `tac`: lines in reverse order. The uutils version needs a temporary directory for pipes, which WASI does not name.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::cli::{Spec, Takes, complain, fail, finish, reason, stdout};

const SPEC: Spec = Spec {
    short: "bs:",
    long: &[("before", "b", Takes::Nothing), ("separator", "s", Takes::Value)],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("tac", message, 1),
    };
    if parsed.operands.is_empty() {
        parsed.operands.push("-".to_owned());
    }
    let separator = parsed
        .value("s")
        .filter(|text| !text.is_empty())
        .unwrap_or("\n")
        .as_bytes()
        .to_vec();
    let mut out = stdout();
    let mut status = 0;
    for name in &parsed.operands {
        let mut bytes = Vec::new();
        let read = if name == "-" {
            io::stdin().lock().read_to_end(&mut bytes)
        } else {
            File::open(name).and_then(|mut file| file.read_to_end(&mut bytes))
        };
        if let Err(error) = read {
            complain("tac", format_args!("{name}: {}", reason(&error)));
            status = 1;
            continue;
        }
        for piece in pieces(&bytes, &separator, parsed.has("b")).iter().rev() {
            if out.write_all(piece).is_err() {
                return 1;
            }
        }
    }
    finish("tac", out, status)
}

/// The records of a text with their separators: after each, or before each.
fn pieces<'a>(bytes: &'a [u8], separator: &[u8], before: bool) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let (mut start, mut at) = (0, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(separator) {
            let cut = if before { at } else { at + separator.len() };
            if cut > start {
                pieces.push(&bytes[start..cut]);
            }
            start = cut;
            at += separator.len();
        } else {
            at += 1;
        }
    }
    if start < bytes.len() {
        pieces.push(&bytes[start..]);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::pieces;

    #[test]
    fn a_last_line_without_an_end_stays_as_it_is() {
        assert_eq!(pieces(b"a\nb", b"\n", false), [b"a\n".as_slice(), b"b"]);
        assert_eq!(pieces(b"a\nb\n", b"\n", true), [b"a".as_slice(), b"\nb", b"\n"]);
    }
}
