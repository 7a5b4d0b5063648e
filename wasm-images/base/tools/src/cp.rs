//! `cp`: the uutils version cannot keep permission bits on WASI, so that a copied script could not be run.

use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use wisp_sys::Stat;

use crate::cli::{Parsed, Spec, Takes, complain, fail, reason};

const SPEC: Spec = Spec {
    short: "abdfHilLnPpRrst:TuvxS:",
    long: &[
        ("archive", "a", Takes::Nothing),
        ("attributes-only", "attributes", Takes::Nothing),
        ("backup", "b", Takes::MaybeValue),
        ("force", "f", Takes::Nothing),
        ("interactive", "i", Takes::Nothing),
        ("link", "l", Takes::Nothing),
        ("dereference", "L", Takes::Nothing),
        ("no-clobber", "n", Takes::Nothing),
        ("no-dereference", "P", Takes::Nothing),
        ("parents", "parents", Takes::Nothing),
        ("preserve", "preserve", Takes::MaybeValue),
        ("no-preserve", "no-preserve", Takes::Value),
        ("recursive", "R", Takes::Nothing),
        ("reflink", "reflink", Takes::MaybeValue),
        ("sparse", "sparse", Takes::Value),
        ("symbolic-link", "s", Takes::Nothing),
        ("target-directory", "t", Takes::Value),
        ("no-target-directory", "T", Takes::Nothing),
        ("update", "u", Takes::MaybeValue),
        ("verbose", "v", Takes::Nothing),
    ],
    permute: true,
};

/// What the options ask for.
struct Job {
    recursive: bool,
    /// Follow links given as operands.
    follow_operands: bool,
    /// Follow links met on the way.
    follow_all: bool,
    keep_mode: bool,
    keep_times: bool,
    no_clobber: bool,
    update: bool,
    hard_links: bool,
    symbolic_links: bool,
    attributes_only: bool,
    backup: bool,
    verbose: bool,
    force: bool,
    status: i32,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut parsed = match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) => parsed,
        Err(message) => return fail("cp", message, 1),
    };
    let target = match parsed.value("t") {
        Some(directory) => directory.to_owned(),
        None if parsed.operands.is_empty() => return fail("cp", "missing file operand", 1),
        None if parsed.operands.len() == 1 => {
            return fail(
                "cp",
                format_args!("missing destination file operand after '{}'", parsed.operands[0]),
                1,
            );
        }
        None => parsed.operands.pop().unwrap_or_default(),
    };
    let target_path = Path::new(&target);
    let into = parsed.has("t") || !parsed.has("T") && target_path.is_dir();
    if !into && (parsed.operands.len() > 1 || target.ends_with('/') && !parsed.has("R") && !parsed.has("r")) {
        let reason = if target_path.exists() {
            "Not a directory"
        } else {
            "No such file or directory"
        };
        return fail("cp", format_args!("target '{target}': {reason}"), 1);
    }
    let mut job = job(&parsed);
    for source in &parsed.operands {
        let path = Path::new(source);
        let destination = match (into, parsed.has("parents")) {
            (false, _) => target_path.to_owned(),
            (true, true) => target_path.join(source.trim_start_matches('/')),
            // The contents of `dir/.` go into the target itself.
            (true, false) => match path.file_name() {
                Some(name) if !source.ends_with("/.") => target_path.join(name),
                _ => target_path.to_owned(),
            },
        };
        if parsed.has("parents")
            && let Some(parent) = destination.parent()
            && let Err(error) = fs::create_dir_all(parent)
        {
            job.complain(format_args!(
                "cannot make directory '{}': {}",
                parent.display(),
                reason(&error)
            ));
            continue;
        }
        let follow = job.follow_operands;
        job.copy(path, &destination, follow);
    }
    job.status
}

fn job(parsed: &Parsed) -> Job {
    let archive = parsed.has("a");
    let recursive = archive || parsed.has("R") || parsed.has("r");
    let preserved = parsed
        .options
        .iter()
        .filter(|(key, _)| key == "preserve")
        .map(|(_, value)| value.as_str());
    let preserved: Vec<&str> = preserved
        .flat_map(|value| if value.is_empty() { "mode,timestamps" } else { value }.split(','))
        .collect();
    let keeps = |what: &str| archive || parsed.has("p") || preserved.contains(&what) || preserved.contains(&"all");
    let never = archive || parsed.has("P") || parsed.has("d");
    Job {
        recursive,
        follow_operands: parsed.has("H") || parsed.has("L") || !never && !recursive,
        follow_all: parsed.has("L") || !never && !recursive,
        keep_mode: keeps("mode") && parsed.value("no-preserve") != Some("mode"),
        keep_times: keeps("timestamps"),
        no_clobber: parsed.has("n") || parsed.value("u") == Some("none"),
        update: parsed.has("u") && matches!(parsed.value("u"), Some("" | "older")),
        hard_links: parsed.has("l"),
        symbolic_links: parsed.has("s"),
        attributes_only: parsed.has("attributes"),
        backup: parsed.has("b"),
        verbose: parsed.has("v"),
        force: parsed.has("f"),
        status: 0,
    }
}

impl Job {
    fn complain(&mut self, message: impl std::fmt::Display) {
        complain("cp", message);
        self.status = 1;
    }

    /// Copies one file or tree.
    fn copy(&mut self, source: &Path, destination: &Path, follow: bool) {
        let stat = match wisp_sys::stat(source, follow) {
            Ok(stat) => stat,
            Err(error) => return self.complain(format_args!("cannot stat '{}': {}", source.display(), reason(&error))),
        };
        if stat.file_type() == Stat::DIRECTORY {
            if self.recursive {
                self.copy_directory(source, destination, &stat);
            } else {
                self.complain(format_args!(
                    "-r not specified; omitting directory '{}'",
                    source.display()
                ));
            }
            return;
        }
        if let Err(message) = self.copy_file(source, destination, &stat) {
            self.complain(message);
        }
    }

    fn copy_directory(&mut self, source: &Path, destination: &Path, stat: &Stat) {
        if is_inside(destination, source) {
            let (from, to) = (source.display(), destination.display());
            return self.complain(format_args!("cannot copy a directory, '{from}', into itself, '{to}'"));
        }
        let made = match fs::create_dir(destination) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !destination.is_dir() {
                    let (to, from) = (destination.display(), source.display());
                    return self.complain(format_args!(
                        "cannot overwrite non-directory '{to}' with directory '{from}'"
                    ));
                }
                false
            }
            Err(error) => {
                return self.complain(format_args!(
                    "cannot create directory '{}': {}",
                    destination.display(),
                    reason(&error)
                ));
            }
            Ok(()) => true,
        };
        if made && self.verbose {
            println!("'{}' -> '{}'", source.display(), destination.display());
        }
        match fs::read_dir(source) {
            Ok(entries) => {
                let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
                names.sort();
                for name in names {
                    let follow = self.follow_all;
                    self.copy(&source.join(&name), &destination.join(&name), follow);
                }
            }
            Err(error) => self.complain(format_args!("cannot access '{}': {}", source.display(), reason(&error))),
        }
        if (made || self.keep_mode)
            && let Err(error) = self.set_attributes(destination, stat, made)
        {
            self.complain(format_args!(
                "preserving attributes of '{}': {}",
                destination.display(),
                reason(&error)
            ));
        }
    }

    fn copy_file(&mut self, source: &Path, destination: &Path, stat: &Stat) -> Result<(), String> {
        let (from, to) = (source.display(), destination.display());
        let existing = wisp_sys::stat(destination, false).ok();
        if let Some(existing) = existing {
            if existing.ino == stat.ino && existing.dev == stat.dev {
                return Err(format!("'{from}' and '{to}' are the same file"));
            }
            if existing.file_type() == Stat::DIRECTORY {
                return Err(format!("cannot overwrite directory '{to}' with non-directory"));
            }
            if self.no_clobber || self.update && existing.mtime >= stat.mtime {
                return Ok(());
            }
            if self.backup {
                let saved = PathBuf::from(format!("{to}~"));
                fs::rename(destination, saved).map_err(|error| format!("cannot backup '{to}': {}", reason(&error)))?;
            }
        }
        let replaces = existing.is_some() && !self.backup;
        let linked = self.hard_links || self.symbolic_links || stat.file_type() == Stat::SYMLINK;
        if replaces && (linked || self.force && existing.is_some_and(|file| file.file_type() != Stat::REGULAR)) {
            fs::remove_file(destination).map_err(|error| format!("cannot remove '{to}': {}", reason(&error)))?;
        }
        let result = if self.hard_links {
            fs::hard_link(source, destination)
        } else if self.symbolic_links {
            symlink(source, destination)
        } else if stat.file_type() == Stat::SYMLINK {
            fs::read_link(source).and_then(|target| symlink(&target, destination))
        } else {
            self.copy_contents(source, destination, stat, existing.is_none() || self.backup)
        };
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!("cannot create regular file '{to}': No such file or directory"),
            _ => format!("error copying '{from}' to '{to}': {}", reason(&error)),
        })?;
        if self.verbose {
            println!("'{from}' -> '{to}'");
        }
        Ok(())
    }

    fn copy_contents(&self, source: &Path, destination: &Path, stat: &Stat, new: bool) -> io::Result<()> {
        let mut output = File::options()
            .write(true)
            .create(true)
            .truncate(!self.attributes_only)
            .open(destination)?;
        if !self.attributes_only {
            io::copy(&mut File::open(source)?, &mut output)?;
            output.flush()?;
        }
        self.set_attributes(destination, stat, new)
    }

    /// Gives a copy the permission bits and times it should have.
    fn set_attributes(&self, destination: &Path, stat: &Stat, new: bool) -> io::Result<()> {
        if self.keep_mode {
            wisp_sys::chmod(destination, true, stat.permissions())?;
        } else if new {
            wisp_sys::chmod(destination, true, stat.permissions() & 0o777 & !wisp_sys::umask(None)?)?;
        }
        if self.keep_times {
            let moment = |nanos| UNIX_EPOCH + Duration::from_nanos(nanos);
            let times = FileTimes::new()
                .set_accessed(moment(stat.atime))
                .set_modified(moment(stat.mtime));
            File::open(destination)?.set_times(times)?;
        }
        Ok(())
    }
}

fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    Ok(rustix::fs::symlink(target, link)?)
}

/// Whether `path` lies in `directory` or is it.
fn is_inside(path: &Path, directory: &Path) -> bool {
    let Ok(directory) = fs::canonicalize(directory) else {
        return false;
    };
    let existing = path.ancestors().find_map(|ancestor| {
        let ancestor = if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        };
        fs::canonicalize(ancestor).ok()
    });
    existing.is_some_and(|path| path.starts_with(&directory) && path != directory)
        || path.canonicalize().is_ok_and(|path| path == directory)
}
