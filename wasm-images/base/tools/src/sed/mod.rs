//! `sed`, with GNU's additions: the script is compiled to a flat list of commands whose jumps are resolved.

mod execute;
mod parse;

use std::io;

use crate::cli::{Spec, Takes, fail, reason};

const SPEC: Spec = Spec {
    short: "nEre:f:i::szul:",
    long: &[
        ("quiet", "n", Takes::Nothing),
        ("silent", "n", Takes::Nothing),
        ("regexp-extended", "E", Takes::Nothing),
        ("expression", "e", Takes::Value),
        ("file", "f", Takes::Value),
        ("in-place", "i", Takes::MaybeValue),
        ("separate", "s", Takes::Nothing),
        ("null-data", "z", Takes::Nothing),
        ("unbuffered", "u", Takes::Nothing),
        ("line-length", "l", Takes::Value),
        ("posix", "posix", Takes::Nothing),
        ("debug", "debug", Takes::Nothing),
        ("sandbox", "sandbox", Takes::Nothing),
        ("follow-symlinks", "follow", Takes::Nothing),
        ("version", "version", Takes::Nothing),
        ("help", "help", Takes::Nothing),
    ],
    permute: true,
};

/// What the command line says beside the script.
struct Options {
    quiet: bool,
    /// Edit the files themselves; with a suffix, keep the old one.
    in_place: Option<String>,
    separate: bool,
    /// What ends a line.
    end: u8,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("sed", message, 1),
    };
    if parsed.has("version") {
        println!("sed (wisp) 1.0, with the options and commands of GNU sed");
        return 0;
    }
    let mut operands = parsed.operands.clone();
    let mut pieces = Vec::new();
    for (key, value) in &parsed.options {
        match key.as_str() {
            "e" => pieces.push(value.clone()),
            "f" => match script_file(value) {
                Ok(text) => pieces.push(text),
                Err(error) => return fail("sed", format_args!("couldn't open file {value}: {}", reason(&error)), 1),
            },
            _ => {}
        }
    }
    if pieces.is_empty() {
        if operands.is_empty() || parsed.has("help") {
            return fail(
                "sed",
                "usage: sed [OPTION]... {script-only-if-no-other-script} [input-file]...",
                1,
            );
        }
        pieces.push(operands.remove(0));
    }
    let script = pieces.join("\n");
    let quiet = parsed.has("n") || script.starts_with("#n\n");
    let options = Options {
        quiet,
        in_place: parsed.value("i").map(str::to_owned),
        separate: parsed.has("s") || parsed.has("i"),
        end: if parsed.has("z") { 0 } else { b'\n' },
    };
    match parse::parse(&script, parsed.has("E") || parsed.has("r")) {
        Ok(program) => execute::run(&program, &options, operands),
        Err(message) => fail("sed", format_args!("-e expression #1, {message}"), 1),
    }
}

fn script_file(name: &str) -> io::Result<String> {
    let bytes = if name == "-" {
        io::read_to_string(io::stdin())?.into_bytes()
    } else {
        std::fs::read(name)?
    };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(text.strip_suffix('\n').map_or(text.clone(), str::to_owned))
}
