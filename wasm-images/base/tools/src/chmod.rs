//! `chmod`.

use std::path::{Path, PathBuf};

use crate::cli::{complain, fail, reason};
use crate::{mode, walk};

const USAGE: &str = "usage: chmod [-Rcfv] [--reference=FILE] MODE FILE...";

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let (mut recursive, mut quiet, mut verbose) = (false, false, false);
    let mut reference = None;
    let mut operands = Vec::new();
    let mut options_end = false;
    for word in args.iter().skip(1) {
        match word.as_str() {
            "--" if !options_end => options_end = true,
            "--recursive" => recursive = true,
            "--verbose" | "--changes" => verbose = true,
            "--silent" | "--quiet" => quiet = true,
            other if other.starts_with("--reference=") => reference = Some(other["--reference=".len()..].to_owned()),
            // `-x` and the like are modes; the letters of options are none of theirs.
            flags
                if !options_end
                    && flags.len() > 1
                    && flags.starts_with('-')
                    && flags[1..].chars().all(|c| "Rcfv".contains(c)) =>
            {
                recursive |= flags.contains('R');
                quiet |= flags.contains('f');
                verbose |= flags.contains(['v', 'c']);
            }
            other => operands.push(other.to_owned()),
        }
    }
    let mode = match reference {
        Some(file) => match wisp_sys::stat(Path::new(&file), true) {
            Ok(stat) => mode::Mode::Octal(stat.permissions()),
            Err(error) => return fail("chmod", format_args!("{file}: {}", reason(&error)), 1),
        },
        None if operands.len() < 2 => return fail("chmod", USAGE, 1),
        None => {
            let text = operands.remove(0);
            match mode::parse(&text) {
                Some(mode) => mode,
                None => return fail("chmod", format_args!("invalid mode: '{text}'"), 1),
            }
        }
    };
    let umask = wisp_sys::umask(None).unwrap_or(0o022);
    let mut status = 0;
    let mut change = |path: &Path, top: bool| {
        let result = wisp_sys::stat(path, top).and_then(|stat| {
            if stat.file_type() == wisp_sys::Stat::SYMLINK {
                return Ok(());
            }
            let bits = mode.apply(stat.permissions(), stat.file_type() == wisp_sys::Stat::DIRECTORY, umask);
            if verbose {
                println!(
                    "mode of '{}' changed from {:04o} to {bits:04o}",
                    path.display(),
                    stat.permissions()
                );
            }
            wisp_sys::chmod(path, true, bits)
        });
        if let Err(error) = result {
            status = 1;
            if !quiet {
                complain(
                    "chmod",
                    format_args!("cannot access '{}': {}", path.display(), reason(&error)),
                );
            }
        }
    };
    for operand in &operands {
        let root = PathBuf::from(operand);
        change(&root, true);
        if recursive {
            let below = walk::tree(&root, |path, error| {
                complain("chmod", format_args!("{}: {}", path.display(), reason(error)));
            });
            below.iter().skip(1).for_each(|path| change(path, false));
        }
    }
    status
}
