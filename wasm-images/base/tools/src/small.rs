//! Programs of a few lines: `clear`, `sync`, `rev`, and the refusals of `curl` and `wget`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use crate::cli::{complain, fail, finish, reason, stdout};

const NO_NETWORK: &str = "this sandbox has no network; put files into it through the sandbox API";

/// `sync`: files are in memory, there is nothing to write out.
pub fn sync(_: &[String]) -> i32 {
    0
}

/// `clear`.
pub fn clear(_: &[String]) -> i32 {
    let mut out = stdout();
    let _ = out.write_all(b"\x1b[H\x1b[2J\x1b[3J");
    finish("clear", out, 0)
}

/// `curl`: fails with its status for a host that could not be resolved.
pub fn curl(_: &[String]) -> i32 {
    fail("curl", format_args!("(6) {NO_NETWORK}"), 6)
}

/// `wget`: fails with its status for a network failure.
pub fn wget(_: &[String]) -> i32 {
    fail("wget", NO_NETWORK, 4)
}

/// `rev`.
pub fn rev(args: &[String]) -> i32 {
    let dash = ["-".to_owned()];
    let files = if args.len() > 1 { &args[1..] } else { &dash[..] };
    let mut out = stdout();
    let mut status = 0;
    for file in files {
        let input: Box<dyn BufRead> = if file == "-" {
            Box::new(io::stdin().lock())
        } else {
            match File::open(file) {
                Ok(open) => Box::new(BufReader::new(open)),
                Err(error) => {
                    complain("rev", format_args!("cannot open {file}: {}", reason(&error)));
                    status = 1;
                    continue;
                }
            }
        };
        for line in input.split(b'\n').map_while(Result::ok) {
            let reversed: String = String::from_utf8_lossy(&line).chars().rev().collect();
            if writeln!(out, "{reversed}").is_err() {
                return 1;
            }
        }
    }
    finish("rev", out, status)
}
