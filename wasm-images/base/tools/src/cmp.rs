//! `cmp`.

use std::fs::File;
use std::io::{self, BufReader, Read};

use crate::cli::{Spec, Takes, fail, reason};

const SPEC: Spec = Spec {
    short: "sln:i:b",
    long: &[
        ("silent", "s", Takes::Nothing),
        ("quiet", "s", Takes::Nothing),
        ("verbose", "l", Takes::Nothing),
        ("bytes", "n", Takes::Value),
    ],
    permute: true,
};

fn open(name: &str) -> io::Result<Box<dyn Read>> {
    Ok(if name == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(name)?))
    })
}

/// Runs the program.
#[allow(clippy::unbuffered_bytes, reason = "`open` buffers")]
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.is_empty() => return fail("cmp", "missing operand", 2),
        Ok(parsed) => parsed,
        Err(message) => return fail("cmp", message, 2),
    };
    let first = &parsed.operands[0];
    let second = parsed.operands.get(1).map_or("-", String::as_str);
    let mut inputs = Vec::new();
    for name in [first.as_str(), second] {
        match open(name) {
            Ok(input) => inputs.push(input.bytes()),
            Err(error) => return fail("cmp", format_args!("{name}: {}", reason(&error)), 2),
        }
    }
    let limit: u64 = parsed.value("n").and_then(|n| n.parse().ok()).unwrap_or(u64::MAX);
    let (silent, list) = (parsed.has("s"), parsed.has("l"));
    let (mut position, mut line, mut status) = (0_u64, 1_u64, 0);
    while position < limit {
        position += 1;
        let next: Vec<_> = inputs.iter_mut().map(|bytes| bytes.next().transpose()).collect();
        match (&next[0], &next[1]) {
            (Err(error), _) | (_, Err(error)) => return fail("cmp", reason(error), 2),
            (Ok(None), Ok(None)) => break,
            (Ok(Some(_)), Ok(None)) | (Ok(None), Ok(Some(_))) => {
                if !silent {
                    let name = if matches!(next[0], Ok(None)) { first } else { second };
                    return fail(
                        "cmp",
                        format_args!("EOF on {name} after byte {}, line {line}", position - 1),
                        1,
                    );
                }
                return 1;
            }
            (Ok(Some(a)), Ok(Some(b))) => {
                if a != b {
                    status = 1;
                    if list {
                        println!("{position} {a:3o} {b:3o}");
                    } else {
                        if !silent {
                            println!("{first} {second} differ: byte {position}, line {line}");
                        }
                        return 1;
                    }
                }
                line += u64::from(*a == b'\n');
            }
        }
    }
    status
}
