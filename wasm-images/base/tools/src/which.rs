//! `which`.

use std::path::PathBuf;

use crate::cli::{Spec, fail};

const SPEC: Spec = Spec {
    short: "as",
    long: &[],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("which", message, 2),
    };
    let path = std::env::var("PATH").unwrap_or_default();
    let mut status = i32::from(parsed.operands.is_empty());
    for name in &parsed.operands {
        let candidates: Vec<PathBuf> = if name.contains('/') {
            vec![PathBuf::from(name)]
        } else {
            path.split(':')
                .map(|dir| PathBuf::from(if dir.is_empty() { "." } else { dir }).join(name))
                .collect()
        };
        let runnable = |file: &&PathBuf| {
            wisp_sys::stat(file, true)
                .is_ok_and(|stat| stat.file_type() == wisp_sys::Stat::REGULAR && stat.mode & 0o111 != 0)
        };
        let found: Vec<&PathBuf> = candidates.iter().filter(runnable).collect();
        if found.is_empty() {
            status = 1;
        }
        if !parsed.has("s") {
            let shown = if parsed.has("a") { found.len() } else { 1 };
            found.iter().take(shown).for_each(|file| println!("{}", file.display()));
        }
    }
    status
}
