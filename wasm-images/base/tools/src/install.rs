//! `install`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::{Spec, Takes, fail, reason};
use crate::mode;

const SPEC: Spec = Spec {
    short: "dDm:o:g:t:Tvcps",
    long: &[
        ("directory", "d", Takes::Nothing),
        ("mode", "m", Takes::Value),
        ("owner", "o", Takes::Value),
        ("group", "g", Takes::Value),
        ("target-directory", "t", Takes::Value),
        ("no-target-directory", "T", Takes::Nothing),
        ("verbose", "v", Takes::Nothing),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if parsed.operands.is_empty() => return fail("install", "missing file operand", 1),
        Ok(parsed) => parsed,
        Err(message) => return fail("install", message, 1),
    };
    let text = parsed.value("m").unwrap_or("755");
    let Some(mode) = mode::parse(text).map(|mode| mode.apply(0, parsed.has("d"), 0)) else {
        return fail("install", format_args!("invalid mode '{text}'"), 1);
    };
    let mut operands: Vec<PathBuf> = parsed.operands.iter().map(PathBuf::from).collect();
    let mut status = 0;
    if parsed.has("d") {
        for directory in &operands {
            if let Err(error) = fs::create_dir_all(directory).and_then(|()| wisp_sys::chmod(directory, true, mode)) {
                status = fail(
                    "install",
                    format_args!("cannot create directory '{}': {}", directory.display(), reason(&error)),
                    1,
                );
            }
        }
        return status;
    }
    let target = match parsed.value("t") {
        Some(directory) => PathBuf::from(directory),
        None if operands.len() < 2 => return fail("install", "missing destination file operand", 1),
        None => operands.pop().unwrap_or_default(),
    };
    if parsed.has("D") {
        let directory = if parsed.has("t") {
            Some(target.as_path())
        } else {
            target.parent()
        };
        if let Some(Err(error)) = directory.map(fs::create_dir_all) {
            return fail(
                "install",
                format_args!("cannot create directory: {}", reason(&error)),
                1,
            );
        }
    }
    let into = target.is_dir() && !parsed.has("T");
    if operands.len() > 1 && !into {
        return fail(
            "install",
            format_args!("target '{}' is not a directory", target.display()),
            1,
        );
    }
    for source in &operands {
        let destination = if into {
            target.join(source.file_name().unwrap_or_default())
        } else {
            target.clone()
        };
        if let Err(error) = copy(source, &destination, mode) {
            let message = format!("cannot install '{}' to '{}'", source.display(), destination.display());
            status = fail("install", format_args!("{message}: {}", reason(&error)), 1);
        }
    }
    status
}

fn copy(source: &Path, destination: &Path, mode: u32) -> std::io::Result<()> {
    if fs::symlink_metadata(destination).is_ok() {
        fs::remove_file(destination)?;
    }
    let mut from = fs::File::open(source)?;
    std::io::copy(&mut from, &mut fs::File::create(destination)?)?;
    wisp_sys::chmod(destination, true, mode)
}
