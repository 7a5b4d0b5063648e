//! `awk`: POSIX awk with the additions of gawk that scripts use.

mod ast;
mod builtin;
mod format;
mod interpreter;
mod lexer;
mod parser;
mod streams;
mod value;

use std::fs;
use std::io::{self, Read};

use crate::cli::{Spec, Takes, fail, reason};
use interpreter::Interpreter;

const SPEC: Spec = Spec {
    short: "F:v:f:e:W:",
    long: &[
        ("field-separator", "F", Takes::Value),
        ("assign", "v", Takes::Value),
        ("file", "f", Takes::Value),
        ("source", "e", Takes::Value),
        ("version", "version", Takes::Nothing),
        ("posix", "posix", Takes::Nothing),
        ("re-interval", "re-interval", Takes::Nothing),
    ],
    permute: false,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("awk", message, 2),
    };
    if parsed.has("version") {
        println!("awk (wisp) 1.0, compatible with POSIX awk");
        return 0;
    }
    let mut operands = parsed.operands.clone();
    let mut source = String::new();
    for (key, value) in &parsed.options {
        match key.as_str() {
            "e" => source.push_str(value),
            "f" => match program_file(value) {
                Ok(text) => source.push_str(&text),
                Err(error) => return fail("awk", format_args!("cannot open \"{value}\": {}", reason(&error)), 2),
            },
            _ => continue,
        }
        source.push('\n');
    }
    if !parsed.has("f") && !parsed.has("e") {
        if operands.is_empty() {
            return fail(
                "awk",
                "usage: awk [-F fs] [-v var=value] [-f file | 'program'] [file ...]",
                2,
            );
        }
        source = operands.remove(0);
    }
    let (program, globals) = match parser::parse(&source) {
        Ok(parsed) => parsed,
        Err(message) => return fail("awk", message, 2),
    };
    operands.insert(0, "awk".to_owned());
    let mut interpreter = Interpreter::new(&program, globals, operands);
    for (key, value) in &parsed.options {
        match key.as_str() {
            // A single `t` means a tab (POSIX).
            "F" => interpreter.assign("FS", if value == "t" { "\t" } else { value }),
            "v" => match value.split_once('=') {
                Some((name, text)) => interpreter.assign(name, text),
                None => return fail("awk", format_args!("'{value}' is not of the form var=value"), 2),
            },
            _ => {}
        }
    }
    interpreter.run()
}

fn program_file(name: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    if name == "-" {
        io::stdin().read_to_end(&mut bytes)?;
    } else {
        bytes = fs::read(name)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
