//! `mktemp`: a file or directory with a name nobody can guess, for its owner alone.

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;

use crate::cli::{Spec, Takes, fail, reason};

const SPEC: Spec = Spec {
    short: "duqtp:V",
    long: &[
        ("directory", "d", Takes::Nothing),
        ("dry-run", "u", Takes::Nothing),
        ("quiet", "q", Takes::Nothing),
        ("tmpdir", "p", Takes::MaybeValue),
        ("suffix", "suffix", Takes::Value),
    ],
    permute: true,
};
/// Names tried before giving up.
const ATTEMPTS: u64 = 100;
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("mktemp", message, 1),
    };
    let given = parsed.operands.first().cloned();
    let template = given.clone().unwrap_or_else(|| "tmp.XXXXXXXXXX".to_owned());
    let suffix = parsed.value("suffix").unwrap_or_default();
    let (head, tail) = match template.rfind('X') {
        Some(last) => template.split_at(last + 1),
        None => return fail("mktemp", format_args!("too few X's in template '{template}'"), 1),
    };
    let stem = head.trim_end_matches('X');
    let places = head.len() - stem.len();
    if places < 3 {
        return fail("mktemp", format_args!("too few X's in template '{template}'"), 1);
    }
    let variable = std::env::var("TMPDIR").ok().filter(|value| !value.is_empty());
    let temporary = || variable.clone().unwrap_or_else(|| "/tmp".to_owned());
    let directory = match parsed.value("p") {
        Some("") => temporary(),
        Some(directory) => directory.to_owned(),
        None if given.is_none() || parsed.has("t") => temporary(),
        None => String::new(),
    };
    for attempt in 0..ATTEMPTS {
        let path = PathBuf::from(&directory).join(format!("{stem}{}{tail}{suffix}", random_letters(places, attempt)));
        let made = if parsed.has("u") {
            Ok(())
        } else if parsed.has("d") {
            fs::create_dir(&path).and_then(|()| wisp_sys::chmod(&path, true, 0o700))
        } else {
            let created = OpenOptions::new().write(true).create_new(true).open(&path);
            created.and_then(|_| wisp_sys::chmod(&path, true, 0o600))
        };
        match made {
            Ok(()) => {
                println!("{}", path.display());
                return 0;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) if parsed.has("q") => return 1,
            Err(error) => {
                let what = if parsed.has("d") { "directory" } else { "file" };
                let template = PathBuf::from(&directory).join(&template);
                let message = format!(
                    "failed to create {what} via template '{}': {}",
                    template.display(),
                    reason(&error)
                );
                return fail("mktemp", message, 1);
            }
        }
    }
    fail("mktemp", "no free name found", 1)
}

/// Letters from the random keys that every hasher of the standard library gets.
fn random_letters(count: usize, attempt: u64) -> String {
    let mut letters = String::with_capacity(count);
    let mut number = 0;
    for place in 0..count {
        if place % 8 == 0 {
            number = RandomState::new().hash_one((attempt, place));
        }
        letters.push(char::from(LETTERS[(number % 62) as usize]));
        number /= 62;
    }
    letters
}
