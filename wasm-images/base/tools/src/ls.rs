//! `ls`: long listings are ours, because the uutils version knows neither modes nor owners on WASI; all else is theirs.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use wisp_sys::Stat;

use crate::cli::{Parsed, Spec, Takes, complain, finish, reason, stdout};
use crate::listing::{Owners, date_for_listing, format_date, human_size, permission_letters};

const SPEC: Spec = Spec {
    short: "1AFGHLRSUacdfghiklnoprstuv",
    long: &[
        ("all", "a", Takes::Nothing),
        ("almost-all", "A", Takes::Nothing),
        ("classify", "F", Takes::MaybeValue),
        ("color", "color", Takes::MaybeValue),
        ("directory", "d", Takes::Nothing),
        ("full-time", "full-time", Takes::Nothing),
        ("group-directories-first", "dirs-first", Takes::Nothing),
        ("human-readable", "h", Takes::Nothing),
        ("inode", "i", Takes::Nothing),
        ("no-group", "G", Takes::Nothing),
        ("numeric-uid-gid", "n", Takes::Nothing),
        ("recursive", "R", Takes::Nothing),
        ("reverse", "r", Takes::Nothing),
        ("size", "s", Takes::Nothing),
        ("sort", "sort", Takes::Value),
        ("time-style", "time-style", Takes::Value),
    ],
    permute: true,
};

/// Runs the program.
pub fn main(args: &[String]) -> i32 {
    match SPEC.parse(args.get(1..).unwrap_or_default()) {
        Ok(parsed) if ["l", "n", "o", "g", "full-time"].iter().any(|key| parsed.has(key)) => {
            Long::new(&parsed).run(&parsed)
        }
        _ => {
            // Without its messages it still works; it then prints their keys.
            let _ = uucore::locale::setup_localization("ls");
            uu_ls::uumain(args.iter().map(OsString::from).collect::<Vec<_>>().into_iter())
        }
    }
}

/// One file to list.
struct File {
    name: String,
    stat: Stat,
    target: Option<PathBuf>,
}

#[derive(PartialEq)]
enum Order {
    Name,
    Time,
    Size,
    Extension,
    None,
}

/// A long listing.
struct Long {
    owners: Owners,
    all: bool,
    almost_all: bool,
    follow: bool,
    human: bool,
    numeric: bool,
    inode: bool,
    blocks: bool,
    show_owner: bool,
    show_group: bool,
    mark: bool,
    slash: bool,
    reverse: bool,
    dirs_first: bool,
    order: Order,
    time_style: Option<String>,
    time: fn(&Stat) -> u64,
    now: u64,
    status: i32,
}

impl Long {
    fn new(parsed: &Parsed) -> Self {
        let order = match parsed.value("sort") {
            Some("time") => Order::Time,
            Some("size") => Order::Size,
            Some("extension") => Order::Extension,
            Some("none") => Order::None,
            _ if parsed.has("S") => Order::Size,
            _ if parsed.has("t") => Order::Time,
            _ if parsed.has("U") || parsed.has("f") => Order::None,
            _ => Order::Name,
        };
        let time_style = match parsed.value("time-style") {
            Some(style) if style.starts_with('+') => Some(style[1..].to_owned()),
            Some("long-iso") => Some("%Y-%m-%d %H:%M".to_owned()),
            Some("iso") => Some("%m-%d %H:%M".to_owned()),
            Some("full-iso") => Some("%Y-%m-%d %H:%M:%S.%N %z".to_owned()),
            _ if parsed.has("full-time") => Some("%Y-%m-%d %H:%M:%S.%N %z".to_owned()),
            _ => None,
        };
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos() as u64);
        Self {
            owners: Owners::read(),
            all: parsed.has("a") || parsed.has("f"),
            almost_all: parsed.has("A"),
            follow: parsed.has("L"),
            human: parsed.has("h"),
            numeric: parsed.has("n"),
            inode: parsed.has("i"),
            blocks: parsed.has("s"),
            show_owner: !parsed.has("g"),
            show_group: !parsed.has("o") && !parsed.has("G"),
            mark: parsed.has("F"),
            slash: parsed.has("p"),
            reverse: parsed.has("r"),
            dirs_first: parsed.has("dirs-first"),
            order,
            time_style,
            time: if parsed.has("u") {
                |stat| stat.atime
            } else if parsed.has("c") {
                |stat| stat.ctime
            } else {
                |stat| stat.mtime
            },
            now,
            status: 0,
        }
    }

    fn run(mut self, parsed: &Parsed) -> i32 {
        let mut operands = parsed.operands.clone();
        if operands.is_empty() {
            operands.push(".".to_owned());
        }
        let mut out = stdout();
        let (mut files, mut directories) = (Vec::new(), Vec::new());
        for operand in operands {
            let Some(file) = self.file(operand.clone(), Path::new(&operand), 2) else {
                continue;
            };
            // A link to a directory given by name is listed as the link itself, as GNU does in a long listing.
            if file.stat.file_type() == Stat::DIRECTORY && !parsed.has("d") {
                directories.push(operand);
            } else {
                files.push(file);
            }
        }
        let mut headings = directories.len() + usize::from(!files.is_empty()) > 1 || parsed.has("R");
        self.sort(&mut files);
        self.print(&files, &mut out);
        let mut first = files.is_empty();
        directories.sort();
        // Deepest last: what is found below a directory is listed right after it.
        let mut waiting: Vec<String> = directories.into_iter().rev().collect();
        while let Some(directory) = waiting.pop() {
            let Some(entries) = self.entries(&directory) else {
                continue;
            };
            if headings {
                let _ = writeln!(out, "{}{directory}:", if first { "" } else { "\n" });
            }
            first = false;
            let total: u64 = entries.iter().map(|file| file.stat.blocks).sum();
            let total = if self.human {
                human_size(total * 512)
            } else {
                (total / 2).to_string()
            };
            let _ = writeln!(out, "total {total}");
            self.print(&entries, &mut out);
            if parsed.has("R") {
                headings = true;
                let below = entries
                    .iter()
                    .rev()
                    .filter(|file| file.stat.file_type() == Stat::DIRECTORY);
                let below = below.filter(|file| file.name != "." && file.name != "..");
                waiting.extend(below.map(|file| format!("{}/{}", directory.trim_end_matches('/'), file.name)));
            }
        }
        finish("ls", out, self.status)
    }

    /// What is known of a file; a failure is reported and counts `status`.
    fn file(&mut self, name: String, path: &Path, status: i32) -> Option<File> {
        let stat = match wisp_sys::stat(path, self.follow) {
            Err(_) if self.follow => wisp_sys::stat(path, false),
            result => result,
        };
        match stat {
            Ok(stat) => {
                let target = if stat.file_type() == Stat::SYMLINK {
                    fs::read_link(path).ok()
                } else {
                    None
                };
                Some(File { name, stat, target })
            }
            Err(error) => {
                complain(
                    "ls",
                    format_args!("cannot access '{}': {}", path.display(), reason(&error)),
                );
                self.status = self.status.max(status);
                None
            }
        }
    }

    fn entries(&mut self, directory: &str) -> Option<Vec<File>> {
        let path = Path::new(directory);
        let read = match fs::read_dir(path) {
            Ok(read) => read,
            Err(error) => {
                complain(
                    "ls",
                    format_args!("cannot open directory '{directory}': {}", reason(&error)),
                );
                self.status = 2;
                return None;
            }
        };
        let mut names: Vec<String> = read
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.retain(|name| self.all || self.almost_all || !name.starts_with('.'));
        if self.all && !self.almost_all {
            names.extend([".".to_owned(), "..".to_owned()]);
        }
        let mut files: Vec<File> = names
            .into_iter()
            .filter_map(|name| {
                let path = path.join(&name);
                self.file(name, &path, 1)
            })
            .collect();
        self.sort(&mut files);
        Some(files)
    }

    fn sort(&self, files: &mut [File]) {
        match self.order {
            Order::None => return,
            Order::Name => files.sort_by(|a, b| a.name.cmp(&b.name)),
            Order::Time => files.sort_by(|a, b| {
                (self.time)(&b.stat)
                    .cmp(&(self.time)(&a.stat))
                    .then_with(|| a.name.cmp(&b.name))
            }),
            Order::Size => files.sort_by(|a, b| b.stat.size.cmp(&a.stat.size).then_with(|| a.name.cmp(&b.name))),
            Order::Extension => files.sort_by(|a, b| (extension(&a.name), &a.name).cmp(&(extension(&b.name), &b.name))),
        }
        if self.reverse {
            files.reverse();
        }
        if self.dirs_first {
            files.sort_by_key(|file| file.stat.file_type() != Stat::DIRECTORY);
        }
    }

    fn print(&self, files: &[File], out: &mut impl Write) {
        let rows: Vec<Vec<String>> = files.iter().map(|file| self.columns(file)).collect();
        let columns = rows.first().map_or(0, Vec::len);
        let widths: Vec<usize> = (0..columns)
            .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (row, file) in rows.iter().zip(files) {
            let mut line = String::new();
            for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
                // Names are flush left, numbers flush right.
                let left = cell.parse::<f64>().is_err() && !cell.ends_with(|c: char| "KMGTPE".contains(c) && index > 1);
                line += &if left {
                    format!("{cell:<width$} ")
                } else {
                    format!("{cell:>width$} ")
                };
            }
            let _ = write!(out, "{line}{}{}", file.name, self.suffix(&file.stat));
            if let Some(target) = &file.target {
                let _ = write!(out, " -> {}", target.display());
            }
            let _ = writeln!(out);
        }
    }

    fn columns(&self, file: &File) -> Vec<String> {
        let stat = &file.stat;
        let mut columns = Vec::new();
        if self.inode {
            columns.push(stat.ino.to_string());
        }
        if self.blocks {
            columns.push(if self.human {
                human_size(stat.blocks * 512)
            } else {
                (stat.blocks / 2).to_string()
            });
        }
        columns.push(permission_letters(stat.mode));
        columns.push(stat.nlink.to_string());
        if self.show_owner {
            columns.push(if self.numeric {
                stat.uid.to_string()
            } else {
                self.owners.user(stat.uid)
            });
        }
        if self.show_group {
            columns.push(if self.numeric {
                stat.gid.to_string()
            } else {
                self.owners.group(stat.gid)
            });
        }
        columns.push(match stat.file_type() {
            Stat::CHARACTER_DEVICE | Stat::BLOCK_DEVICE => format!("{}, {}", stat.rdev >> 8, stat.rdev & 0xff),
            _ if self.human => human_size(stat.size),
            _ => stat.size.to_string(),
        });
        let time = (self.time)(stat);
        columns.push(match &self.time_style {
            Some(format) => format_date(time, format),
            None => date_for_listing(time, self.now),
        });
        columns
    }

    fn suffix(&self, stat: &Stat) -> &'static str {
        match stat.file_type() {
            Stat::DIRECTORY if self.mark || self.slash => "/",
            Stat::FIFO if self.mark => "|",
            Stat::REGULAR if self.mark && stat.mode & 0o111 != 0 => "*",
            _ => "",
        }
    }
}

fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}
