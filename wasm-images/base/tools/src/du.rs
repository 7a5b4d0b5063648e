//! `du`.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use wisp_sys::Stat;

use crate::cli::{Spec, Takes, complain, fail, finish, reason, stdout};
use crate::{glob, listing};

const SPEC: Spec = Spec {
    short: "shabkmcd:xLlS",
    long: &[
        ("summarize", "s", Takes::Nothing),
        ("human-readable", "h", Takes::Nothing),
        ("all", "a", Takes::Nothing),
        ("bytes", "b", Takes::Nothing),
        ("apparent-size", "apparent", Takes::Nothing),
        ("max-depth", "d", Takes::Value),
        ("total", "c", Takes::Nothing),
        ("exclude", "exclude", Takes::Value),
    ],
    permute: true,
};

/// A directory being added up.
struct Open {
    path: PathBuf,
    bytes: u64,
    children: Vec<PathBuf>,
}

struct Du {
    bytes: bool,
    apparent: bool,
    human: bool,
    megabytes: bool,
    all: bool,
    max_depth: usize,
    excluded: Vec<String>,
    seen: HashSet<(u64, u64)>,
    status: i32,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("du", message, 1),
    };
    let max_depth = match parsed.value("d").map(str::parse) {
        _ if parsed.has("s") => 0,
        None => usize::MAX,
        Some(Ok(depth)) => depth,
        Some(Err(_)) => return fail("du", "invalid maximum depth", 1),
    };
    let mut du = Du {
        bytes: parsed.has("b"),
        apparent: parsed.has("b") || parsed.has("apparent"),
        human: parsed.has("h"),
        megabytes: parsed.has("m"),
        all: parsed.has("a"),
        max_depth,
        excluded: parsed
            .options
            .iter()
            .filter(|(k, _)| k == "exclude")
            .map(|(_, v)| v.clone())
            .collect(),
        seen: HashSet::new(),
        status: 0,
    };
    let mut out = stdout();
    let mut total = 0;
    let dot = [".".to_owned()];
    for file in if parsed.operands.is_empty() {
        &dot[..]
    } else {
        &parsed.operands
    } {
        total += du.tree(Path::new(file), &mut out);
    }
    if parsed.has("c") {
        du.print(total, Path::new("total"), &mut out);
    }
    finish("du", out, du.status)
}

impl Du {
    /// Bytes of one file itself; a file met before under another name counts nothing.
    fn own(&mut self, path: &Path) -> Option<(u64, bool)> {
        match wisp_sys::stat(path, false) {
            Ok(stat) => {
                let is_dir = stat.file_type() == Stat::DIRECTORY;
                let fresh = stat.nlink < 2 || is_dir || self.seen.insert((stat.dev, stat.ino));
                Some((
                    if !fresh {
                        0
                    } else if self.apparent {
                        stat.size
                    } else {
                        stat.blocks * 512
                    },
                    is_dir,
                ))
            }
            Err(error) => {
                complain(
                    "du",
                    format_args!("cannot access '{}': {}", path.display(), reason(&error)),
                );
                self.status = 1;
                None
            }
        }
    }

    fn children(&mut self, path: &Path) -> Vec<PathBuf> {
        match fs::read_dir(path) {
            Ok(entries) => entries.flatten().map(|entry| path.join(entry.file_name())).collect(),
            Err(error) => {
                complain(
                    "du",
                    format_args!("cannot read directory '{}': {}", path.display(), reason(&error)),
                );
                self.status = 1;
                Vec::new()
            }
        }
    }

    fn tree(&mut self, root: &Path, out: &mut impl Write) -> u64 {
        let Some((bytes, is_dir)) = self.own(root) else {
            return 0;
        };
        if !is_dir {
            self.print(bytes, root, out);
            return bytes;
        }
        let mut open = vec![Open {
            path: root.to_owned(),
            bytes,
            children: self.children(root),
        }];
        while let Some(current) = open.last_mut() {
            if let Some(child) = current.children.pop() {
                let name = child.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if self.excluded.iter().any(|pattern| glob::matches(pattern, &name, false)) {
                    continue;
                }
                let Some((bytes, is_dir)) = self.own(&child) else {
                    continue;
                };
                if is_dir {
                    let children = self.children(&child);
                    open.push(Open {
                        path: child,
                        bytes,
                        children,
                    });
                } else {
                    current.bytes += bytes;
                    let depth = open.len();
                    if self.all && depth <= self.max_depth {
                        self.print(bytes, &child, out);
                    }
                }
                continue;
            }
            let Some(done) = open.pop() else { break };
            if open.len() <= self.max_depth {
                self.print(done.bytes, &done.path, out);
            }
            match open.last_mut() {
                Some(parent) => parent.bytes += done.bytes,
                None => return done.bytes,
            }
        }
        0
    }

    fn print(&self, bytes: u64, path: &Path, out: &mut impl Write) {
        let size = if self.human {
            listing::human_size(bytes)
        } else if self.bytes {
            bytes.to_string()
        } else if self.megabytes {
            bytes.div_ceil(1 << 20).to_string()
        } else {
            bytes.div_ceil(1024).to_string()
        };
        let _ = writeln!(out, "{size}\t{}", path.display());
    }
}
