//! `tree`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::{Spec, Takes, fail, finish, stdout};
use crate::glob;

const SPEC: Spec = Spec {
    short: "adL:I:fFn",
    long: &[("noreport", "noreport", Takes::Nothing)],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("tree", message, 1),
    };
    let max_depth = match parsed.value("L").map(str::parse::<usize>) {
        None => usize::MAX,
        Some(Ok(depth)) if depth > 0 => depth,
        Some(_) => return fail("tree", "Invalid level, must be greater than 0.", 1),
    };
    let ignored: Vec<&str> = parsed
        .value("I")
        .map_or(Vec::new(), |patterns| patterns.split('|').collect());
    let dot = [".".to_owned()];
    let mut out = stdout();
    let (mut directories, mut files) = (0_u64, 0_u64);
    let mut status = 0;
    for root in if parsed.operands.is_empty() {
        &dot[..]
    } else {
        &parsed.operands
    } {
        if !Path::new(root).is_dir() {
            let _ = writeln!(out, "{root}  [error opening dir]");
            status = 2;
            continue;
        }
        let _ = writeln!(out, "{root}");
        directories += 1;
        let list = |directory: &Path| -> Vec<PathBuf> {
            let entries = fs::read_dir(directory).into_iter().flatten().flatten();
            let mut names: Vec<PathBuf> = entries
                .filter(|entry| {
                    let name = entry.file_name().to_string_lossy().into_owned();
                    (parsed.has("a") || !name.starts_with('.'))
                        && !ignored.iter().any(|pattern| glob::matches(pattern, &name, false))
                        && (!parsed.has("d") || entry.path().is_dir())
                })
                .map(|entry| entry.path())
                .collect();
            names.sort();
            names.reverse();
            names
        };
        // For each open directory: what is left of it, last first.
        let mut open = vec![list(Path::new(root))];
        while let Some(level) = open.last_mut() {
            let Some(path) = level.pop() else {
                open.pop();
                continue;
            };
            let indent: String = open[..open.len() - 1]
                .iter()
                .map(|above| if above.is_empty() { "    " } else { "│   " })
                .collect();
            let last = open.last().is_none_or(Vec::is_empty);
            let name = if parsed.has("f") {
                path.display().to_string()
            } else {
                path.file_name().unwrap_or_default().to_string_lossy().into_owned()
            };
            let link =
                fs::read_link(&path).map_or_else(|_| String::new(), |target| format!(" -> {}", target.display()));
            let _ = writeln!(out, "{indent}{}{name}{link}", if last { "└── " } else { "├── " });
            if path.is_dir() {
                directories += 1;
                if link.is_empty() && open.len() < max_depth {
                    open.push(list(&path));
                }
            } else {
                files += 1;
            }
        }
    }
    if !parsed.has("noreport") {
        let plural = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
        let _ = write!(out, "\n{}", plural(directories, "directory", "directories"));
        if !parsed.has("d") {
            let _ = write!(out, ", {}", plural(files, "file", "files"));
        }
        let _ = writeln!(out);
    }
    finish("tree", out, status)
}
