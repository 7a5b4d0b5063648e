//! `more` and `less` where there is no terminal to page on: they copy.

use std::fs::File;
use std::io;

use crate::cli::{complain, finish, reason, stdout};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let files: Vec<&String> = args
        .iter()
        .skip(1)
        .filter(|word| !word.starts_with(['-', '+']) || *word == "-")
        .collect();
    let mut out = stdout();
    let mut status = 0;
    if files.is_empty() {
        status = i32::from(io::copy(&mut io::stdin().lock(), &mut out).is_err());
    }
    for file in files {
        let copied = File::open(file).and_then(|mut open| io::copy(&mut open, &mut out));
        if let Err(error) = copied {
            complain("less", format_args!("{file}: {}", reason(&error)));
            status = 1;
        }
    }
    finish("less", out, status)
}
