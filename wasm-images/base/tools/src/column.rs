//! `column -t`: makes a table.

use std::fs;
use std::io::{self, Read, Write};

use crate::cli::{Spec, Takes, fail, finish, reason, stdout};

const SPEC: Spec = Spec {
    short: "ts:o:c:ne",
    long: &[
        ("table", "t", Takes::Nothing),
        ("separator", "s", Takes::Value),
        ("output-separator", "o", Takes::Value),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("column", message, 1),
    };
    let mut bytes = Vec::new();
    let read = if parsed.operands.is_empty() {
        io::stdin().read_to_end(&mut bytes).map(|_| ())
    } else {
        parsed
            .operands
            .iter()
            .try_for_each(|file| fs::read(file).map(|text| bytes.extend(text)))
    };
    if let Err(error) = read {
        return fail("column", reason(&error), 1);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut out = stdout();
    if !parsed.has("t") {
        let _ = out.write_all(text.as_bytes());
        return finish("column", out, 0);
    }
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match parsed.value("s") {
            Some(separators) => line.split(|c| separators.contains(c)).collect(),
            None => line.split_whitespace().collect(),
        })
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), 0);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let separator = parsed.value("o").unwrap_or("  ");
    for row in &rows {
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let last = index + 1 == row.len();
            let _ = if last {
                writeln!(out, "{cell}")
            } else {
                write!(out, "{cell:<width$}{separator}")
            };
        }
    }
    finish("column", out, 0)
}
