//! `tar`: create, list, extract; gzip.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use ::tar::{Archive, Builder, EntryType, Header};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use wisp_sys::Stat;

use crate::cli::{Parsed, Spec, Takes, complain, fail, reason};
use crate::listing::{Owners, format_date, permission_letters};
use crate::{glob, walk};

const SPEC: Spec = Spec {
    short: "cxtf:zjJvC:OkpPhT:X:aormS",
    long: &[
        ("create", "c", Takes::Nothing),
        ("extract", "x", Takes::Nothing),
        ("get", "x", Takes::Nothing),
        ("list", "t", Takes::Nothing),
        ("file", "f", Takes::Value),
        ("gzip", "z", Takes::Nothing),
        ("gunzip", "z", Takes::Nothing),
        ("verbose", "v", Takes::Nothing),
        ("directory", "C", Takes::Value),
        ("to-stdout", "O", Takes::Nothing),
        ("keep-old-files", "k", Takes::Nothing),
        ("preserve-permissions", "p", Takes::Nothing),
        ("same-permissions", "p", Takes::Nothing),
        ("strip-components", "strip", Takes::Value),
        ("exclude", "exclude", Takes::Value),
        ("files-from", "T", Takes::Value),
        ("dereference", "h", Takes::Nothing),
        ("no-same-owner", "o", Takes::Nothing),
        ("same-owner", "same-owner", Takes::Nothing),
        ("numeric-owner", "numeric-owner", Takes::Nothing),
        ("auto-compress", "a", Takes::Nothing),
        ("overwrite", "overwrite", Takes::Nothing),
        ("wildcards", "wildcards", Takes::Nothing),
        ("warning", "warning", Takes::Value),
        ("sort", "sort", Takes::Value),
        ("owner", "owner", Takes::Value),
        ("group", "group", Takes::Value),
        ("mtime", "mtime", Takes::Value),
        ("format", "format", Takes::Value),
    ],
    permute: true,
};

struct Tar {
    parsed: Parsed,
    strip: usize,
    excluded: Vec<String>,
    verbose: bool,
    status: i32,
}

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    let mut words = args.get(1..).unwrap_or_default().to_vec();
    // The old style: a first word of letters without a dash; those with an argument take the words that follow.
    if let Some(first) = words
        .first()
        .filter(|first| !first.starts_with('-') && !first.is_empty())
        .cloned()
    {
        words.remove(0);
        let mut flags = Vec::new();
        for letter in first.chars() {
            flags.push(format!("-{letter}"));
            if "fCTX".contains(letter) && !words.is_empty() {
                flags.push(words.remove(0));
            }
        }
        words.splice(0..0, flags);
    }
    let parsed = match SPEC.parse(&words) {
        Ok(parsed) => parsed,
        Err(message) => return fail("tar", message, 2),
    };
    let strip = match parsed.value("strip").map(str::parse) {
        Some(Err(_)) => return fail("tar", "invalid number of components to strip", 2),
        Some(Ok(count)) => count,
        None => 0,
    };
    if parsed.has("j") || parsed.has("J") {
        return fail("tar", "bzip2 and xz are not supported; use -z (gzip)", 2);
    }
    let excluded = parsed
        .options
        .iter()
        .filter(|(key, _)| key == "exclude")
        .map(|(_, value)| value.clone())
        .collect();
    let verbose = parsed.has("v");
    let mut tar = Tar {
        parsed,
        strip,
        excluded,
        verbose,
        status: 0,
    };
    let modes = ["c", "x", "t"].iter().filter(|mode| tar.parsed.has(mode)).count();
    if modes != 1 {
        return fail("tar", "you must give one of -c, -x, -t", 2);
    }
    let result = if tar.parsed.has("c") { tar.create() } else { tar.read() };
    match result {
        Ok(()) => tar.status,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 1,
        Err(error) => fail(
            "tar",
            format_args!("{}\ntar: Error is not recoverable: exiting now", reason(&error)),
            2,
        ),
    }
}

/// Adds the name to an error.
fn about(name: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{name}: {}", reason(&error)))
}

impl Tar {
    fn excluded(&self, path: &str) -> bool {
        let trimmed = path.trim_start_matches("./").trim_end_matches('/');
        self.excluded.iter().any(|pattern| {
            let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
            glob::matches(pattern, trimmed, false)
                || trimmed.match_indices('/').any(|(at, _)| {
                    glob::matches(pattern, &trimmed[at + 1..], false) || glob::matches(pattern, &trimmed[..at], false)
                })
                || !pattern.contains('/') && trimmed.split('/').any(|part| glob::matches(pattern, part, false))
        })
    }

    fn trouble(&mut self, message: impl std::fmt::Display) {
        complain("tar", message);
        self.status = 2;
    }

    fn create(&mut self) -> io::Result<()> {
        let file = self.parsed.value("f").unwrap_or("-").to_owned();
        let gzip = self.parsed.has("z") || self.parsed.has("a") && (file.ends_with(".gz") || file.ends_with(".tgz"));
        let mut names = self.parsed.operands.clone();
        if let Some(list) = self.parsed.value("T") {
            let mut text = String::new();
            if list == "-" {
                io::stdin().read_to_string(&mut text)?;
            } else {
                text = fs::read_to_string(list).map_err(about(list))?;
            }
            names.extend(text.lines().map(str::to_owned));
        }
        if names.is_empty() {
            return Err(io::Error::other("Cowardly refusing to create an empty archive"));
        }
        let output: Box<dyn Write> = if file == "-" {
            Box::new(io::stdout().lock())
        } else {
            Box::new(File::create(&file).map_err(about(&file))?)
        };
        let output = io::BufWriter::with_capacity(64 * 1024, output);
        // The archive itself must not be put into itself.
        let archive = wisp_sys::stat(Path::new(&file), true)
            .ok()
            .map(|stat| (stat.dev, stat.ino));
        if let Some(directory) = self.parsed.value("C") {
            std::env::set_current_dir(directory).map_err(about(directory))?;
        }
        if gzip {
            let mut builder = Builder::new(GzEncoder::new(output, Compression::default()));
            self.add_all(&mut builder, &names, archive)?;
            builder.into_inner()?.finish()?.flush()
        } else {
            let mut builder = Builder::new(output);
            self.add_all(&mut builder, &names, archive)?;
            builder.into_inner()?.flush()
        }
    }

    fn add_all(
        &mut self,
        builder: &mut Builder<impl Write>,
        names: &[String],
        archive: Option<(u64, u64)>,
    ) -> io::Result<()> {
        let owners = Owners::read();
        let mut linked = std::collections::HashMap::new();
        for name in names {
            let mut unreadable = Vec::new();
            let mut paths = walk::tree(Path::new(name), |path, error| {
                unreadable.push(format!("{}: {}", path.display(), reason(error)));
            });
            unreadable.iter().for_each(|message| self.trouble(message));
            paths.sort();
            let mut skipped: Option<PathBuf> = None;
            for path in paths {
                if skipped.as_ref().is_some_and(|directory| path.starts_with(directory)) {
                    continue;
                }
                if self.excluded(&path.to_string_lossy()) {
                    skipped = Some(path);
                    continue;
                }
                if let Err(error) = self.add(builder, &path, &owners, archive, &mut linked) {
                    if error.kind() == io::ErrorKind::BrokenPipe || error.kind() == io::ErrorKind::StorageFull {
                        return Err(error);
                    }
                    self.trouble(format_args!("{}: {}", path.display(), reason(&error)));
                }
            }
        }
        Ok(())
    }

    fn add(
        &self,
        builder: &mut Builder<impl Write>,
        path: &Path,
        owners: &Owners,
        archive: Option<(u64, u64)>,
        linked: &mut std::collections::HashMap<(u64, u64), PathBuf>,
    ) -> io::Result<()> {
        let stat = wisp_sys::stat(path, self.parsed.has("h"))?;
        let identity = (stat.dev, stat.ino);
        if archive == Some(identity) {
            return Ok(());
        }
        // Names in an archive are relative and do not climb.
        let stored: PathBuf = path
            .components()
            .filter(|part| !matches!(part, Component::RootDir | Component::ParentDir))
            .collect();
        let stored = if stored.as_os_str().is_empty() {
            PathBuf::from("./")
        } else {
            stored
        };
        let stored = if path.starts_with(".") && !stored.starts_with(".") {
            Path::new(".").join(stored)
        } else {
            stored
        };
        let mut header = Header::new_gnu();
        header.set_mode(stat.permissions());
        header.set_uid(u64::from(stat.uid));
        header.set_gid(u64::from(stat.gid));
        header.set_mtime(stat.mtime / 1_000_000_000);
        header.set_username(&owners.user(stat.uid))?;
        header.set_groupname(&owners.group(stat.gid))?;
        header.set_size(0);
        let mut name = stored.to_string_lossy().into_owned();
        if stat.file_type() == Stat::DIRECTORY && !name.ends_with('/') {
            name.push('/');
        }
        if self.verbose {
            let shown = name.as_bytes();
            let to_stdout = self.parsed.value("f").unwrap_or("-") == "-";
            let write = |out: &mut dyn Write| out.write_all(shown).and_then(|()| out.write_all(b"\n"));
            if to_stdout {
                write(&mut io::stderr())?;
            } else {
                write(&mut io::stdout())?;
            }
        }
        match stat.file_type() {
            Stat::DIRECTORY => {
                header.set_entry_type(EntryType::Directory);
                builder.append_data(&mut header, name, io::empty())
            }
            Stat::SYMLINK => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, name, fs::read_link(path)?)
            }
            Stat::FIFO => {
                header.set_entry_type(EntryType::Fifo);
                builder.append_data(&mut header, name, io::empty())
            }
            Stat::REGULAR => {
                if stat.nlink > 1 {
                    if let Some(first) = linked.get(&identity) {
                        header.set_entry_type(EntryType::Link);
                        return builder.append_link(&mut header, name, first);
                    }
                    linked.insert(identity, stored);
                }
                let file = File::open(path)?;
                header.set_size(stat.size);
                // A file that shrinks while it is read is filled up, or the archive would be out of step.
                let content = BufReader::new(file).chain(io::repeat(0)).take(stat.size);
                builder.append_data(&mut header, name, content)
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let file = self.parsed.value("f").unwrap_or("-").to_owned();
        let input: Box<dyn Read> = if file == "-" {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&file).map_err(about(&file))?)
        };
        let mut input = BufReader::with_capacity(64 * 1024, input);
        let gzip = io::BufRead::fill_buf(&mut input)?.starts_with(&[0x1f, 0x8b]);
        if let Some(directory) = self.parsed.value("C") {
            std::env::set_current_dir(directory).map_err(about(directory))?;
        }
        let reader: Box<dyn Read> = if gzip {
            Box::new(MultiGzDecoder::new(input))
        } else {
            Box::new(input)
        };
        let mut archive = Archive::new(reader);
        let umask = if self.parsed.has("p") {
            0
        } else {
            wisp_sys::umask(None).unwrap_or(0o022)
        };
        // Directories get their modes last: one may forbid writing into itself.
        let mut directories = Vec::new();
        let mut found = vec![false; self.parsed.operands.len()];
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            if !self.wanted(&name, &mut found) || self.excluded(&name) {
                continue;
            }
            let header = entry.header().clone();
            if self.parsed.has("t") {
                let link = entry.link_name_bytes();
                let link = link.as_deref().map(String::from_utf8_lossy);
                self.show(&name, &header, link.as_deref())?;
                continue;
            }
            if self.parsed.has("O") {
                if header.entry_type().is_file() {
                    io::copy(&mut entry, &mut io::stdout().lock())?;
                }
                continue;
            }
            if self.verbose {
                io::stdout().write_all(format!("{name}\n").as_bytes())?;
            }
            let Some(target) = stripped(&name, self.strip) else {
                continue;
            };
            let link = entry
                .link_name_bytes()
                .map(|link| String::from_utf8_lossy(&link).into_owned());
            if let Err(error) = self.extract(&mut entry, &header, &target, link.as_deref(), umask, &mut directories) {
                if error.kind() == io::ErrorKind::StorageFull {
                    return Err(about(name)(error));
                }
                self.trouble(format_args!("{name}: Cannot open: {}", reason(&error)));
            }
        }
        for (path, mode) in directories.into_iter().rev() {
            wisp_sys::chmod(&path, true, mode)?;
        }
        let missing: Vec<String> = self
            .parsed
            .operands
            .iter()
            .zip(found)
            .filter(|(_, found)| !found)
            .map(|(name, _)| name.clone())
            .collect();
        missing
            .iter()
            .for_each(|name| self.trouble(format_args!("{name}: Not found in archive")));
        Ok(())
    }

    fn wanted(&self, name: &str, found: &mut [bool]) -> bool {
        let name = name.trim_end_matches('/');
        let mut wanted = found.is_empty();
        for (operand, found) in self.parsed.operands.iter().zip(found) {
            let operand = operand.trim_end_matches('/');
            let below = name
                .strip_prefix(operand)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            if below || self.parsed.has("wildcards") && glob::matches(operand, name, false) {
                *found = true;
                wanted = true;
            }
        }
        wanted
    }

    fn show(&self, name: &str, header: &Header, link: Option<&str>) -> io::Result<()> {
        let line = if self.verbose {
            let kind = header.entry_type();
            let bits = match kind {
                EntryType::Directory => Stat::DIRECTORY,
                EntryType::Symlink => Stat::SYMLINK,
                EntryType::Fifo => Stat::FIFO,
                _ => Stat::REGULAR,
            };
            let owner = |name: Option<&str>, id: u64| match name.filter(|name| !name.is_empty()) {
                Some(name) => name.to_owned(),
                None => id.to_string(),
            };
            let user = owner(header.username().ok().flatten(), header.uid().unwrap_or(0));
            let group = owner(header.groupname().ok().flatten(), header.gid().unwrap_or(0));
            let arrow = match (kind, link) {
                (EntryType::Symlink, Some(link)) => format!(" -> {link}"),
                (EntryType::Link, Some(link)) => format!(" link to {link}"),
                _ => String::new(),
            };
            format!(
                "{} {user}/{group} {:>9} {} {name}{arrow}\n",
                permission_letters(bits | header.mode()? & 0o7777),
                header.size()?,
                format_date(header.mtime()?.saturating_mul(1_000_000_000), "%Y-%m-%d %H:%M")
            )
        } else {
            format!("{name}\n")
        };
        io::stdout().write_all(line.as_bytes())
    }

    fn extract(
        &self,
        entry: &mut impl Read,
        header: &Header,
        target: &Path,
        link: Option<&str>,
        umask: u32,
        directories: &mut Vec<(PathBuf, u32)>,
    ) -> io::Result<()> {
        let mode = header.mode()? & 0o7777 & !umask;
        if header.entry_type() == EntryType::Directory {
            fs::create_dir_all(target)?;
            directories.push((target.to_owned(), mode));
            return Ok(());
        }
        if let Some(parent) = target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)?;
        }
        if fs::symlink_metadata(target).is_ok() {
            if self.parsed.has("k") {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            fs::remove_file(target)?;
        }
        match (header.entry_type(), link) {
            (EntryType::Symlink, Some(link)) => Ok(rustix::fs::symlink(link, target)?),
            (EntryType::Link, Some(link)) => {
                let source = stripped(link, self.strip).ok_or(io::ErrorKind::InvalidInput)?;
                fs::hard_link(source, target)
            }
            (EntryType::Fifo, _) => wisp_sys::mkfifo(target, mode),
            _ => {
                let mut file = File::create(target)?;
                io::copy(entry, &mut file)?;
                if let Some(modified) = UNIX_EPOCH.checked_add(Duration::from_secs(header.mtime()?)) {
                    let _ = file.set_modified(modified);
                }
                drop(file);
                wisp_sys::chmod(target, true, mode)
            }
        }
    }
}

/// A name without its leading slash and its first components; nothing for a name that climbs or vanishes.
fn stripped(name: &str, strip: usize) -> Option<PathBuf> {
    let mut parts = Vec::new();
    for part in Path::new(name).components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => return None,
            _ => {}
        }
    }
    (parts.len() > strip).then(|| parts[strip..].iter().collect())
}
